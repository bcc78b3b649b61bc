"""Rules as text and as JSON, for ``metagene rules``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from metagene_doctor.rulebook.schema import Band, Fix, Hyperparameter, Multiple, OneOf, Rule, Where


def listing(rules: Sequence[Rule | Fix]) -> str:
    """One line per rule and a count of verdicts."""
    width = max((len(rule.id) for rule in rules), default=0)
    lines = [f"{rule.verdict:<12}  {rule.id:<{width}}  {_title(rule)}" for rule in rules]
    counts = [
        f"{sum(rule.verdict == verdict for rule in rules)} {verdict}"
        for verdict in ("holds", "contradicted", "unverified")
    ]
    return "\n".join([*lines, f"{len(rules)} rules: {', '.join(counts)}"])


def details(rule: Rule | Fix) -> str:
    """Everything a rule says, a line per part."""
    lines = [f"{rule.id}: {_title(rule)}"]
    if isinstance(rule, Fix):
        step = f"to {_text(rule.value)}" if rule.value is not None else f"by a factor of {rule.factor:g}"
        limit = f", not past {rule.limit:g}" if rule.limit is not None else ""
        kept = ", the effective batch staying as it is" if rule.keeps else ""
        lines.append(f"change:   {rule.action} {rule.key} {step}{limit}{kept}")
        if rule.guide_order is not None:
            lines.append(f"order:    number {rule.guide_order} of the guide's list")
    else:
        if isinstance(rule, Hyperparameter):
            lines.append(f"key:      {rule.key}, {_text(rule.span)}")
            lines.append(f"default:  {_text(rule.standard)} (standard), {_text(rule.rtx4090)} (RTX 4090)")
        if where := _where(rule.where):
            lines.append(f"where:    {where}")
        lines += [f"sets:     {key} = {_text(value)}" for key, value in rule.recommends.items()]
        if rule.policy is not None:
            lines.append(f"applied:  by metagene autotune --policy {rule.policy}")
        for advice in getattr(rule, "advice", ()):
            lines.append(f"advice:   {_where(advice.where) or 'everywhere'}: {_text(advice.value)}")
        lines += [
            f"change:   {change.action} {change.key}"
            + (f" to {_text(change.value)}" if change.value is not None else f" by {change.factor}")
            for change in getattr(rule, "changes", ())
        ]
    lines += [
        f"why:      {rule.why}" if rule.why else "",
        f"source:   {rule.source}",
        f"verdict:  {rule.verdict}" + (f": {rule.evidence}" if rule.evidence else ""),
    ]
    return "\n".join(line for line in lines if line)


def as_json(rules: Sequence[Rule | Fix]) -> str:
    return json.dumps([rule.model_dump(mode="json", by_alias=True) for rule in rules], indent=1)


def _title(rule: Rule | Fix) -> str:
    return rule.text if isinstance(rule, Fix) else rule.title


def _where(where: Where) -> str:
    parts = [
        f"cards of {', '.join(str(size) for size in where.gpu_gb)} GB" if where.gpu_gb else "",
        _span("reads", where.reads_from, where.reads_below),
        _span("bases per read", where.bases_from, where.bases_below),
    ]
    return "; ".join(part for part in parts if part) or where.note


def _span(unit: str, low: int, high: int | None) -> str:
    if high is None:
        return f"{low:,} {unit} and more" if low else ""
    return f"{low:,} to {high - 1:,} {unit}" if low else f"below {high:,} {unit}"


def _text(value: Any) -> str:
    if isinstance(value, Band):
        return f"{value.low:g} to {value.high:g}"
    if isinstance(value, OneOf):
        return " or ".join(_text(item) for item in value.one_of)
    if isinstance(value, Multiple):
        return f"{value.times:g} x {value.of}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
