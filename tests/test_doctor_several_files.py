"""Reads in several files are the reads of one to the doctor, which names the file of what it finds."""

from __future__ import annotations

import gzip
import json
import shlex
import sys
from pathlib import Path

import pytest
from doctor_fixtures import opposite, sequences, write_mapping, write_reads

from metagene_doctor.cli.main import main
from metagene_doctor.facts.facts import Facts


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training reads in two files of which the second repeats 5 reads of the first, and validation in two,
    of which the second holds 10 training reads of the second file."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    pool = sequences(260)
    again = [opposite(sequence) for sequence in pool[:5]]
    write_reads(tmp_path / "t1.fa", pool[:100], name="a")
    write_reads(tmp_path / "t2.fa", [*pool[100:200], *again], name="b")
    write_reads(tmp_path / "v1.fa", pool[200:240], name="c")
    write_reads(tmp_path / "v2.fa", [*pool[240:260], *pool[150:160]], name="d")
    for side in "tv":
        joined = (tmp_path / f"{side}1.fa").read_bytes() + (tmp_path / f"{side}2.fa").read_bytes()
        (tmp_path / f"{side}.fa").write_bytes(joined)
    write_mapping(tmp_path / "labels.tsv")
    return tmp_path


def judge(lab: Path, capsys: pytest.CaptureFixture[str], *arguments: object):
    """Exit code, findings and facts."""
    saved = lab / "facts.json"
    code = main(["doctor", *map(str, arguments), "--json", "--save-facts", str(saved)])
    report = json.loads(capsys.readouterr().out)
    return code, report, Facts.model_validate_json(saved.read_bytes())


def named(lab: Path, *names: str) -> list[object]:
    options = {"t": "--fasta", "v": "--val", "l": "--mapping"}
    return [part for name in names for part in (options[name[0]], lab / name)]


def test_the_doctor_counts_files_as_it_counts_one(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several_files = named(lab, "t1.fa", "t2.fa", "v1.fa", "v2.fa", "labels.tsv")
    code, report, several = judge(lab, capsys, *several_files, "--level", "deep")
    code_one, report_one, one = judge(
        lab, capsys, *named(lab, "t.fa", "v.fa", "labels.tsv"), "--level", "deep"
    )
    assert code == code_one == 1
    own = {"path", "parts", "seconds", "class_order", "indexed"}
    for ours, theirs in ((several.train, one.train), (several.val, one.val)):
        assert ours.model_dump(exclude=own) == theirs.model_dump(exclude=own)
        assert ours.class_order == pytest.approx(theirs.class_order, abs=0.05)
        assert len(ours.parts) == 2
    assert several.repeats == one.repeats
    assert several.repeats.repeated == 5
    assert several.split == one.split
    assert several.split.same_strand == 10
    assert len(several.second_reader) == 4
    assert several.tokens == one.tokens
    found, found_one = (
        {(f["id"], f["severity"]) for f in r["findings"] if f["id"][0] in "FLV"} for r in (report, report_one)
    )
    assert found == found_one
    copied = next(f for f in report["findings"] if f["id"] == "V02")
    assert copied["examples"][0] == {
        "file": str(lab / "v2.fa"),
        "record": 21,
        "line": None,
        "text": "record 51 of t2.fa",
    } | {key: copied["examples"][0][key] for key in copied["examples"][0].keys() - {"file", "record", "text"}}
    plan = [f["title"] for f in report["findings"] if f["id"] == "F18"]
    assert plan[0].startswith("t1.fa and t2.fa: 205 reads")
    assert plan[1].startswith("v1.fa and v2.fa: 70 reads")


def test_findings_of_one_file_name_it(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (lab / "t2.fa").read_bytes()
    (lab / "t2.fa").write_bytes(whole[:500].replace(b"A", b"U") + whole[500:])
    packed = gzip.compress((lab / "v2.fa").read_bytes())
    (lab / "v2.fa").write_bytes(packed[: len(packed) // 2])
    code, report, facts = judge(lab, capsys, *named(lab, "t1.fa", "t2.fa", "v1.fa", "v2.fa"))
    assert code == 1
    damage = next(f for f in report["findings"] if f["id"] == "F02" and f["severity"] == "error")
    assert damage["title"].startswith("v2.fa is damaged")
    rna = [f["title"] for f in report["findings"] if f["title"].startswith(("t1.fa: ", "t2.fa: "))]
    assert len(rna) == 1 and rna[0].startswith("t2.fa: ") and " U" in rna[0]
    assert not facts.val.whole
    assert facts.gaps["split"].reason.startswith("v2.fa is damaged")


def test_what_is_no_reads_file_or_missing_is_named(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", *map(str, named(lab, "t1.fa", "t2.fa")), "--fasta", str(lab / "gone.fa")])
    assert code == 2
    assert "gone.fa" in capsys.readouterr().err
    assert main(["doctor", "--fasta", str(lab / "x*.fa")]) == 2
    assert "matches no file" in capsys.readouterr().err
    assert main(["doctor", *map(str, named(lab, "t1.fa", "t1.fa"))]) == 2
    assert "is named twice" in capsys.readouterr().err
    code, report, facts = judge(lab, capsys, *named(lab, "t1.fa"), "--fasta", lab / "labels.tsv")
    assert code == 1
    refused = next(f for f in report["findings"] if f["id"] == "F01")
    assert refused["examples"][0]["file"] == str(lab / "labels.tsv")
    assert facts.train is None
    assert str(lab / "labels.tsv") in facts.gaps["train"].reason


def test_a_file_on_both_sides_and_the_next_command(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "vlink.fa").symlink_to(lab / "t2.fa")
    _, report, facts = judge(lab, capsys, *named(lab, "t1.fa", "t2.fa", "v1.fa", "vlink.fa"))
    assert facts.split.same_file
    same = next(f for f in report["findings"] if f["id"] == "V01")
    assert same["title"] == f"{lab / 'vlink.fa'} is among both the training and the validation reads"
    assert (
        main(
            ["doctor", *map(str, named(lab, "t1.fa", "t2.fa", "v1.fa")), "--skip", "data", "--skip", "split"]
        )
        == 0
    )
    assert f"--fasta {lab / 't1.fa'} --fasta {lab / 't2.fa'} --val {lab / 'v1.fa'}" in (
        " ".join(capsys.readouterr().out.split())
    )


def test_files_of_one_class_each_are_a_sorted_set(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (lab / "t.fa").read_text().splitlines(keepends=True)
    records = list(zip(lines[::2], lines[1::2], strict=True))
    classes = {header.split("|")[1] for header, _ in records}
    for class_id in classes:
        (lab / f"t_{class_id}.fa").write_text(
            "".join(header + bases for header, bases in records if header.split("|")[1] == class_id)
        )
    config = lab / "run.yaml"
    config.write_text(f"dataset:\n  train_fasta: {lab / 't_*.fa'}\n  mapping_tsv: {lab / 'labels.tsv'}\n")
    _, report, facts = judge(lab, capsys, "--config", config)
    assert facts.train.class_order == pytest.approx(1.0)
    assert len(facts.train.class_counts) == len(facts.train.parts) == len(classes) > 1
    order = next(f for f in report["findings"] if f["id"] == "L07")
    assert "is sorted by class" in order["title"]
    assert not any(f["id"] == "L06" and f["severity"] == "error" for f in report["findings"])


def test_the_same_reads_in_another_order_and_under_other_names(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = sequences(100)
    write_reads(lab / "t1.fa", pool[:60], name="a")
    write_reads(lab / "t2.fa", pool[60:], name="b")
    write_reads(lab / "v1.fa", pool[::-1], name="c")
    _, report, facts = judge(lab, capsys, *named(lab, "t1.fa", "t2.fa", "v1.fa"))
    assert facts.split.same_reads
    same = next(f for f in report["findings"] if f["id"] == "V01")
    assert same["title"] == "t1.fa and t2.fa and v1.fa hold the same reads under other names"
    # One read on the other strand, or one twice and another not at all, are other reads.
    for changed in ([*pool[1:], opposite(pool[0])], [*pool[1:], pool[1]]):
        write_reads(lab / "v1.fa", changed, name="c")
        _, report, facts = judge(lab, capsys, *named(lab, "t1.fa", "t2.fa", "v1.fa"))
        assert not facts.split.same_reads
        assert not any(f["id"] == "V01" and f["severity"] == "error" for f in report["findings"])


def test_other_reads_under_the_same_names_are_no_copies(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and reverse reads without mate numbers: nothing of them is left out by what is advised."""
    monkeypatch.chdir(lab)
    pool = sequences(120)
    write_reads(lab / "t1.fa", pool[:60], name="a")
    write_reads(lab / "v1.fa", pool[60:], name="a")
    code, report, _ = judge(lab, capsys, *named(lab, "t1.fa", "v1.fa"))
    same = next(f for f in report["findings"] if f["id"] == "V01")
    assert (code, same["severity"]) == (0, "warn") and "other reads under the same names" in same["title"]
    (command,) = same["remedy"]["commands"]
    assert main([*shlex.split(command)[1:], "-q"]) == 0
    sides = [
        [line for line in (lab / "repaired" / f"{side}.fa").read_text().splitlines() if line[0] == ">"]
        for side in ("train", "val")
    ]
    assert len(sides[0]) + len(sides[1]) == 120 and not set(sides[0]) & set(sides[1])
    write_reads(lab / "v1.fa", pool[:60], name="a")
    code, report, _ = judge(lab, capsys, *named(lab, "t1.fa", "v1.fa"))
    copy = next(f for f in report["findings"] if f["id"] == "V01")
    assert (code, copy["severity"]) == (1, "error") and "Copies of one file" in copy["why"]


def test_samples_of_files_claim_nothing_of_class_shares(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metagene_doctor.facts.reads import collect

    monkeypatch.setattr(collect, "READ_IN_FULL_BYTES", 1_000_000)
    large = sequences(20_000, 60)
    for number in (1, 2):
        records = [
            f">lbl|{read % 4}|{562 + read % 4}|60|l{number}_{read}\n{sequence}\n"
            for read, sequence in enumerate(large[number::number])
        ]
        (lab / f"t{number}.fa").write_text("".join(records))
    code, report, facts = judge(lab, capsys, *named(lab, "t1.fa", "t2.fa"), "--level", "quick")
    assert code == 0
    assert facts.train.partial and not facts.train.places
    assert all(part.places for part in facts.train.parts if part.partial)
    assert facts.train.expected_reads == sum(part.expected_reads for part in facts.train.parts)
    plan = next(f for f in report["findings"] if f["id"] == "F18")
    assert "t1.fa and t2.fa: at least" in plan["title"]
    assert "not as many of each file as its share" in plan["why"]
    assert [f["severity"] for f in report["findings"] if f["id"] in ("L06", "L07")] == ["skip", "skip"]


def names_file(path: Path, *names: str, bad: bool = False) -> Path:
    empty = ">lbl|1||0|a/1\n\n" if bad else ""
    path.write_text("".join(f">lbl|1||4|{name}/1\nACGT\n" for name in names) + empty)
    return path


@pytest.mark.parametrize("how", ["alone", "against validation", "only F14", "damaged"])
def test_headers_that_two_files_share_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    names_file(tmp_path / "t1.fa", "a", "b", "b", "c")
    names_file(tmp_path / "t2.fa", "d", "b", "a", "a")
    names_file(tmp_path / "t3.fa", "e", "f", bad=True)
    names_file(tmp_path / "t4.fa").write_text(">lbl|1||0|e/1\n\n>lbl|1||4|e/1\n\n")
    names_file(tmp_path / "v1.fa", "a", "v")
    names_file(tmp_path / "v2.fa", "v", "w")
    options: list[object] = named(tmp_path, *(f"t{number}.fa" for number in range(1, 5)))
    if how == "against validation":
        options += named(tmp_path, "v1.fa", "v2.fa")
    elif how == "only F14":
        options += ["--only", "F14"]
    elif how == "damaged":
        (tmp_path / "t3.fa").write_bytes((tmp_path / "t3.fa").read_bytes() + b">lbl|1||4|d/1\nAC\0T\n")
    _, report, _ = judge(tmp_path, capsys, *options)
    found = [f for f in report["findings"] if f["id"] == "F14" and f["severity"] == "warn"]
    within = [(f["title"].split(":")[0], f["count"]) for f in found if "earlier header" in f["title"]]
    assert within == [("t1.fa", 1), ("t2.fa", 1)]
    across = [f for f in found if "in an earlier file" in f["title"]]
    # Of t2.fa b and a; its second a repeats within it. t4.fa has one header of 3.fa, in a batch without a single read with bases.
    expected = [3 + (how == "damaged")] + [1] * (how == "against validation")
    assert [f["count"] for f in across] == expected
    first = across[0]["examples"][0]
    assert (first["file"], first["record"]) in [(str(tmp_path / "t2.fa"), 2), (str(tmp_path / "t2.fa"), 3)]
    assert str(tmp_path / "t1.fa") in first["text"]
    assert "--fix headers" in across[0]["remedy"]["commands"][0]
    if how == "against validation":
        assert across[1]["examples"][0]["file"] == str(tmp_path / "v2.fa")


def test_names_of_several_files_are_unique_after_the_repair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        names_file(tmp_path / f"t{number}.fa", "a", "b", "b")
    named_files = named(tmp_path, "t1.fa", "t2.fa")
    out = tmp_path / "out"
    assert main(["doctor", *map(str, named_files), "--fix", "headers", "-o", str(out), "-q"]) == 0
    _, report, _ = judge(tmp_path, capsys, "--fasta", out / "*.fa", "--only", "F14")
    assert [f["severity"] for f in report["findings"]] == ["pass"]
