"""The shuffled order of a data set of any size, in a few hundred bytes.

Small data sets are permuted read by read, with a Feistel network (Luby and Rackoff 1988) and cycle
walking. From a million reads on the file may not fit the page cache, and a disk that has to seek for each
read would set the pace: there, blocks of 64 neighbouring reads are permuted, and the reads of 4,096 blocks
at a time. A disk then seeks once for 64 reads, and what a window of 262,144 reads touches is tens of MB.
Either way nothing but (seed, epoch) decides, any place can be asked for, and no array is held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

BLOCKS_FROM = 1 << 20
"""Reads from which on blocks are permuted: 200 MB of a FASTA file of 150-base reads."""
BLOCK = 64
"""Neighbouring reads that are fetched in one go: 12 kB of such a file."""
WINDOW = 4096 * BLOCK
"""Places whose reads come from the same 4,096 blocks. A file that is sorted by class is mixed from 4,096
random places, so that batches hold the classes as often as the file does."""

_ROUNDS = 4
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # splitmix64's constants
_BLOCKS, _READS, _TAIL = 1, 2, 3
"""What the permutations of a `BlockOrder` are of, as part of their keys."""


class ReadOrder(Protocol):
    """An order of the numbers 0..N-1 with random access both ways."""

    def numbers(self, begin: int, end: int) -> np.ndarray:
        """The numbers at places begin..end-1, int64."""

    def place_of(self, number: int) -> int: ...


def read_order(size: int, seed: int, epoch: int) -> ReadOrder:
    """The order of ``size`` reads in one epoch of a run."""
    if size < BLOCKS_FROM:
        return Permutation(size, seed, epoch)
    return BlockOrder(size, seed, epoch)


class Permutation:
    """Every number anywhere. ``use`` are further parts of the key: other uses, other permutations."""

    def __init__(self, size: int, seed: int, epoch: int, *use: int):
        self.size = size
        # The network permutes 2^(2 * half) >= N numbers, fewer than 4 N.
        self._half = np.uint64(max(1, -(-(max(size - 1, 1)).bit_length() // 2)))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = [key_of(seed, epoch, number, *use) for number in range(_ROUNDS)]

    def numbers(self, begin: int, end: int) -> np.ndarray:
        return self.at(np.arange(begin, end, dtype=np.int64))

    def at(self, places: np.ndarray) -> np.ndarray:
        """The numbers at places [N] int64."""
        return self._walk(places, self._forward)

    def place_of(self, number: int) -> int:
        return int(self._walk(np.array([number], dtype=np.int64), self._backward)[0])

    def _walk(self, values: np.ndarray, network: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        values = network(values.astype(np.uint64))
        outside = values >= self.size
        while outside.any():
            values[outside] = network(values[outside])
            outside = values >= self.size
        return values.astype(np.int64)

    def _forward(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (mixed(right, key) & self._mask)
        return (left << self._half) | right

    def _backward(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in reversed(self._keys):
            left, right = right ^ (mixed(left, key) & self._mask), left
        return (left << self._half) | right


class BlockOrder:
    """Blocks of neighbours in any order, and their reads in any order within a window of blocks.

    The reads that fill no whole block exchange places with reads anywhere. ``window`` is a multiple of
    ``block``; there is at least one whole block.
    """

    def __init__(self, size: int, seed: int, epoch: int, *, block: int = BLOCK, window: int = WINDOW):
        self.size = size
        self._key = (seed, epoch)
        self._block = block
        self._window = window
        self._whole = size - size % block
        self._blocks = Permutation(self._whole // block, seed, epoch, _BLOCKS)
        places = Permutation(self._whole, seed, epoch, _TAIL).numbers(0, size % block)
        self._exchanged = {
            int(one): int(other)
            for number, place in enumerate(places, self._whole)
            for one, other in ((number, place), (place, number))
        }

    def numbers(self, begin: int, end: int) -> np.ndarray:
        places = np.arange(begin, end, dtype=np.int64)
        for place, other in self._exchanged.items():
            if begin <= place < end:
                places[place - begin] = other
        numbers = places.copy()
        for window in np.unique(places[places < self._whole] // self._window).tolist():
            inside = (places // self._window == window) & (places < self._whole)
            first = window * self._window
            mixed_up = self._inner(window).at(places[inside] - first) + first
            numbers[inside] = self._blocks.at(mixed_up // self._block) * self._block + mixed_up % self._block
        return numbers

    def place_of(self, number: int) -> int:
        place = number
        if number < self._whole:
            mixed_up = self._blocks.place_of(number // self._block) * self._block + number % self._block
            window = mixed_up // self._window
            first = window * self._window
            place = self._inner(window).place_of(mixed_up - first) + first
        return self._exchanged.get(place, place)

    def _inner(self, window: int) -> Permutation:
        size = min(self._window, self._whole - window * self._window)
        return Permutation(size, *self._key, _READS, window)


def key_of(*parts: int) -> np.uint64:
    """64 bits that depend on every part, none of which is negative."""
    return np.uint64(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def mixed(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """64 well-mixed bits of each value (the finaliser of splitmix64); wraps around on purpose."""
    bits = values ^ key
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX[1]
    return bits ^ (bits >> np.uint64(31))
