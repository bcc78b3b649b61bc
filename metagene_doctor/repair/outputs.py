"""Files being made: under a partial name until they are whole, on disk, and checked."""

from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

gzip_file: Any = gzip.GzipFile
_LEVEL = 6
try:  # the same format, several times faster
    from isal import igzip

    gzip_file, _LEVEL = igzip.IGzipFile, 1
except ImportError:
    pass

PARTIAL = ".partial"
_BUFFER = 1 << 20


class Output:
    """A file ``name`` in a directory, compressed with gzip if the name says so.

    ``sha256`` is of the bytes on disk, once it is closed.
    """

    def __init__(self, directory: Path, name: str):
        self.name = name
        self.path = directory / f"{name}{PARTIAL}"
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file = self.path.open("wb", buffering=_BUFFER)
        self._gzip: IO[bytes] | None = None
        if name.endswith(".gz"):
            self._gzip = gzip_file("", mode="wb", compresslevel=_LEVEL, fileobj=self, mtime=0)

    def take(self, piece: bytes) -> None:
        """Append bytes as they are to be read."""
        if self._gzip is not None:
            self._gzip.write(piece)
        else:
            self.write(piece)

    def write(self, piece: bytes) -> int:
        """Append bytes as they are to lie on disk."""
        self._digest.update(piece)
        self.bytes += len(piece)
        return self._file.write(piece)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Finish the file and see it onto the disk; does nothing the second time."""
        if self._file.closed:
            return
        if self._gzip is not None:
            self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def publish(directory: Path, name: str) -> None:
    """Give a finished file its name; does nothing if it has it already."""
    partial = directory / f"{name}{PARTIAL}"
    if partial.exists():
        partial.replace(directory / name)


def sync_directory(directory: Path) -> None:
    """See renames onto the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
