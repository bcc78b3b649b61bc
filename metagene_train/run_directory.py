"""The files of a run directory, apart from the weights: who may write there, and what is in it.

``config.yaml`` and ``labels.json`` are written before the first step, ``metrics.jsonl`` during the
run, ``run.json`` when it starts and when it ends, and ``checkpoints/checkpoint-STEP``.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from metagene_train.config import RunConfig
from metagene_train.config_file import dump_config, load_config
from metagene_train.errors import InputError, RunError
from metagene_train.labels import LabelMap

CONFIG, LABELS, METRICS, SUMMARY = "config.yaml", "labels.json", "metrics.jsonl", "run.json"
CHECKPOINTS, MODEL = "checkpoints", "model"
PREDICTED, DOCTOR = "predicted.json", "doctor.json"

WRITTEN_BEFORE = frozenset({DOCTOR, PREDICTED})
"""Files that may be in the directory of a run that has not started."""

FULL = 2**20
"""Free bytes below which a failed write had no room: what is written at once is larger."""

RESUMABLE = (
    "device",
    "dataset.index_dir",
    "training.output_dir",
    "training.eval_batch_size",
    "training.max_epochs",
    "training.max_steps",
    "training.evals_per_epoch",
    "training.eval_steps",
    "training.num_workers",
    "training.prefetch_factor",
    "training.persistent_workers",
    "training.pin_memory",
    "training.early_stopping",
    "training.checkpoint",
    "metrics",
    "logging",
    "memory_optimization",
)
"""Keys that may change when a run is resumed: no weight, batch or learning rate so far depends on them."""


def claim(directory: Path, config: RunConfig, labels: LabelMap, *, resume: bool) -> Path | None:
    """Make a directory the one of this run; the newest checkpoint when a run there is resumed.

    Raises InputError when it holds another run, or holds this one and ``resume`` is false, or cannot be
    written.
    """
    state = state_of(directory)
    if state == "other files":
        raise InputError(
            f"training.output_dir: {directory} is not empty and holds no run; choose another directory"
        )
    if state == "run":
        if not resume:
            raise InputError(
                f"training.output_dir: {directory} holds a run already; continue it with --resume, "
                "or choose another directory"
            )
        _check_same_run(directory, config, labels)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / CONFIG, dump_config(config))
        labels.save(directory / LABELS)
    except OSError as error:
        raise InputError(
            f"training.output_dir: {directory} cannot be written ({error.strerror}); choose another directory"
        ) from None
    return newest_checkpoint(directory)


def _check_same_run(directory: Path, config: RunConfig, labels: LabelMap) -> None:
    if changed := differences(directory, config):
        raise InputError(
            f"{directory} holds a different run ({'; '.join(changed)}); restore these keys to resume it, "
            "or choose another training.output_dir"
        )
    if (directory / LABELS).exists() and LabelMap.load(directory / LABELS) != labels:
        raise InputError(
            f"{directory} holds a run with other labels than {config.dataset.mapping_tsv}; "
            "restore the mapping to resume it, or choose another training.output_dir"
        )


def differences(directory: Path, config: RunConfig) -> list[str]:
    """Keys, with both values, for which the run in ``directory`` cannot be resumed with ``config``
    (`as_kept`). Raises ConfigError when the config kept there is damaged."""
    before = _flat(load_config(directory / CONFIG).config.model_dump())
    now = _flat(config.model_dump())
    return [
        f"{key} was {before[key]}, is {now[key]}"
        for key in now
        if before[key] != now[key]
        and not any(key == allowed or key.startswith(f"{allowed}.") for allowed in RESUMABLE)
    ]


def as_kept(config: RunConfig) -> RunConfig:
    """The configuration that the run keeps: a pattern may match other files when the run is resumed."""
    from metagene_train.reads.access.data_set import spelled_out

    config = config.model_copy(deep=True)
    dataset = config.dataset
    if dataset.train_fasta is not None:
        dataset.train_fasta = spelled_out(dataset.train_fasta)
    if dataset.val_fasta is not None:
        dataset.val_fasta = spelled_out(dataset.val_fasta)
    return config


def state_of(directory: Path) -> Literal["free", "other files", "run"]:
    """Whether a run can start in a directory: in a free one, and in one with a run only to resume it."""
    present = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
    if present - WRITTEN_BEFORE and CONFIG not in present:
        return "other files"
    # A run that stopped before its first step (unreadable reads, say) left nothing worth keeping.
    return "run" if METRICS in present or MODEL in present or checkpoints(directory) else "free"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first (by step)."""
    found = {
        int(match[1]): entry
        for entry in (directory / CHECKPOINTS).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", entry.name))
    }
    return [found[step] for step in sorted(found)]


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def newest_checkpoint(directory: Path) -> Path | None:
    return next(reversed(checkpoints(directory)), None)


def prune_checkpoints(directory: Path, keep: int, best_step: int | None) -> None:
    """Delete all checkpoints but the ``keep`` newest ones and the one of ``best_step``."""
    for checkpoint in checkpoints(directory)[:-keep]:
        if checkpoint.name != f"checkpoint-{best_step}":
            shutil.rmtree(checkpoint)


def append_metrics(directory: Path, line: Mapping[str, Any]) -> None:
    """One line of ``metrics.jsonl``; numbers that are not finite become null, which JSON has."""
    values = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in line.items()
    }
    path = directory / METRICS
    with _named_in_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def forget_metrics_after(directory: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run takes again, and one that was cut off."""
    path = directory / METRICS
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= step))


def evaluated_steps(directory: Path) -> set[int]:
    """Steps after which ``metrics.jsonl`` has an evaluation."""
    path = directory / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line["step"] for line in map(json.loads, lines) if line["phase"] == "eval"}


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader never sees half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with _named_in_errors(path):
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """The file that a full disk refused is named: Python's message of a failed write does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def not_written(path: Path, error: Exception) -> RunError:
    """Why a checkpoint or model is not there: by the file system's word, where one is behind ``error``;
    torch and safetensors have messages of their own for a disk without room."""
    there = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(there).free
    reason = "the disk is full" if free < FULL else f"{type(error).__name__}: {error}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return RunError(
        f"{path} could not be written: {reason} ({free / 1e6:,.1f} MB free); make room, then continue "
        "with --resume"
    )
