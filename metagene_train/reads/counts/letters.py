"""Letters of the sequences of a batch, by kind: nearly always A, C, G and T, which is quick to see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_train.reads.counts.bases import KIND_OF, KINDS, BaseCounts
from metagene_train.reads.records.batches import RecordBatch
from metagene_train.reads.records.layout import SOUND
from metagene_train.reads.words import gather_strings

_BLOCK = 1 << 19
"""Bytes that are looked at together: they stay in the processor's cache, and memory for so few is not
handed back to the system each time."""

_MOST_PIECES = 8
"""Pieces of equal width in which sequences of different lengths are looked at."""

_FACTOR = np.uint8(45)
"""What `_Fence` multiplies letters by, modulo 256: with it A, C, G and T have no strays."""


class Letters(NamedTuple):
    """The letters of the sound records of a batch."""

    total: int
    records: np.ndarray
    """int64 [M]: the records that hold other letters than A, C, G and T, ascending."""
    kinds: np.ndarray
    """int64 [M, K]: the letters of each of them by kind, in the order of `KINDS`."""

    @property
    def bases(self) -> BaseCounts:
        """The letters of all records."""
        unusual = BaseCounts(*self.kinds.sum(axis=0).tolist())
        return unusual + BaseCounts(acgt=self.total - unusual.total)


def count_letters(batch: RecordBatch) -> Letters:
    """Letters of the sound records of a batch: of their sequence lines, without the line ends."""
    length, faults = batch.layout.length, batch.layout.faults
    sound = faults == SOUND if faults.any() else slice(None)
    records = np.arange(len(batch))[sound][_suspects(batch, sound)]
    records = records[length[records] > 0]
    kinds = _by_kind(batch, records)
    unusual = kinds[:, 1:].any(axis=1)
    return Letters(int(length[sound].sum()), records[unusual], kinds[unusual])


def _by_kind(batch: RecordBatch, records: np.ndarray) -> np.ndarray:
    """The letters [M, K] of some records that are not empty."""
    counts = np.zeros((len(records), len(KINDS)), dtype=np.int64)
    if not len(records):
        return counts
    kinds = batch.text(records).translate(KIND_OF)
    kind_of_letter = np.frombuffer(kinds, dtype=np.uint8)
    lengths = batch.layout.length[records]
    begins = np.cumsum(lengths) - lengths
    for kind in range(1, len(KINDS)):
        if kind in kinds:
            is_kind = (kind_of_letter == kind).view(np.uint8)
            counts[:, kind] = np.add.reduceat(is_kind, begins, dtype=np.uint32)
    counts[:, 0] = lengths - counts.sum(axis=1)
    return counts


class _Fence:
    """Bounds that some letters keep to, and of all others only the ``strays``.

    To compare with each letter and to count takes ten passes over the sequences. Instead the letters
    are multiplied by `_FACTOR`, and a few reductions, quick because they write nothing, give the bits
    that are set in any and in all, the smallest and the largest: other letters than these change that.
    """

    def __init__(self, letters: bytes, *bounds_of_letters: np.ufunc):
        plain = np.frombuffer(letters, dtype=np.uint8)
        product = plain * _FACTOR
        self._of_letters = [(bound, bound.reduce(plain)) for bound in bounds_of_letters]
        self._of_product = [
            (bound, bound.reduce(product)) for bound in (np.maximum, np.minimum, np.bitwise_and)
        ]
        every = np.arange(256, dtype=np.uint8)
        kept = np.flatnonzero(~self.crossed(every, 1)).tolist()
        self.strays = [bytes([letter]) for letter in kept if letter not in letters]

    def holds(self, letters: np.ndarray) -> bool:
        """Whether all of an array of letters keep to the bounds. The array is used up."""
        if any(bound.reduce(letters, initial=limit) != limit for bound, limit in self._of_letters):
            return False
        letters *= _FACTOR
        return all(bound.reduce(letters, initial=limit) == limit for bound, limit in self._of_product)

    def crossed(self, letters: np.ndarray, width: int) -> np.ndarray:
        """Which of the strings of a width that lie one after the other in an array do not."""
        begins = np.arange(0, len(letters), width)
        crossed = np.zeros(len(begins), dtype=bool)
        product = letters * _FACTOR
        for values, bounds in ((letters, self._of_letters), (product, self._of_product)):
            for bound, limit in bounds:
                crossed |= bound(bound.reduceat(values, begins), limit) != limit
        return crossed


_ONE_LINE = _Fence(b"ACGT", np.bitwise_or)
_LINES = _Fence(b"ACGT\n", np.bitwise_or, np.maximum)


def _suspects(batch: RecordBatch, sound: np.ndarray | slice) -> np.ndarray:
    """Which of the sound records [N] may hold other letters than A, C, G and T.

    Those of ordinary length are looked at together, in pieces that overlap where they must. What is
    much shorter or longer than the others is suspect by that alone.
    """
    layout = batch.layout
    starts, spans, fence = layout.sequence_start[sound], layout.length[sound], _ONE_LINE
    if batch.lines != len(batch) * (2 if layout.quality_start is None else 4):
        # There are sequences of several lines, or blank lines. (Where the number is right by chance, a
        # line end lies within what is taken for the letters of one line, and is found to be none.)
        spans, fence = layout.sequence_end[sound] - starts, _LINES
    suspects = np.zeros(len(spans), dtype=bool)
    if any(batch.raw.find(stray, batch.begin, batch.end) >= 0 for stray in fence.strays):
        return ~suspects
    ordinary = np.arange(len(spans))
    width, longest = int(spans.min(initial=batch.end)), int(spans.max(initial=0))
    if width < longest:
        mean = int(spans.sum()) // len(spans) + 1
        width = max(width, (mean + 1) // 2)
        longest = min(longest, _MOST_PIECES * width)
        suspects = (spans < width) | (spans > longest)
        ordinary = np.flatnonzero(~suspects)
        starts, spans = starts[ordinary], spans[ordinary]
    width = min(max(width, 1), _BLOCK)
    step = _BLOCK // width
    for ahead in range(0, longest, width):
        begins = starts + np.minimum(ahead, spans - width) if ahead else starts
        for first in range(0, len(ordinary), step):
            block = slice(first, first + step)
            if not fence.holds(gather_strings(batch.data, begins[block], width)):
                pieces = gather_strings(batch.data, begins[block], width)
                suspects[ordinary[block]] |= fence.crossed(pieces, width)
    return suspects
