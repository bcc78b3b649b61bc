"""The bytes of a reads file, decompressed, and what is wrong with the compression."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from metagene_train.reads.problems import Problem
from metagene_train.reads.sources.compressed import TRAILING_GARBAGE
from metagene_train.reads.sources.gzip import GzipSource
from metagene_train.reads.sources.plain import PlainSource
from metagene_train.reads.sources.raw import DiskFile, RawBytes
from metagene_train.reads.sources.whole_streams import Bzip2Source, XzSource
from metagene_train.reads.sources.zstd import ZstdSource

_SOURCES: dict[str, Callable[[RawBytes], ByteSource]] = {
    "none": PlainSource,
    "gzip": partial(GzipSource, blocked=False),
    "bgzf": partial(GzipSource, blocked=True),
    "zstd": ZstdSource,
    "xz": XzSource,
    "bzip2": Bzip2Source,
}


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
    """A source for a file that `formats.sniff` has accepted, compressed as it says."""
    return decompressed(DiskFile(path), compression)


def decompressed(raw: RawBytes, compression: str) -> ByteSource:
    """What ``raw`` holds, of a compression that `formats` knows."""
    return _SOURCES[compression](raw)


def is_cut(source: ByteSource) -> bool:
    """Whether data is missing where the source ended; only garbage behind whole data is no loss."""
    return any(not problem.kind.endswith(TRAILING_GARBAGE) for problem in source.problems)
