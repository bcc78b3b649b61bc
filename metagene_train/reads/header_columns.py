"""The headers of a batch as columns: parsed together where they follow the guide's template.

Headers that do not follow it to the letter, long ones, non-ASCII ones and all headers of another
pattern are parsed one by one with `HeaderPattern.parse_numbers`, which decides alone what matches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from metagene_train.reads.batches import RecordBatch
from metagene_train.reads.headers import ABSENT, HeaderPattern
from metagene_train.reads.records import decode_header
from metagene_train.reads.words import LONGEST_ROW, decimal_numbers, gather_words, hash_rows, words_of

_BAR, _SLASH = ord("|"), ord("/")
_LBL = int.from_bytes(b"lbl|", "little")
_DIGITS_TOGETHER = 8
_HIGH_BITS = np.uint64(0x8080808080808080)


@dataclass(frozen=True)
class HeaderRows:
    """Headers as zero-padded rows of words [N, W]; ``too_long`` [M] are those left as zeros."""

    words: np.ndarray
    lengths: np.ndarray
    too_long: np.ndarray

    @classmethod
    def of(cls, batch: RecordBatch) -> HeaderRows:
        lengths = batch.layout.header_end - batch.layout.header_start
        too_long = np.flatnonzero(lengths > LONGEST_ROW)
        lengths[too_long] = 0
        rows = gather_words(words_of(batch.data), batch.layout.header_start, lengths)
        return cls(rows, lengths, too_long)

    def hashes(self, batch: RecordBatch) -> np.ndarray:
        """64-bit hashes of the headers [N] uint64."""
        hashes = hash_rows(self.words, self.lengths)
        for record in self.too_long.tolist():
            digest = hashlib.blake2b(batch.header(record), digest_size=8).digest()
            hashes[record] = int.from_bytes(digest, "little")
        return hashes

    def non_ascii(self, batch: RecordBatch) -> int:
        """How many headers hold bytes beyond ASCII."""
        short = int(np.count_nonzero((self.words & _HIGH_BITS).any(axis=1)))
        return short + sum(not batch.header(record).isascii() for record in self.too_long.tolist())

    @property
    def bytes(self) -> np.ndarray:
        """The same rows as characters [N, 8 W] uint8."""
        return self.words.view(np.uint8)


@dataclass(frozen=True)
class HeaderColumns:
    """Fields of the headers of a batch [N] int64; absent fields are -1. Unmatched rows are -1 too."""

    matched: np.ndarray
    class_id: np.ndarray
    tax_id: np.ndarray
    readlen: np.ndarray
    mate: np.ndarray


def parse_headers(batch: RecordBatch, rows: HeaderRows, pattern: HeaderPattern) -> HeaderColumns:
    """Every header of a batch."""
    count = len(batch)
    if pattern.is_standard and count:
        columns = _parse_template(batch, rows)
    else:
        columns = HeaderColumns(np.zeros(count, dtype=bool), *np.full((4, count), ABSENT, dtype=np.int64))
    for record in np.flatnonzero(~columns.matched).tolist():
        numbers = pattern.parse_numbers(decode_header(batch.header(record)))
        if numbers:
            columns.matched[record] = True
            columns.class_id[record], columns.tax_id[record] = numbers[:2]
            columns.readlen[record], columns.mate[record] = numbers[2:]
    return columns


def _parse_template(batch: RecordBatch, rows: HeaderRows) -> HeaderColumns:
    """``lbl|class_id|tax_id|readlen|name/mate``; rows of which this is not certain stay unmatched."""
    width = rows.words.shape[1] * 8
    letters = rows.bytes
    starts = batch.layout.header_start
    bars, bars_enough = _first_in_row(letters == _BAR, 4)
    slashes, has_slash = _first_in_row(letters == _SLASH, 1)
    slash = slashes[:, 0]

    words = words_of(batch.data)
    sure = bars_enough & (rows.words[:, 0] & np.uint64(0xFFFFFFFF) == _LBL)
    sure &= _printable(letters, rows.lengths, width)
    numbers = []
    for first, last in ((bars[:, 0], bars[:, 1]), (bars[:, 1], bars[:, 2]), (bars[:, 2], bars[:, 3])):
        numbers.append(_field(words, starts, first, last, sure))
    class_id, tax_id, readlen = numbers
    mate = _field(words, starts, np.where(has_slash, slash, rows.lengths - 1), rows.lengths, sure)
    # A second slash would stand among the digits of the mate, so such rows are unsure by now.
    name_end = np.where(has_slash, slash, rows.lengths)
    sure &= (name_end > bars[:, 3] + 1) & (class_id != ABSENT) & ~(has_slash & (mate == ABSENT))
    columns = (np.where(sure, column, ABSENT) for column in (class_id, tax_id, readlen, mate))
    return HeaderColumns(sure, *columns)


def _first_in_row(hits: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the first ``wanted`` hits of each row [N, wanted], and which rows have that many."""
    places = np.flatnonzero(hits)
    count, width = hits.shape
    if len(places) == wanted * count:
        columns = places.reshape(count, wanted) - (np.arange(count) * width)[:, None]
        if ((columns >= 0) & (columns < width)).all():
            return columns, np.ones(count, dtype=bool)
    row = places // width
    before = np.searchsorted(row, np.arange(count + 1))
    enough = np.diff(before) >= wanted
    columns = np.zeros((count, wanted), dtype=np.int64)
    chosen = before[:-1][enough][:, None] + np.arange(wanted)
    columns[enough] = places[chosen] - (np.flatnonzero(enough) * width)[:, None]
    return columns, enough


def _field(
    words: np.ndarray, starts: np.ndarray, before: np.ndarray, after: np.ndarray, sure: np.ndarray
) -> np.ndarray:
    """The number between two columns, -1 if there is nothing; rows without digits are no longer sure."""
    digits = after - before - 1
    sure &= (digits >= 0) & (digits <= _DIGITS_TOGETHER)
    counts = np.clip(digits, 0, _DIGITS_TOGETHER)
    values, valid = decimal_numbers(words, starts + after, counts)
    sure &= valid
    return np.where(counts == 0, ABSENT, values)


def _printable(letters: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Rows in which every character is ASCII between ! and ~: no blank of any kind."""
    padding = letters.size - int(lengths.sum())
    unusual = (letters < 33) | (letters > 126)
    if np.count_nonzero(unusual) == padding:
        return np.ones(len(lengths), dtype=bool)
    return np.count_nonzero(unusual, axis=1) == width - lengths
