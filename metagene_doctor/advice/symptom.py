"""Symptom: one thing that went wrong in a run, with the number that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metagene_doctor.finding import Severity

SymptomId = Literal[
    "oom",
    "slow",
    "overfitting",
    "underfitting",
    "instability",
    "host-memory",
    "host-growth",
    "disk",
    "card",
    "drift",
    "ending",
]


@dataclass(frozen=True)
class Symptom:
    """One thing that went wrong: ``measured`` against ``threshold`` in ``unit``, and ``why`` it matters.

    ``fix`` and ``command`` are what to do where no rule of the rule book does it.
    """

    id: str
    symptom: SymptomId
    title: str
    severity: Severity
    measured: float | int | str | None
    threshold: float | int | str | None
    unit: str | None
    why: str
    fix: str = ""
    command: str = ""


def gib(value: float) -> str:
    """GiB with two decimals, or MiB below a tenth of one."""
    return f"{value:.2f} GiB" if value >= 0.1 else f"{value * 1024:.3g} MiB"
