"""An unbiased sample of reads that does not depend on the order in which parts of a file are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SAMPLE_SIZE = 10_000
LARGEST_KEY = 2**64 - 1


class Sample:
    """A uniform sample of at most ``size`` sequences: those with the smallest keys.

    The key of a read is a hash of where it starts in the unpacked file, so the same file always
    gives the same sample, however it was cut into chunks or ranges. Sequences that are not taken
    are never fetched.
    """

    def __init__(self, size: int = SAMPLE_SIZE, seed: int = 0):
        self._size = size
        self._seed = np.uint64(seed)
        self._keys = np.zeros(0, dtype=np.uint64)
        self._offsets = np.zeros(0, dtype=np.int64)
        self._sequences: list[bytes] = []
        self.largest = LARGEST_KEY
        """Reads with larger keys are not in the sample."""

    def limit(self, largest: int) -> None:
        """Leave out reads with larger keys than another sample of the same data will ever take."""
        self.largest = largest

    def offer(self, offsets: np.ndarray, sequences: Callable[[np.ndarray], list[bytes]]) -> None:
        """Reads by where they start [N] int64; ``sequences`` fetches those at the given places of N."""
        keys = mixed(offsets.astype(np.uint64) ^ (self._seed << np.uint64(48)))
        wanted = np.flatnonzero(keys <= np.uint64(self.largest))
        if len(wanted):
            self._take(keys[wanted], offsets[wanted], sequences(wanted))

    def merge(self, other: Sample) -> None:
        """Take what another sample of other reads of the same data was offered."""
        self._take(other._keys, other._offsets, other._sequences)

    def _take(self, keys: np.ndarray, offsets: np.ndarray, sequences: list[bytes]) -> None:
        self._keys = np.concatenate((self._keys, keys))
        self._offsets = np.concatenate((self._offsets, offsets))
        self._sequences += sequences
        # Not every time, because it costs as much for one read as for half of the sample.
        if len(self._keys) >= self._size + self._size // 2:
            self.prune()

    def prune(self) -> None:
        """Keep no more than the size of the sample."""
        if len(self._keys) < self._size:
            return
        kept = np.argpartition(self._keys, self._size - 1)[: self._size]
        self._keys, self._offsets = self._keys[kept], self._offsets[kept]
        self._sequences = [self._sequences[place] for place in kept.tolist()]
        self.largest = int(self._keys.max())

    @property
    def sequences(self) -> tuple[bytes, ...]:
        """The sampled sequences, in file order."""
        self.prune()
        return tuple(self._sequences[place] for place in np.argsort(self._offsets, kind="stable").tolist())


def mixed(values: np.ndarray) -> np.ndarray:
    """Hashes of numbers [N] uint64 in which every bit depends on every bit (SplitMix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
