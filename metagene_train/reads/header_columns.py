"""The headers of a batch as columns: parsed together where they follow the guide's template.

Headers that do not follow it to the letter, long ones, non-ASCII ones and all headers of another
pattern are parsed one by one with `HeaderPattern.parse_numbers`, which decides alone what matches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from metagene_train.reads.batches import RecordBatch
from metagene_train.reads.headers import ABSENT, HeaderPattern
from metagene_train.reads.records import decode_header
from metagene_train.reads.words import (
    LONGEST_ROW,
    Numbers,
    drop_bits,
    gather_words,
    hash_rows,
    leading_numbers,
)

_BAR, _SLASH, _ZERO = ord("|"), ord("/"), ord("0")
_LBL = np.uint64(int.from_bytes(b"lbl|", "little"))
_ONE_CHARACTER, _FOUR_BYTES = np.uint64(8), np.uint64(32)
_HIGH_BITS = np.uint64(0x8080808080808080)
_FIRST_PRINTABLE, _LAST_PRINTABLE = ord("!"), ord("~")


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
        rows = gather_words(batch.data, batch.layout.header_start, lengths)
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
        short = 0
        if np.bitwise_or.reduce(self.words, axis=None) & _HIGH_BITS:
            short = int(np.count_nonzero((self.words & _HIGH_BITS).any(axis=1)))
        return short + sum(not batch.header(record).isascii() for record in self.too_long.tolist())

    @property
    def bytes(self) -> np.ndarray:
        """The same rows as characters [N, 8 W] uint8."""
        return self.words.view(np.uint8)


@dataclass(frozen=True)
class HeaderColumns:
    """Fields of the headers of a batch [N] int64; absent fields are -1. Unmatched rows are -1 too.

    ``name_start`` is where in the header the name starts, -1 where the header was parsed alone.
    """

    matched: np.ndarray
    class_id: np.ndarray
    tax_id: np.ndarray
    readlen: np.ndarray
    mate: np.ndarray
    name_start: np.ndarray


def parse_headers(batch: RecordBatch, rows: HeaderRows, pattern: HeaderPattern) -> HeaderColumns:
    """Every header of a batch."""
    count = len(batch)
    if pattern.is_standard and count:
        columns = _parse_template(batch, rows)
    else:
        columns = HeaderColumns(np.zeros(count, dtype=bool), *np.full((5, count), ABSENT, dtype=np.int64))
    for record in np.flatnonzero(~columns.matched).tolist():
        numbers = pattern.parse_numbers(decode_header(batch.header(record)))
        if numbers:
            columns.matched[record] = True
            columns.class_id[record], columns.tax_id[record] = numbers[:2]
            columns.readlen[record], columns.mate[record] = numbers[2:]
    return columns


def _parse_template(batch: RecordBatch, rows: HeaderRows) -> HeaderColumns:
    """``lbl|class_id|tax_id|readlen|name/mate``; rows of which this is not certain stay unmatched.

    The three numbers are read off the front of eight bytes each, and what they took is shifted out.
    """
    zeros = np.zeros(len(batch), dtype=np.uint64)
    words = [rows.words[:, column] if column < rows.words.shape[1] else zeros for column in range(4)]
    first, second, third = (drop_bits(*pair, _FOUR_BYTES) for pair in pairwise(words))
    class_id = leading_numbers(first, _BAR)
    first = drop_bits(first, second, class_id.bits)
    second = drop_bits(second, third, class_id.bits)
    tax_id = leading_numbers(first, _BAR)
    readlen = leading_numbers(drop_bits(first, second, tax_id.bits), _BAR)

    has_mate, mate, sure = _mates(rows)
    sure &= words[0] << _FOUR_BYTES == _LBL << _FOUR_BYTES
    sure &= class_id.ended
    sure &= class_id.bits > _ONE_CHARACTER
    sure &= tax_id.ended
    sure &= readlen.ended
    sure &= _printable(rows)
    taken = class_id.bits + tax_id.bits
    taken += readlen.bits
    name_start = len(b"lbl|") + (taken >> np.uint64(3)).view(np.int64)
    sure &= rows.lengths - 2 * has_mate > name_start
    columns = [class_id.values, _or_absent(tax_id), _or_absent(readlen), mate, name_start]
    if not sure.all():
        columns = [np.where(sure, column, ABSENT) for column in columns]
    return HeaderColumns(sure, *columns)


def _or_absent(numbers: Numbers) -> np.ndarray:
    missing = numbers.bits == _ONE_CHARACTER
    return np.where(missing, ABSENT, numbers.values) if missing.any() else numbers.values


def _mates(rows: HeaderRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each header ends with a slash and a digit [N], that digit or -1 [N] int64, and whether it
    has no other slash [N]."""
    count, width = rows.bytes.shape
    letters = rows.bytes.reshape(-1)
    last = np.arange(0, count * width, width)
    last += rows.lengths
    last -= 1
    digits = letters[last] - np.uint8(_ZERO)
    last -= 1
    has_mate = letters[last] == _SLASH
    has_mate &= digits < 10
    has_mate &= rows.lengths > 0
    slashes = letters == _SLASH
    if np.count_nonzero(slashes) == np.count_nonzero(has_mate):
        plain = np.ones(count, dtype=bool)
    else:
        plain = np.count_nonzero(slashes.reshape(count, width), axis=1) == has_mate
    mates = digits.astype(np.int64)
    if not has_mate.all():
        mates[~has_mate] = ABSENT
    return has_mate, mates, plain


def _printable(rows: HeaderRows) -> np.ndarray:
    """Rows in which every character is ASCII between ! and ~: no blank of any kind."""
    letters, lengths = rows.bytes, rows.lengths
    padding = letters.size - int(lengths.sum())
    unusual = letters - np.uint8(_FIRST_PRINTABLE) > _LAST_PRINTABLE - _FIRST_PRINTABLE
    if np.count_nonzero(unusual) == padding:
        return np.ones(len(lengths), dtype=bool)
    return np.count_nonzero(unusual, axis=1) == letters.shape[1] - lengths
