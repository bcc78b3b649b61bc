"""Letters of the sequences of a batch, by kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metagene_train.reads.bases import BaseCounts, counts_by_kind
from metagene_train.reads.batches import RecordBatch
from metagene_train.reads.header_columns import HeaderRows
from metagene_train.reads.layout import SOUND
from metagene_train.reads.words import LONGEST_ROW, gather_words

_BLOCK = 1 << 18
"""Bytes; a block and what is computed of it stay in the processor's cache."""

_LOWER = 32
"""What a small letter is above its capital."""

Count = Callable[[Callable[[np.ndarray], int]], int]


def count_letters(batch: RecordBatch, headers: HeaderRows) -> BaseCounts:
    """Letters in the sequences of the sound records of a batch."""
    if not len(batch):
        return BaseCounts()
    if batch.layout.quality_start is None and not batch.layout.faults.any():
        return _fasta_letters(batch, headers)
    return _picked_letters(batch)


def _fasta_letters(batch: RecordBatch, headers: HeaderRows) -> BaseCounts:
    """Everything in the batch, less the headers: cheaper than to pick the sequences out."""
    region = batch.data[batch.begin : batch.end]
    rows = headers.bytes.reshape(-1)
    long_headers = b"".join(batch.header(record) for record in headers.too_long.tolist())
    others = np.frombuffer(long_headers, dtype=np.uint8)

    def sequences(count: Callable[[np.ndarray], int]) -> int:
        return count(region) - count(rows) - count(others)

    def every() -> np.ndarray:
        counts = _histogram(region) - _histogram(rows) - _histogram(others)
        counts[0] += rows.size - int(headers.lengths.sum())
        counts[ord("\n")] = 0
        counts[ord("\r")] -= batch.crlf_lines
        counts[ord(">")] -= len(batch)
        return counts

    return _counted(batch, sequences, every, int(batch.layout.length.sum()))


def _picked_letters(batch: RecordBatch) -> BaseCounts:
    """Sequences alone, where other lines would be counted too."""
    layout = batch.layout
    sound = np.flatnonzero(layout.faults == SOUND)
    starts = layout.sequence_start[sound]
    spans = layout.sequence_end[sound] - starts

    def every() -> np.ndarray:
        sequences = b"".join(batch.sequence(record) for record in sound.tolist())
        return _histogram(np.frombuffer(sequences, dtype=np.uint8))

    if spans.max(initial=0) > LONGEST_ROW:
        return counts_by_kind(every().tolist())
    rows = gather_words(batch.data, starts, spans).view(np.uint8).reshape(-1)
    return _counted(batch, lambda count: count(rows), every, int(layout.length[sound].sum()))


def _counted(batch: RecordBatch, sequences: Count, every: Callable[[], np.ndarray], total: int) -> BaseCounts:
    """Counts of the usual letters, if they are all there is; else of every byte value.

    ``sequences`` counts in the sequences what its argument counts in an array; ``total`` is the letters
    in all.
    """

    def occurrences(letter: bytes) -> int:
        # Mostly it is nowhere in the batch, and to look for a first one costs a fifth of counting.
        if batch.raw.find(letter, batch.begin, batch.end) < 0:
            return 0
        return sequences(lambda data: _occurrences(data, letter[0]))

    acgt = sequences(_acegt) - occurrences(b"E")
    if acgt == total:
        return BaseCounts(acgt=acgt)
    n = occurrences(b"N")
    if acgt + n == total:
        return BaseCounts(acgt=acgt, n=n)
    lower = sequences(lambda data: _acegt(data, _LOWER)) - occurrences(b"e")
    n += occurrences(b"n")
    if acgt + n + lower == total:
        return BaseCounts(acgt=acgt, n=n, lower=lower)
    return counts_by_kind(every().tolist())


def _acegt(data: np.ndarray, shift: int = 0) -> int:
    """How often A, C, E, G and T occur, or the letters ``shift`` above them.

    All but T differ in two bits only, so they are compared at once.
    """
    masked, fits, is_t = np.empty((3, min(_BLOCK, len(data))), dtype=np.uint8)
    count = 0
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        size = len(block)
        np.bitwise_and(block, 0xF9, out=masked[:size])
        np.equal(masked[:size], ord("A") + shift, out=fits[:size].view(bool))
        np.equal(block, ord("T") + shift, out=is_t[:size].view(bool))
        np.bitwise_or(fits[:size], is_t[:size], out=fits[:size])
        count += int(np.count_nonzero(fits[:size].view(bool)))
    return count


def _occurrences(data: np.ndarray, letter: int) -> int:
    """Comparing and counting in blocks that fit the cache is far faster than any histogram."""
    return sum(
        int(np.count_nonzero(data[start : start + _BLOCK] == letter)) for start in range(0, len(data), _BLOCK)
    )


def _histogram(data: np.ndarray) -> np.ndarray:
    """Occurrences of the 256 byte values."""
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(data), _BLOCK):
        counts += np.bincount(data[start : start + _BLOCK], minlength=256)
    return counts
