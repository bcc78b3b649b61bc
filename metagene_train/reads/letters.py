"""Letters of the sequences of a batch, by kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metagene_train.reads.bases import BaseCounts, counts_by_kind
from metagene_train.reads.batches import RecordBatch
from metagene_train.reads.header_columns import HeaderRows
from metagene_train.reads.layout import SOUND
from metagene_train.reads.words import LONGEST_ROW, gather_words, words_of

_BLOCK = 1 << 18


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

    def usual(letter: int) -> int:
        return _occurrences(region, letter) - _occurrences(rows, letter) - _occurrences(others, letter)

    def every() -> np.ndarray:
        counts = _histogram(region) - _histogram(rows) - _histogram(others)
        counts[0] += rows.size - int(headers.lengths.sum())
        counts[ord("\n")] = 0
        counts[ord("\r")] -= batch.crlf_lines
        counts[ord(">")] -= len(batch)
        return counts

    return _counted(usual, every, int(batch.layout.length.sum()))


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
    rows = gather_words(words_of(batch.data), starts, spans).view(np.uint8).reshape(-1)
    return _counted(lambda letter: _occurrences(rows, letter), every, int(layout.length[sound].sum()))


def _counted(usual: Callable[[int], int], every: Callable[[], np.ndarray], total: int) -> BaseCounts:
    """Counts of the usual letters, if they are all there is; else of every byte value."""
    counts = [0] * 256
    for letters in (b"ACGTN", b"acgtn"):
        for letter in letters:
            counts[letter] = usual(letter)
        if sum(counts) == total:
            return counts_by_kind(counts)
    return counts_by_kind(every().tolist())


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
