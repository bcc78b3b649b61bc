"""The files of a read index: where they lie, what is in them, and when they are stale.

An index is a directory named after the reads file and a key. The key covers the real path, size,
modification time, a digest of both ends of the file, and the header pattern, so a changed file
has another key and its old index is never opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.formats import ReadFormat
from metagene_train.reads.sources.fingerprint import Fingerprint

INDEX_VERSION = 3
COLUMNS: dict[str, type[np.number]] = {
    "offsets": np.int64,
    "spans": np.uint32,
    "lengths": np.int32,
    "class_ids": np.int32,
}
"""Per accepted read: where its record starts in the unpacked file, how many bytes it spans, its
length in bases and its class."""

READ_BYTES = sum(np.dtype(kind).itemsize for kind in COLUMNS.values())
"""20."""

REJECTED = "rejected"
"""Per rejected record: how many accepted reads come before it (int64)."""

UNPACKED = "reads"
META = "index.json"


@dataclass(frozen=True)
class IndexKey:
    """Which index: of which file content, in which format, with which header pattern."""

    fingerprint: Fingerprint
    kind: str
    compression: str
    header_regex: str | None

    @classmethod
    def of(cls, path: Path, form: ReadFormat, header: HeaderPattern | None) -> IndexKey:
        return cls(Fingerprint.of(path), form.kind, form.compression, header.regex if header else None)

    def family(self) -> str:
        """Directory prefix shared by the indexes of this path and pattern, whatever its content."""
        source = json.dumps([INDEX_VERSION, self.fingerprint.path, self.header_regex])
        return f"{Path(self.fingerprint.path).name[:64]}-{_short_digest(source)}-"

    def directory(self) -> str:
        return self.family() + _short_digest(json.dumps(asdict(self)))


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def default_index_dir() -> Path:
    """``$METAGENE_CACHE/index``, or ``~/.cache/metagene/index``."""
    cache = os.environ.get("METAGENE_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "metagene") / "index"


def load_meta(directory: Path) -> dict[str, Any] | None:
    """The description of an index directory, None if it is not there or not whole."""
    try:
        meta = json.loads((directory / META).read_text(encoding="utf-8"))
        counts = dict.fromkeys(COLUMNS, meta["accepted"]) | {REJECTED: meta["rejected"]}
        widths = {name: np.dtype(kind).itemsize for name, kind in COLUMNS.items()} | {REJECTED: 8}
        whole = all((directory / name).stat().st_size == counts[name] * widths[name] for name in counts)
    except (OSError, ValueError, KeyError):
        return None
    return meta if whole else None
