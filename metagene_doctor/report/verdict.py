"""From findings to a report: counts, order, and the one sentence at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from metagene_doctor.finding import Examined, Finding, Report, Severity
from metagene_doctor.report.quantities import count, file_size
from metagene_train import __version__

NOUNS = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.CRASH: "unfinished check"}


class Group(NamedTuple):
    """Findings that are unknown for one reason, as one line of a report."""

    severity: Severity
    ids: tuple[str, ...]
    why: str
    enable: str
    details: str


def make_report(
    findings: Sequence[Finding],
    *,
    argv: Iterable[str] = (),
    examined: Examined | None = None,
    next_step: str = "",
) -> Report:
    """A report with its verdict. ``next_step`` is the command to go on with when nothing is in the way."""
    return Report(
        tool_version=__version__,
        argv=tuple(argv),
        complete=not any(finding.severity is Severity.CRASH for finding in findings),
        examined=examined or Examined(),
        findings=tuple(findings),
        verdict=verdict(findings, next_step),
    )


def verdict(findings: Sequence[Finding], next_step: str = "") -> str:
    """Ready or not, how many findings of which severity, and what to do next."""
    ignored = len({finding.id for finding in findings if finding.ignored is not None})
    findings = [finding for finding in findings if finding.ignored is None]
    numbers = Counter(finding.severity for finding in findings)
    counted = [count(numbers[severity], noun) for severity, noun in NOUNS.items() if numbers[severity]]
    skipped = len({finding.id for finding in findings if finding.severity is Severity.SKIP})
    if skipped:
        counted.append(f"{skipped} skipped")
    if ignored:
        counted.append(f"{ignored} ignored")
    summary = ", ".join(counted) or "no findings"
    first = next((finding for finding in worst_first(findings) if finding.severity is Severity.ERROR), None)
    if first is not None:
        return f"NOT READY: {summary}. Fix {first.id} first" + _how(first)
    if numbers[Severity.CRASH]:
        return f"UNKNOWN: {summary}. Run again with -v to see where."
    return f"READY: {summary}." + (f" Next: {next_step}" if next_step else "")


def _how(finding: Finding) -> str:
    if finding.remedy is None:
        return "."
    return ": " + " ".join((finding.remedy.text, *finding.remedy.commands[:1]))


def examined(report: Report) -> str:
    """``Examined 2.16 MB, 12,000 records``; empty without reads. Of the start of a compressed file it is
    not known how many bytes it took."""
    what = report.examined
    if not what.records:
        return ""
    size = f"{file_size(what.bytes)}, " if what.bytes else ""
    return f"Examined {size}{count(what.records, 'record')}"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, unfinished checks, warnings, then the rest; within a severity the order stays."""
    order = (Severity.ERROR, Severity.CRASH, Severity.WARN, Severity.INFO, Severity.SKIP, Severity.PASS)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def unknowns(findings: Iterable[Finding]) -> list[Group]:
    """Skipped and unfinished checks, those with the same reason together."""
    groups: dict[tuple[Severity, str, str], list[Finding]] = {}
    for finding in findings:
        if finding.severity in (Severity.SKIP, Severity.CRASH) and finding.ignored is None:
            enable = finding.remedy.text if finding.remedy else ""
            groups.setdefault((finding.severity, finding.why, enable), []).append(finding)
    return [
        Group(
            severity,
            tuple(dict.fromkeys(finding.id for finding in members)),
            why,
            enable,
            next((example.text for member in members for example in member.examples), ""),
        )
        for (severity, why, enable), members in groups.items()
    ]


def passed(findings: Iterable[Finding]) -> int:
    """Checks that found nothing wrong."""
    return len({finding.id for finding in findings if finding.severity is Severity.PASS})


def passed_on_a_sample(findings: Iterable[Finding]) -> int:
    """Of those, checks that looked at some of the reads and give a bound for the rest."""
    return len({f.id for f in findings if f.severity is Severity.PASS and f.confidence == "sampled"})
