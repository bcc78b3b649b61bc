"""The last whole report on a pair of reads files, kept in the cache so that a run can take it along."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metagene_doctor.finding import Report
from metagene_train.config import DatasetConfig
from metagene_train.reads.index.files import default_index_dir


def keep(report: Report, files: Sequence[str], dataset: DatasetConfig) -> None:
    """Keep a report on these reads files, read as ``dataset`` says; nothing happens where the cache cannot
    be written."""
    with suppress(OSError):
        states = _states(files)
        place = _place(states)
        place.parent.mkdir(parents=True, exist_ok=True)
        read_as = _settings(dataset)
        document = {"files": states, "read_as": read_as, "report": report.model_dump(mode="json")}
        place.write_text(json.dumps(document), encoding="utf-8")


def kept(files: Sequence[str], dataset: DatasetConfig) -> dict[str, Any] | None:
    """The report on these files as they are now; None when there is none, when they changed since, or when
    it took classes from other places in headers or in another table."""
    try:
        states = _states(files)
        document = json.loads(_place(states).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    before, now = document.get("read_as"), _settings(dataset)
    if before is not None and before["mapping"] is None:
        before |= {key: value for key, value in now.items() if key != "header_regex"}
    return document["report"] if document["files"] == states and before == now else None


def _settings(dataset: DatasetConfig) -> dict[str, str | None]:
    """What findings on classes depend on."""
    mapping = dataset.mapping_tsv
    return {
        "header_regex": dataset.header_regex,
        "mapping": None if mapping is None else str(Path(mapping).expanduser().resolve()),
        "class_column": dataset.class_column,
        "label_column": dataset.label_column,
    }


def _states(files: Sequence[str]) -> list[list[Any]]:
    """Real path, size and modification time of each file."""
    real = [Path(file).expanduser().resolve() for file in files]
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in real]


def _place(states: list[list[Any]]) -> Path:
    name = hashlib.sha256(json.dumps([path for path, *_ in states]).encode()).hexdigest()[:16]
    return default_index_dir().parent / "reports" / f"{name}.json"
