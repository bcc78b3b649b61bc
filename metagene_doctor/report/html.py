"""A report as one HTML file that needs nothing else: no scripts, no fonts, no network."""

from __future__ import annotations

from html import escape

from metagene_doctor.finding import Finding, Report, Severity
from metagene_doctor.report.quantities import count
from metagene_doctor.report.terminal import place
from metagene_doctor.report.verdict import examined, passed, unknowns, worst_first

STYLE = """
:root { color-scheme: light dark; --text: #1d2433; --soft: #5b6472; --page: #fff; --card: #f6f7f9;
  --line: #dde1e7; --error: #c0262d; --warn: #9a6100; --info: #1f6aa5;
  --pass: #1d7a3d; --crash: #8a2be2; --skip: #6b7280 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --soft: #a2abba; --page: #14171d;
  --card: #1d222b; --line: #323a47; --error: #ff7a7f; --warn: #f0b44c; --info: #74b6ec;
  --pass: #6fce8d; --crash: #c79bff;
  --skip: #9aa3b2 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin-bottom: 0 } .heading, .why, footer { color: var(--soft) }
.verdict { border-left: .4rem solid var(--pass); background: var(--card); padding: .8rem 1rem;
  font-weight: 600 }
.verdict.bad { border-color: var(--error) }
article { border: 1px solid var(--line); border-left: .4rem solid var(--tone); border-radius: .3rem;
  padding: .6rem 1rem; margin: .7rem 0 }
article h2 { font-size: 1rem; margin: 0 } article p { margin: .3rem 0 0 }
.id { color: var(--tone); font-weight: 700; margin-right: .5rem } code { background: var(--card);
  padding: .1rem .3rem; border-radius: .2rem; overflow-wrap: anywhere }
details { margin-top: .4rem; font-size: .9rem }
.error { --tone: var(--error) } .warn { --tone: var(--warn) } .info { --tone: var(--info) }
.pass { --tone: var(--pass) } .crash { --tone: var(--crash) } .skip { --tone: var(--skip) }
ul { padding-left: 1.2rem } @media print { article { break-inside: avoid } }
"""


def render(report: Report, heading: str = "") -> str:
    """The whole document; passes are folded away at its end."""
    ordered = worst_first(report.findings)
    listed = (Severity.ERROR, Severity.WARN, Severity.INFO)
    shown = [finding for finding in ordered if finding.severity in listed and finding.ignored is None]
    passes = [finding for finding in ordered if finding.severity is Severity.PASS]
    bad = "" if report.verdict.startswith("READY") else " bad"
    looked_at = f"{examined(report)}. " if examined(report) else ""
    body = [
        "<h1>metagene doctor</h1>",
        f"<p class='heading'>{escape(heading)}</p>" if heading else "",
        f"<p class='verdict{bad}'>{escape(report.verdict)}</p>",
        *(_article(finding) for finding in shown),
        _unknown_list(report),
        _ignored_list(report),
        f"<details><summary>{count(passed(report.findings), 'check')} passed</summary><ul>"
        + "".join(f"<li>{finding.id} {escape(finding.title)}</li>" for finding in passes)
        + "</ul></details>",
        f"<footer><p>{looked_at}metagene {escape(report.tool_version)}: "
        f"<code>{escape(' '.join(report.argv))}</code></p></footer>",
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>metagene doctor</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _article(finding: Finding) -> str:
    parts = [f"<h2><span class='id'>{finding.id}</span>{escape(finding.title)}</h2>"]
    why = finding.why + (f" ({finding.confidence})" if finding.confidence != "exact" else "")
    if why:
        parts.append(f"<p class='why'>{escape(why)}</p>")
    if finding.remedy is not None:
        commands = " or ".join(f"<code>{escape(command)}</code>" for command in finding.remedy.commands)
        parts.append(f"<p>→ {escape(finding.remedy.text)} {commands}</p>")
    if finding.examples:
        items = "".join(f"<li><code>{escape(place(example))}</code></li>" for example in finding.examples)
        parts.append(f"<details><summary>where</summary><ul>{items}</ul></details>")
    return f"<article class='{finding.severity}'>{''.join(parts)}</article>"


def _ignored_list(report: Report) -> str:
    items = [
        f"<li>{finding.id} ignored ({escape(finding.ignored)}): {escape(finding.title)}</li>"
        for finding in report.findings
        if finding.ignored is not None
    ]
    return f"<ul class='heading'>{''.join(items)}</ul>" if items else ""


def _unknown_list(report: Report) -> str:
    groups = unknowns(report.findings)
    if not groups:
        return ""
    items = []
    for group in groups:
        verb = "skipped" if group.severity is Severity.SKIP else "not finished"
        enable = f" ({escape(group.enable)})" if group.enable else ""
        items.append(f"<li>{', '.join(group.ids)} {verb}: {escape(group.why)}{enable}</li>")
    return f"<ul class='heading'>{''.join(items)}</ul>"
