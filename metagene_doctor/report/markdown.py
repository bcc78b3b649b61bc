"""A report as GitHub-flavoured Markdown, for a pull request or a laboratory notebook."""

from __future__ import annotations

from metagene_doctor.finding import Finding, Report, Severity
from metagene_doctor.report.quantities import count
from metagene_doctor.report.terminal import place
from metagene_doctor.report.verdict import examined, passed, unknowns, worst_first

LABELS = {Severity.ERROR: "❌ error", Severity.WARN: "⚠️ warning", Severity.INFO: "ℹ️ info"}


def render(report: Report, heading: str = "") -> str:
    """The whole document. Passes are counted, not listed."""
    lines = [f"## metagene doctor: {report.verdict.split(':')[0]}", ""]
    if heading:
        lines += [_escape(heading), ""]
    shown = [f for f in worst_first(report.findings) if f.severity in LABELS and f.ignored is None]
    if shown:
        lines += ["| | Check | Finding | What to do |", "|---|---|---|---|"]
        lines += [_row(finding) for finding in shown]
        lines.append("")
    examples = [finding for finding in shown if finding.examples and finding.severity is not Severity.INFO]
    for finding in examples:
        lines += [f"<details><summary>{finding.id}: where</summary>", ""]
        lines += [f"- `{place(example).replace('`', chr(39))}`" for example in finding.examples]
        lines += ["", "</details>", ""]
    for group in unknowns(report.findings):
        verb = "skipped" if group.severity is Severity.SKIP else "**not finished**"
        enable = f" ({_escape(group.enable)})" if group.enable else ""
        lines.append(f"- {', '.join(group.ids)} {verb}: {_escape(group.why)}{enable}")
    lines += [
        f"- {finding.id} ignored ({_escape(finding.ignored)}): {_escape(finding.title)}"
        for finding in report.findings
        if finding.ignored is not None
    ]
    looked_at = f"{examined(report)}; " if examined(report) else ""
    lines += [
        "",
        f"{looked_at}{count(passed(report.findings), 'check')} passed.",
        "",
        f"**{_escape(report.verdict)}**",
        "",
    ]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    remedy = ""
    if finding.remedy is not None:
        commands = "<br>".join(f"`{command}`" for command in finding.remedy.commands)
        remedy = _escape(finding.remedy.text) + (f"<br>{commands}".replace("|", "\\|") if commands else "")
    title = f"**{_escape(finding.title)}**" + (f"<br>{_escape(finding.why)}" if finding.why else "")
    return f"| {LABELS[finding.severity]} | {finding.id} | {title} | {remedy} |"


def _escape(text: str) -> str:
    for character in "\\`*_<>|":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
