"""The headers of a batch as columns: parsed together where they follow the guide's template.

Headers that do not follow it to the letter, long ones, non-ASCII ones and all headers of another
pattern are parsed one by one with `HeaderPattern.parse_numbers`, which decides alone what matches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from metagene_train.reads.headers.known_prefixes import KnownPrefixes, Prefixes
from metagene_train.reads.headers.pattern import ABSENT, HeaderPattern
from metagene_train.reads.records.batches import RecordBatch
from metagene_train.reads.records.records import decode_header
from metagene_train.reads.words import (
    LONGEST_ROW,
    WORD,
    Numbers,
    drop_bits,
    gather_unmasked,
    hash_rows,
    leading_numbers,
    mask_columns,
)

_BAR, _SLASH, _ZERO = ord("|"), ord("/"), ord("0")
_LBL = np.uint64(int.from_bytes(b"lbl|", "little"))
_ONE_CHARACTER, _FOUR_BYTES = np.uint64(8), np.uint64(32)
_HIGH_BITS = np.uint64(0x8080808080808080)
_FIRST_PRINTABLE, _LAST_PRINTABLE = ord("!"), ord("~")
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class HeaderRows:
    """Headers as columns of zero-padded words [W, N]; ``too_long`` [M] are those left as zeros.

    ``ends`` are the last character of each and the one before it [N] uint8 each; anything, if there is
    none.
    """

    columns: np.ndarray
    lengths: np.ndarray
    ends: tuple[np.ndarray, np.ndarray]
    too_long: np.ndarray

    @classmethod
    def of(cls, batch: RecordBatch) -> HeaderRows:
        lengths = batch.layout.header_end - batch.layout.header_start
        longest = int(lengths.max(initial=1))
        too_long = np.flatnonzero(lengths > LONGEST_ROW) if longest > LONGEST_ROW else _NONE
        if len(too_long):
            lengths[too_long] = 0
            longest = int(lengths.max(initial=1))
        rows = gather_unmasked(batch.data, batch.layout.header_start, longest)
        # Out of these rows, because their columns have the characters of a header far apart.
        letters = rows.reshape(-1).view(np.uint8)
        last = np.arange(0, rows.nbytes, rows.strides[0])
        last += lengths
        last -= 1
        ends = letters.take(last), letters.take(last - 1)
        # As columns, because each is used a few times and then as fast as can be.
        columns = np.ascontiguousarray(rows.T)
        mask_columns(columns, lengths)
        return cls(columns, lengths, ends, too_long)

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
        if np.bitwise_or.reduce(self.columns, axis=None) & _HIGH_BITS:
            short = int(np.count_nonzero((self.columns & _HIGH_BITS).any(axis=0)))
        return short + sum(not batch.header(record).isascii() for record in self.too_long.tolist())

    @property
    def words(self) -> np.ndarray:
        """The same as rows [N, W]."""
        return self.columns.T

    @property
    def bytes(self) -> np.ndarray:
        """A copy as rows of characters [N, 8 W] uint8."""
        return np.ascontiguousarray(self.words).view(np.uint8)


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


class HeaderParser:
    """Takes the headers of the batches of one file apart, and learns from them for those that follow.

    To learn costs more than it saves where it parses one batch only.
    """

    def __init__(self, pattern: HeaderPattern, *, learns: bool = True):
        self.pattern = pattern
        self._learns = learns
        self._known = KnownPrefixes()

    def parse(self, batch: RecordBatch, rows: HeaderRows) -> HeaderColumns:
        """Every header of a batch."""
        count = len(batch)
        if self.pattern.is_standard and count:
            columns = self._parse_template(batch, rows)
        else:
            columns = HeaderColumns(np.zeros(count, dtype=bool), *np.full((5, count), ABSENT, dtype=np.int64))
        for record in np.flatnonzero(~columns.matched).tolist():
            numbers = self.pattern.parse_numbers(decode_header(batch.header(record)))
            if numbers:
                columns.matched[record] = True
                columns.class_id[record], columns.tax_id[record] = numbers[:2]
                columns.readlen[record], columns.mate[record] = numbers[2:]
        return columns

    def _parse_template(self, batch: RecordBatch, rows: HeaderRows) -> HeaderColumns:
        """``lbl|class_id|tax_id|readlen|name/mate``; rows of which this is not certain stay unmatched."""
        prefixes = self._known.look_up(rows.columns)
        if prefixes is None:
            unknown = np.arange(len(batch))
            prefixes = _parse_prefixes(rows.columns)
        else:
            unknown = np.flatnonzero(~prefixes.sure)
            if len(unknown):
                for values, parsed in zip(prefixes, _parse_prefixes(rows.columns[:, unknown]), strict=True):
                    values[unknown] = parsed
        has_mate, mate, plain = _mates(rows)
        sure = prefixes.sure & plain
        sure &= _printable(rows)
        sure &= rows.lengths - 2 * has_mate > prefixes.name_start
        if len(unknown) and self._learns:
            self._learn(batch, prefixes, unknown[sure[unknown]], len(unknown) / len(batch))
        columns = [prefixes.class_id, prefixes.tax_id, prefixes.readlen, mate, prefixes.name_start]
        if not sure.all():
            columns = [np.where(sure, column, ABSENT) for column in columns]
        return HeaderColumns(sure, *columns)

    def _learn(self, batch: RecordBatch, prefixes: Prefixes, records: np.ndarray, missed: float) -> None:
        """Remember the prefixes of some records."""
        numbers = np.stack([values[records] for values in prefixes[:4]], axis=1)
        marks = hash_rows(numbers.view(np.uint64), np.zeros(len(records), dtype=np.int64))
        # As `numpy.unique` does it, without importing masked arrays, which takes longer than this.
        order = np.argsort(marks, kind="stable")
        ranked = marks[order]
        firsts = order[np.append(True, ranked[1:] != ranked[:-1])[: len(order)]]
        texts = [
            batch.header(record)[:length]
            for record, length in zip(records[firsts].tolist(), numbers[firsts, 3].tolist(), strict=True)
        ]
        self._known.learn(texts, [tuple(row) for row in numbers[firsts, :3].tolist()], missed)


def _parse_prefixes(columns: np.ndarray) -> Prefixes:
    """Prefixes of headers given as columns of words [W, N].

    The three numbers are read off the front of eight bytes each, and what they took is shifted out.
    """
    zeros = np.zeros(columns.shape[1], dtype=np.uint64)
    words = [columns[number] if number < len(columns) else zeros for number in range(4)]
    first, second, third = (drop_bits(*pair, _FOUR_BYTES) for pair in pairwise(words))
    class_id = leading_numbers(first, _BAR)
    first = drop_bits(first, second, class_id.bits)
    second = drop_bits(second, third, class_id.bits)
    tax_id = leading_numbers(first, _BAR)
    readlen = leading_numbers(drop_bits(first, second, tax_id.bits), _BAR)
    sure = words[0] << _FOUR_BYTES == _LBL << _FOUR_BYTES
    sure &= class_id.ended
    sure &= class_id.bits > _ONE_CHARACTER
    sure &= tax_id.ended
    sure &= readlen.ended
    taken = class_id.bits + tax_id.bits
    taken += readlen.bits
    name_start = len(b"lbl|") + (taken >> np.uint64(3)).view(np.int64)
    return Prefixes(class_id.values, _or_absent(tax_id), _or_absent(readlen), name_start, sure)


def _or_absent(numbers: Numbers) -> np.ndarray:
    missing = numbers.bits == _ONE_CHARACTER
    return np.where(missing, ABSENT, numbers.values) if missing.any() else numbers.values


def _mates(rows: HeaderRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each header ends with a slash and a digit [N], that digit or -1 [N] int64, and whether it
    has no other slash [N]."""
    last, before = rows.ends
    digits = last - np.uint8(_ZERO)
    has_mate = before == _SLASH
    has_mate &= digits < 10
    has_mate &= rows.lengths > 1
    slashes = rows.columns.view(np.uint8) == _SLASH
    if np.count_nonzero(slashes) == np.count_nonzero(has_mate):
        plain = np.ones(len(digits), dtype=bool)
    else:
        plain = _of_each(slashes) == has_mate
    mates = digits.astype(np.int64)
    if not has_mate.all():
        mates[~has_mate] = ABSENT
    return has_mate, mates, plain


def _printable(rows: HeaderRows) -> np.ndarray:
    """Rows in which every character is ASCII between ! and ~: no blank of any kind.

    Where no header ends the smallest and the largest character tell; behind that padding is counted.
    """
    lengths = rows.lengths
    common = int(lengths.min(initial=LONGEST_ROW)) // WORD
    inside, rest = rows.columns[:common].view(np.uint8), rows.columns[common:].view(np.uint8)
    lowest, highest = inside.min(initial=_LAST_PRINTABLE), inside.max(initial=_FIRST_PRINTABLE)
    padding = WORD * len(lengths) * len(rows.columns) - int(lengths.sum())
    fits = lowest >= _FIRST_PRINTABLE and highest <= _LAST_PRINTABLE
    if fits and np.count_nonzero(_unprintable(rest)) == padding:
        return np.ones(len(lengths), dtype=bool)
    return _of_each(_unprintable(rows.columns.view(np.uint8))) == WORD * len(rows.columns) - lengths


def _unprintable(letters: np.ndarray) -> np.ndarray:
    return letters - np.uint8(_FIRST_PRINTABLE) > _LAST_PRINTABLE - _FIRST_PRINTABLE


def _of_each(found: np.ndarray) -> np.ndarray:
    """How many characters of each header [N] were found, from those of columns of words [W, 8 N]."""
    return np.count_nonzero(found.reshape(len(found), -1, WORD), axis=(0, 2))
