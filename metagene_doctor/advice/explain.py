"""What was predicted, what was measured, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.memory_symptoms import FOREIGN_GIB, is_fragmented, needed_gib
from metagene_doctor.advice.symptom import gib
from metagene_doctor.finding import Finding, Severity

AGREEMENT = 0.05
"""Relative difference between predicted and measured memory that counts as agreement."""


def explain_memory(evidence: Evidence, usable_gib: float | None, fresh_gib: float | None) -> list[Finding]:
    """One finding that holds the prediction against the run, if there is something to hold.

    ``fresh_gib`` is the device memory predicted now, for a run that stored no prediction.
    """
    stored = predicted_device_gib(evidence.predicted)
    predicted = stored if stored is not None else fresh_gib
    if predicted is None:
        return []
    if evidence.device_failures:
        return [_failed(evidence, predicted, usable_gib, before_run=stored is not None)]
    return _finished(evidence, predicted)


def predicted_device_gib(predicted: Mapping[str, Any] | None) -> float | None:
    """The device number of ``predicted.json``, in GiB."""
    value = (predicted or {}).get("device_gib")
    return float(value) if isinstance(value, (int, float)) else None


def _failed(evidence: Evidence, predicted: float, usable: float | None, before_run: bool) -> Finding:
    failure = evidence.device_failures[-1]
    needed = needed_gib(evidence)
    foreign = failure.foreign_gib or 0.0
    when = "before the run" if before_run else "now, from its config"
    sentences = [f"The dry run predicted {gib(predicted)} {when}"]
    if needed is not None:
        sentences.append(f"the run needed at least {gib(needed)}")
    if usable is not None and predicted > usable:
        sentences.append(f"{gib(usable)} were usable: that it would not fit was known before the run")
    elif foreign > FOREIGN_GIB:
        sentences.append(
            f"{gib(foreign)} of the device were held by something else, so less was left than the "
            "prediction had counted on (nvidia-smi lists the processes)"
        )
    elif is_fragmented(evidence):
        sentences.append(
            f"{gib(failure.unallocated_gib or 0.0)} were reserved but in pieces that no request fitted: "
            "lengths that grow during the run break the memory up"
        )
    elif needed is not None and needed > predicted * (1 + AGREEMENT):
        sentences.append(
            f"the prediction was {gib(needed - predicted)} short, which is added to every prediction below"
        )
    return Finding(
        id="A03.prediction",
        title="The failure against the prediction",
        severity=Severity.INFO,
        scope="run",
        measured=None if needed is None else round(needed, 2),
        threshold=round(predicted, 2),
        unit="GiB",
        why="; ".join(sentences) + ".",
        confidence="estimated",
    )


def _finished(evidence: Evidence, predicted: float) -> list[Finding]:
    measured = evidence.peak_reserved_gib
    reserved = (evidence.predicted or {}).get("reserved_gib")
    if measured is None or not isinstance(reserved, (int, float)):
        return []
    off = measured / reserved - 1
    return [
        Finding(
            id="A03.prediction",
            title="Memory as predicted" if abs(off) <= AGREEMENT else "Memory differs from the prediction",
            severity=Severity.PASS if abs(off) <= AGREEMENT else Severity.INFO,
            scope="run",
            measured=round(measured, 2),
            threshold=round(reserved, 2),
            unit="GiB reserved",
            why=f"Reserved memory peaked at {gib(measured)}, {off:+.1%} from the prediction "
            f"of {gib(reserved)} (device {gib(predicted)}).",
        )
    ]
