"""Some of the reads of an index, numbered 0..M-1: a bit for each read, and a count for every 512."""

from __future__ import annotations

import numpy as np

from metagene_train.reads.access.joined import JoinedColumn, pieces_of

BLOCK = 512
"""Reads between two counts: eight bytes for 64 bytes of bits."""
AT_ONCE = 8192
"""Numbers that are looked up together: 12 MB of unpacked bits."""


class ChosenReads:
    """Positions of chosen reads by their number. At 5 x 10^8 reads it is 72 MB, as an array 4.5 GB."""

    def __init__(self, bits: np.ndarray):
        """``bits`` uint8: packed, a 1 for each read that is chosen (`numpy.packbits`)."""
        padding = -len(bits) % (BLOCK // 8)
        self._bits = np.concatenate([bits, np.zeros(padding, dtype=np.uint8)]).reshape(-1, BLOCK // 8)
        counts = np.bitwise_count(self._bits).sum(axis=1, dtype=np.int64)
        self._before = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def positions(self, numbers: np.ndarray) -> np.ndarray:
        """Positions [M] int64 of the reads with these numbers [M]."""
        found = np.empty(len(numbers), dtype=np.int64)
        for begin in range(0, len(numbers), AT_ONCE):
            some = numbers[begin : begin + AT_ONCE]
            block = np.searchsorted(self._before, some, side="right") - 1
            inside = np.unpackbits(self._bits[block], axis=1).cumsum(axis=1, dtype=np.uint16)
            before = (inside <= (some - self._before[block])[:, None]).sum(axis=1)
            found[begin : begin + AT_ONCE] = block * BLOCK + before
        return found

    def mask(self, begin: int, end: int) -> np.ndarray:
        """Whether the reads at positions begin..end-1 are chosen [end - begin] bool."""
        first = begin // BLOCK
        bits = np.unpackbits(self._bits[first : -(-end // BLOCK)].reshape(-1))
        return bits[begin - first * BLOCK : end - first * BLOCK].astype(bool)


class ChosenColumn:
    """A column [M] of the chosen reads."""

    def __init__(self, column: JoinedColumn, chosen: ChosenReads):
        self._column = column
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self._column[self._chosen.positions(numbers)]

    def argmax(self) -> int:
        """The first number with the largest value."""
        best, highest, number = -1, -1, 0
        for begin, values in pieces_of(self._column):
            mine = values[self._chosen.mask(begin, begin + len(values))]
            if len(mine) and int(mine.max()) > highest:
                highest = int(mine.max())
                best = number + int(mine.argmax())
            number += len(mine)
        return best
