"""A batch of records while it is being repaired: what changes, and how the result is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from metagene_doctor.facts.reads.hashes import ReadHashes, hash_batch
from metagene_train.reads.counts.bases import WHITESPACE
from metagene_train.reads.counts.letters import count_letters
from metagene_train.reads.headers.columns import HeaderParser, HeaderRows
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.batches import RecordBatch
from metagene_train.reads.records.formats import Kind
from metagene_train.reads.records.layout import FAULTS, MIXED, SOUND
from metagene_train.reads.records.records import decode_header
from metagene_train.reads.watching import Watched

_LINE_FEED, _CARRIAGE_RETURN = 10, 13
BLANK, LOWER, URACIL, UNKNOWN, CODE = 1, 2, 4, 8, 16
"""Kinds of letters, as bits: blanks, lower case, U, whatever training reads as N, and that without N."""

_TWO_FEEDS = re.compile(rb"\n\n+")

Tally = dict[str, Counter[str]]
"""Repair -> what it does -> how often."""


def _kinds() -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    for letter in range(256):
        character = bytes([letter])
        if character in WHITESPACE:
            table[letter] = BLANK
            continue
        if character.islower():
            table[letter] |= LOWER
        if character in b"Uu":
            table[letter] |= URACIL
        if character not in b"ACGTUacgtu":
            table[letter] |= UNKNOWN
            if character not in b"Nn":
                table[letter] |= CODE
    table[_LINE_FEED] = 0
    return table


_KINDS = _kinds()


class Draft:
    """The records of a batch and what is to become of them.

    ``first`` is how many records of the job came before. Repairs replace letters with `substitute`,
    `put_header`, mark records to be written anew in ``unblanked`` and
    ``rewrapped``, and `set_aside` what cannot be kept; `note` says what they did. Like its batch, a
    draft is valid until the next one is asked for.
    """

    def __init__(self, batch: RecordBatch, kind: Kind, pattern: HeaderPattern, first: int):
        self.batch = batch
        self.kind = kind
        self.pattern = pattern
        self.first = first
        self.rows = HeaderRows.of(batch)
        self.columns = HeaderParser(pattern, learns=False).parse(batch, self.rows)
        count = len(batch)
        self.headers: dict[int, bytes] = {}
        self.matched = self.columns.matched.copy()
        self.class_ids = self.columns.class_id.copy()
        self.removed = np.zeros(count, dtype=np.int64)
        """Blanks [N] taken out of the sequences."""
        self.unblanked = np.zeros(count, dtype=bool)
        self.rewrapped = np.zeros(count, dtype=bool)
        self.tidy_lines = False
        self.sound = batch.layout.faults == SOUND
        self._reasons: dict[int, str] = {}
        self._letters: np.ndarray | None = None
        self._notes: list[tuple[str, str, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.batch)

    # What is known of the records

    @property
    def ordinals(self) -> np.ndarray:
        """Numbers [N] of the records in the job, from 0."""
        return np.arange(self.first, self.first + len(self), dtype=np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """Bases [N] of the records as they will be written."""
        return self.batch.layout.length - self.removed

    @property
    def kept(self) -> np.ndarray:
        """Which records [N] are not set aside."""
        kept = np.ones(len(self), dtype=bool)
        kept[list(self._reasons)] = False
        return kept

    def header(self, record: int) -> bytes:
        return self.headers[record] if record in self.headers else self.batch.header(record)

    @cached_property
    def broken(self) -> dict[int, str]:
        """Records whose structure is not whole, and why."""
        reasons = {record: FAULTS[self.batch.layout.faults[record]] for record in self.batch.faulty()}
        others = [(record, "the record holds NUL bytes") for record in self.batch.damaged_by_nul()]
        others += [(record, MIXED) for record in self.batch.mixed_with_fastq()]
        for record, reason in others:
            reasons.setdefault(record, reason)
        return reasons

    @cached_property
    def _kinds_of_letters(self) -> np.ndarray | None:
        """Bits [bytes of the buffer] of the letters of sequences; None if all are A, C, G and T."""
        if not len(count_letters(self.batch).records):
            return None
        data, layout, sound = self.batch.data, self.batch.layout, self.sound
        edges = np.zeros(len(data) + 1, dtype=np.int8)
        edges[layout.sequence_start[sound]] += 1
        edges[layout.sequence_end[sound]] -= 1
        kinds = np.take(_KINDS, data)
        kinds *= np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8)
        if self.batch.crlf_lines:
            returns = np.flatnonzero(data[:-1] == _CARRIAGE_RETURN)
            kinds[returns[data[returns + 1] == _LINE_FEED]] = 0
        return kinds

    @cached_property
    def _kinds_present(self) -> int:
        kinds = self._kinds_of_letters
        return 0 if kinds is None else int(np.bitwise_or.reduce(kinds))

    def letters(self, kind: int) -> np.ndarray:
        """How many letters of a kind the sequence of each record has [N]."""
        kinds = self._kinds_of_letters
        counts = np.zeros(len(self), dtype=np.int64)
        if kinds is None or not self._kinds_present & kind:
            return counts
        before = np.zeros(len(kinds) + 1, dtype=np.int32 if len(kinds) < 2**31 else np.int64)
        np.cumsum(kinds & kind != 0, out=before[1:])
        layout, sound = self.batch.layout, self.sound
        counts[sound] = before[layout.sequence_end[sound]] - before[layout.sequence_start[sound]]
        return counts

    @cached_property
    def hashed(self) -> tuple[np.ndarray, ReadHashes]:
        """Records [M] that are sound and have bases, and their hashes as they stand in the input."""
        places = np.flatnonzero(self.sound & (self.batch.layout.length > 0))
        return places, hash_batch(Watched(self.batch, places, self.rows, self.columns, self.pattern))

    # What repairs do to them

    def substitute(self, kind: int, table: bytes) -> np.ndarray:
        """Replace the letters of a kind by what a table of 256 says; how many of each record [N]."""
        counts = self.letters(kind)
        if counts.any():
            assert self._kinds_of_letters is not None
            if self._letters is None:
                self._letters = self.batch.data.copy()
            replaced = np.take(np.frombuffer(table, dtype=np.uint8), self._letters)
            np.copyto(self._letters, replaced, where=self._kinds_of_letters & kind != 0)
        return counts

    def put_header(self, record: int, header: bytes) -> None:
        """Give a record another header, and the class that is in it."""
        self.headers[record] = header
        fields = self.pattern.parse(decode_header(header))
        if fields is not None:
            self.matched[record] = True
            self.class_ids[record] = fields.class_id

    def set_aside(self, record: int, reason: str) -> None:
        """The first reason given for a record counts."""
        self._reasons.setdefault(record, reason)

    @property
    def reasons(self) -> dict[int, str]:
        """Records set aside, in order, and why."""
        return dict(sorted(self._reasons.items()))

    def note(self, repair: str, what: str, counts: np.ndarray) -> None:
        """A repair did something so many times to each record [N]."""
        if counts.any():
            self._notes.append((repair, what, counts))

    def tally(self, into: Tally) -> None:
        """Add what was noted of the records that are kept, and the reasons of the others."""
        kept = self.kept
        for repair, what, counts in self._notes:
            if number := int(counts[kept].sum()):
                into.setdefault(repair, Counter())[what] += number
        for reason in self._reasons.values():
            into.setdefault("drop-damaged", Counter())[reason] += 1

    # How they are written

    @cached_property
    def _written(self) -> memoryview:
        """The buffer with the letters replaced."""
        return memoryview(self.batch.raw) if self._letters is None else self._letters.data

    def raw(self, record: int) -> bytes:
        """A record as it stands in the input, with a line end."""
        layout = self.batch.layout
        return _ended(bytes(memoryview(self.batch.raw)[layout.starts[record] : layout.ends[record]]))

    def _is_special(self) -> np.ndarray:
        special = self.unblanked | self.rewrapped
        special[list(self.headers)] = True
        return special

    def runs(self, wanted: np.ndarray) -> Iterator[bytes]:
        """The wanted records [N] as they will be written, as many in one piece as lie together."""
        layout = self.batch.layout
        special = self._is_special()
        places = np.flatnonzero(wanted)
        if not len(places):
            return
        joined = np.diff(places) == 1
        joined &= layout.ends[places[:-1]] == layout.starts[places[1:]]
        joined &= ~special[places[:-1]] & ~special[places[1:]]
        firsts = places[np.concatenate(([True], ~joined))].tolist()
        lasts = places[np.concatenate((~joined, [True]))].tolist()
        for first, last in zip(firsts, lasts, strict=True):
            if special[first]:
                yield self._rewritten(first)
            else:
                yield self._tidied(bytes(self._written[layout.starts[first] : layout.ends[last]]))

    def pieces(self, wanted: np.ndarray) -> list[bytes]:
        """The wanted records [N] as they will be written, one by one."""
        layout, written = self.batch.layout, self._written
        places = np.flatnonzero(wanted)
        special = self._is_special()[places].tolist()
        starts, ends = layout.starts[places].tolist(), layout.ends[places].tolist()
        tidied = self._tidied
        return [
            self._rewritten(place) if anew else tidied(bytes(written[start:end]))
            for place, start, end, anew in zip(places.tolist(), starts, ends, special, strict=True)
        ]

    def _tidied(self, piece: bytes) -> bytes:
        """Pieces end with a line end, and have no other blank lines and CR if lines are repaired."""
        piece = _ended(piece)
        if self.tidy_lines:
            while b"\r\n" in piece:
                piece = piece.replace(b"\r\n", b"\n")
            if self.kind == "fasta" and b"\n\n" in piece:
                piece = _TWO_FEEDS.sub(b"\n", piece)
        return piece

    def _rewritten(self, record: int) -> bytes:
        layout = self.batch.layout
        header = self.header(record)
        if self.kind == "fasta":
            start = layout.header_end[record]
            body = bytes(self._written[start : layout.ends[record]])
            if self.unblanked[record]:
                lines = (line.translate(None, WHITESPACE) for line in body.split(b"\n"))
                body = b"\n" + b"\n".join(line for line in lines if line)
            return self._tidied(b">" + header + body)
        sequence = _lines_joined(self._written[layout.sequence_start[record] : layout.sequence_end[record]])
        quality = self.batch.quality(record) or b""
        if self.unblanked[record]:
            bases = [place for place, letter in enumerate(sequence) if letter not in WHITESPACE]
            sequence, quality = (
                bytes(map(sequence.__getitem__, bases)),
                bytes(map(quality.__getitem__, bases)),
            )
        return b"@" + header + b"\n" + sequence + b"\n+\n" + quality + b"\n"


def _ended(piece: bytes) -> bytes:
    return piece if piece.endswith(b"\n") else piece + b"\n"


def _lines_joined(block: memoryview) -> bytes:
    return b"".join(line.removesuffix(b"\r") for line in bytes(block).split(b"\n"))
