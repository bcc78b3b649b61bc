"""Finding: the one vocabulary of doctor, autotune and advise.

A finding is what a check concluded from facts: what was measured, against which threshold, what it
means for the user, and the command that mends it. Findings are plain data; the formats in
`metagene_doctor.report` print them and nothing else does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Severity(StrEnum):
    """How bad a finding is, mildest first. ``skip`` and ``crash`` are unknowns, never passes."""

    PASS = "pass"
    INFO = "info"
    SKIP = "skip"
    WARN = "warn"
    ERROR = "error"
    CRASH = "crash"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(Frozen):
    """One place where the problem can be seen. Lines and records count from 1."""

    file: str | None = None
    line: int | None = None
    record: int | None = None
    text: str = ""


class Remedy(Frozen):
    """What to do, in a sentence, and the commands or config lines that do it."""

    text: str
    commands: tuple[str, ...] = ()


class Finding(Frozen):
    """The conclusion of one check.

    ``id`` is stable (F02, T01, ...): reports, ignore lists and advice refer to it. ``measured`` and
    ``threshold`` are in ``unit``. ``count`` is how many items (reads, lines, rows) are affected.
    ``confidence`` says whether the number is exact, from a sample, or an estimate.
    """

    id: str
    title: str
    severity: Severity
    scope: Literal["environment", "host", "model", "tokenizer", "data", "labels", "split", "config", "run"]
    measured: float | int | str | None = None
    threshold: float | int | str | None = None
    unit: str | None = None
    count: int | None = None
    examples: tuple[Example, ...] = ()
    why: str = ""
    remedy: Remedy | None = None
    confidence: Literal["exact", "sampled", "estimated"] = "exact"
    rule: str | None = None
    ignored: str | None = None
    """Why the laboratory ignores it (``--ignore``); it then no longer decides the exit code."""
    duration_s: float | None = None


class Examined(Frozen):
    """What the checks looked at: bytes of input files and sequence records."""

    bytes: int = 0
    records: int = 0


class Report(Frozen):
    """What ``--json`` prints. ``complete`` is false when a requested check could not finish."""

    schema_version: int = 1
    tool_version: str
    argv: tuple[str, ...]
    complete: bool
    examined: Examined
    findings: tuple[Finding, ...]
    verdict: str


def exit_code(
    findings: tuple[Finding, ...], fail_on: Severity | None = Severity.ERROR, *, all_judged: bool = False
) -> int:
    """0 nothing at or above ``fail_on``, 1 findings at or above it, 3 a check crashed and none failed.

    ``fail_on`` None: no finding fails. ``all_judged``: a skipped check counts as a crashed one. Ignored
    findings count for nothing.
    """
    findings = tuple(f for f in findings if f.ignored is None)
    judged = [f.severity for f in findings if f.severity not in (Severity.CRASH, Severity.SKIP)]
    if fail_on is not None and any(severity.rank >= fail_on.rank for severity in judged):
        return 1
    unknown = (Severity.CRASH, Severity.SKIP) if all_judged else (Severity.CRASH,)
    if any(f.severity in unknown for f in findings):
        return 3
    return 0
