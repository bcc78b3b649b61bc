"""xz and bzip2: the standard library decodes a stream and checks it, the walk goes from one to the next."""

from __future__ import annotations

import bz2
import lzma
from abc import abstractmethod
from typing import Any

from metagene_train.reads.sources.compressed import CompressedSource
from metagene_train.reads.sources.raw import RawBytes

XZ_MAGIC = b"\xfd7zXZ\0"
BZIP2_MAGIC = b"BZh"

_XZ_MEMORY = 1 << 30
"""Bytes that decoding may take: xz -9 needs 65 MiB."""


class _StreamSource(CompressedSource):
    """Streams one after the other. Their checksums are of the compression's own making, so decoder
    errors do not tell a wrong checksum from data that cannot be decoded."""

    part = "stream"
    magic: bytes
    errors: tuple[type[Exception], ...]

    def __init__(self, raw: RawBytes):
        super().__init__(raw)
        self._decoder: Any = None

    @abstractmethod
    def _new_decoder(self) -> Any: ...

    def _unpack_into(self, view: memoryview) -> int:
        while True:
            if self._decoder is None:
                if not self._next_part(len(self.magic)):
                    return 0
                self._decoder = self._new_decoder()
            if data := self._decode(len(view)):
                view[: len(data)] = data
                return len(data)

    def _decode(self, limit: int) -> bytes:
        """Up to ``limit`` bytes; empty only if the input piece yielded nothing or the stream ended."""
        decoder = self._decoder
        if decoder.needs_input and not self._pending and not self._refill():
            raise self._truncated()
        try:
            data: bytes = decoder.decompress(self._pending if decoder.needs_input else b"", limit)
        except self.errors as error:
            raise self._corrupt(error) from None
        self._pending = b""
        if decoder.eof:
            self._pending, self._decoder = decoder.unused_data, None
        return data

    def _starts_part(self, start: bytes) -> bool:
        return start.startswith(self.magic)


class XzSource(_StreamSource):
    name, magic, errors = "xz", XZ_MAGIC, (lzma.LZMAError,)

    def _new_decoder(self) -> Any:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


class Bzip2Source(_StreamSource):
    name, magic, errors = "bzip2", BZIP2_MAGIC, (OSError, ValueError)

    def _new_decoder(self) -> Any:
        return bz2.BZ2Decompressor()
