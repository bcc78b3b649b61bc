"""Letters of the sequences of a batch, by kind: nearly always A, C, G and T, which is quick to see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_train.reads.counts.bases import KIND_OF, KINDS, BaseCounts
from metagene_train.reads.records.batches import RecordBatch
from metagene_train.reads.records.layout import SOUND
from metagene_train.reads.words import gather_strings, ones_between

_BLOCK = 1 << 19
"""Bytes that are looked at together: they stay in the processor's cache, and memory for so few is not
handed back to the system each time."""

_WINDOW = 1 << 17
"""Bytes that are compared with one letter after another: fewer, because the answers are in the cache too."""

_TOGETHER = 4
"""Strings of which it is found out together whether any has other letters: for one by one it takes
three times as long, and to pick them out better is not worth that."""

_MOST_PIECES = 8
"""Pieces of equal width in which sequences of different lengths are looked at."""

_ACGT = b"ACGT"
_UNUSUAL = {
    kind: bytes(letter for letter in range(256) if KIND_OF[letter] == KINDS.index(kind))
    for kind in ("lower", "n", "u", "iupac", "whitespace")
}
"""The letters of the other kinds, the most frequent ones first; ``other`` are all the rest."""

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
        unusual = self.kinds[:, 1:].sum(axis=0).tolist()
        return BaseCounts(self.total - sum(unusual), *unusual)


def count_letters(batch: RecordBatch) -> Letters:
    """Letters of the sound records of a batch: of their sequence lines, without the line ends."""
    length, faults = batch.layout.length, batch.layout.faults
    sound = faults == SOUND if faults.any() else slice(None)
    records = np.arange(len(batch))[sound][_suspects(batch, sound)]
    records = records[length[records] > 0]
    if not len(records):
        return Letters(int(length[sound].sum()), records, np.zeros((0, len(KINDS)), dtype=np.int64))
    usual = _count_in_lines(batch, records, _ACGT)
    unusual = np.flatnonzero(usual < length[records])
    records = records[unusual]
    return Letters(int(length[sound].sum()), records, _by_kind(batch, records, usual[unusual]))


def _by_kind(batch: RecordBatch, records: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """The letters [M, K] of some records, of which so many are A, C, G and T [M].

    One kind is counted after the other, each only in the records that are not yet accounted for.
    """
    length = batch.layout.length[records]
    counts = np.zeros((len(records), len(KINDS)), dtype=np.int64)
    counts[:, 0] = usual
    missing = length - usual
    left = np.arange(len(records))
    for kind, letters in _UNUSUAL.items():
        if not len(left):
            return counts
        some = records[left]
        found = _count_in_lines(batch, some, letters)
        if kind == "whitespace":
            # The line ends, which are no letters of the sequence, are blanks too.
            found -= batch.layout.sequence_end[some] - batch.layout.sequence_start[some] - length[left]
        counts[left, KINDS.index(kind)] = found
        missing[left] -= found
        left = left[missing[left] > 0]
    counts[left, KINDS.index("other")] = missing[left]
    return counts


def _count_in_lines(batch: RecordBatch, records: np.ndarray, letters: bytes) -> np.ndarray:
    """How many bytes [M] of the sequence lines of some records are one of some letters."""
    text, begins, ends = _text_with(batch, records)
    bits = np.zeros((len(text) // 64 + 1) * 8, dtype=np.uint8)
    for first in range(0, len(text), _WINDOW):
        window = text[first : first + _WINDOW]
        found = window == letters[0]
        for letter in letters[1:]:
            found |= window == letter
        packed = np.packbits(found, bitorder="little")
        bits[first // 8 : first // 8 + len(packed)] = packed
    return ones_between(bits.view("<u8"), begins, ends)


def _text_with(batch: RecordBatch, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A text [L] uint8 with the sequence lines of some records, and where in it each begins and ends [M].

    They are copied where they are few, and else left where they are, with what lies between them.
    """
    begins, ends = batch.layout.sequence_start[records], batch.layout.sequence_end[records]
    spans = ends - begins
    needed, length = int(spans.sum()), int(ends[-1] - begins[0])
    even = bool((spans == spans[0]).all())
    if needed * (2 if even else 4) > length:
        return batch.data[begins[0] : ends[-1]], begins - begins[0], ends - begins[0]
    if even:
        text = gather_strings(batch.data, begins, int(spans[0]))
    else:
        lines = [batch.raw[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        text = np.frombuffer(b"".join(lines), dtype=np.uint8)
    ends = np.cumsum(spans)
    return text, ends - spans, ends


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
        self.strays = [
            bytes([letter])
            for letter in range(256)
            if letter not in letters and self.holds(np.array([letter], dtype=np.uint8))
        ]

    def holds(self, letters: np.ndarray) -> bool:
        """Whether all of an array of letters keep to the bounds. The array is used up."""
        if any(bound.reduce(letters, initial=limit) != limit for bound, limit in self._of_letters):
            return False
        letters *= _FACTOR
        return all(bound.reduce(letters, initial=limit) == limit for bound, limit in self._of_product)

    def crossed(self, strings: np.ndarray, width: int) -> np.ndarray:
        """Which of the strings of a width that lie one after the other in an array may not.

        Those that lie `_TOGETHER` are looked at together.
        """
        begins = np.arange(0, len(strings), width * _TOGETHER)
        crossed = np.zeros(len(begins), dtype=bool)
        for values, bounds in ((strings, self._of_letters), (strings * _FACTOR, self._of_product)):
            for bound, limit in bounds:
                crossed |= bound(bound.reduceat(values, begins), limit) != limit
        return crossed.repeat(_TOGETHER)[: len(strings) // width]


_ONE_LINE = _Fence(_ACGT, np.bitwise_or)
_LINES = _Fence(_ACGT + b"\n", np.bitwise_or, np.maximum)


def _suspects(batch: RecordBatch, sound: np.ndarray | slice) -> np.ndarray:
    """Which of the sound records [N] may hold other letters than A, C, G and T.

    Those of ordinary length are looked at together, in pieces that overlap where they must. What is
    much shorter or longer than the others is suspect by that alone. Once other letters are found in pieces
    of sequences of different lengths, it is quicker to count in all of them than to look at more pieces.
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
    even = width >= longest
    if not even:
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
                if not even:
                    return np.ones(len(suspects), dtype=bool)
                strings = gather_strings(batch.data, begins[block], width)
                suspects[ordinary[block]] |= fence.crossed(strings, width)
    return suspects
