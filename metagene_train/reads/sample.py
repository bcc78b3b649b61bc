"""An unbiased sample of a stream whose length is not known beforehand."""

from __future__ import annotations

import math
import random

SAMPLE_SIZE = 10_000


class Reservoir:
    """A uniform sample of at most ``size`` sequences: Li's Algorithm L (ACM TOMS 20(4), 1994).

    Which sequences are taken depends only on the seed and on how many were offered, so the same
    file always gives the same sample. ``next`` is the position of the next sequence to be taken:
    everything before it can be passed over with ``skip_to`` unseen.
    """

    def __init__(self, size: int = SAMPLE_SIZE, seed: int = 0):
        self._random = random.Random(seed)
        self._size = size
        self._kept: list[bytes] = []
        self._offered = 0
        self._weight = 1.0
        self.next = 0

    @property
    def sequences(self) -> tuple[bytes, ...]:
        return tuple(self._kept)

    def offer(self, sequence: bytes) -> None:
        """The next sequence of the stream."""
        if self._offered == self.next:
            self.take(sequence)
        self._offered += 1

    def take(self, sequence: bytes) -> None:
        """Keep the sequence at position ``next``, and choose the position after it."""
        if len(self._kept) < self._size:
            self._kept.append(sequence)
        else:
            self._kept[self._random.randrange(self._size)] = sequence
        self.next += 1
        if len(self._kept) == self._size:
            self._weight *= math.exp(math.log(1.0 - self._random.random()) / self._size)
            gap = math.log(1.0 - self._random.random()) / math.log1p(-self._weight)
            self.next += math.floor(gap)
