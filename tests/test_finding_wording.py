"""What findings say: short, with their consequence, and with one command or edit that works."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
from finding_cases import cases
from usable_commands import assert_usable

import metagene_doctor.checks
from metagene_doctor.checks.registry import CHECKS
from metagene_doctor.checks.runner import run_check
from metagene_doctor.finding import Finding, Severity
from metagene_doctor.report import terminal
from metagene_doctor.report.verdict import make_report

BY_A_PERSON = {
    "C05": "where reads that came through a pipe are to be saved",
    "F08": "how names are to be written that a pattern with blanks needs",
    "F14": "where names are in headers that a pattern of one's own takes for classes alone",
    "H02": "where a machine with more memory is",
    "L02": "which classes are meant to be learnt",
    "L03": "whether a class is to go or to get reads",
    "L04": "whether a taxon is one class or two",
    "L06": "where reads of other classes are",
    "L08": "how the reads are made",
    "L09": "which classes are to be merged",
    "M03": "where an encoder of one's own came from",
    "V01": "on which side a file belongs that was named with others",
    "V04": "where names hold the genome, and where reads of other genomes are",
    "V05": "which files are of one flow cell",
    "V07": "where more reads of a class are that has one fragment",
    "V08": "which of the two sides is like the reads to be classified",
}
"""Checks whose fix no command can be, and what somebody has to decide or to know for it."""


@cache
def findings() -> tuple[Finding, ...]:
    """Of all cases, each text once."""
    checks = {check.id: check for check in CHECKS}
    found = {
        (finding.id, finding.title, finding.why, str(finding.remedy)): finding
        for check_id, known in cases()
        for finding in run_check(checks[check_id], known)
    }
    return tuple(found.values())


def named(finding: Finding) -> str:
    return f"{finding.id}: {finding.title}\n{finding.why}\n{finding.remedy}"


def unhelpful(finding: Finding) -> bool:
    return finding.severity in (Severity.WARN, Severity.ERROR)


def test_every_place_that_makes_a_finding_is_tried(monkeypatch):
    made = set()
    construct = Finding.__init__

    def record(self, **values):
        frame = sys._getframe(1)
        made.add((Path(frame.f_code.co_filename), frame.f_lineno))
        construct(self, **values)

    monkeypatch.setattr(Finding, "__init__", record)
    findings.__wrapped__()
    untried = []
    for path in sorted(Path(metagene_doctor.checks.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        makers = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("partial(Finding")
            for target in node.targets
            if isinstance(target, ast.Name)
        } | {"finding"}
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers
            ):
                continue
            if not any((path, line) in made for line in range(node.lineno, node.end_lineno + 1)):
                untried.append(f"{path.name}:{node.lineno}")
    assert made and not untried


def test_no_check_crashes_on_the_cases():
    assert not [named(finding) for finding in findings() if finding.severity is Severity.CRASH]
    assert {finding.id for finding in findings()} == {check.id for check in CHECKS}


def on_a_terminal(finding: Finding, columns: int) -> list[str]:
    """The lines of a report with this finding alone."""
    console = terminal.ReportConsole(file=StringIO(), width=columns, force_terminal=True, no_color=True)
    terminal.render(make_report([finding]), console=console)
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()).splitlines()


def test_two_lines_before_the_fix_on_a_terminal_of_120_columns():
    too_long = []
    for finding in findings():
        lines = on_a_terminal(finding, 120)
        until = next(i for i, line in enumerate(lines) if re.match(r" +→|(?:NOT )?READY", line))
        if until > (2 if unhelpful(finding) else 4):
            too_long.append("\n".join(lines[:until]))
    assert not too_long, "\n".join(too_long)


def test_a_command_is_never_broken_so_that_it_can_be_copied():
    for finding in findings():
        lines = on_a_terminal(finding, 80) if finding.severity is not Severity.SKIP else []
        for command in finding.remedy.commands if lines and finding.remedy else ():
            assert any(command in line for line in lines[:-1]), "\n".join(lines)


def test_a_fix_and_a_consequence_unless_all_is_well():
    bare = [
        named(finding)
        for finding in findings()
        if unhelpful(finding) and not (finding.why and finding.remedy)
    ]
    assert not bare, "\n\n".join(bare)


def test_one_command_for_each_problem():
    several = [named(f) for f in findings() if f.remedy and len(f.remedy.commands) > 1]
    none = [
        named(f)
        for f in findings()
        if unhelpful(f) and f.remedy and not f.remedy.commands and f.id not in BY_A_PERSON
    ]
    assert not several + none, "\n\n".join(several + none)


def test_the_advice_leads_to_its_command():
    wrong = [
        named(f)
        for f in findings()
        if f.remedy
        and f.severity is not Severity.SKIP
        and f.remedy.text[-1] != (":" if f.remedy.commands else ".")
    ]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize(
    "command", sorted({c for finding in findings() if finding.remedy for c in finding.remedy.commands})
)
def test_the_command_exists(command):
    assert_usable(command)


def test_numbers_agree_with_their_nouns_and_blanks_stand_alone():
    text = "\n".join(f"{f.title}\n{f.why}" for f in findings())
    assert not re.findall(r".*(?:  |[^.]\.\.$| [,;]).*", text, re.MULTILINE)
    nouns = "read|file|record|line|step|header|token|epoch|worker|process|class"
    assert not re.findall(rf"(?<![\d,.])\b1 (?:\w+ )?(?:{nouns})e?s\b.*", text)
    assert not re.findall(rf"\b(?:[2-9]|\d\d+) (?:{nouns})\b(?! (?:file|pair)).*", text)
