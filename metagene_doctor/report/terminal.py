"""A report as text: worst first, two or three lines a finding, the verdict last.

On a terminal lines are wrapped and coloured; elsewhere every paragraph is one line, so that the
output can be searched and compared.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metagene_doctor.finding import Example, Finding, Remedy, Report, Severity
from metagene_doctor.report.quantities import count, duration
from metagene_doctor.report.verdict import Group, examined, passed, passed_on_a_sample, unknowns, worst_first

SYMBOLS = {
    Severity.ERROR: ("✗", "X", "bold red"),
    Severity.CRASH: ("‼", "!!", "bold magenta"),
    Severity.WARN: ("!", "!", "bold yellow"),
    Severity.INFO: ("i", "i", "cyan"),
    Severity.SKIP: ("-", "-", "dim"),
    Severity.PASS: ("✓", "ok", "green"),
}
"""Severity -> symbol, symbol where only ASCII can be shown, style."""

INDENT = 6


class ReportConsole(Console):
    """A console for stdout whose reader may leave early (head, less): the command then ends quietly."""

    def on_broken_pipe(self) -> None:
        """rich would end the process here; `metagene_doctor.cli.main` knows what to do instead."""
        raise BrokenPipeError


def print_table(console: Console, table: Table) -> None:
    """Without a terminal no line ends in blanks, which comparisons of files would show."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    lines = (line.rstrip() for line in captured.get().splitlines())
    console.print(Text("\n".join(lines)), soft_wrap=True, highlight=False)


def render(report: Report, *, console: Console, verbose: bool = False, heading: str = "") -> None:
    """Print a report. Passes, examples and times appear with ``verbose`` only."""
    if heading:
        _paragraph(console, Text(heading, style="bold"))
    shown: dict[tuple[str, ...], str] = {}
    for finding in worst_first(report.findings):
        if finding.severity in (Severity.SKIP, Severity.CRASH) or finding.ignored is not None:
            continue
        if finding.severity is not Severity.PASS or verbose:
            _finding(console, finding, verbose, shown)
    for group in unknowns(report.findings):
        _unknown(console, group, verbose)
    for finding in report.findings:
        if finding.ignored is not None and verbose:
            text = f"{finding.id} ignored ({finding.ignored}): {finding.title}"
            _paragraph(console, Text(f"- {text}", style="dim"), hanging=INDENT)
    summary = _summary(report, verbose)
    if summary:
        _paragraph(console, Text(summary, style="dim"))
    failed = any(f.severity is Severity.ERROR and f.ignored is None for f in report.findings)
    ready = "bold red" if failed or not report.complete else "bold green"
    # Not wrapped: it ends with the command to go on with, which is to be copied.
    console.print(Text(report.verdict, style=ready), soft_wrap=True, highlight=False)


def _finding(console: Console, finding: Finding, verbose: bool, shown: dict[tuple[str, ...], str]) -> None:
    """``shown`` are commands that stand above, and of which finding."""
    line = _symbol(console, finding.severity)
    line.append(f" {finding.id} ", style="bold")
    line.append(finding.title)
    if verbose and finding.duration_s is not None and finding.duration_s >= 0.01:
        line.append(f"  [{duration(finding.duration_s)}]", style="dim")
    _paragraph(console, line, hanging=INDENT)
    if finding.severity is Severity.PASS:
        return
    detail = Text(finding.why, style="dim")
    if finding.confidence != "exact":
        detail.append(f" ({finding.confidence})" if detail else finding.confidence, style="dim")
    if detail:
        _paragraph(console, detail, indent=INDENT)
    if finding.remedy is not None:
        commands = finding.remedy.commands
        _remedy(console, finding.remedy, shown.get(commands))
        if commands:
            shown.setdefault(commands, finding.id)
    if verbose:
        for example in finding.examples:
            _paragraph(console, Text(place(example), style="dim"), indent=INDENT)


def _remedy(console: Console, remedy: Remedy, above: str | None) -> None:
    """Advice and command in one line, or else the command in a line of its own that is never broken: a
    terminal wraps it, and what is copied from there is still one line. A command that stands ``above``,
    with a finding of that id, is not repeated."""
    arrow = "->" if console.options.ascii_only else "→"
    advice = Text(f"{arrow} {remedy.text}")
    if above is not None:
        _paragraph(console, advice.append(f" the command of {above} (above) does it too"), indent=INDENT)
        return
    command = Text("  or  ").join(Text(command, style="bold") for command in remedy.commands)
    together = advice.copy().append("  ").append_text(command)
    if not command or not console.is_terminal or INDENT + len(together) <= console.width:
        _paragraph(console, together if command else advice, indent=INDENT)
        return
    _paragraph(console, advice, indent=INDENT)
    console.print(Text(" " * (INDENT + 2)).append_text(command), soft_wrap=True, highlight=False)


def _unknown(console: Console, group: Group, verbose: bool) -> None:
    line = _symbol(console, group.severity)
    verb = "skipped: " if group.severity is Severity.SKIP else "not finished: "
    line.append(f" {', '.join(group.ids)} ", style="bold" if group.severity is Severity.CRASH else "dim")
    line.append(verb + group.why, style="dim" if group.severity is Severity.SKIP else "")
    if group.enable:
        line.append(f" ({group.enable})", style="dim")
    _paragraph(console, line, hanging=INDENT)
    if verbose and group.details:
        _paragraph(console, Text(group.details, style="dim"), indent=INDENT)


def _summary(report: Report, verbose: bool) -> str:
    parts = []
    if looked_at := examined(report):
        parts.append(looked_at)
    if number := passed(report.findings):
        bounded = passed_on_a_sample(report.findings)
        parts.append(
            f"{count(number, 'check')} passed"
            + (f", {bounded} of them on a sample" if bounded else "")
            + ("" if verbose else " (-v shows them)")
        )
    return "; ".join(parts)


def place(example: Example) -> str:
    """``file:line, record n: text``, of what is known."""
    where = example.file or ""
    if example.line is not None:
        where += f":{example.line}" if where else f"line {example.line:,}"
    if example.record is not None:
        where += f"{', ' if where else ''}record {example.record:,}"
    return f"{where}: {example.text}" if where and example.text else where or example.text


def _symbol(console: Console, severity: Severity) -> Text:
    symbol, ascii_symbol, style = SYMBOLS[severity]
    return Text(ascii_symbol if console.options.ascii_only else symbol, style=style)


def _paragraph(console: Console, text: Text, *, indent: int = 0, hanging: int = 0) -> None:
    """One paragraph; its first line is indented by ``indent``, the following by ``hanging`` more."""
    if not console.is_terminal:
        console.print(Text(" " * indent).append_text(text), soft_wrap=True, highlight=False)
        return
    width = max(20, console.width - indent)
    lines = list(text.wrap(console, width))
    if hanging and len(lines) > 1:
        _, rest = text.divide([len(lines[0])])
        lines[1:] = rest.wrap(console, width - hanging)
    for number, line in enumerate(lines):
        line.rstrip()
        margin = indent + (hanging if number else 0)
        console.print(Text(" " * margin).append_text(line), soft_wrap=True, highlight=False)
