"""An unbiased sample of reads that does not depend on the order in which parts of a file are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np

SAMPLE_SIZE = 10_000
LARGEST_KEY = 2**64 - 1

Item = TypeVar("Item")


class Picked(NamedTuple, Generic[Item]):
    """Reads that may belong to a sample, and what is kept of each."""

    keys: np.ndarray
    """uint64 [M]"""
    positions: np.ndarray
    """int64 [M]"""
    items: list[Item]


class Sample(Generic[Item]):
    """A uniform sample of at most ``size`` reads: those with the smallest keys.

    The key of a read is a hash of its position, such as where it starts in the unpacked file, so the
    same file always gives the same sample, however it was cut into chunks or ranges. What is kept of
    reads that are not taken is never fetched.
    """

    def __init__(self, size: int = SAMPLE_SIZE, seed: int = 0):
        self._size = size
        self._seed = np.uint64(seed)
        self._kept: Picked[Item] = Picked(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), [])
        self.largest = LARGEST_KEY
        """Reads with larger keys are not in the sample."""

    def limit(self, largest: int) -> None:
        """Leave out reads with larger keys than another sample of the same data will ever take."""
        self.largest = largest

    def expect(self, reads: int) -> None:
        """Leave out at once what a sample of about so many reads will hardly take. If there are fewer
        than four fifths as many, the sample is smaller than it could be, and as even."""
        self.largest = min(LARGEST_KEY, LARGEST_KEY * 5 * self._size // (4 * max(reads, 1)))

    def offer(self, positions: np.ndarray, fetch: Callable[[np.ndarray], list[Item]]) -> None:
        """Reads by position [N] int64; ``fetch`` gives what is kept of those at some places of N."""
        self.keep(self.pick(positions, fetch))

    def pick(self, positions: np.ndarray, fetch: Callable[[np.ndarray], list[Item]]) -> Picked[Item]:
        """What `offer` would keep for now. Changes nothing."""
        keys = mixed(positions.astype(np.uint64) ^ (self._seed << np.uint64(48)))
        wanted = np.flatnonzero(keys <= np.uint64(self.largest))
        return Picked(keys[wanted], positions[wanted], fetch(wanted) if len(wanted) else [])

    def keep(self, picked: Picked[Item]) -> None:
        """Take what was picked, of reads that were not kept before."""
        if not picked.items:
            return
        keys, positions, items = self._kept
        items.extend(picked.items)
        self._kept = Picked(
            np.concatenate((keys, picked.keys)), np.concatenate((positions, picked.positions)), items
        )
        # Not every time, because it costs as much for one read as for half of the sample.
        if len(self._kept.keys) >= 2 * self._size:
            self.prune()

    def merge(self, other: Sample[Item]) -> None:
        """Take what another sample of other reads of the same data was offered."""
        self.keep(other._kept)

    def prune(self) -> None:
        """Keep no more than the size of the sample."""
        keys, positions, items = self._kept
        if len(keys) < self._size:
            return
        kept = np.argpartition(keys, self._size - 1)[: self._size]
        self._kept = Picked(keys[kept], positions[kept], [items[place] for place in kept.tolist()])
        self.largest = int(self._kept.keys.max())

    @property
    def items(self) -> tuple[Item, ...]:
        """What is kept of the sampled reads, in the order of their positions."""
        self.prune()
        order = np.argsort(self._kept.positions, kind="stable").tolist()
        return tuple(self._kept.items[place] for place in order)


def mixed(values: np.ndarray) -> np.ndarray:
    """Hashes of numbers [N] uint64 in which every bit depends on every bit (SplitMix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
