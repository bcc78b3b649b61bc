"""An unbiased sample of a stream whose length is not known beforehand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

SAMPLE_SIZE = 10_000


class Reservoir:
    """A uniform sample of at most ``size`` sequences: Li's Algorithm L (ACM TOMS 20(4), 1994).

    Which sequences are taken depends only on the seed and on how many were offered, so the same
    file always gives the same sample. Sequences that are not taken are never fetched.
    """

    def __init__(self, size: int = SAMPLE_SIZE, seed: int = 0):
        self._random = random.Random(seed)
        self._size = size
        self._kept: list[bytes] = []
        self._offered = 0
        self._weight = 1.0
        self._next = 0

    @property
    def sequences(self) -> tuple[bytes, ...]:
        return tuple(self._kept)

    def offer(self, count: int, sequence: Callable[[int], bytes]) -> None:
        """The next ``count`` sequences of the stream; ``sequence(i)`` fetches one that is taken."""
        while self._next < self._offered + count:
            self._take(sequence(self._next - self._offered))
        self._offered += count

    def _take(self, sequence: bytes) -> None:
        """Keep a sequence, and choose the position of the one after it."""
        if len(self._kept) < self._size:
            self._kept.append(sequence)
        else:
            self._kept[self._random.randrange(self._size)] = sequence
        self._next += 1
        if len(self._kept) == self._size:
            self._weight *= math.exp(math.log(1.0 - self._random.random()) / self._size)
            gap = math.log(1.0 - self._random.random()) / math.log1p(-self._weight)
            self._next += math.floor(gap)
