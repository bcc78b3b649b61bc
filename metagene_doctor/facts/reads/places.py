"""Whole records from many places of a large plain or BGZF file, without reading the rest.

The file is cut into as many equal stretches as there are places in a round, and each round takes
one place in every stretch, uniformly at random from a fixed seed. So any number of rounds covers
the file evenly, and something that a share p of the file shows is missed by n places with a
probability of at most (1 - p)^n, wherever in the file it is: stretches only make misses rarer than
independent draws would. Places are bytes on disk; in BGZF p is a share of the compressed bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from metagene_doctor.facts.reads.blocks import BlockedFile
from metagene_doctor.facts.reads.facts import Damage
from metagene_doctor.facts.reads.texts import DamagedPlaceError, File, NoPlacesError, PlainFile, Text

PLACES_PER_ROUND = 64
ROUNDS = 128
"""At most 8,192 places: what none of them shows is in at most 0.04 % of the file (95 %)."""

PIECE_BYTES = 1 << 13
LONGEST_PIECE = 1 << 20
"""A place where no record starts within this many bytes is given up."""

SECONDS = 8.0
"""No round starts later than this: a disk that needs 10 ms a place manages over 600 places."""

MOST_BYTES = 1 << 26


class Piece(NamedTuple):
    """Whole records as they lie in the file from byte ``offset`` on; in BGZF from somewhere in, or soon
    after, the block that starts there."""

    offset: int
    records: bytes


class Pieces(NamedTuple):
    pieces: tuple[Piece, ...]
    """That of the file's start first, that of its end last."""
    places: int
    """How many of them were drawn at random: all but the first and the last."""
    unpacked_bytes: float
    """Of the whole file: its size, or of BGZF an estimate from the blocks at the places."""
    blocked: bool = False
    damage: tuple[Damage, ...] = ()

    def offset_of_line(self, line: int) -> int:
        """Where in the file a line of the joined pieces starts (from 1); in BGZF, where its block does."""
        for piece in self.pieces:
            lines = piece.records.count(b"\n")
            if line <= lines:
                start = 0
                for _ in range(0 if self.blocked else line - 1):
                    start = piece.records.index(b"\n", start) + 1
                return piece.offset + start
            line -= lines
        raise ValueError(f"the pieces have no line {line}")


def read_pieces(
    path: Path,
    kind: Literal["fasta", "fastq"],
    *,
    blocked: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Pieces | None:
    """Records from everywhere in a plain file, or in one of BGZF blocks; None for FASTQ whose records
    are not of four lines, and for a file that cannot be entered anywhere.

    The time is bounded by `SECONDS` and one round, the memory by `MOST_BYTES` and one round.
    """
    with path.open("rb", buffering=0) as handle, suppress(NoPlacesError):
        return _pieces(_opened(handle.fileno(), blocked), kind, clock)
    return None


def _pieces(file: File, kind: str, clock: Callable[[], float]) -> Pieces | None:
    damage: dict[int | None, Damage] = {}

    def piece_of(find: Callable[[], Piece | None]) -> tuple[Piece, ...]:
        try:
            piece = find()
        except DamagedPlaceError as error:
            damage.setdefault(error.damage.byte_offset, error.damage)
            return ()
        return (piece,) if piece else ()

    first = piece_of(lambda: _piece(file.text_at(0), kind))
    if not first or (kind == "fastq" and not _four_lines_each(first[0].records)):
        return None
    draw, started = random.Random(0), clock()
    found: list[Piece] = []
    for _ in range(ROUNDS):
        for stretch in range(PLACES_PER_ROUND):
            place = int((stretch + draw.random()) / PLACES_PER_ROUND * file.size)
            found += piece_of(partial(_piece_at, file, place, kind))
        if clock() - started > SECONDS or sum(len(piece.records) for piece in found) > MOST_BYTES:
            break
    last = piece_of(lambda: _last_piece(file, kind))
    shown = sorted(damage.values(), key=lambda one: one.byte_offset or 0)
    return Pieces((*first, *found, *last), len(found), file.unpacked_bytes(), file.blocked, tuple(shown))


def _opened(descriptor: int, blocked: bool) -> File:
    return BlockedFile(descriptor) if blocked else PlainFile(descriptor)


def _piece_at(file: File, place: int, kind: str) -> Piece | None:
    return _piece(file.text_at(place), kind, exact=not file.blocked)


def _piece(text: Text, kind: str, exact: bool = True) -> Piece | None:
    """The records that start and end within a piece of a text, at least one.

    The file's last record is not among them: whether it is whole is for `_last_piece` to show.
    """
    find = _fasta_bounds if kind == "fasta" else _fastq_bounds
    length = PIECE_BYTES
    while True:
        data = text.read(length)
        begin, end = find(data, text.starts_file)
        if begin < end:
            return Piece(text.offset + (begin if exact else 0), data[begin:end])
        if text.reaches_end or length >= LONGEST_PIECE:
            return None
        length *= 4


def _last_piece(file: File, kind: str) -> Piece | None:
    """From a record near the end of the file to its last byte."""
    find = _fasta_bounds if kind == "fasta" else _fastq_bounds
    length = PIECE_BYTES
    while True:
        text = file.text_before_end(length)
        data = text.read(2 * LONGEST_PIECE)
        begin, end = find(data, text.starts_file)
        if begin < end:
            return Piece(text.offset + (0 if file.blocked else begin), data[begin:])
        if text.starts_file or length >= LONGEST_PIECE:
            return None
        length *= 4


def _fasta_bounds(data: bytes, whole_first_line: bool) -> tuple[int, int]:
    """Where the first record starts and where the last one starts; equal when there is no whole one."""
    begin = 0 if whole_first_line else data.find(b"\n>") + 1
    if begin == 0 and not whole_first_line:
        return 0, 0
    return begin, max(begin, data.rfind(b"\n>") + 1)


def _fastq_bounds(data: bytes, whole_first_line: bool) -> tuple[int, int]:
    """As for FASTA. A line with @ starts a record only if a + line stands two lines below it and
    sequence and quality are equally long: no quality line that starts with @ has that."""
    lines = data.split(b"\n")
    starts, position = [], 0
    for line in lines:
        starts.append(position)
        position += len(line) + 1
    skipped = 0 if whole_first_line else 1
    records = [number for number in range(skipped, len(lines) - 4) if _starts_record(lines, number)]
    if not records:
        return 0, 0
    begin = 0 if whole_first_line else starts[records[0]]
    return begin, max(begin, starts[records[-1]])


def _starts_record(lines: list[bytes], number: int) -> bool:
    header, sequence, plus, quality = (line.removesuffix(b"\r") for line in lines[number : number + 4])
    return header.startswith(b"@") and plus.startswith(b"+") and 0 < len(sequence) == len(quality)


def _four_lines_each(records: bytes) -> bool:
    """Whether nearly all records are of four lines: between wrapped ones only short reads would be found."""
    lines = records.split(b"\n")
    found = sum(_starts_record(lines, number) for number in range(len(lines) - 4))
    return found >= 0.9 * (len(lines) // 4)
