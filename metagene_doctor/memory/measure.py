"""Running a workload on the GPU of this machine, and remembering what it took.

The measurement runs in a subprocess (`metagene_doctor.memory.probe`); running out of memory there is
a result. Its ratio to the prediction calibrates later answers for the same card with the same torch
on this machine: ``calibration.json`` in ``$METAGENE_CACHE`` or ``~/.cache/metagene``.

This module is not yet measured on a GPU: it has run against a stand-in for the subprocess only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metagene_doctor.memory.probe import Job, to_json
from metagene_doctor.memory.unseen import Term
from metagene_train.config import RunConfig
from metagene_train.errors import InputError, RunError

if TYPE_CHECKING:
    from metagene_doctor.memory.estimate import Estimate
    from metagene_doctor.memory.profiling import MemoryProfile

LONGEST_S = 1800
"""A probe that takes longer has hung: loading 26 GB and four steps take minutes."""
KEPT = 50
"""Newest measurements kept in the calibration file."""
STILL_UNCERTAIN_GIB = 0.1
"""Bound on memory outside the allocator once it was measured: kernels that another workload adds."""


@dataclass(frozen=True)
class Measurement:
    """Peaks of a real run in GiB. ``out_of_memory`` is torch's message, None when the run finished."""

    gpu: str
    torch: str
    driver: str
    live_gib: float
    allocated_gib: float
    reserved_gib: float
    context_gib: float
    """Of the context alone, before the first tensor."""
    outside_gib: float
    """Outside the allocator at the end: context and kernels loaded on the way."""
    retries: int
    seconds_per_step: float | None
    out_of_memory: str | None
    cap_gib: float | None

    @property
    def device_gib(self) -> float:
        return self.reserved_gib + self.outside_gib

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"device_gib": self.device_gib}


Runner = Callable[[str], str]
"""Runs a probe: job as JSON in, result as JSON out."""


def measure(
    config: RunConfig,
    *,
    num_labels: int,
    length: int,
    cap_gib: float | None = None,
    runner: Runner | None = None,
) -> Measurement:
    """Run the workload on GPU 0, where the allocator may reserve at most ``cap_gib``.

    Raises InputError without a CUDA GPU and RunError when the probe fails for another reason than
    memory.
    """
    job = Job(config.model_dump(mode="json"), num_labels, length, cap_gib)
    answer = json.loads((runner or _subprocess)(to_json(job)))
    known = {field.name for field in fields(Measurement)}
    return Measurement(cap_gib=cap_gib, **{name: value for name, value in answer.items() if name in known})


def measure_and_remember(answer: Estimate, config: RunConfig) -> Measurement:
    """Measure what was estimated, capped to the estimate's card when this one is larger."""
    usable = answer.memory.usable_gib
    outside = answer.memory.device_gib - answer.memory.reserved_gib
    measured = measure(
        config,
        num_labels=answer.num_labels,
        length=answer.token_length,
        cap_gib=None if usable is None else usable - outside,
    )
    remember(measured, answer.memory)
    return measured


def _subprocess(job: str) -> str:
    import torch

    if not torch.cuda.is_available():
        raise InputError("--measure: no CUDA GPU on this machine; leave it out for the dry run alone")
    done = subprocess.run(
        [sys.executable, "-m", "metagene_doctor.memory.probe"],
        input=job,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunError(f"--measure: the probe failed: {reason}")
    return lines[-1]


def calibration_file() -> Path:
    cache = os.environ.get("METAGENE_CACHE")
    return (Path(cache) if cache else Path("~/.cache/metagene").expanduser()) / "calibration.json"


def remember(measured: Measurement, predicted: MemoryProfile) -> None:
    """Add a measurement beside its prediction to the calibration file, replacing the file atomically."""
    entry = measured.to_dict() | {
        "predicted_reserved_gib": predicted.reserved_gib,
        "predicted_device_gib": predicted.device_gib,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    path = calibration_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps([*_entries(path), entry][-KEPT:], indent=1))
    temporary.replace(path)


@dataclass(frozen=True)
class Calibration:
    """What measurements on this machine say about a card."""

    terms: tuple[Term, ...]
    """In place of the terms outside the allocator."""
    worst_ratio: float
    """Highest measured over predicted reserved memory, at least 1."""
    note: str


def calibration(gpu: str) -> Calibration | None:
    """Of a card by the driver's name and the installed torch; None without a measurement."""
    mine = [
        entry
        for entry in _entries(calibration_file())
        if _same_card(entry["gpu"], gpu)
        and entry["torch"].split("+")[0] == version("torch").split("+")[0]
        and entry["out_of_memory"] is None
    ]
    if not mine:
        return None
    outside = max(entry["outside_gib"] for entry in mine)
    lowest = min(entry["outside_gib"] for entry in mine)
    ratios = [entry["reserved_gib"] / entry["predicted_reserved_gib"] for entry in mine]
    source = f"measured here, {len(mine)} runs on {mine[-1]['gpu']}, driver {mine[-1]['driver']}"
    term = Term("CUDA context and kernels", outside, lowest, outside + STILL_UNCERTAIN_GIB, source)
    return Calibration(
        terms=(term,),
        worst_ratio=max(1.0, *ratios),
        note=f"calibrated by {len(mine)} measured runs on this machine",
    )


def _entries(path: Path) -> Sequence[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged: remove it, and measure again") from None
    return list(entries)


def _same_card(left: str, right: str) -> bool:
    """The driver says "NVIDIA GeForce RTX 4090" where the rule book says "GeForce RTX 4090"."""
    return left.removeprefix("NVIDIA ").casefold() == right.removeprefix("NVIDIA ").casefold()
