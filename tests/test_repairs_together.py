"""The repairs that one report advises: they can be made in any order, and nothing is lost by it."""

import json
import os
import re
import shlex
from itertools import chain

import pytest
from doctor_fixtures import sequences, write_mapping
from reads_fixtures import fasta, written
from repair_fixtures import counts, fixed, pairs, quick_disk, reads_of

from metagene_doctor.cli.main import main

__all__ = ["quick_disk"]


def findings(capsys, *arguments):
    main(["doctor", *map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)["findings"]


def repairs(capsys, *arguments):
    """Finding -> the repair that it advises."""
    return {
        finding["id"]: command
        for finding in findings(capsys, *arguments)
        for command in (finding["remedy"] or {"commands": ()})["commands"]
        if " --fix " in command
    }


@pytest.fixture
def leaking(tmp_path, monkeypatch):
    """Training and validation files with copies in and among them, names that repeat, and lower case."""
    monkeypatch.chdir(tmp_path)
    reads = pairs(200, classes=2)
    reads += [(header, sequence) for header, sequence in reads[:60]]
    reads += [(f"lbl|{n % 2}|{100 + n % 2}|80|NC_00000{n % 7}.1-{n}/1", s) for n, s in
              enumerate(sequences(300, 80, 7))]  # fmt: skip
    train = written(tmp_path / "t.fa", fasta(reads[::2]).replace(b"ACGT", b"acgt"))
    val = written(tmp_path / "v.fa", fasta(reads[1::2] + reads[:40]).replace(b"ACGT", b"acgt"))
    return "--fasta", train.name, "--val", val.name


def test_the_commands_of_a_report_are_never_refused_after_each_other(capsys, leaking):
    advised = repairs(capsys, *leaking)
    assert {"F09", "F14", "V02"} <= set(advised)
    needed = {advised[finding] for finding in ("F14", "V02")}
    assert len(needed) == 1 and "--fix headers" in advised["V02"] and "--fix split" in advised["V02"]
    assert "headers" not in advised["F09"] and "--val" in advised["F09"]
    for command in sorted(set(advised.values())):
        assert main([*shlex.split(command)[1:], "-q"]) == 0, command
    (out,) = {shlex.split(command)[-1] for command in needed}
    again = repairs(capsys, "--fasta", f"{out}/train.fa", "--val", f"{out}/val.fa")
    assert not {"F14", "V02"} & set(again) and again["F09"].endswith("-o repaired-uppercase")


def test_copies_of_a_repaired_file_go_into_another_directory(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "t.fa", fasta(pairs(200, classes=2)))
    fixed(capsys, "t.fa", "--fix", "headers", out=tmp_path / "repaired")
    command = repairs(capsys, "--fasta", "repaired/t.fa")["C05"]
    assert command.endswith("-o repaired-2")
    assert main([*shlex.split(command)[1:], "-q"]) == 0


def test_what_is_ignored_is_not_repaired(capsys, leaking, tmp_path):
    ignored = written(tmp_path / "ignored.yaml", "- id: F14\n  reason: names do not matter to us\n")
    advised = repairs(capsys, *leaking, "--ignore", ignored)
    assert "--fix headers" not in advised["V02"]


def test_a_choice_has_its_own_directory_and_does_what_is_needed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    genomes = sequences(12, 4000, 3)
    reads = [
        (f"lbl|{g % 3}|1|80|NC_{g:06}.1-{n}", genomes[g][n * 20 : n * 20 + 80])
        for n in range(190)
        for g in range(12)
    ]
    reads[7] = reads[3]
    written(tmp_path / "t.fa", fasta([read for n, read in enumerate(reads) if n % 5]))
    written(tmp_path / "v.fa", fasta(reads[::5]))
    advised = repairs(capsys, "--fasta", "t.fa", "--val", "v.fa")
    assert advised["F14"].endswith("--fix headers -o repaired")
    assert advised["V04"] == advised["V05"]
    assert "--fix headers --fix split --split-by genome -o repaired-split-by-genome" in advised["V04"]
    for command in set(advised.values()):
        assert main([*shlex.split(command)[1:], "-q"]) == 0, command
    out = tmp_path / "repaired-split-by-genome"
    after = repairs(capsys, "--fasta", out / "train.fa", "--val", out / "val.fa")
    assert not {"F14", "V04", "V05"} & set(after)


def test_fasta_and_fastq_are_not_advised_to_be_split_together(capsys, tmp_path):
    reads = [(f"lbl|{n % 2}|1|60|r{n}", s) for n, s in enumerate(sequences(80))]
    train = written(tmp_path / "t.fa", fasta(reads))
    val = written(tmp_path / "v.fq", "".join(f"@{h}\n{s}\n+\n{'I' * len(s)}\n" for h, s in reads[:30]))
    found = {f["id"]: f for f in findings(capsys, "--fasta", train, "--val", val)}
    assert found["V02"]["remedy"]["commands"] == []
    assert found["V02"]["remedy"]["text"].endswith(".")


def test_copies_in_other_classes_are_labels_and_not_copies(capsys, tmp_path):
    pool = sequences(100)
    reads = [(f"lbl|{label}|{label}|60|r{n}-{label}", s) for label in (0, 1) for n, s in enumerate(pool)]
    reads += [(f"{header}-again", s) for header, s in reads[:60]]
    path = written(tmp_path / "x.fa", fasta(reads))
    found = {f["id"]: f for f in findings(capsys, "--fasta", path)}
    manifest = fixed(capsys, path, "--fix", "deduplicate", out=tmp_path / "out")
    assert found["F15"]["count"] == counts(manifest, "deduplicate")["copies left out"] == 60
    after = {f["id"]: f for f in findings(capsys, "--fasta", tmp_path / "out" / "x.fa")}
    assert after["F15"]["severity"] == "pass"
    assert after["L09"]["severity"] == "warn" and after["L09"]["count"] == 200


def test_classes_of_one_fragment_are_not_advised_to_be_split(capsys, tmp_path):
    mapping = write_mapping(tmp_path / "labels.tsv", 5)
    pool = sequences(200)
    reads = [(f"lbl|0|100|60|r{n}", s) for n, s in enumerate(pool[:90])]
    single, pair = [("lbl|1|101|60|one", pool[91])], [(f"lbl|2|102|60|p/{m}", pool[91 + m]) for m in (1, 2)]
    copies = [(f"lbl|3|103|60|c{n}", pool[95]) for n in range(3)]
    two = [(f"lbl|4|104|60|t{n}", pool[97 + n]) for n in range(2)]
    val = written(tmp_path / "v.fa", fasta([(f"lbl|0|100|60|v{n}", s) for n, s in enumerate(pool[110:])]))

    def validated(*more):
        train = written(tmp_path / "t.fa", fasta([*reads, *chain(*more)]))
        sides = ("--fasta", train, "--val", val, "--mapping", mapping)
        return next(f for f in findings(capsys, *sides) if f["id"] == "V07" and f["severity"] == "warn")

    lone = validated(single, pair, copies)
    assert lone["count"] == 3 and "All have one fragment" in lone["why"]
    assert lone["remedy"]["commands"] == [] and "Add reads" in lone["remedy"]["text"]
    mixed = validated(single, pair, two)
    assert "2 of them have one fragment" in mixed["why"]
    (command,) = mixed["remedy"]["commands"]
    os.chdir(tmp_path)
    assert main([*shlex.split(command)[1:], "-q"]) == 0
    classes = [int(re.split(r"\|", header)[1]) for header, _ in reads_of(tmp_path / "repaired" / "val.fa")]
    assert {0, 4} == set(classes)
