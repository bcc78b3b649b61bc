"""An unbiased sample of a stream whose length is not known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

SAMPLE_SIZE = 10_000

Fetch = Callable[[list[int]], Sequence[bytes]]
"""The sequences at these places (from 0, ascending) of what was offered."""


class Reservoir:
    """A uniform sample of at most ``size`` sequences: Li's Algorithm L (ACM TOMS 20(4), 1994).

    Which sequences are taken depends only on the seed and on how many were offered, so the same
    file always gives the same sample. Sequences that are not taken are never fetched.
    """

    def __init__(self, size: int = SAMPLE_SIZE, seed: int = 0):
        self._random = np.random.default_rng(seed)
        self._size = size
        self._kept: list[bytes] = []
        self._offered = 0
        self._log_weight = 0.0
        self._last_taken = size - 1
        self._positions, self._slots = self._draw()

    @property
    def sequences(self) -> tuple[bytes, ...]:
        return tuple(self._kept)

    def offer(self, count: int, fetch: Fetch) -> None:
        """The next ``count`` sequences of the stream."""
        first = min(count, self._size - len(self._kept))
        if first:
            self._kept += fetch(list(range(first)))
        end = self._offered + count
        while True:
            due = int(np.searchsorted(self._positions, end))
            if due:
                places = (self._positions[:due] - self._offered).tolist()
                for slot, sequence in zip(self._slots[:due].tolist(), fetch(places), strict=True):
                    self._kept[slot] = sequence
            self._positions, self._slots = self._positions[due:], self._slots[due:]
            if len(self._positions):
                break
            self._positions, self._slots = self._draw()
        self._offered = end

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        """The next positions of the stream to be taken, and which of those kept each replaces."""
        uniform = 1.0 - self._random.random((2, self._size))
        log_weights = self._log_weight + np.cumsum(np.log(uniform[0])) / self._size
        with np.errstate(divide="ignore"):
            gaps = np.floor(np.log(uniform[1]) / np.log1p(-np.exp(log_weights)))
        positions = self._last_taken + np.cumsum(gaps.astype(np.int64) + 1)
        self._log_weight, self._last_taken = float(log_weights[-1]), int(positions[-1])
        return positions, self._random.integers(0, self._size, self._size)
