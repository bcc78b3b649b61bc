"""Runs checks over facts. A check that cannot run, or that breaks, says so in its own finding."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from metagene_doctor.facts.facts import Facts, Gap, Section
from metagene_doctor.finding import Example, Finding, Remedy, Severity


class Check(NamedTuple):
    """One row of the registry. ``judge`` yields findings, and nothing when all is well; its
    docstring is what ``--explain`` prints. ``needs`` are the facts it cannot do without."""

    id: str
    title: str
    scope: str
    judge: Callable[[Facts], Iterable[Finding]]
    needs: tuple[Section, ...] = ()
    also: tuple[Section, ...] = ()
    """Facts that it judges too where they are there."""


def run_checks(checks: Sequence[Check], facts: Facts) -> tuple[Finding, ...]:
    """Every check's findings, in the order of the checks: at least one each."""
    return tuple(finding for check in checks for finding in run_check(check, facts))


def run_check(check: Check, facts: Facts) -> tuple[Finding, ...]:
    started = time.perf_counter()
    gap = next((facts.gaps[section] for section in check.needs if section in facts.gaps), None)
    if gap is not None:
        return (_unknown(check, gap),)
    try:
        findings = tuple(check.judge(facts))
    except Exception as error:  # one broken check must not take the others with it
        place = "".join(traceback.format_tb(error.__traceback__)[-1:]).strip()
        return (_crashed(check, f"{type(error).__name__}: {error}", place),)
    seconds = time.perf_counter() - started
    if not findings:
        findings = (_finding(check, Severity.PASS, check.title),)
    return tuple(finding.model_copy(update={"duration_s": seconds}) for finding in findings)


def _finding(check: Check, severity: Severity, title: str, **details: object) -> Finding:
    return Finding.model_validate(
        {"id": check.id, "scope": check.scope, "severity": severity, "title": title, **details}
    )


def _unknown(check: Check, gap: Gap) -> Finding:
    if gap.failed:
        return _crashed(check, gap.reason, gap.details)
    remedy = Remedy(text=gap.enable) if gap.enable else None
    return _finding(check, Severity.SKIP, check.title, why=gap.reason, remedy=remedy)


def _crashed(check: Check, reason: str, details: str) -> Finding:
    return _finding(
        check,
        Severity.CRASH,
        check.title,
        why=f"could not be determined: {reason}",
        examples=(Example(text=details),) if details else (),
    )
