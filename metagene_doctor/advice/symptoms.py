"""Evidence -> all symptoms of a run, each with the numbers that show it. Pure functions."""

from __future__ import annotations

from metagene_doctor.advice.baseline_symptoms import below_baseline
from metagene_doctor.advice.ending import ending
from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.fit_symptoms import drift, not_learning, overfitting, underfitting
from metagene_doctor.advice.machine_symptoms import machine
from metagene_doctor.advice.memory_symptoms import host_memory, out_of_memory
from metagene_doctor.advice.speed_symptoms import slow
from metagene_doctor.advice.stability_symptoms import collapse, instability
from metagene_doctor.advice.symptom import Symptom


def detect(evidence: Evidence, capacity_gib: float | None = None) -> list[Symptom]:
    """All symptoms of a run, gravest kind first. ``capacity_gib`` is the usable memory of the device."""
    fit = [*not_learning(evidence), *collapse(evidence), *overfitting(evidence), *underfitting(evidence)]
    return [
        *out_of_memory(evidence),
        *host_memory(evidence),
        *ending(evidence),
        *machine(evidence),
        *instability(evidence),
        *fit,
        *below_baseline(evidence, fit),
        *slow(evidence, capacity_gib),
        *drift(evidence),
    ]
