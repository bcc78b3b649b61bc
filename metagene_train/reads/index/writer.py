"""Writing a read index while the file is scanned.

Arrays go to a directory of their own, which is renamed into place when everything is on disk: a
killed build leaves nothing that could be opened, and of several builders at once the first one to
finish wins.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from metagene_train.errors import InputError
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.index.files import (
    COLUMNS,
    INDEX_VERSION,
    META,
    READ_BYTES,
    REJECTED,
    UNPACKED,
    IndexKey,
    load_meta,
)
from metagene_train.reads.records.formats import ReadFormat
from metagene_train.reads.sources.source import ByteSource, open_source

_ESTIMATED_FROM_BYTES = 1 << 20
_ABANDONED_AFTER_S = 24 * 3600
_HASH_BYTES = 8
_PARTIAL = ".metagene-partial-"


class IndexWriter:
    """Writes the arrays of an index while a file is scanned; nothing is visible until `publish`."""

    def __init__(self, key: IndexKey, root: Path, partial: Path):
        self._key = key
        self._root = root
        self._partial = partial
        self._columns = {name: (partial / name).open("wb") for name in COLUMNS}
        self._rejected = (partial / REJECTED).open("wb")
        self._unpacked = (partial / UNPACKED).open("wb") if key.compression != "none" else None
        self._accepted_count = self._rejected_count = 0

    @classmethod
    def begin(cls, path: Path, form: ReadFormat, header: HeaderPattern | None, root: Path) -> IndexWriter:
        """Raises InputError if ``root`` cannot be written or has too little space."""
        key = IndexKey.of(path, form, header)
        try:
            root.mkdir(parents=True, exist_ok=True)
            _check_space(path, form, root)
            _remove_abandoned(root)
            partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{key.directory()}.", dir=root))
            return cls(key, root, partial)
        except OSError as error:
            raise _cannot_write(root, error) from None

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def tap(self, source: ByteSource) -> ByteSource:
        """The source to scan: of a compressed file, one that also keeps what it unpacks."""
        return _KeepingSource(source, self._unpacked, self._root) if self._unpacked else source

    @property
    def unpacked(self) -> Path | None:
        """The file that holds the unpacked reads; None for a file that is not compressed."""
        return self._partial / UNPACKED if self._unpacked else None

    def append(
        self, offsets: np.ndarray, spans: np.ndarray, lengths: np.ndarray, class_ids: np.ndarray
    ) -> None:
        """Accepted reads, in file order."""
        given = {"offsets": offsets, "spans": spans, "lengths": lengths, "class_ids": class_ids}
        try:
            for name, values in given.items():
                self._columns[name].write(np.ascontiguousarray(values, dtype=COLUMNS[name]).data)
        except OSError as error:
            raise _cannot_write(self._root, error) from None
        self._accepted_count += len(offsets)

    def skip(self, accepted_before: np.ndarray) -> None:
        """Rejected records, by how many accepted reads come before each."""
        try:
            self._rejected.write(np.ascontiguousarray(accepted_before, dtype=np.int64).data)
        except OSError as error:
            raise _cannot_write(self._root, error) from None
        self._rejected_count += len(accepted_before)

    def publish(self, summary: dict[str, Any]) -> None:
        """Make the index visible, and remove indexes of earlier contents of the same file."""
        meta = {
            "version": INDEX_VERSION,
            "accepted": self._accepted_count,
            "rejected": self._rejected_count,
            "key": asdict(self._key),
            "scan": summary,
        }
        final = self._root / self._key.directory()
        try:
            self._close()
            (self._partial / META).write_text(json.dumps(meta), encoding="utf-8")
            if load_meta(final) is None:
                shutil.rmtree(final, ignore_errors=True)
                try:
                    self._partial.rename(final)
                except OSError:
                    if load_meta(final) is None:
                        raise
        except OSError as error:
            raise _cannot_write(self._root, error) from None
        for other in self._root.glob(f"{_glob_escape(self._key.family())}*"):
            if other != final:
                shutil.rmtree(other, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was not published."""
        with suppress(OSError):
            self._close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _close(self) -> None:
        for file in (*self._columns.values(), self._rejected, self._unpacked):
            if file:
                file.close()


class _KeepingSource:
    """A source that also writes every byte it hands out to a file."""

    def __init__(self, source: ByteSource, file: BinaryIO, root: Path):
        self._source = source
        self._file = file
        self._root = root
        self.size = source.size
        self.problems = source.problems

    @property
    def position(self) -> int:
        return self._source.position

    def readinto(self, view: memoryview) -> int:
        count = self._source.readinto(view)
        try:
            self._file.write(view[:count])
        except OSError as error:
            raise _cannot_write(self._root, error) from None
        return count

    def close(self) -> None:
        self._source.close()


@contextmanager
def kept_at(source: ByteSource, file: Path, offset: int) -> Iterator[ByteSource]:
    """A source that also writes what it hands out to a file that exists, from ``offset`` on."""
    try:
        with file.open("r+b") as kept:
            kept.seek(offset)
            yield _KeepingSource(source, kept, file.parent.parent)
    except OSError as error:
        raise _cannot_write(file.parent.parent, error) from None


def _check_space(path: Path, form: ReadFormat, root: Path) -> None:
    """Compare free space with an estimate from the head of the file: records and unpacked size."""
    head = bytearray(_ESTIMATED_FROM_BYTES)
    filled = 0
    with closing(open_source(path, form.compression)) as source:
        while count := source.readinto(memoryview(head)[filled:]):
            filled += count
        unpacked = source.size * filled / source.position
    lines = head[:filled].splitlines()
    is_fasta = form.kind == "fasta"
    in_head = sum(line.startswith(b">") for line in lines) if is_fasta else len(lines) / 4
    records = max(1, in_head) * unpacked / filled
    needed = records * (READ_BYTES + _HASH_BYTES) + (0 if form.compression == "none" else unpacked)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise InputError(
            f"{root}: the read index of {path} needs about {_readable(needed)}, "
            f"{_readable(free)} are free; set dataset.index_dir or METAGENE_CACHE to a larger disk"
        )


def _readable(count: float) -> str:
    """Bytes in the largest decimal unit that keeps the number at one or more."""
    power = min(4, int(math.log10(max(count, 1))) // 3)
    return f"{count / 1000**power:,.{min(power, 1)}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _remove_abandoned(root: Path) -> None:
    """Partial indexes that no build has touched for a day were left by one that was killed."""
    for partial in root.glob(f"{_PARTIAL}*"):
        try:
            newest = max(
                (entry.stat().st_mtime for entry in partial.iterdir()), default=partial.stat().st_mtime
            )
        except OSError:
            continue
        if time.time() - newest > _ABANDONED_AFTER_S:
            shutil.rmtree(partial, ignore_errors=True)


def _glob_escape(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _cannot_write(root: Path, error: OSError) -> InputError:
    return InputError(
        f"{root}: cannot write the read index there ({error.strerror or error}); "
        "set dataset.index_dir or METAGENE_CACHE to a directory that can be written"
    )
