"""Bytes as they arrive, still compressed: of a file on disk, or of a stream that can be read only once."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

from metagene_train.reads.problems import Problem

STANDARD_INPUT = "-"
END_BYTES = 1 << 16
"""Bytes at either end of a file that its digest covers."""


class DamageError(Exception):
    """Reading cannot go on; ``problem`` says why."""

    def __init__(self, problem: Problem):
        self.problem = problem


def _unreadable(error: OSError, position: int) -> DamageError:
    message = f"the disk failed to deliver what follows byte {position:,} ({error.strerror})"
    return DamageError(Problem("unreadable", message, byte_offset=position))


class RawBytes(Protocol):
    """``position`` bytes of ``size`` were read. Reading raises DamageError where the disk fails."""

    position: int

    @property
    def size(self) -> int: ...

    def readinto(self, view: memoryview) -> int: ...

    def read(self, count: int) -> bytes: ...

    def tail(self, count: int) -> bytes:
        """The last bytes of the file, once all of it was read."""

    def close(self) -> None: ...


class DiskFile:
    """A regular file, or its bytes from ``start`` to ``end``, which count from 0 then."""

    def __init__(self, path: Path, start: int = 0, end: int | None = None):
        self._file = path.open("rb", buffering=0)
        self._file.seek(start)
        self._whole = os.fstat(self._file.fileno()).st_size
        self._start = start
        self._limit = None if end is None else end - start
        self.position = 0

    @property
    def size(self) -> int:
        return self._whole - self._start if self._limit is None else self._limit

    def readinto(self, view: memoryview) -> int:
        if self._limit is not None:
            view = view[: self._limit - self.position]
        try:
            count = self._file.readinto(view) or 0
        except OSError as error:
            raise _unreadable(error, self.position) from None
        self.position += count
        return count

    def read(self, count: int) -> bytes:
        if self._limit is not None:
            count = min(count, self._limit - self.position)
        try:
            piece = self._file.read(count) or b""
        except OSError as error:
            raise _unreadable(error, self.position) from None
        self.position += len(piece)
        return piece

    def tail(self, count: int) -> bytes:
        return os.pread(self._file.fileno(), count, max(0, self._whole - count))

    def close(self) -> None:
        self._file.close()


class Stream:
    """A pipe or standard input. ``size`` is what came so far: nobody knows how much is to come."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._peeked = b""
        self._first = self._last = b""
        self.position = 0

    @classmethod
    def named(cls, path: Path) -> Stream:
        """Standard input for ``-``, else what ``path`` leads to."""
        return cls(sys.stdin.buffer if str(path) == STANDARD_INPUT else path.open("rb", buffering=0))

    @property
    def size(self) -> int:
        return self.position

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer at the end; they are still to be read."""
        while len(self._peeked) < count:
            piece = self._file.read(count - len(self._peeked))
            if not piece:
                break
            self._peeked += piece
        return self._peeked[:count]

    def read(self, count: int) -> bytes:
        try:
            piece = self._peeked[:count] or self._file.read(count) or b""
        except OSError as error:
            raise _unreadable(error, self.position) from None
        self._peeked = self._peeked[count:]
        self.position += len(piece)
        if len(self._first) < END_BYTES:
            self._first += piece[: END_BYTES - len(self._first)]
        self._last = (self._last + piece)[-END_BYTES:]
        return piece

    def readinto(self, view: memoryview) -> int:
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def tail(self, count: int) -> bytes:
        return self._last[-count:]

    def digest(self) -> str:
        """As `fingerprint.Fingerprint` has it of a file, of what was read."""
        return hashlib.sha256(self._first + self._last).hexdigest()

    def close(self) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()
