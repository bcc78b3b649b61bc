"""gzip of one or many members (RFC 1952), and BGZF, which is gzip with a fixed end."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from metagene_train.reads.problems import Problem
from metagene_train.reads.sources.compressed import CompressedSource
from metagene_train.reads.sources.raw import DamageError, RawBytes

inflate: Any = zlib
try:  # the same work, about three times faster
    from isal import isal_zlib as inflate
except ImportError:
    pass

GZIP_MAGIC = b"\x1f\x8b"
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every whole BGZF file (SAM specification, section 4.1.2)."""

_FHCRC, _FEXTRA, _FNAME, _FCOMMENT = 2, 4, 8, 16


class GzipSource(CompressedSource):
    """Every CRC-32 and length is checked; of BGZF (``blocked``) also the end block."""

    name, part = "gzip", "member"

    def __init__(self, raw: RawBytes, *, blocked: bool):
        super().__init__(raw)
        self._blocked = blocked
        self._inflater: Any = None
        self._member_bytes = 0
        self._crc = 0

    def _unpack_into(self, view: memoryview) -> int:
        while True:
            # Only now, so that a wrong checksum does not take the data before it along.
            if self._inflater is not None and self._inflater.eof:
                self._end_member()
            if self._inflater is None and not self._start_member():
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
            raise self._corrupt(error) from None
        ended = self._inflater.eof
        self._pending = self._inflater.unused_data if ended else self._inflater.unconsumed_tail
        if drained and not data and not ended:
            raise self._truncated()
        return data

    def _starts_part(self, start: bytes) -> bool:
        return start.startswith(GZIP_MAGIC)

    def _start_member(self) -> bool:
        """Read a member's header; False at the end of the file."""
        if not self._next_part(len(GZIP_MAGIC)):
            self._check_end()
            return False
        method, flags = struct.unpack("<xxBB6x", self._take(10))
        if method != 8:
            message = f"gzip member with unknown method {method}"
            raise self._damage("_corrupt", message, self._part_start)
        if flags & _FEXTRA:
            self._take(struct.unpack("<H", self._take(2))[0])
        for flag in (_FNAME, _FCOMMENT):
            while flags & flag and self._take(1) != b"\0":
                pass
        if flags & _FHCRC:
            self._take(2)
        self._inflater = inflate.decompressobj(-zlib.MAX_WBITS)
        self._member_bytes = self._crc = 0
        return True

    def _end_member(self) -> None:
        crc, length = struct.unpack("<II", self._take(8))
        self._inflater = None
        if crc != self._crc or length != self._member_bytes & 0xFFFFFFFF:
            wrong = "CRC-32" if crc != self._crc else "length"
            raise self._damage(
                "_checksum",
                f"the {wrong} of the gzip member that starts at byte {self._part_start:,} does not agree "
                "with its data",
                self.position - 8,
            )

    def _check_end(self) -> None:
        if self._blocked and self._raw.tail(len(BGZF_END)) != BGZF_END:
            message = "it was cut between two blocks (its end block is missing); gzip -t does not notice"
            raise DamageError(Problem("bgzf_no_end", message, byte_offset=self.size))
