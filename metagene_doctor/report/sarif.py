"""A report as SARIF 2.1.0, which code hosts and editors show beside the files it is about."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from metagene_doctor.finding import Example, Finding, Report, Severity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LEVELS = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "note"}
"""Passes and skips are no results; checks that could not be finished are notifications."""


class Rule(NamedTuple):
    """A check: its id, what is true when it passes, and what it judges."""

    id: str
    title: str
    explanation: str


def render(report: Report, rules: Sequence[Rule]) -> str:
    """The whole document, as JSON text."""
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    results = [finding for finding in report.findings if finding.severity in LEVELS]
    run = {
        "tool": {
            "driver": {
                "name": "metagene doctor",
                "semanticVersion": report.tool_version,
                "rules": [
                    {
                        "id": rule.id,
                        "shortDescription": {"text": rule.title},
                        "fullDescription": {"text": rule.explanation},
                        "help": {"text": f"metagene doctor --explain {rule.id}"},
                    }
                    for rule in rules
                ],
            }
        },
        "invocations": [
            {
                "executionSuccessful": report.complete,
                "commandLine": " ".join(report.argv),
                "toolExecutionNotifications": [
                    {
                        "level": "error",
                        "message": {"text": f"{finding.title}: {finding.why}"},
                        "associatedRule": {"id": finding.id},
                    }
                    for finding in report.findings
                    if finding.severity is Severity.CRASH
                ],
            }
        ],
        "results": [_result(finding, numbers.get(finding.id, -1)) for finding in results],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    text = ". ".join(part.rstrip(".") for part in (finding.title, finding.why) if part) + "."
    if finding.remedy is not None:
        text += " " + " ".join((finding.remedy.text, *finding.remedy.commands[:1]))
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [_location(example) for example in finding.examples if example.file],
        "partialFingerprints": {"metagene/v1": _fingerprint(finding)},
    }
    if finding.ignored is not None:
        result["suppressions"] = [{"kind": "external", "justification": finding.ignored}]
    return result


def _location(example: Example) -> dict[str, Any]:
    path = Path(example.file or "")
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="surrogateescape")
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if example.line:
        physical["region"] = {"startLine": example.line}
    location: dict[str, Any] = {"physicalLocation": physical}
    if example.text:
        location["message"] = {"text": example.text}
    return location


def _fingerprint(finding: Finding) -> str:
    """The same for the same problem of the same file, whatever its counts are today."""
    file = next((Path(example.file).name for example in finding.examples if example.file), "")
    words = re.sub(r"[\d.,]+", "", finding.title)
    return hashlib.sha256(f"{finding.id}|{file}|{words}".encode(errors="backslashreplace")).hexdigest()[:32]
