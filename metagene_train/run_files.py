"""What a run directory holds, read back: its model, its metric lines, its JSON records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metagene_train.errors import InputError
from metagene_train.run_directory import CONFIG, METRICS, MODEL, SUMMARY


def model_directory(run_dir: Path) -> Path:
    """``RUN_DIR/model``. Raises InputError, with the run's state, when there is no finished model."""
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: no such run directory")
    model = run_dir / MODEL
    if model.is_dir():
        return model
    if not (run_dir / CONFIG).exists():
        raise InputError(f"{run_dir}: is not a run directory: it has neither config.yaml nor model/")
    run = read_record(run_dir / SUMMARY)
    state = f"the run is {run['status']}" if run and "status" in run else "the run has not finished"
    raise InputError(
        f"{run_dir}: no trained model in model/: {state}; "
        f"go on with: metagene train --config {run_dir / 'config.yaml'} --resume"
    )


def read_record(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None when there is no such file or it was cut short."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read_metric_lines(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl in order, empty without the file.

    The last line of a run that was killed may be half written; it is left out.
    """
    try:
        text = (run_dir / METRICS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
