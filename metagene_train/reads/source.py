"""The bytes of a reads file, decompressed, and what is wrong with the compression.

Ordinary gzip readers end quietly where a truncated file ends, and none notices a BGZF file that
was cut between two blocks. The walk here goes member by member (RFC 1952), checks every CRC-32
and length, and reports damage with its byte position instead of raising, so that whatever could
be read still counts.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any, Protocol

from metagene_train.reads.problems import Problem

inflate: Any = zlib
try:  # the same work, about three times faster
    from isal import isal_zlib as inflate
except ImportError:
    pass

GZIP_MAGIC = b"\x1f\x8b"
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every whole BGZF file (SAM specification, section 4.1.2)."""

_COMPRESSED_PIECE = 1 << 18
_TRAILING_GARBAGE = "gzip_trailing_garbage"
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT = 2, 4, 8, 16


class ByteSource(Protocol):
    """A forward-only stream. ``position`` is in bytes of the file on disk, ``size`` its length."""

    @property
    def position(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def problems(self) -> list[Problem]: ...

    def readinto(self, view: memoryview) -> int:
        """Fill ``view`` from its start; the number of bytes written, 0 at the end."""

    def close(self) -> None: ...


def open_source(path: Path, compression: str) -> ByteSource:
    """A source for a file that `formats.sniff` has accepted (compression none, gzip or bgzf)."""
    if compression == "none":
        return PlainSource(path)
    return GzipSource(path, blocked=compression == "bgzf")


def is_cut(source: ByteSource) -> bool:
    """Whether data is missing where the source ended; only garbage behind whole data is no loss."""
    return any(problem.kind != _TRAILING_GARBAGE for problem in source.problems)


class PlainSource:
    """A file that is not compressed."""

    def __init__(self, path: Path):
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self.position = 0
        self.problems: list[Problem] = []

    def readinto(self, view: memoryview) -> int:
        try:
            count = self._file.readinto(view) or 0
        except OSError as error:
            self.problems.append(_unreadable(error, self.position))
            return 0
        self.position += count
        return count

    def close(self) -> None:
        self._file.close()


def _unreadable(error: OSError, position: int) -> Problem:
    message = f"the disk failed to deliver what follows byte {position:,} ({error.strerror})"
    return Problem("unreadable", message, byte_offset=position)


class _DamagedError(Exception):
    def __init__(self, problem: Problem):
        self.problem = problem


def _damage(kind: str, message: str, byte_offset: int) -> _DamagedError:
    return _DamagedError(Problem(kind, message, byte_offset=byte_offset))


class GzipSource:
    """gzip of one or many members, and BGZF (``blocked``), which is gzip with a fixed end."""

    def __init__(self, path: Path, *, blocked: bool):
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self.problems: list[Problem] = []
        self._bytes_read = 0
        self._blocked = blocked
        self._pending = b""
        self._inflater: Any = None
        self._members = 0
        self._member_start = 0
        self._member_bytes = 0
        self._crc = 0
        self._ended = False

    @property
    def position(self) -> int:
        return self._bytes_read - len(self._pending)

    def readinto(self, view: memoryview) -> int:
        if self._ended or not len(view):
            return 0
        try:
            return self._inflate_into(view)
        except _DamagedError as damage:
            self.problems.append(damage.problem)
            self._ended = True
            return 0

    def close(self) -> None:
        self._file.close()

    def _inflate_into(self, view: memoryview) -> int:
        while True:
            # Only now, so that a wrong checksum does not take the data before it along.
            if self._inflater is not None and self._inflater.eof:
                self._end_member()
            if self._inflater is None and not self._start_member():
                self._ended = True
                return 0
            if data := self._inflate(len(view)):
                view[: len(data)] = data
                self._crc = inflate.crc32(data, self._crc)
                self._member_bytes += len(data)
                return len(data)

    def _inflate(self, limit: int) -> bytes:
        """Up to ``limit`` bytes; empty only if the input piece yielded nothing or the member ended."""
        drained = not self._pending and not self._refill()
        try:
            data = self._inflater.decompress(self._pending, limit)
        except (zlib.error, inflate.error) as error:
            raise _damage(
                "gzip_corrupt",
                f"compressed data cannot be decoded ({error}) in the member that starts at byte "
                f"{self._member_start:,}; nothing after it was read",
                self.position,
            ) from None
        ended = self._inflater.eof
        self._pending = self._inflater.unused_data if ended else self._inflater.unconsumed_tail
        if drained and not data and not ended:
            raise self._truncated()
        return data

    def _start_member(self) -> bool:
        """Read a member's header; False at the end of the file."""
        self._member_start = self.position
        if not self._pending and not self._refill():
            self._check_end()
            return False
        if len(self._pending) < 2:
            self._refill()
        if self._members and self._pending[:2] != GZIP_MAGIC:
            return self._skip_padding()
        method, flags = struct.unpack("<xxBB6x", self._take(10))
        if method != 8:
            raise _damage("gzip_corrupt", f"gzip member with unknown method {method}", self._member_start)
        if flags & _FEXTRA:
            self._take(struct.unpack("<H", self._take(2))[0])
        for flag in (_FNAME, _FCOMMENT):
            while flags & flag and self._take(1) != b"\0":
                pass
        if flags & _FHCRC:
            self._take(2)
        self._inflater = inflate.decompressobj(-zlib.MAX_WBITS)
        self._members += 1
        self._member_bytes = self._crc = 0
        return True

    def _end_member(self) -> None:
        crc, length = struct.unpack("<II", self._take(8))
        self._inflater = None
        if crc != self._crc or length != self._member_bytes & 0xFFFFFFFF:
            wrong = "CRC-32" if crc != self._crc else "length"
            raise _damage(
                "gzip_checksum",
                f"the {wrong} stored at the end of the member that starts at byte {self._member_start:,} "
                "does not agree with its data; nothing after it was read",
                self.position - 8,
            )

    def _skip_padding(self) -> bool:
        """Zero bytes after the last member are padding, as gzip itself holds; else it is garbage."""
        while not self._pending.strip(b"\0"):
            if not self._refill(replace=True):
                self._check_end()
                return False
        surplus = self.size - self._member_start
        self._pending, self._bytes_read = b"", self._member_start
        raise _damage(
            _TRAILING_GARBAGE,
            f"{surplus:,} bytes after the last gzip member are not gzip; they were not read",
            self._member_start,
        )

    def _check_end(self) -> None:
        if self._blocked and not self._ends_with_bgzf_block():
            raise _damage(
                "bgzf_no_end",
                "the 28-byte end block of BGZF is missing: the file was cut between two blocks, "
                "which gzip -t does not notice",
                self.size,
            )

    def _ends_with_bgzf_block(self) -> bool:
        tail = os.pread(self._file.fileno(), len(BGZF_END), max(0, self.size - len(BGZF_END)))
        return tail == BGZF_END

    def _take(self, count: int) -> bytes:
        while len(self._pending) < count:
            if not self._refill():
                raise self._truncated()
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _refill(self, replace: bool = False) -> bool:
        try:
            piece = self._file.read(_COMPRESSED_PIECE) or b""
        except OSError as error:
            raise _DamagedError(_unreadable(error, self._bytes_read)) from None
        self._bytes_read += len(piece)
        self._pending = piece if replace else self._pending + piece
        return bool(piece)

    def _truncated(self) -> _DamagedError:
        return _damage(
            "gzip_truncated",
            f"the file ends at byte {self.size:,} inside the gzip member that starts at byte "
            f"{self._member_start:,}: it was cut, and what followed is lost",
            self.size,
        )
