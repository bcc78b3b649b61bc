"""Whole records from many places of a large plain file, without reading the rest.

The file is cut into as many equal stretches as there are places in a round, and each round takes
one place in every stretch, uniformly at random from a fixed seed. So any number of rounds covers
the file evenly, and something that a share p of the reads shows is missed by n places with a
probability of at most (1 - p)^n, wherever in the file it is: stretches only make misses rarer than
independent draws would.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

PLACES_PER_ROUND = 64
ROUNDS = 128
"""At most 8,192 places: what none of them shows is in at most 0.04 % of the reads (95 %)."""

PIECE_BYTES = 1 << 13
LONGEST_PIECE = 1 << 20
"""A place where no record starts within this many bytes is given up."""

SECONDS = 8.0
"""No round starts later than this: a disk that needs 10 ms a place manages over 600 places."""

MOST_BYTES = 1 << 26


class Piece(NamedTuple):
    """Whole records as they lie in the file from byte ``offset`` on."""

    offset: int
    records: bytes


class Pieces(NamedTuple):
    pieces: tuple[Piece, ...]
    """That of the file's start first, that of its end last."""
    places: int
    """How many of them were drawn at random: all but the first and the last."""

    def offset_of_line(self, line: int) -> int:
        """Where in the file a line of the joined pieces starts (from 1)."""
        for piece in self.pieces:
            lines = piece.records.count(b"\n")
            if line <= lines:
                start = 0
                for _ in range(line - 1):
                    start = piece.records.index(b"\n", start) + 1
                return piece.offset + start
            line -= lines
        raise ValueError(f"the pieces have no line {line}")


def read_pieces(
    path: Path, kind: Literal["fasta", "fastq"], clock: Callable[[], float] = time.monotonic
) -> Pieces | None:
    """Records from everywhere in a plain file; None for FASTQ whose records are not of four lines.

    The time is bounded by `SECONDS` and one round, the memory by `MOST_BYTES` and one round.
    """
    with path.open("rb", buffering=0) as file:
        descriptor, size = file.fileno(), os.fstat(file.fileno()).st_size
        first = _piece(descriptor, size, 0, kind)
        if first is None or (kind == "fastq" and not _four_lines_each(first.records)):
            return None
        draw, started = random.Random(0), clock()
        found: list[Piece] = []
        for _ in range(ROUNDS):
            for stretch in range(PLACES_PER_ROUND):
                offset = int((stretch + draw.random()) / PLACES_PER_ROUND * size)
                if piece := _piece(descriptor, size, offset, kind):
                    found.append(piece)
            if clock() - started > SECONDS or sum(len(piece.records) for piece in found) > MOST_BYTES:
                break
        last = _last_piece(descriptor, size, kind)
        ends = (last,) if last else ()
        return Pieces((first, *found, *ends), len(found))


def _piece(descriptor: int, size: int, offset: int, kind: str) -> Piece | None:
    """The records that start and end within a piece at a place, at least one.

    The file's last record is not among them: whether it is whole is for `_last_piece` to show.
    """
    find = _fasta_bounds if kind == "fasta" else _fastq_bounds
    length = PIECE_BYTES
    while True:
        data = os.pread(descriptor, length, offset)
        begin, end = find(data, offset == 0)
        if begin < end:
            return Piece(offset + begin, data[begin:end])
        if offset + len(data) >= size or length >= LONGEST_PIECE:
            return None
        length *= 4


def _last_piece(descriptor: int, size: int, kind: str) -> Piece | None:
    """From a record near the end of the file to its last byte."""
    find = _fasta_bounds if kind == "fasta" else _fastq_bounds
    length = PIECE_BYTES
    while True:
        offset = max(0, size - length)
        data = os.pread(descriptor, length, offset)
        begin, end = find(data, offset == 0)
        if begin < end:
            return Piece(offset + begin, data[begin:])
        if offset == 0 or length >= LONGEST_PIECE:
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
