"""Reports: one content in four formats, worst first, the verdict last."""

import io
import json
import re

import pytest
from rich.console import Console

from metagene_doctor.finding import Examined, Example, Finding, Remedy, Report, Severity, exit_code
from metagene_doctor.report import html, markdown, quantities, terminal
from metagene_doctor.report.verdict import make_report, unknowns, verdict, worst_first


def finding(check, severity, title="Something", **details):
    return Finding(id=check, severity=severity, scope="data", title=title, **details)


ERROR = finding(
    "F02",
    "error",
    "train.fa.gz is truncated",
    why="Half of the reads are missing.",
    remedy=Remedy(text="Fetch it again.", commands=("md5sum -c train.md5",)),
    examples=(Example(file="train.fa.gz", line=12, record=6, text="<lbl|[x]>"),),
)
WARNING = finding("L06", "warn", "412 : 1", confidence="sampled", remedy=Remedy(text="Weigh classes."))
PASS = finding("F01", "pass", "Files are FASTA")
SKIPS = [
    finding(check, "skip", why="no validation reads", remedy=Remedy(text="give --val FILE"))
    for check in ("V01", "V02")
]
CRASH = finding(
    "H01", "crash", why="could not be determined: boom", examples=(Example(text="host.py, line 3"),)
)


def text(findings, width=200, **options):
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, **{k: options.pop(k) for k in ("force_terminal",) if k in options}
    )
    report = make_report(
        findings, examined=Examined(bytes=1_000_000, records=5000), next_step="metagene train"
    )
    terminal.render(report, console=console, **options)
    return stream.getvalue()


def test_worst_comes_first_and_the_verdict_last():
    out = text([PASS, WARNING, *SKIPS, ERROR])
    assert out.index("F02") < out.index("L06") < out.index("V01, V02")
    assert out.strip().splitlines()[-1] == (
        "NOT READY: 1 error, 1 warning, 2 skipped. Fix F02 first: Fetch it again. md5sum -c train.md5"
    )


def test_every_finding_has_problem_consequence_and_remedy():
    lines = text([ERROR]).splitlines()
    assert lines[0] == "✗ F02 train.fa.gz is truncated"
    assert lines[1].strip() == "Half of the reads are missing."
    assert lines[2].strip() == "→ Fetch it again.  md5sum -c train.md5"


def test_passes_and_places_appear_only_when_asked():
    assert "Files are FASTA" not in text([PASS, ERROR])
    assert "1 check passed (-v shows them)" in text([PASS, ERROR])
    verbose = text([PASS, ERROR], verbose=True)
    assert "✓ F01 Files are FASTA" in verbose
    assert "train.fa.gz:12, record 6: <lbl|[x]>" in verbose


def test_skips_with_one_reason_are_one_line():
    out = text([*SKIPS])
    assert out.splitlines()[0] == "- V01, V02 skipped: no validation reads (give --val FILE)"


def test_crashes_are_named_and_placed_with_verbose():
    assert "H01 not finished: could not be determined: boom" in text([CRASH])
    assert "host.py, line 3" in text([CRASH], verbose=True)


def test_lines_wrap_on_a_terminal_and_nowhere_else():
    long = finding("F01", "error", "word " * 60, why="why " * 60)
    assert max(map(len, text([long], width=60).splitlines())) > 200
    wrapped = re.sub(r"\x1b\[[0-9;]*m", "", text([long], width=60, force_terminal=True))
    assert max(map(len, wrapped.splitlines())) <= 60


def test_text_from_files_is_not_taken_for_markup():
    odd = finding("F07", "error", "found [bold]x[/bold] [/] [red]")
    assert "found [bold]x[/bold] [/] [red]" in text([odd])


def test_ascii_terminals_get_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal.render(
        make_report([ERROR, PASS, *SKIPS, CRASH]), console=Console(file=stream, width=120), verbose=True
    )
    stream.flush()
    assert stream.buffer.getvalue().decode("ascii").startswith("X F02")


@pytest.mark.parametrize(
    ("findings", "start"),
    [
        ([PASS], "READY: no findings. Next: metagene train"),
        ([WARNING], "READY: 1 warning."),
        ([ERROR, CRASH], "NOT READY: 1 error, 1 unfinished check."),
        ([CRASH], "UNKNOWN: 1 unfinished check."),
    ],
)
def test_verdicts(findings, start):
    assert verdict(findings, "metagene train").startswith(start)


@pytest.mark.parametrize(
    ("findings", "fail_on", "code"),
    [
        ([PASS, *SKIPS], "error", 0),
        ([WARNING], "error", 0),
        ([WARNING], "warn", 1),
        ([ERROR, CRASH], "error", 1),
        ([CRASH, WARNING], "error", 3),
    ],
)
def test_exit_codes(findings, fail_on, code):
    assert exit_code(tuple(findings), Severity(fail_on)) == code


def test_order_is_kept_within_a_severity():
    first, second = finding("A1", "warn"), finding("A0", "warn")
    assert [f.id for f in worst_first([PASS, first, second])] == ["A1", "A0", "F01"]


def test_groups_are_apart_by_reason():
    other = finding("V03", "skip", why="another reason")
    assert [group.ids for group in unknowns([*SKIPS, other, CRASH])] == [("V01", "V02"), ("V03",), ("H01",)]


def test_json_round_trip():
    report = make_report([ERROR, CRASH], argv=("metagene", "doctor"))
    assert Report.model_validate(json.loads(report.model_dump_json())) == report
    assert not report.complete


def test_html_is_one_file_and_escapes():
    page = html.render(make_report([ERROR, WARNING, PASS, *SKIPS, CRASH]), "a < b")
    assert "a &lt; b" in page and "&lt;lbl|[x]&gt;" in page
    assert not re.search(r"<script|src=|href=|@import|url\(", page)
    for expected in (
        "F02",
        "md5sum -c train.md5",
        "NOT READY",
        "V01, V02 skipped",
        "H01 not finished",
        "1 check passed",
    ):
        assert expected in page


def test_markdown_is_a_table_that_odd_text_does_not_break():
    page = markdown.render(make_report([finding("F07", "error", "a|b *c* <d>"), WARNING, *SKIPS]), "train.fa")
    row = next(line for line in page.splitlines() if "F07" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert "a\\|b \\*c\\* \\<d\\>" in row
    assert page.strip().splitlines()[-1].startswith("**NOT READY")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (quantities.count(1234567), "1,234,567"),
        (quantities.count(1, "class"), "1 class"),
        (quantities.count(2, "class"), "2 classes"),
        (quantities.count(3, "entry"), "3 entries"),
        (quantities.percent(0), "0 %"),
        (quantities.percent(0.5), "50.0 %"),
        (quantities.percent(0.00002), "0.0020 %"),
        (quantities.percent(0.99999), "99.9990 %"),
        (quantities.whole_percent(-0.004, "+"), "+0 %"),
        (quantities.gib_change(-0.004), "+0.00"),
        (quantities.gib_change(-1.25), "-1.25"),
        (quantities.rate_in_table(60.04), "60.0"),
        (quantities.rate_in_table(4999.6), "5,000"),
        (quantities.rate_in_table(0.1666), "0.167"),
        (quantities.gib(2**30 * 1.5), "1.5 GiB"),
        (quantities.gib(64 * 2**20), "64 MiB"),
        (quantities.file_size(999), "999 bytes"),
        (quantities.file_size(25_938_674_488), "25.9 GB"),
        (quantities.file_size(400_000), "400 kB"),
        (quantities.base_count(150_000), "150 kbp"),
        (quantities.duration(0.0123), "12 ms"),
        (quantities.duration(4.56), "4.6 s"),
        (quantities.duration(45), "45 s"),
        (quantities.duration(200), "3 min 20 s"),
        (quantities.duration(2324), "39 min"),
        (quantities.duration(2 * 86400 + 4 * 3600), "2 d 4 h"),
        (quantities.duration(3600), "1 h"),
    ],
)
def test_quantities(written, expected):
    assert written == expected


def test_the_documentation_lists_every_check():
    from pathlib import Path

    from metagene_doctor.checks.registry import CHECKS

    page = (Path(__file__).parents[1] / "docs" / "checks.md").read_text()
    for check in CHECKS:
        assert f"| {check.id} | {check.title} |" in page


def test_a_command_that_stands_above_is_named_and_not_repeated():
    split = Remedy(text="Split anew:", commands=("metagene doctor --fasta t.fa --fix split -o repaired",))
    first = finding("V02", "warn", "copies", remedy=split)
    again = finding("V03", "warn", "mates", remedy=split)
    out = text([first, again, again])
    assert out.count("--fix split") == 1
    assert out.count("→ Split anew: the command of V02 (above) does it too") == 2
