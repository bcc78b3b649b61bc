"""Do headers stay apart when they are cut at the first blank, as most tools cut them?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_doctor.finding import Frozen
from metagene_train.reads.records.records import decode_header
from metagene_train.reads.watching import Watched
from metagene_train.reads.words import gather_words, hash_rows

CAPACITY = 1 << 21
"""Headers kept, 16 bytes each; beyond, every second first word is dropped with all its headers."""

_BLANK, _TAB = ord(" "), ord("\t")


class FirstWordFacts(Frozen):
    """Counts over the kept headers with a blank; headers of more than 504 bytes are not among them."""

    with_blank: int = 0
    """Headers with a blank in the whole file."""
    kept: int = 0
    distinct: int = 0
    distinct_first_words: int = 0
    kept_one_in: int = 1
    """1: all were kept and the counts are exact."""
    example: str = ""

    @property
    def lost_share(self) -> float:
        """Share of these reads whose name is another read's once it is cut at the first blank."""
        return (self.distinct - self.distinct_first_words) / self.kept if self.kept else 0.0


class BlankHeaders(NamedTuple):
    """Headers of one batch with a blank."""

    headers: int
    example: str
    first: np.ndarray
    """uint64 [M]: hashes of the first words of those that may be kept."""
    full: np.ndarray
    """uint64 [M]: hashes of these headers."""


class FirstWordTally:
    """Compares headers with their first words; costs nothing where no header has blanks."""

    def __init__(self, capacity: int = CAPACITY):
        self._capacity = capacity
        self._zero_bits = self._with_blank = self._kept = 0
        self._first = [np.zeros(0, dtype=np.uint64)]
        self._full = [np.zeros(0, dtype=np.uint64)]
        self._example = ""

    def see(self, watched: Watched) -> BlankHeaders | None:
        """None if no header has a blank behind its first word."""
        batch, kept, rows = watched.batch, watched.places, watched.rows
        if all(batch.raw.find(blank, batch.begin, batch.end) < 0 for blank in (b" ", b"\t")):
            return None
        letters = rows.bytes[kept]
        blanks = (letters == _BLANK) | (letters == _TAB)
        ends = blanks.argmax(axis=1)
        cut = np.flatnonzero(blanks.any(axis=1) & (ends > 0))
        if not len(cut):
            return None
        starts, lengths = batch.layout.header_start[kept[cut]], ends[cut]
        first = hash_rows(gather_words(batch.data, starts, lengths), lengths)
        full = hash_rows(rows.words[kept[cut]], rows.lengths[kept[cut]])
        wanted = self._chosen(first)
        example = decode_header(batch.header(int(kept[cut[0]])))[:80]
        return BlankHeaders(len(cut), example, first[wanted], full[wanted])

    def take(self, seen: BlankHeaders | None) -> None:
        if seen is None:
            return
        self._with_blank += seen.headers
        self._example = self._example or seen.example
        # By now fewer may be kept than when they were picked.
        wanted = self._chosen(seen.first)
        self._first.append(seen.first[wanted])
        self._full.append(seen.full[wanted])
        self._kept += int(wanted.sum())
        while self._kept > self._capacity:
            self._zero_bits += 1
            first, full = np.concatenate(self._first), np.concatenate(self._full)
            wanted = self._chosen(first)
            self._first, self._full = [first[wanted]], [full[wanted]]
            self._kept = int(wanted.sum())

    def _chosen(self, hashes: np.ndarray) -> np.ndarray:
        wanted: np.ndarray = hashes & np.uint64((1 << self._zero_bits) - 1) == 0
        return wanted

    def result(self) -> FirstWordFacts:
        """The counts of all headers so far."""
        first, full = np.concatenate(self._first), np.concatenate(self._full)
        return FirstWordFacts(
            with_blank=self._with_blank,
            kept=len(first),
            distinct=_distinct(full),
            distinct_first_words=_distinct(first),
            kept_one_in=1 << self._zero_bits,
            example=self._example,
        )


def _distinct(hashes: np.ndarray) -> int:
    if not len(hashes):
        return 0
    ordered = np.sort(hashes)
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))
