"""Advice as plain lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from metagene_doctor.finding import Finding, Severity

MARKS = {Severity.ERROR: "✗", Severity.CRASH: "✗", Severity.WARN: "!", Severity.INFO: "·", Severity.PASS: "✓"}


def lines(findings: Sequence[Finding], verdict: str, *, verbose: bool, width: int = 100) -> Iterator[str]:
    for finding in findings:
        if finding.severity is Severity.PASS and not verbose:
            continue
        yield f"{MARKS.get(finding.severity, '-')} {finding.id}  {finding.title}"
        if finding.measured is not None:
            against = f" against {finding.threshold}" if finding.threshold is not None else ""
            yield f"    {finding.measured}{against} {finding.unit or ''}".rstrip()
        if finding.why:
            yield textwrap.fill(finding.why, width, initial_indent="    ", subsequent_indent="    ")
        if finding.remedy:
            yield textwrap.fill(
                finding.remedy.text, width, initial_indent="    → ", subsequent_indent="      "
            )
            if finding.remedy.commands:
                yield f"      {' '.join(finding.remedy.commands)}"
    yield verdict
