"""The text log of any trainer -> Evidence: Trainer's dict lines, JSON lines, `loss=...`, tqdm bars."""

from __future__ import annotations

import ast
import json
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metagene_doctor.advice.evidence import Evaluation, Evidence, TrainingPoint, numbers_for, reported_broken
from metagene_doctor.advice.memory_failures import HostMemoryFailure, OutOfMemory, find_failures
from metagene_train.errors import InputError

TRAINER_NAMES = {
    "learning_rate": "lr",
    "train_samples_per_second": "reads_per_s",
    "gradient_norm": "grad_norm",
}
EVALUATION_NAMES = {"f1": "macro_f1", "matthews_correlation": "mcc", "runtime": "seconds"}
NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)\b"
BAR = re.compile(
    r"(?P<done>\d+)/(?P<total>\d+) \[(?:\d+:)?\d+:\d+<[\d:?]+,\s*"
    r"(?P<speed>[\d.]+)\s*(?P<unit>s/it|it/s|s/batch|batch/s)"
)
ASSIGNMENT = re.compile(
    rf"(?P<name>[A-Za-z][A-Za-z0-9_/.]*)['\"]?\s*[=:]\s*['\"]?(?P<value>{NUMBER})", re.IGNORECASE
)
OWN_LINE = re.compile(r"^step (?P<step>\d+)/(?P<total>\d+)  (?P<values>.*)")
"""What `metagene train` writes at each evaluation when stderr is a file: step 20/60  loss 1.1  val mcc 0.3"""
VALIDATION = re.compile(r"^(?:val|valid|validation|eval|dev|test)[_/.]", re.IGNORECASE)


def read_log(path: Path) -> Evidence:
    """Read a log of any length line by line. Raises InputError when it cannot be read."""
    try:
        failures = list(find_failures(_lines(path)))
        training, evaluations, speeds, total = _measurements(path)
        exception = _last_exception(path)
        broken = [item for line in _lines(path) for item in reported_broken(line)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    device = tuple(failure for failure in failures if isinstance(failure, OutOfMemory))
    return Evidence(
        source=str(path),
        training=tuple(training),
        evaluations=tuple(evaluations),
        device_failures=device,
        host_failures=tuple(failure for failure in failures if isinstance(failure, HostMemoryFailure)),
        iterations_per_s=statistics.median(speeds) if speeds else None,
        broken_values=tuple(broken),
        error=exception,
        total_steps=total,
    )


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
        yield from stream


def _segments(path: Path) -> Iterator[str]:
    """Lines as a terminal showed them: a progress bar's carriage return begins a new one."""
    for line in _lines(path):
        yield from line.rstrip("\n").split("\r")


def _last_exception(path: Path) -> str | None:
    """The last line of the last traceback, or the error with which a metagene command ended."""
    found, inside = None, False
    for line in _lines(path):
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif line.startswith("metagene: error: "):
            found, inside = line.removeprefix("metagene: error: ").strip(), False
        elif inside and re.match(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b", line):
            found, inside = line.strip(), False
    return found


def _measurements(
    path: Path,
) -> tuple[list[TrainingPoint], list[Evaluation], list[float], int | None]:
    training: list[TrainingPoint] = []
    evaluations: list[Evaluation] = []
    speeds: list[float] = []
    step, total = 0, None
    for line in _segments(path):
        bars = list(BAR.finditer(line))
        for bar in bars:
            value = float(bar["speed"])
            if value > 0:
                speeds.append(1 / value if bar["unit"].startswith("s/") else value)
        if bars and int(bars[-1]["total"]) >= (total or 0):
            step, total = int(bars[-1]["done"]), int(bars[-1]["total"])
        entry = _dictionary(line) or _own_line(line) or _assignments(line)
        if not entry:
            continue
        at = {"step": _step(entry, step, training)}
        train, validation = _split(entry)
        if "loss" in train:
            training.append(TrainingPoint(**at | numbers_for(TrainingPoint, train, TRAINER_NAMES)))
        if "loss" in validation:
            values = numbers_for(Evaluation, validation, EVALUATION_NAMES)
            evaluations.append(Evaluation(**at | {key: v for key, v in values.items() if key != "step"}))
    return training, evaluations, speeds, total


def _dictionary(line: str) -> dict[str, Any]:
    """A line that is, or ends in, a Python or JSON dictionary with a loss."""
    begin, end = line.find("{"), line.rfind("}")
    if begin < 0 or end < begin or "loss" not in line:
        return {}
    text = line[begin : end + 1]
    for parse in (json.loads, ast.literal_eval):
        try:
            entry = parse(text)
        except (ValueError, SyntaxError):
            text = re.sub(r"(?<=[:\s])(-?)(nan|inf)\b(?!['\"])", r"'\1\2'", text, flags=re.IGNORECASE)
            continue
        return entry if isinstance(entry, dict) else {}
    return {}


def _own_line(line: str) -> dict[str, Any]:
    found = OWN_LINE.match(line)
    if not found:
        return {}
    pairs = (item.rpartition(" ") for item in found["values"].split("  "))
    return {"step": found["step"]} | {name.replace("val ", "val_"): value for name, _, value in pairs}


def _assignments(line: str) -> dict[str, Any]:
    if "loss" not in line.lower():
        return {}
    return {found["name"]: found["value"] for found in ASSIGNMENT.finditer(line)}


def _split(entry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and validation values of one entry, without their prefixes."""
    common = {key: entry[key] for key in ("epoch", "step", "global_step") if key in entry}
    if entry.get("phase") == "eval":
        return dict(common), dict(entry)
    train, validation = dict(common), dict(common)
    for key, value in entry.items():
        if VALIDATION.match(key):
            validation[VALIDATION.sub("", key).lower()] = value
        elif (
            re.fullmatch(r"(?:train(?:ing)?[_/.])?loss", key, re.IGNORECASE) and "train_runtime" not in entry
        ):
            train["loss"] = value
        elif "train_runtime" not in entry:
            train[key] = value
    return train, validation


def _step(entry: Mapping[str, Any], bar: int, training: list[TrainingPoint]) -> int:
    """The step an entry names, else the progress bar's, else one more than the last."""
    for key in ("step", "global_step"):
        try:
            return int(float(entry[key]))
        except (KeyError, TypeError, ValueError):
            continue
    last = training[-1].step if training else 0
    is_training = "loss" in entry
    return bar if bar > last else last + 1 if is_training and not bar else max(bar, last)
