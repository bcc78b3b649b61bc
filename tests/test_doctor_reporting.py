"""Ignored findings, strictness, and SARIF, from the command line."""

import json

import pytest
from doctor_fixtures import sequences, write_mapping, write_reads

from metagene_doctor.checks.registry import CHECKS, rules, select
from metagene_doctor.cli.main import main
from metagene_doctor.finding import Example, Finding
from metagene_doctor.report import sarif
from metagene_doctor.report.verdict import make_report


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Judge reads that repeat each other (F15 warns) and whose mapping lacks a class (L02 fails)."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))
    fasta = write_reads(tmp_path / "t.fa", sequences(40) * 2)
    mapping = write_mapping(tmp_path / "m.tsv", classes=3)

    def doctor(*arguments, only=("F15", "L02")):
        chosen = [part for check in only for part in ("--only", check)]
        code = main(
            ["doctor", "--fasta", str(fasta), "--mapping", str(mapping), *chosen, *map(str, arguments)]
        )
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return doctor


def write_list(path, text):
    path.write_text(text)
    return path


def test_ignored_findings_are_counted_and_decide_nothing(run, tmp_path):
    assert run()[0] == 1
    both = write_list(
        tmp_path / "ignore.yaml",
        "- id: L02\n  reason: class 3 is left out on purpose\n- id: f15\n  reason: oversampled\n  until: 2999-01-01\n",
    )
    code, out, err = run("--ignore", both)
    assert code == 0 and err == ""
    assert out.strip().splitlines()[-1].startswith("READY: 2 ignored")
    assert "F15" not in out.replace("READY", "")
    _, out, _ = run("--ignore", both, "-v")
    assert "- L02 ignored (class 3 is left out on purpose): t.fa" in out
    _, out, _ = run("--ignore", both, "--json")
    assert {f["id"]: f["ignored"] for f in json.loads(out)["findings"]}["F15"] == "oversampled"


@pytest.mark.parametrize("option", ["--markdown", "--html"])
def test_ignored_findings_stay_in_files(run, tmp_path, option):
    ignore = write_list(tmp_path / "i.yaml", "- {id: L02, reason: known}\n")
    run("--ignore", ignore, option, tmp_path / "report")
    assert "L02 ignored (known)" in (tmp_path / "report").read_text()


def test_an_expired_entry_counts_again(run, tmp_path):
    ignore = write_list(tmp_path / "i.yaml", "- id: L02\n  reason: known\n  until: 2020-01-01\n")
    code, _, err = run("--ignore", ignore)
    assert code == 1
    assert "i.yaml:1: L02 was ignored until 2020-01-01" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- id: L02\n", "i.yaml:1: L02 needs a reason"),
        ("- id: L02\n  reason: ''\n", "needs a reason"),
        ("- id: F15\n  reason: x\n- id: L2\n  reason: x\n", "i.yaml:3: no check 'L2'; did you mean L"),
        ("- id: L02\n  reason: x\n  untill: 2027-01-01\n", "unknown key untill"),
        ("- id: L02\n  reason: x\n  until: soon\n", "until has to be a date"),
        ("- L02\n", "has to have id and reason"),
        ("id: L02\n", "has to be a list"),
        ("- [\n", "not valid YAML"),
    ],
)
def test_a_list_that_is_wrong_is_exit_2_with_its_line(run, tmp_path, text, message):
    code, out, err = run("--ignore", write_list(tmp_path / "i.yaml", text))
    assert code == 2 and out == ""
    assert message in err


def test_a_missing_or_empty_list(run, tmp_path):
    assert run("--ignore", tmp_path / "none")[0] == 2
    assert run("--ignore", write_list(tmp_path / "i.yaml", ""))[0] == 1


def test_strict_fails_on_warnings_and_on_what_was_skipped(run):
    assert run(only=("F15",))[0] == 0
    assert run("--strict", only=("F15",))[0] == 1
    assert run(only=("V02", "F07"))[0] == 0
    assert run("--strict", only=("V02", "F07"))[0] == 3
    assert run("--strict", only=("F07",))[0] == 0


@pytest.mark.parametrize("form", [(), ("--json",), ("--quiet",)])
def test_exit_zero_reports_what_it_finds_and_does_not_fail(run, form):
    assert run(*form)[0] == 1
    code, out, _ = run(*form, "--exit-zero")
    assert code == 0 and ("L02" in out or form == ("--quiet",))


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_exit_zero_does_not_hide_a_check_that_broke_off(run, monkeypatch, form):
    def broken(facts):
        raise ZeroDivisionError("by zero")

    changed = [check._replace(judge=broken) for check in select(("F15",), ())] + list(select(("L02",), ()))
    monkeypatch.setattr("metagene_doctor.cli.doctor.select", lambda only, skip: changed)
    assert run(*form)[0] == 1
    assert run(*form, "--exit-zero")[0] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strict",), "give --exit-zero or --strict, not both"),
        (("--fail-on", "error"), "give --exit-zero or --fail-on, not both"),
        (("--fix",), "--exit-zero has no effect with --fix"),
        (("--ignore", "none.yaml"), "none.yaml"),
    ],
)
def test_exit_zero_keeps_usage_errors(run, arguments, message):
    code, _, err = run("--exit-zero", *arguments)
    assert code == 2 and message in err


def test_an_ignored_skip_is_not_missed_by_strict(run, tmp_path):
    ignore = write_list(tmp_path / "i.yaml", "- {id: V02, reason: there is no validation set yet}\n")
    assert run("--strict", "--ignore", ignore, only=("V02", "F07"))[0] == 0


def test_sarif_has_results_with_rules_places_and_suppressions(run, tmp_path):
    ignore = write_list(tmp_path / "i.yaml", "- {id: F15, reason: oversampled}\n")
    run("--ignore", ignore, "--sarif", tmp_path / "r.sarif")
    document = json.loads((tmp_path / "r.sarif").read_text())
    assert document["version"] == "2.1.0" and document["$schema"].endswith("sarif-schema-2.1.0.json")
    (log,) = document["runs"]
    listed = log["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in listed] == ["F15", "L02"]
    found = {result["ruleId"]: result for result in log["results"]}
    assert found["L02"]["level"] == "error" and "suppressions" not in found["L02"]
    assert found["F15"]["suppressions"] == [{"kind": "external", "justification": "oversampled"}]
    assert all(listed[result["ruleIndex"]]["id"] == result["ruleId"] for result in log["results"])
    assert log["invocations"][0]["executionSuccessful"] is True


def test_places_in_sarif():
    findings = (
        Finding(
            id="F06",
            title="9 broken records",
            severity="error",
            scope="data",
            examples=(Example(file="my reads.fq", line=5, record=2, text="@r"), Example(file="/d/x.fq")),
        ),
        Finding(id="F09", title="fine", severity="pass", scope="data"),
        Finding(id="F15", title="Reads do not repeat", severity="crash", scope="data", why="it broke"),
    )
    (log,) = json.loads(sarif.render(make_report(findings), rules()))["runs"]
    (result,) = log["results"]
    first, second = (location["physicalLocation"] for location in result["locations"])
    assert first == {"artifactLocation": {"uri": "my%20reads.fq"}, "region": {"startLine": 5}}
    assert second == {"artifactLocation": {"uri": "file:///d/x.fq"}}
    assert "it broke" in log["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    more = (findings[0].model_copy(update={"title": "12,345 broken records"}),)
    (again,) = json.loads(sarif.render(make_report(more), rules()))["runs"][0]["results"]
    assert again["partialFingerprints"] == result["partialFingerprints"]


def test_every_check_is_a_rule():
    assert [rule.id for rule in rules()] == [check.id for check in CHECKS]
    assert all(rule.explanation for rule in rules())
