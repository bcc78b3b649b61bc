"""The commands that findings give: each one mends what it was given for."""

import gzip
import json
import re
import shlex

import pytest
from doctor_fixtures import sequences, write_mapping
from reads_fixtures import fasta, random_reads, written
from repair_fixtures import counts, fixed, pairs, quick_disk, reads_of

from metagene_doctor.cli.main import main
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan

__all__ = ["quick_disk"]


MENDED = ("headers", "drop-damaged", "deduplicate", "split")
"""What the first example needs, in one command."""


def advised(capsys, *arguments):
    """(finding, repairs that its command makes) -> the command, of a doctor's report."""
    main(["doctor", *map(str, arguments), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {
        (finding["id"], *re.findall(r"--fix (\S+)", command)): command
        for finding in findings
        for command in (finding["remedy"] or {"commands": ()})["commands"]
        if command.startswith("metagene doctor --") and " --fix " in command
    }


def follow(command, out):
    words = shlex.split(command)
    assert words[0] == "metagene" and words[-2] == "-o" and re.fullmatch(r"repaired[-a-z0-9]*", words[-1])
    assert main([*words[1:-1], str(out), "-q"]) == 0, command


def test_the_repair_that_a_finding_names_mends_it(capsys, tmp_path):
    pool = sequences(60, 60)
    reads = [(f"lbl|{i // 30}|{7 + i // 30}|60|r{i}/1", s) for i, s in enumerate(pool)]
    reads[1] = (reads[1][0], pool[1].lower())
    reads[2] = (reads[2][0], pool[2].replace("T", "U"))
    reads[3] = (reads[3][0], "RYK" * 20)
    reads[4] = ("lbl|0|7|60|E coli/1", pool[4])
    reads[5] = (reads[5][0], "")
    reads[6] = (reads[6][0].replace("|60|", "|61|"), pool[6])
    reads[7] = (reads[8][0], pool[7])
    reads[9] = (reads[9][0], "N" * 50 + pool[9][:10])
    reads += [(f"lbl|0|7|60|copy{i}/1", pool[10]) for i in range(10)]
    reads += [("lbl|8|1|60|x/1", pool[11])]
    path = written(tmp_path / "my reads.fa", fasta(reads).replace(b"\n", b"\r\n"))
    mapping = write_mapping(tmp_path / "labels.tsv", 2)
    named = advised(capsys, "--fasta", path, "--mapping", mapping)
    assert set(named) == {
        *((finding, *MENDED) for finding in ("C05", "F07", "F12", "F13", "F14", "F15", "L02")),
        ("F05", "line-ends"),
        ("F09", "uppercase"),
        ("F10", "u-to-t"),
        ("F11", "line-ends", "iupac-to-n"),
    }
    needed = {named.pop(finding) for finding in list(named) if finding[1:] == MENDED}
    assert len(needed) == 1
    follow(needed.pop(), tmp_path / "mended")
    sides = ("--fasta", tmp_path / "mended" / "train.fa", "--val", tmp_path / "mended" / "val.fa")
    after = advised(capsys, *sides, "--mapping", mapping)
    assert not {finding for finding, *_ in after} - {"F05", "F09", "F10", "F11", "L07"}
    for finding, command in named.items():
        out = tmp_path / "-".join(finding)
        follow(command, out)
        assert finding not in advised(capsys, "--fasta", out / "my reads.fa", "--mapping", mapping), command


NAMES_WITH_BLANKS = {
    "blanks in the template's name": (None, "lbl|{class}|7|8|E coli {n}/{mate}"),
    "a comment in the template": (None, "lbl|{class}|7|8|r{n} {mate}:N:0:ACGT"),
    "a class in a comment": (r"class=(?P<class_id>\d+)", "r{n} {mate}:N:0 class={class}"),
    "a mate before the blank": (r"class=(?P<class_id>\d+)(?:/\d)?$", "E coli {n} class={class}/{mate}"),
}


@pytest.mark.parametrize(("regex", "header"), NAMES_WITH_BLANKS.values(), ids=NAMES_WITH_BLANKS)
def test_names_that_are_cut_at_blanks_are_mended_by_the_command_of_its_finding(
    capsys, tmp_path, regex, header
):
    reads = [
        (header.format(**{"n": n, "mate": mate, "class": n % 2}), sequence)
        for n, sequence in enumerate(sequences(60, 8))
        for mate in (1, 2)
    ]
    path = written(tmp_path / "it's mine.fa", fasta(reads))
    options = [] if regex is None else ["--header-regex", regex]
    command = advised(capsys, "--fasta", path, *options)["F08", "whole-words"]
    follow(command, tmp_path / "out")
    copy = tmp_path / "out" / path.name
    assert not [found for found in advised(capsys, "--fasta", copy, *options) if found[0] == "F08"]
    names = [header for header, _ in reads_of(copy)]
    assert len(set(names)) == 120 and not any(" " in name for name in names)
    assert scan(copy, header=HeaderPattern(regex) if regex else HeaderPattern()).accepted == 120
    from metagene_doctor.facts.reads.hashes import read_name

    pattern = HeaderPattern(regex) if regex else HeaderPattern()
    mates = [read_name(pattern, name) for name in names]
    assert {mate for _, mate in mates} == {1, 2} and len({name for name, _ in mates}) == 60


def test_blanks_that_a_pattern_needs_are_left_and_no_command_is_given(capsys, tmp_path):
    regex = r"^\S+ class=(?P<class_id>\d+)"
    path = written(
        tmp_path / "x.fa", fasta([(f"r{n // 2} class={n % 2}", s) for n, s in enumerate(sequences(9))])
    )
    assert not [
        found for found in advised(capsys, "--fasta", path, "--header-regex", regex) if found[0] == "F08"
    ]
    manifest = fixed(capsys, path, "--header-regex", regex, "--fix", "whole-words", out=tmp_path / "out")
    assert counts(manifest, "whole-words") == {"left, because their pattern needs the blanks": 9}
    assert (tmp_path / "out" / "x.fa").read_bytes() == path.read_bytes()


def test_what_can_be_read_of_a_damaged_file_is_kept_by_the_command_of_its_finding(capsys, tmp_path):
    packed = gzip.compress(fasta(random_reads(500)))
    path = written(tmp_path / "cut here.fa.gz", packed[: len(packed) // 2])
    follow(advised(capsys, "--fasta", path)["F02", "drop-damaged", "split"], tmp_path / "out")
    copy, val = tmp_path / "out" / "train.fa.gz", tmp_path / "out" / "val.fa.gz"
    assert "F02" not in {finding for finding, *_ in advised(capsys, "--fasta", copy)}
    kept = {*reads_of(copy), *reads_of(val)}
    assert kept == set(random_reads(500)[: len(kept)]) and len(kept) > 100


def test_commands_name_all_files_of_a_side(capsys, tmp_path):
    reads = pairs(300, classes=1)
    for number in range(3):
        written(tmp_path / f"lane {number}.fa", fasta(reads[200 * number :][:200]))
    others = [(f"lbl|8|1|80|other{n}/1", s) for n, s in enumerate(sequences(30, 80, 5))]
    val = written(tmp_path / "v.fa", fasta(reads[:100] + others))
    pattern = tmp_path / "lane *.fa"
    named = advised(capsys, "--fasta", pattern, "--val", val)
    both = ("deduplicate", "split")
    assert {("V02", *both), ("V06", *both), ("F15", *both)} <= set(named)
    assert len({named[finding, *both] for finding in ("V02", "V06", "F15")}) == 1
    assert shlex.quote(str(pattern)) in named["F15", *both]
    follow(named["F15", *both], tmp_path / "mended")
    sides = ("--fasta", tmp_path / "mended" / "train.fa", "--val", tmp_path / "mended" / "val.fa")
    assert not {name for name in advised(capsys, *sides) if name[0][0] in "VF"}
    alone = advised(capsys, "--fasta", pattern)
    assert set(alone) == {("C05", *both), ("F15", *both)}
    follow(alone["C05", *both], tmp_path / "alone")
    sides = ("--fasta", tmp_path / "alone" / "train.fa", "--val", tmp_path / "alone" / "val.fa")
    assert not advised(capsys, *sides)
    # A file of both sides is given once.
    again = advised(capsys, "--fasta", pattern, "--val", tmp_path / "lane 1.fa", "--val", val)["V01", *both]
    assert shlex.split(again).count(str(tmp_path / "lane 1.fa")) == 0
    follow(again, tmp_path / "V01")


def test_a_mapping_with_columns_of_its_own_has_no_command(capsys, tmp_path):
    path = written(tmp_path / "x.fa", fasta(random_reads(9, classes=2)))
    written(tmp_path / "m.tsv", "number\tname\n0\ta\n")
    config = written(
        tmp_path / "c.yaml",
        f"dataset:\n  train_fasta: {path}\n  mapping_tsv: {tmp_path}/m.tsv\n  class_column: number\n"
        "  label_column: name\n  strict_classes: true\n",
    )
    assert ("L02", "drop-damaged") not in advised(capsys, "--config", config)


def test_the_split_that_a_finding_names_mends_it(capsys, tmp_path):
    reads = pairs(300, classes=2)
    train, val = written(tmp_path / "t.fa", fasta(reads[::2])), written(tmp_path / "v.fa", fasta(reads[1::2]))
    written(val, val.read_bytes() + fasta([("lbl|0|100|80|twin/1", reads[0][1])]))
    named = advised(capsys, "--fasta", train, "--val", val)
    assert set(named) == {("V02", "split"), ("V03", "split"), ("L07", "shuffle")}
    follow(named.pop(("L07", "shuffle")), tmp_path / "L07")
    assert ("L07", "shuffle") not in advised(capsys, "--fasta", tmp_path / "L07" / "t.fa")
    for finding, command in named.items():
        out = tmp_path / finding[0]
        follow(command, out)
        after = advised(capsys, "--fasta", out / "train.fa", "--val", out / "val.fa")
        assert not {name for name in after if name[0][0] == "V"}
    named = advised(capsys, "--fasta", train, "--val", train)
    assert ("V01", "split") in named
    follow(named["V01", "split"], tmp_path / "V01")
    after = advised(capsys, "--fasta", tmp_path / "V01" / "train.fa", "--val", tmp_path / "V01" / "val.fa")
    assert not {name for name in after if name[0][0] == "V"}
