"""Evidence: what a run left behind, as numbers. No judgement here.

`read_run` reads a run directory of `metagene train`; `metagene_doctor.advice.logs` reads the text log of
any other trainer into the same shape. A value that the source does not give is None, never a guess.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from metagene_doctor.advice.memory_failures import HostMemoryFailure, OutOfMemory, find_failures
from metagene_train.config import RunConfig
from metagene_train.config_file import load_config
from metagene_train.errors import DataError, InputError
from metagene_train.labels import LabelMap


@dataclass(frozen=True)
class TrainingPoint:
    """One logged point of training. Speeds are per second of wall time since the point before, memory
    is the peak so far in GiB, fractions are of tokens (padding) and of wall time (data wait). What follows
    ``elapsed_s`` (seconds since the run or its resumption began) is the state of the machine then:
    ``metagene_train.training.machine_watch`` writes it, runs of before had none of it."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    reads_per_s: float | None = None
    tokens_per_s: float | None = None
    padding_fraction: float | None = None
    data_wait_fraction: float | None = None
    peak_allocated_gib: float | None = None
    peak_reserved_gib: float | None = None
    elapsed_s: float | None = None
    process_memory_gib: float | None = None
    workers_memory_gib: float | None = None
    host_available_gib: float | None = None
    disk_free_gib: float | None = None
    gpu_clock_reasons: float | None = None
    gpu_uncorrected_errors: float | None = None
    gpu_other_gib: float | None = None
    gpu_processes: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the validation reads."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    mcc: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything known about one run. ``source`` names the directory or log it was read from;
    ``broken_values`` holds what the run itself reported as not finite, with the step."""

    source: str
    training: tuple[TrainingPoint, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    device_failures: tuple[OutOfMemory, ...] = ()
    host_failures: tuple[HostMemoryFailure, ...] = ()
    iterations_per_s: float | None = None
    broken_values: tuple[tuple[str, int], ...] = ()
    status: str | None = None
    error: str | None = None
    seconds: float | None = None
    total_steps: int | None = None
    num_labels: int | None = None
    longest_read_tokens: int | None = None
    predicted: Mapping[str, Any] | None = None
    doctor: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    """What ``metagene evaluate`` found: its ``metrics.json``."""
    config: RunConfig | None = None

    def typical(self, name: str) -> float | None:
        """Median of one quantity over the logged points; the first point, which pays for warm-up
        (kernels, caches, workers), is left out when there are others."""
        values = [value for point in self.training if (value := getattr(point, name)) is not None]
        return statistics.median(values[1:] or values) if values else None

    @property
    def peak_reserved_gib(self) -> float | None:
        values = [p.peak_reserved_gib for p in self.training if p.peak_reserved_gib]
        return max(values) if values else None


def read_run(run_dir: Path) -> Evidence:
    """Read a run directory. Raises InputError when it is not one, DataError when a file is damaged."""
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: no such run directory; give the output_dir of a training run")
    metrics, config_file = run_dir / "metrics.jsonl", run_dir / "config.yaml"
    if not metrics.exists() and not config_file.exists():
        raise InputError(f"{run_dir}: not a run directory (neither config.yaml nor metrics.jsonl in it)")
    training, evaluations = read_metrics(metrics) if metrics.exists() else ((), ())
    summary = _read_json(run_dir / "run.json") or {}
    labels = run_dir / "labels.json"
    error = str(summary.get("error") or "")
    failures = list(find_failures(error.splitlines()))
    doctor = _read_json(run_dir / "doctor.json")
    widest = re.search(r"micro-batch of \d+ reads, (\d+) tokens wide", error)
    return Evidence(
        source=str(run_dir),
        training=training,
        evaluations=evaluations,
        device_failures=tuple(_with_phase(f, error) for f in failures if isinstance(f, OutOfMemory)),
        host_failures=tuple(f for f in failures if isinstance(f, HostMemoryFailure)),
        broken_values=tuple(reported_broken(error)),
        status=summary.get("status"),
        error=error or None,
        seconds=summary.get("seconds"),
        total_steps=summary.get("planned_steps"),
        num_labels=len(LabelMap.load(labels)) if labels.exists() else summary.get("classes"),
        longest_read_tokens=longest_tokens(doctor) or (int(widest.group(1)) if widest else None),
        predicted=_read_json(run_dir / "predicted.json"),
        doctor=doctor,
        summary=summary or None,
        evaluation=_read_json(run_dir / "evaluation" / "metrics.json"),
        config=load_config(config_file).config if config_file.exists() else None,
    )


def _with_phase(failure: OutOfMemory, error: str) -> OutOfMemory:
    """The trainer says where it was; its message carries no traceback."""
    return dataclasses.replace(failure, phase="loading") if "while loading the encoder" in error else failure


def reported_broken(text: str) -> Iterator[tuple[str, int]]:
    """(what, step) of the sentences with which a run stops at a loss that is not finite."""
    for found in re.finditer(
        r"the (validation )?loss (?:became NaN or infinite|is not finite) (?:at|after) step (\d+)", text
    ):
        yield ("validation loss" if found.group(1) else "training loss"), int(found.group(2))


def read_metrics(path: Path) -> tuple[tuple[TrainingPoint, ...], tuple[Evaluation, ...]]:
    """The two kinds of lines of ``metrics.jsonl``. A half-written last line (a killed run) is left out;
    any other line that is not JSON raises DataError with its number. After a resume the steps that were
    done twice count once, as the resumed run did them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    training: dict[int, TrainingPoint] = {}
    evaluations: dict[int, Evaluation] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            step = int(entry["step"])
            if entry.get("loss", 0.0) is None:
                entry["loss"] = math.nan  # JSON has no NaN: the writer put null
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: not a line of metrics with a step: {line[:80]!r}") from None
        if entry.get("phase") == "eval":
            evaluations[step] = Evaluation(**numbers_for(Evaluation, entry))
        elif entry.get("phase") == "train":
            if training and step <= max(training):
                training = {known: point for known, point in training.items() if known < step}
                evaluations = {known: e for known, e in evaluations.items() if known < step}
            training[step] = TrainingPoint(**numbers_for(TrainingPoint, entry))
    return tuple(training.values()), tuple(evaluations.values())


def numbers_for(kind: type, entry: Mapping[str, Any], rename: Mapping[str, str] | None = None) -> Any:
    """The fields of a dataclass that ``entry`` holds as numbers (or as their text, as Trainer prints)."""
    found: dict[str, float | int] = {}
    for name, value in entry.items():
        name = (rename or {}).get(name, name)
        if name not in {field.name for field in fields(kind)} or isinstance(value, bool):
            continue
        try:
            found[name] = int(float(value)) if name == "step" else float(value)
        except (TypeError, ValueError):
            continue
    return found


def not_finite(evidence: Evidence) -> list[tuple[str, int]]:
    """(what, step) of every logged loss or gradient norm that is NaN or infinite."""
    found = list(evidence.broken_values)
    found += [("training loss", p.step) for p in evidence.training if _broken(p.loss)]
    found += [("gradient norm", p.step) for p in evidence.training if _broken(p.grad_norm)]
    found += [("validation loss", e.step) for e in evidence.evaluations if _broken(e.loss)]
    return sorted(found, key=lambda item: item[1])


def finite(points: Iterable[Any], read: Callable[[Any], float | None]) -> list[tuple[int, float]]:
    """(step, value) of the points whose value is there and finite."""
    return [
        (point.step, value) for point in points if (value := read(point)) is not None and math.isfinite(value)
    ]


def longest_tokens(doctor: Mapping[str, Any] | None) -> int | None:
    """Token length of the longest read that doctor sampled, as its finding T02 tells it."""
    for finding in (doctor or {}).get("findings", []):
        if finding.get("id") == "T02" and (
            found := re.search(r"longest (\d+) tokens", finding.get("why", ""))
        ):
            return int(found.group(1))
    return None


def _broken(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _read_json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
