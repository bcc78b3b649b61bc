"""zstd, frame by frame and block by block (RFC 8878, section 3.1).

The library's own stream reader takes the end of a truncated file for the end of the data. Here the
decoder is fed one block at a time, so a file that ends inside a frame is noticed, the place of
damage is known to the block, and what one step unpacks is at most 128 KiB.
"""

from __future__ import annotations

from typing import Any

import zstandard

from metagene_train.reads.sources.compressed import CompressedSource
from metagene_train.reads.sources.raw import RawBytes

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_SKIPPABLE = b"\x2a\x4d\x18"
_LONGEST_HEADER = 18
_LARGEST_WINDOW = 1 << 27
"""Bytes; what zstd itself takes without --long."""
_LONGEST_SKIP = 1 << 18
_RUN, _RESERVED = 1, 3


def starts_frame(start: bytes) -> bool:
    """Whether bytes are the start of a frame, one with data or one to be skipped."""
    return start.startswith(ZSTD_MAGIC) or (start[1:4] == _SKIPPABLE and start[0] & 0xF0 == 0x50)


class ZstdSource(CompressedSource):
    """Frames with their checksums, where the writer stored them (the zstd program does)."""

    name, part = "zstd", "frame"

    def __init__(self, raw: RawBytes):
        super().__init__(raw)
        self._decoder: Any = None
        self._has_checksum = self._awaits_checksum = False
        self._unpacked = b""

    def _unpack_into(self, view: memoryview) -> int:
        while not self._unpacked:
            if self._awaits_checksum:
                self._check_frame()
            elif self._decoder is not None:
                self._unpacked = self._next_block()
            elif not self._start_frame():
                return 0
        data, self._unpacked = self._unpacked[: len(view)], self._unpacked[len(view) :]
        view[: len(data)] = data
        return len(data)

    def _starts_part(self, start: bytes) -> bool:
        return starts_frame(start)

    def _start_frame(self) -> bool:
        """Read a frame's header, or skip a frame without data; False at the end of the file."""
        if not self._next_part(_LONGEST_HEADER):
            return False
        if not self._pending.startswith(ZSTD_MAGIC):
            self._skip(int.from_bytes(self._take(8)[4:], "little"))
            return True
        start = self._pending[:_LONGEST_HEADER]
        try:
            frame = zstandard.get_frame_parameters(start)
        except zstandard.ZstdError as error:
            raise (self._truncated() if len(start) < _LONGEST_HEADER else self._corrupt(error)) from None
        if frame.window_size > _LARGEST_WINDOW:
            raise self._corrupt(
                f"written with --long, needs {frame.window_size:,} bytes of memory: "
                "unpack it with zstd -d --long=31"
            )
        self._has_checksum = frame.has_checksum
        self._decoder = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj()
        self._decode(self._take(zstandard.frame_header_size(start)))
        return True

    def _next_block(self) -> bytes:
        """What the next block holds; with it ends the frame if it is the last one."""
        header = self._take(3)
        fields = int.from_bytes(header, "little")
        is_last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
        if kind == _RESERVED:
            raise self._corrupt("a block of a kind that does not exist")
        data = self._decode(header + self._take(1 if kind == _RUN else size))
        self._awaits_checksum = bool(is_last and self._has_checksum)
        if is_last and not self._has_checksum:
            self._decoder = None
        return data

    def _check_frame(self) -> None:
        """Compare the checksum behind the last block, after its data has been handed out."""
        start, checksum = self.position, self._take(4)
        self._awaits_checksum = False
        try:
            self._decoder.decompress(checksum)
        except zstandard.ZstdError:
            raise self._damage(
                "_checksum",
                f"the checksum of the zstd frame that starts at byte {self._part_start:,} does not agree "
                "with its data",
                start,
            ) from None
        self._decoder = None

    def _decode(self, piece: bytes) -> bytes:
        try:
            data: bytes = self._decoder.decompress(piece)
        except zstandard.ZstdError as error:
            raise self._corrupt(error) from None
        return data

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._take(min(count, _LONGEST_SKIP)))
