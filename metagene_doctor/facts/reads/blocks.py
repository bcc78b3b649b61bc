"""Text from any place of a BGZF file, by finding and unpacking the blocks there.

A place is a byte on disk, and its block the one that holds this byte: every byte of the file has the
same chance, and a block the chance of its size. Reads that compress well are met a little less often
than their share of the reads.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import NamedTuple

from metagene_doctor.facts.reads.texts import DamagedPlaceError, NoPlacesError, Text
from metagene_train.reads.sources.gzip import BGZF_END, inflate

LARGEST_BLOCK = 1 << 16

_MAGIC = b"\x1f\x8b\x08\x04"
_HEADER = struct.Struct("<4s6xH2sHH")
_FIELDS = (_MAGIC, 6, b"BC", 2)
"""Of a header but the size of its block, as htslib writes it (SAM specification, section 4.1)."""

_TRAILER = struct.Struct("<II")


class Block(NamedTuple):
    """Where a block lies on disk."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class BlockedFile:
    """A BGZF file that is open as ``descriptor``."""

    blocked = True

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._ratios: list[float] = []

    def text_at(self, place: int) -> Text:
        block = self._block_at(place)
        data = self._unpacked(block)
        self._ratios.append(len(data) / block.size)
        return _BlockedText(self, block, data, (place - block.offset) * len(data) // block.size)

    def text_before_end(self, length: int) -> Text:
        """From the start of a block, so that nothing of the end is left out."""
        end = self.size - len(BGZF_END) if self._has_end_block() else self.size
        block = self._block_at(max(0, end - 1))
        data = self._unpacked(block)
        while len(data) < length and block.offset:
            block = self._block_at(block.offset - 1)
            data = self._unpacked(block) + data
        return _BlockedText(self, block, self._unpacked(block), 0)

    def unpacked_bytes(self) -> float:
        """Blocks were drawn by their size on disk, so the mean of their ratios is unbiased."""
        return self.size * sum(self._ratios) / len(self._ratios)

    def unpacked_after(self, block: Block) -> tuple[Block, bytes] | None:
        """The block that follows another, and what is in it; None at the end of the file."""
        if block.end >= self.size:
            return None
        following = _header_at(os.pread(self._descriptor, _HEADER.size, block.end), 0, block.end)
        if following is None:
            raise NoPlacesError
        return following, self._unpacked(following)

    def _has_end_block(self) -> bool:
        return os.pread(self._descriptor, len(BGZF_END), max(0, self.size - len(BGZF_END))) == BGZF_END

    def _block_at(self, place: int) -> Block:
        """The block that holds a byte. A header is one if another follows its block, or nothing does.

        Raises NoPlacesError where there is none.
        """
        start = max(0, place - LARGEST_BLOCK)
        window = os.pread(self._descriptor, 2 * LARGEST_BLOCK + _HEADER.size, start)
        found = window.find(_MAGIC)
        while 0 <= found <= place - start:
            block = _header_at(window, found, start)
            if block is not None and block.end > place:
                ends_file = block.end >= self.size
                if ends_file or _header_at(window, block.end - start, start) is not None:
                    return block
            found = window.find(_MAGIC, found + 1)
        # Not only of damage: members of ordinary gzip may stand between the blocks.
        raise NoPlacesError

    def _unpacked(self, block: Block) -> bytes:
        at = f"the gzip member that starts at byte {block.offset:,}"
        raw = os.pread(self._descriptor, block.size, block.offset)
        if len(raw) < block.size:
            message = f"the file ends at byte {self.size:,} inside {at}"
            raise DamagedPlaceError("gzip_truncated", message, self.size)
        try:
            data: bytes = inflate.decompress(raw[_HEADER.size : -_TRAILER.size], -zlib.MAX_WBITS)
        except (zlib.error, inflate.error) as error:
            raise DamagedPlaceError(
                "gzip_corrupt", f"{at} cannot be decoded ({error})", block.offset
            ) from None
        if _TRAILER.unpack(raw[-_TRAILER.size :]) != (inflate.crc32(data), len(data)):
            message = f"the CRC-32 or the length of {at} does not agree with its data"
            raise DamagedPlaceError("gzip_checksum", message, block.offset)
        return data


def _header_at(window: bytes, place: int, start: int) -> Block | None:
    """The block whose header lies at a place of a window, which starts at a byte of the file."""
    if place + _HEADER.size > len(window):
        return None
    *fields, size = _HEADER.unpack_from(window, place)
    return Block(start + place, size + 1) if tuple(fields) == _FIELDS else None


class _BlockedText:
    """What is in a block from some byte of it on, and in those that follow."""

    def __init__(self, file: BlockedFile, block: Block, data: bytes, skipped: int):
        self._file = file
        self._data = data[skipped:]
        self._last = block
        self.offset = block.offset
        self.starts_file = block.offset == 0 and skipped == 0
        self.reaches_end = False

    def read(self, length: int) -> bytes:
        while len(self._data) < length and not self.reaches_end:
            following = self._file.unpacked_after(self._last)
            if following is None:
                self.reaches_end = True
            else:
                self._last, more = following
                self._data += more
        return self._data[:length]
