"""Files being made: under a partial name until they are whole, on disk, and checked.

Compressed ones are BGZF: gzip for every reader, in blocks that several processes can read at once.
Blocks are cut by size, so the bytes of a file depend on its text alone.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from metagene_train.reads.sources.gzip import BGZF_END

deflate: Any = zlib
_LEVEL = 6
try:  # the same format, several times faster
    from isal import isal_zlib as deflate

    _LEVEL = 1
except ImportError:
    pass

PARTIAL = ".partial"
_BUFFER = 1 << 20
_BLOCK = 0xFF00
"""Bytes of text in a block, as htslib has it: what does not compress fits then as it is."""

_HEADER = struct.Struct("<4sIBBH2sHH")
_TRAILER = struct.Struct("<II")


class Output:
    """A file ``name`` in a directory, compressed if the name says so.

    ``sha256`` is of the bytes on disk, once it is closed.
    """

    def __init__(self, directory: Path, name: str):
        self.name = name
        self.path = directory / f"{name}{PARTIAL}"
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file = self.path.open("wb", buffering=_BUFFER)
        self._waiting: bytearray | None = bytearray() if name.endswith(".gz") else None
        """Text that does not fill a block yet, of a file that is compressed."""

    def take(self, piece: bytes) -> None:
        """Append bytes as they are to be read."""
        if self._waiting is None:
            self.write(piece)
            return
        self._waiting += piece
        if len(self._waiting) >= _BLOCK:
            whole = len(self._waiting) // _BLOCK * _BLOCK
            for start in range(0, whole, _BLOCK):
                self.write(_block(bytes(self._waiting[start : start + _BLOCK])))
            del self._waiting[:whole]

    def write(self, piece: bytes) -> None:
        """Append bytes as they are to lie on disk."""
        self._digest.update(piece)
        self.bytes += len(piece)
        self._file.write(piece)

    def close(self) -> None:
        """Finish the file and see it onto the disk; does nothing the second time."""
        if self._file.closed:
            return
        if self._waiting is not None:
            if self._waiting:
                self.write(_block(bytes(self._waiting)))
            self.write(BGZF_END)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _block(text: bytes) -> bytes:
    """One BGZF block (SAM specification, section 4.1)."""
    packer = deflate.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(text) + packer.flush()
    if len(packed) > len(text):
        packer = zlib.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = packer.compress(text) + packer.flush()
    size = _HEADER.size + len(packed) + _TRAILER.size
    header = _HEADER.pack(b"\x1f\x8b\x08\x04", 0, 0, 0xFF, 6, b"BC", 2, size - 1)
    return header + packed + _TRAILER.pack(deflate.crc32(text), len(text))


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
