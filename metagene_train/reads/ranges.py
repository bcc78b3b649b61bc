"""Files cut into ranges that start at records, so that several processes can read them at once.

A range boundary is where a record certainly starts: in FASTA after a line end that is followed by
``>``. In FASTQ it is a guess, the line after four that make a sound record; whether it was right
shows when the range before it has been read (see `scan`). Nothing else is assumed: where no boundary
is found, ranges grow together.
"""

from __future__ import annotations

import os
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from metagene_train.reads.problems import Problem
from metagene_train.reads.records.formats import ReadFormat
from metagene_train.reads.sources.gzip import BGZF_END, GzipSource
from metagene_train.reads.sources.plain import PlainSource
from metagene_train.reads.sources.raw import DiskFile
from metagene_train.reads.sources.source import ByteSource

RANGE_BYTES = 1 << 25

_LOOKED_AT = 1 << 16
_FASTQ_GIVEN_UP_AFTER = 1 << 20
"""Bytes; longer reads than this, or wrapped ones, are left to one process."""

_BLOCK_HEADER = struct.Struct("<4s6xH2sHH")
_BLOCK_START = (b"\x1f\x8b\x08\x04", 6, b"BC", 2)
"""All of the header but the size of the block, as htslib writes it (SAM specification, section 4.1)."""


@dataclass(frozen=True)
class Range:
    """Bytes ``start`` to ``end`` of the unpacked file. In BGZF they lie in the blocks ``packed``, from a
    byte on disk to about another one, of which ``skipped`` unpacked bytes come before ``start``."""

    start: int
    end: int
    packed: tuple[int, int] | None = None
    skipped: int = 0

    @property
    def disk_end(self) -> int:
        """How far into the file on disk the range reaches."""
        return self.packed[1] if self.packed else self.end


def split(path: Path, form: ReadFormat, range_bytes: int = RANGE_BYTES) -> list[Range]:
    """Ranges of about ``range_bytes`` that cover the file; at most one where it cannot be cut."""
    if form.compression == "none":
        return _split_plain(path, form.kind, range_bytes)
    return _split_blocks(path, form.kind, range_bytes) if form.compression == "bgzf" else []


def open_range(path: Path, part: Range) -> ByteSource:
    """The bytes of one range."""
    if part.packed is None:
        return PlainSource(DiskFile(path, part.start, part.end))
    blocks = GzipSource(DiskFile(path, part.packed[0]), blocked=False)
    return _Trimmed(blocks, part.skipped, part.end - part.start)


def _split_plain(path: Path, kind: str, range_bytes: int) -> list[Range]:
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:

        def text(start: int) -> Iterator[bytes]:
            while piece := os.pread(file.fileno(), _LOOKED_AT, start):
                yield piece
                start += len(piece)

        targets = range(range_bytes, size, range_bytes)
        bounds = [0, *_record_starts(kind, ((target, text(target)) for target in targets)), size]
    return [Range(start, end) for start, end in pairwise(bounds)]


def _split_blocks(path: Path, kind: str, range_bytes: int) -> list[Range]:
    entries, unpacked = _blocks(path, range_bytes)
    if not entries:
        return []

    def text(packed: int) -> Iterator[bytes]:
        buffer = bytearray(_LOOKED_AT)
        with closing(GzipSource(DiskFile(path, packed), blocked=False)) as source:
            while count := source.readinto(memoryview(buffer)):
                yield bytes(buffer[:count])

    starts = _record_starts(kind, ((target, text(packed)) for target, packed in entries[1:]))
    bounds = [0, *starts, unpacked]
    at = [entries[bisect_right(entries, (start, sys.maxsize)) - 1] for start in bounds[:-1]]
    disk_ends = [*(packed for _, packed in at[1:]), path.stat().st_size]
    return [
        Range(start, end, (packed, disk_end), start - entry)
        for start, end, (entry, packed), disk_end in zip(bounds, bounds[1:], at, disk_ends, strict=False)
    ]


def _blocks(path: Path, every: int) -> tuple[list[tuple[int, int]], int]:
    """Places of blocks in the unpacked and in the packed file, one for ``every`` unpacked bytes, and the
    size of the unpacked file. Nothing where the file is not one whole chain of blocks."""
    entries: list[tuple[int, int]] = []
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        packed = unpacked = 0
        ahead = os.pread(file.fileno(), _BLOCK_HEADER.size, 0)
        while packed < size:
            if len(ahead) < _BLOCK_HEADER.size or _BLOCK_HEADER.unpack(ahead)[:-1] != _BLOCK_START:
                return [], 0
            if not entries or unpacked - entries[-1][0] >= every:
                entries.append((unpacked, packed))
            packed += _BLOCK_HEADER.unpack(ahead)[-1] + 1
            behind = os.pread(file.fileno(), 4 + _BLOCK_HEADER.size, packed - 4)
            unpacked += int.from_bytes(behind[:4], "little")
            ahead = behind[4:]
        is_whole = packed == size and os.pread(file.fileno(), len(BGZF_END), size - len(BGZF_END)) == BGZF_END
    return (entries, unpacked) if is_whole else ([], 0)


def _record_starts(kind: str, targets: Iterable[tuple[int, Iterator[bytes]]]) -> Iterator[int]:
    """Where records start behind each target, ascending. A target is a position and the text from there."""
    find = _next_fasta if kind == "fasta" else _next_fastq
    latest = 0
    for target, pieces in targets:
        if target <= latest:  # the record found last is longer than a range
            continue
        ahead = find(pieces)
        if ahead is not None:
            latest = target + ahead
            yield latest


def _next_fasta(pieces: Iterator[bytes]) -> int | None:
    """How far ahead the next record starts; None if none does."""
    passed, before = 0, b""
    for piece in pieces:
        text = before + piece
        place = text.find(b"\n>")
        if place >= 0:
            return passed - len(before) + place + 1
        passed += len(piece)
        before = piece[-1:]
    return None


def _next_fastq(pieces: Iterator[bytes]) -> int | None:
    """How far ahead a record starts behind four lines that make a sound one; None if that is not seen."""
    text = b""
    for piece in pieces:
        text += piece
        lines = text.split(b"\n")[:-1]
        place = len(lines[0]) + 1 if lines else 0
        for first in range(1, len(lines) - 4):
            header, sequence, plus, quality, following = (
                line.removesuffix(b"\r") for line in lines[first : first + 5]
            )
            if (
                header.startswith(b"@")
                and following.startswith(b"@")
                and plus.startswith(b"+")
                and len(sequence) == len(quality) > 0
                and not sequence.startswith((b"@", b"+"))
            ):
                return place + sum(len(line) + 1 for line in lines[first : first + 4])
            place += len(lines[first]) + 1
        if len(text) > _FASTQ_GIVEN_UP_AFTER:
            break
    return None


class _Trimmed:
    """A stretch of what another source hands out."""

    def __init__(self, source: ByteSource, skipped: int, length: int):
        self._source = source
        self._left = length
        while skipped and (count := source.readinto(memoryview(bytearray(min(skipped, _LOOKED_AT))))):
            skipped -= count

    @property
    def position(self) -> int:
        return self._source.position

    @property
    def size(self) -> int:
        return self._source.size

    @property
    def problems(self) -> list[Problem]:
        return self._source.problems

    def readinto(self, view: memoryview) -> int:
        if not self._left:
            # A checksum that is wrong shows only when the block has been read to its end.
            self._source.readinto(memoryview(bytearray(1)))
            return 0
        count = self._source.readinto(view[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._source.close()
