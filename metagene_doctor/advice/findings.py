"""Symptoms, remedies and what was set aside, as findings for the reports."""

from __future__ import annotations

import math

from metagene_doctor.advice.changes import ConfigChange, shown
from metagene_doctor.advice.evidence import Evidence, finite
from metagene_doctor.advice.remedies import Advised, Plan, SetAside
from metagene_doctor.advice.symptom import Symptom, gib
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import percent
from metagene_doctor.rulebook.schema import Fix

NAMES = {
    "oom": "out of memory",
    "host-memory": "host memory",
    "host-growth": "growing host memory",
    "disk": "room on the disk",
    "slow": "speed",
    "overfitting": "overfitting",
    "underfitting": "underfitting",
    "instability": "stability",
}
VERIFY = {
    "oom": "Verify with `metagene estimate` before the run.",
    "host-memory": "Verify with `metagene doctor --only H02,H03` before the run.",
    "host-growth": "Verify after a few epochs: workers_memory_gib in metrics.jsonl should no longer rise.",
    "disk": "Verify after the next evaluations: disk_free_gib in metrics.jsonl should no longer fall.",
    "slow": "Verify after 50 steps: reads_per_s in metrics.jsonl should be higher.",
    "overfitting": "Verify: the lowest validation loss should come later, and be lower.",
    "underfitting": "Verify: validation loss at the same step should be lower.",
    "instability": "Verify: grad_norm and loss in the first few hundred steps should not jump.",
}

OF_THE_HOST = ("host-memory", "host-growth", "disk", "card")


def symptom_finding(symptom: Symptom) -> Finding:
    return Finding(
        id=symptom.id,
        title=symptom.title,
        severity=symptom.severity,
        scope="host" if symptom.symptom in OF_THE_HOST else "run",
        measured=_finite(symptom.measured),
        threshold=_finite(symptom.threshold),
        unit=symptom.unit,
        why=_sentence(symptom.why),
        remedy=_remedy(symptom),
    )


def _remedy(symptom: Symptom) -> Remedy | None:
    if not symptom.fix:
        return None
    if not symptom.command:
        return Remedy(text=f"{symptom.fix}.")
    return Remedy(text=f"{symptom.fix}:", commands=(symptom.command,))


def remedy_findings(plan: Plan) -> list[Finding]:
    """Numbered per symptom, in the order to try them; then the guide's claims that do not hold."""
    findings: list[Finding] = []
    numbers: dict[str, int] = {}
    for advised in plan.advised:
        numbers[advised.symptom] = numbers.get(advised.symptom, 0) + 1
        findings.append(_advised(advised, numbers[advised.symptom], plan.usable_gib))
    return findings + [_set_aside(item) for item in plan.set_aside if _is_contradicted(item)]


def other_findings(plan: Plan) -> list[Finding]:
    """Fixes that the configuration has already, or that the run's own numbers rule out."""
    return [_set_aside(item) for item in plan.set_aside if not _is_contradicted(item)]


def _is_contradicted(item: SetAside) -> bool:
    return item.fix.verdict == "contradicted" and not item.already


def override(change: ConfigChange) -> str:
    """The change as ``metagene train`` takes it: ``key=value``, quoted for a shell where needed."""
    value = shown(change.new).replace(" ", "")
    return f"'{change.key}={value}'" if value.startswith("[") else f"{change.key}={value}"


def healthy(evidence: Evidence) -> Finding:
    """A run that shows none of the symptoms, with the numbers that say so."""
    parts = []
    losses = finite(evidence.training, lambda point: point.loss)
    if losses:
        parts.append(f"training loss {losses[0][1]:.4g} to {losses[-1][1]:.4g} in {losses[-1][0]:,} steps")
    evaluated = finite(evidence.evaluations, lambda evaluation: evaluation.loss)
    if evaluated:
        best_step, best = min(evaluated, key=lambda item: item[1])
        parts.append(f"validation loss {evaluated[-1][1]:.4g} (lowest {best:.4g} at step {best_step:,})")
    if evidence.evaluations and (score := evidence.evaluations[-1].macro_f1) is not None:
        parts.append(f"macro-F1 {score:.4g}")
    for name, text in (
        ("grad_norm", "gradient norm {:.3g}"),
        ("reads_per_s", "{:,.3g} reads/s"),
    ):
        if (value := evidence.typical(name)) is not None:
            parts.append(text.format(value))
    for name, text in (("padding_fraction", "padding"), ("data_wait_fraction", "waiting for data")):
        if (value := evidence.typical(name)) is not None:
            parts.append(f"{percent(value)} {text}")
    if evidence.peak_reserved_gib:
        parts.append(f"peak {gib(evidence.peak_reserved_gib)} reserved")
    return Finding(
        id="A00",
        title="No symptom found",
        severity=Severity.INFO,
        scope="run",
        why="; ".join(parts) + "." if parts else "",
    )


def _advised(item: Advised, number: int, usable_gib: float | None) -> Finding:
    text = item.fix.text
    if item.fix.key == "training.batch_size" and item.after_gib is not None:
        text = "The largest micro-batch that fits, at the same effective batch."
    sentences = [text, _sentence(item.reason), _sentence(item.fix.why)]
    if item.before_gib is not None and item.after_gib is not None:
        room = f" of {gib(usable_gib)} usable" if usable_gib is not None else ""
        sentences.append(f"Predicted: {gib(item.before_gib)} → {gib(item.after_gib)}{room}.")
    else:
        sentences.append(_sentence(item.fix.evidence))
    sentences.append(f"[{item.fix.verdict}; {item.fix.source}{_place_in_guide(item.fix)}]")
    if number == 1:
        sentences.append(VERIFY[item.symptom])
    return Finding(
        id=item.fix.id,
        title=f"Fix {number} for {NAMES[item.symptom]}{'' if item.at_once else ' (if that is not enough)'}: "
        + ", ".join(map(str, item.changes)),
        severity=Severity.INFO,
        scope="config",
        measured=None if item.after_gib is None else round(item.after_gib, 2),
        threshold=None if item.after_gib is None or usable_gib is None else round(usable_gib, 2),
        unit=None if item.after_gib is None else "GiB",
        why=" ".join(sentence for sentence in sentences if sentence),
        remedy=Remedy(
            text="Set, after `metagene train --config FILE`:",
            commands=(" ".join(map(override, item.changes)),),
        ),
        confidence="exact" if item.after_gib is None else "estimated",
        rule=item.fix.id,
    )


def _set_aside(item: SetAside) -> Finding:
    """Passing findings are shown by their title alone, so that holds the reason."""
    title = f"Not advised for {NAMES[item.symptom]}: {item.fix.action} {item.fix.key}" + (
        f" ({item.fix.source}{_place_in_guide(item.fix)})" if _is_contradicted(item) else ""
    )
    if _is_contradicted(item):
        return _info(item.fix.id, title, _sentence(item.reason))
    return _info(item.fix.id, f"{title}: {item.reason}", "", Severity.PASS)


def _place_in_guide(fix: Fix) -> str:
    """The guide numbers the fixes of a symptom in the order in which it would try them."""
    return "" if fix.guide_order is None else f", number {fix.guide_order} of its list"


def _info(rule: str, title: str, why: str, severity: Severity = Severity.INFO) -> Finding:
    return Finding(id=rule, title=title, severity=severity, scope="config", why=why, rule=rule)


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a symbol or a key (r, q,k,v,o), and a full stop."""
    text = text.strip()
    first = text.partition(" ")[0]
    if first == "a" or (len(first) > 1 and first.isalpha()):
        text = text[0].upper() + text[1:]
    return text if not text or text.endswith(".") else f"{text}."


def _finite(value: float | int | str | None) -> float | int | str | None:
    """JSON has no NaN: a number that is none is written out."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
