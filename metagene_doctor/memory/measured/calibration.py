"""What measured runs on this machine say about later predictions: ``calibration.json``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metagene_doctor.memory.measured.measurement import Measurement
from metagene_doctor.memory.unseen import Term
from metagene_train.errors import InputError

if TYPE_CHECKING:
    from metagene_doctor.memory.profiling import MemoryProfile

KEPT = 50
"""Newest measurements kept in the calibration file."""
READ = {"gpu", "torch", "out_of_memory", "outside_gib", "reserved_gib", "predicted_reserved_gib"}
"""What later answers read of a measurement."""
STILL_UNCERTAIN_GIB = 0.1
"""Bound on memory outside the allocator once it was measured: kernels that another workload adds."""


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
    damaged = InputError(f"{path} is damaged: remove it, and measure again")
    try:
        entries = json.loads(path.read_text())
    except ValueError:
        raise damaged from None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and entry.keys() >= READ for entry in entries
    ):
        raise damaged
    return entries


def _same_card(left: str, right: str) -> bool:
    """The driver says "NVIDIA GeForce RTX 4090" where the rule book says "GeForce RTX 4090"."""
    return left.removeprefix("NVIDIA ").casefold() == right.removeprefix("NVIDIA ").casefold()
