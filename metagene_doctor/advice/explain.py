"""What was predicted, what was measured, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metagene_doctor.advice.dry_run import padded_length
from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.memory_symptoms import FOREIGN_GIB, is_fragmented, needed_gib
from metagene_doctor.advice.speed_symptoms import FAR_BELOW_PREDICTION, predicted_reads_per_s
from metagene_doctor.advice.symptom import gib
from metagene_doctor.finding import Finding, Severity
from metagene_train.config import RunConfig

AGREEMENT = 0.05
"""Relative difference between predicted and measured memory that counts as agreement."""


def explain_memory(
    evidence: Evidence, config: RunConfig, usable_gib: float | None, fresh_gib: float | None
) -> Finding:
    """What the run was predicted to need, held against its failure where it failed.

    ``fresh_gib`` is the device memory predicted now, for a run that stored no prediction.
    """
    stored = predicted_device_gib(evidence.predicted)
    predicted = stored if stored is not None else fresh_gib
    if predicted is None:
        return _finding("Memory could not be predicted", None, None, "", Severity.SKIP)
    if evidence.device_failures:
        return _failed(evidence, predicted, usable_gib, before_run=stored is not None)
    length = padded_length(config, evidence.longest_read_tokens)
    batch = f"{config.training.batch_size} x {length} tokens"
    why = f"Up to {gib(predicted)} on the device for a micro-batch of {batch}"
    if evidence.longest_read_tokens is None and config.tokenizer.padding == "longest":
        why += (
            " (max_length: how long the reads are is not known; --length N says it, N being the longest "
            "that `metagene doctor` finds)"
        )
    return _finding("Predicted memory", predicted, usable_gib, why, Severity.INFO)


def compare_memory(evidence: Evidence) -> list[Finding]:
    """Reserved memory of a run that did not fail, as measured and as predicted before it."""
    measured = evidence.peak_reserved_gib
    reserved = _memory(evidence.predicted).get("reserved_gib")
    if measured is None or not reserved:
        return []
    off = measured / reserved - 1
    agrees = abs(off) <= AGREEMENT
    return [
        _finding(
            "Memory as predicted" if agrees else "Memory differs from the prediction",
            measured,
            reserved,
            f"Reserved memory peaked at {gib(measured)}, {_signed(off)} from the {gib(reserved)} predicted",
            Severity.PASS if agrees else Severity.INFO,
        )
    ]


def _signed(off: float) -> str:
    text = f"{100 * off:+.1f} %"
    return text if text.strip("+-0. %") else text[1:]


def compare_speed(evidence: Evidence) -> list[Finding]:
    """Speed as measured and as predicted; far below the prediction is a symptom (A21), not this."""
    measured, predicted = evidence.typical("reads_per_s"), predicted_reads_per_s(evidence)
    if measured is None or predicted is None or measured < FAR_BELOW_PREDICTION * predicted[1]:
        return []
    expected, low, high = predicted
    within = low <= measured <= high
    title = "Speed as predicted" if within else "Speed differs from the prediction"
    return [
        Finding(
            id="A21.prediction",
            title=title,
            severity=Severity.PASS if within else Severity.INFO,
            scope="run",
            measured=round(measured, 2),
            threshold=round(expected, 2),
            unit="reads/s",
            why=f"{measured:,.3g} reads/s, where {expected:,.3g} ({low:,.3g} to {high:,.3g}) were predicted.",
            confidence="estimated",
        )
    ]


def predicted_device_gib(predicted: Mapping[str, Any] | None) -> float | None:
    """Device memory of ``predicted.json`` with its margin, in GiB."""
    memory = _memory(predicted)
    value, margin = memory.get("device_gib"), memory.get("margin_gib")
    return None if value is None else float(value) + float(margin or 0.0)


def _memory(predicted: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return (predicted or {}).get("memory", {})


def _failed(evidence: Evidence, predicted: float, usable: float | None, before_run: bool) -> Finding:
    failure = evidence.device_failures[-1]
    needed = needed_gib(evidence)
    foreign = failure.foreign_gib or 0.0
    when = "before the run" if before_run else "now, from its config"
    sentences = [f"The dry run predicted up to {gib(predicted)} {when}"]
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
    return _finding(
        "The failure against the prediction", needed, predicted, "; ".join(sentences), Severity.INFO
    )


def _finding(
    title: str, measured: float | None, threshold: float | None, why: str, severity: Severity
) -> Finding:
    return Finding(
        id="A03.prediction",
        title=title,
        severity=severity,
        scope="run",
        measured=None if measured is None else round(measured, 2),
        threshold=None if threshold is None else round(threshold, 2),
        unit="GiB",
        why=why + "." if why else "",
        confidence="estimated",
    )
