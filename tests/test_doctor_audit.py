"""What reads show besides their sequence: shortcuts, drift, groups, names cut at blanks, foreign indexes."""

import json
import os
import random
import sqlite3

import numpy as np
import pyfastx
import pytest
from doctor_fixtures import facts, reads, sequences, write_mapping, write_reads
from sklearn.metrics import matthews_corrcoef
from watched_sides import watched

from metagene_doctor.checks.reads import access, shortcuts
from metagene_doctor.checks.sizes import evaluations
from metagene_doctor.checks.split import audit as split_audit
from metagene_doctor.cli.main import main
from metagene_doctor.facts import audit
from metagene_doctor.facts.reads import companions, first_words
from metagene_doctor.facts.reads import shortcuts as rules
from metagene_doctor.facts.reads.collect import collect
from metagene_doctor.facts.reads.facts import InputFile
from metagene_doctor.facts.side_watch import SideWatch
from metagene_doctor.facts.split import drift, name_groups
from metagene_doctor.facts.split.leakage import SplitFacts
from metagene_train.config import RunConfig
from metagene_train.reads.headers.pattern import HeaderPattern


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))


def findings(capsys, *arguments):
    main(["doctor", *map(str, arguments), "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    return {(f["id"], f["severity"]): f for f in found}


def write(path, rows, mark=">"):
    path.write_text("".join(f"{mark}{header}\n{sequence}\n" for header, sequence in rows))
    return path


def made_reads(count, length, name="r{n}", seed=0, classes=3, letters="ACGT"):
    """Reads whose length is ``length(class, source)`` and whose name is formatted with n and c."""
    source = random.Random(seed)
    for number in range(count):
        label = source.randrange(classes)
        sequence = "".join(source.choices(letters, k=length(label, source)))
        yield f"lbl|{label}|{label}|{len(sequence)}|{name.format(n=number, c=label)}/1", sequence


def test_length_that_tells_the_class_is_a_warning(capsys, tmp_path):
    path = write(tmp_path / "t.fa", made_reads(3000, lambda label, _: 100 + 10 * label))
    found = findings(capsys, "--fasta", path)
    finding = found["L08", "warn"]
    assert "read length alone tells the class of 100 %" in finding["title"]
    assert finding["measured"] == 1.0 and finding["confidence"] == "sampled"


def test_traits_that_training_does_not_see_are_remarks(capsys, tmp_path):
    path = write(tmp_path / "t.fa", made_reads(3000, lambda *_: 100, name="genome{c}-{n}"))
    rows = [
        (header, sequence.lower() if header.startswith("lbl|1") else sequence)
        for header, sequence in made_reads(3000, lambda *_: 100)
    ]
    named = findings(capsys, "--fasta", path)["L08", "info"]
    assert "part 1 of the name" in named["title"] and "no harm" in named["why"]
    cased = findings(capsys, "--fasta", write(tmp_path / "l.fa", rows))["L08", "info"]
    assert "lower case alone" in cased["title"]


@pytest.mark.parametrize("files", [1, 2])
def test_one_rare_class_full_of_n_is_told_exactly(capsys, tmp_path, files):
    """Of 40 classes one has 20 N in each read, which no correlation over all classes shows."""
    rows = [
        (header, sequence[:-20] + "N" * 20 if header.startswith("lbl|7|") else sequence)
        for header, sequence in made_reads(12_000, lambda *_: 100, classes=40)
    ]
    part = len(rows) // files
    parts = [write(tmp_path / f"{n}.fa", rows[n * part : (n + 1) * part]) for n in range(files)]
    finding = findings(capsys, *(word for path in parts for word in ("--fasta", path)))["L08", "warn"]
    assert "20.0 % of the letters of class 7 are read as N, of the median class 0 %" in finding["title"]
    assert (finding["measured"], finding["count"], finding["confidence"]) == (0.2, 1, "exact")


def test_reads_without_shortcuts_pass_and_few_reads_are_not_judged(capsys, tmp_path):
    many = write(tmp_path / "t.fa", made_reads(3000, lambda _, source: source.randint(80, 150)))
    assert ("L08", "pass") in findings(capsys, "--fasta", many)
    few = write(tmp_path / "f.fa", made_reads(60, lambda label, _: 100 + label))
    assert "too few reads" in findings(capsys, "--fasta", few)["L08", "skip"]["why"]


def test_no_alarm_from_chance_with_many_classes(tmp_path):
    """Half of the reads judge what the other half taught, so a trait of random values shows nothing."""
    path = write(tmp_path / "t.fa", made_reads(4000, lambda _, s: s.randint(50, 150), classes=300))
    known = audited(path)
    assert known.train_reads == 4000
    assert max(shortcut.surely for shortcut in known.shortcuts) < 0.02


def audited(train, val=None):
    sides, classes = [], []
    for role, path in (("train", train), ("val", val)):
        if path is None:
            sides.append(None)
            classes.append({})
            continue
        side = audit.Audit(expected=None)
        _, known, _ = collect(
            role,
            path,
            header=HeaderPattern(),
            file_format="auto",
            index_dir=None,
            quick=False,
            watcher=SideWatch(audit=side),
        )
        sides.append(side)
        classes.append(known.class_counts)
    return audit.conclude(*sides, *classes)


def test_the_correlation_is_the_one_scikit_learn_computes():
    source = np.random.default_rng(3)
    for _ in range(20):
        true = source.integers(0, 6, 500)
        predicted = np.where(source.random(500) < 0.4, true, source.integers(0, 4, 500))
        assert rules.correlation(predicted, true) == pytest.approx(matthews_corrcoef(true, predicted))
    assert rules.correlation(np.zeros(5, int), np.arange(5)) == 0.0


# Drift


def test_shorter_validation_reads_are_told_in_bases(capsys, tmp_path):
    train = write(tmp_path / "t.fa", made_reads(2000, lambda *_: 150))
    val = write(tmp_path / "v.fa", made_reads(400, lambda *_: 100, seed=5, name="v{n}"))
    finding = findings(capsys, "--fasta", train, "--val", val)["V08", "warn"]
    assert "read length (100 against 150 bases" in finding["title"]
    assert finding["measured"] > 0.9


def test_other_class_shares_are_drift_and_equal_ones_are_not(capsys, tmp_path):
    train = write(tmp_path / "t.fa", made_reads(2000, lambda *_: 100))
    same = write(tmp_path / "v.fa", made_reads(300, lambda *_: 100, seed=5, name="v{n}"))
    other = write(
        tmp_path / "o.fa",
        (row for row in made_reads(900, lambda *_: 100, seed=6, name="v{n}") if "lbl|0|" not in row[0]),
    )
    assert ("V08", "pass") in findings(capsys, "--fasta", train, "--val", same)
    finding = findings(capsys, "--fasta", train, "--val", other)["V08", "warn"]
    assert "class shares" in finding["title"] and finding["confidence"] == "exact"


def test_the_effect_size_does_not_depend_on_sizes_and_vanishes_for_chance():
    source = np.random.default_rng(0)
    shares = source.dirichlet(np.ones(500))
    effects = [
        drift.cramers_v(source.multinomial(20_000, shares), source.multinomial(3000, shares))
        for _ in range(30)
    ]
    assert np.mean(effects) < 0.06  # without the correction it would be 0.22
    first, second = np.array([600, 400]), np.array([200, 800])
    expected = np.sqrt(0.5 * (0.4**2 / 0.8 + 0.4**2 / 1.2))
    assert drift.cramers_v(first * 1000, second * 10) == pytest.approx(expected, abs=0.01)
    assert drift.cramers_v(np.array([100_000, 0]), np.array([0, 100_000])) == pytest.approx(1, abs=1e-4)


# Groups


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("NC_000913.3_1234_99", "NC_000913.3"),
        ("GCF_000005845.2_ASM584v2-7", "GCF_000005845.2"),
        ("sim-NZ_CP012345.1:5", "NZ_CP012345.1"),
        ("SRR1234567.99", "SRR1234567"),
        ("AE003852.1-17", "AE003852.1"),
        ("read17", ""),
        ("A12", ""),
    ],
)
def test_accessions_in_names(name, group):
    assert name_groups.accession(name) == group


def test_genomes_on_both_sides_are_told(capsys, tmp_path):
    def side(path, genomes, seed, count):
        source = random.Random(seed)
        rows = []
        for number in range(count):
            genome = source.choice(genomes)
            sequence = "".join(source.choices("ACGT", k=80))
            rows.append((f"lbl|{genome % 2}|1|80|NC_{genome:06}.1_{number}", sequence))
        return write(path, rows)

    train = side(tmp_path / "t.fa", range(100000, 100010), 1, 1000)
    seen = side(tmp_path / "v.fa", range(100004, 100012), 2, 300)
    unseen = side(tmp_path / "u.fa", range(100020, 100024), 3, 300)
    finding = findings(capsys, "--fasta", train, "--val", seen)["V05", "warn"]
    assert "At least 6 of 8 genomes" in finding["title"]
    assert 0.6 < finding["measured"] < 0.9
    assert ("V05", "pass") in findings(capsys, "--fasta", train, "--val", unseen)


def test_running_numbers_are_no_groups_and_a_prefix_is():
    numbered = [f"R{number:06}" for number in range(500)]
    assert name_groups.find(numbered, [0] * 500, numbered) is None
    named = [f"sample{number % 5}_{number}" for number in range(500)]
    groups = name_groups.find(named, [number % 3 for number in range(500)], named[:50])
    assert (groups.kind, groups.train_groups, groups.shared_val_reads) == ("name prefix", 5, 50)
    assert groups.groups_per_class == 5
    lanes = [f"A01:7:H{number % 2}XX:1:{number}:5:{number}" for number in range(500)]
    assert name_groups.find(lanes, [0] * 500, lanes[:10]).kind == "flow cell"


def test_a_prefix_that_may_be_the_class_is_a_remark():
    groups = name_groups.find(
        [f"coli_{n}" if n % 2 else f"subtilis_{n}" for n in range(400)],
        [n % 2 for n in range(400)],
        [f"coli_{n}" for n in range(20)],
    )
    known = facts(train=reads(), val=reads("val"), split=SplitFacts(), audit=audit.AuditFacts(groups=groups))
    (finding,) = split_audit.groups_apart(known)
    assert finding.severity == "info"


# Cost of evaluations


def test_large_validation_sets_cost_time():
    config = {"training": {"max_epochs": 1, "evals_per_epoch": 4, "batch_size": 10}}
    known = facts(config, train=reads(), val=reads("val"))
    (finding,) = split_audit.evaluation_share(known)
    assert finding.measured == pytest.approx(4 / (4 + 2), abs=1e-3)
    small = reads("val", records=50, accepted=50)
    assert not list(split_audit.evaluation_share(facts(config, train=reads(), val=small)))


def test_evaluations_of_a_run():
    def number(**training):
        return evaluations(1000, RunConfig.model_validate({"training": {"batch_size": 10, **training}}))

    assert number(max_epochs=3, evals_per_epoch=2) == 6
    assert number(max_epochs=1, evals_per_epoch=500) == 100
    assert number(max_steps=250, eval_steps=100) == 3
    assert number(max_epochs=0.5, evals_per_epoch=1) == 1


# Names cut at the first blank


def test_names_lost_at_the_first_blank_are_counted(capsys, tmp_path):
    rows = [(f"read{number // 2} {number % 2 + 1}:N:0 class=1", "ACGTACGT") for number in range(100)]
    path = write(tmp_path / "t.fa", [*rows, ("alone class=2", "ACGT")])
    finding = findings(capsys, "--fasta", path, "--header-regex", r"class=(?P<class_id>\d+)")["F08", "warn"]
    assert finding["count"] == 50 and finding["confidence"] == "exact"


def test_blanks_that_lose_nothing_pass(capsys, tmp_path):
    path = write(tmp_path / "t.fa", [(f"read{n} class={n % 2}", s) for n, s in enumerate(sequences(50))])
    found = findings(capsys, "--fasta", path, "--header-regex", r"class=(?P<class_id>\d+)")
    assert ("F08", "pass") in found


def test_more_names_than_are_kept_give_an_unbiased_share(tmp_path):
    rows = [(f"read{number // 4} {number} class=1", "ACGT") for number in range(20_000)]
    path = write(tmp_path / "t.fa", rows)
    side = audit.Audit(expected=None)
    side.first_words = first_words.FirstWordTally(capacity=2000)
    watched(SideWatch(audit=side), path, header=HeaderPattern(r"class=(?P<class_id>\d+)"))
    counted = side.first_words.result()
    assert counted.kept <= 2000 and counted.kept_one_in > 8 and counted.with_blank == 20_000
    assert counted.lost_share == pytest.approx(0.75, abs=0.03)


# Indexes of other tools


def built(tmp_path, kind="fasta"):
    path = tmp_path / ("r.fa" if kind == "fasta" else "r.fq")
    if kind == "fasta":
        write_reads(path, sequences(40))
        pyfastx.Fasta(str(path))
    else:
        path.write_text("".join(f"@lbl|0|1|4|r{n}\nACGT\n+\nIIII\n" for n in range(40)))
        pyfastx.Fastq(str(path))
    return path


def judged(path):
    file, known, _ = collect(
        "train", path, header=HeaderPattern(), file_format="auto", index_dir=None, quick=False
    )
    return list(access.indexes_belong(facts(files=(file,), train=known)))


@pytest.mark.parametrize("kind", ["fasta", "fastq"])
def test_an_index_of_pyfastx_that_fits_is_quiet(tmp_path, kind):
    path = built(tmp_path, kind)
    before = sorted(tmp_path.iterdir())
    assert judged(path) == []
    assert sorted(tmp_path.iterdir()) == before


def test_indexes_of_an_earlier_file_are_found(tmp_path):
    path = built(tmp_path)
    (tmp_path / "r.fa.fai").write_text("r0\t120\t20\t120\t121\n")
    write_reads(path, sequences(41))
    found = judged(path)
    assert [finding.severity for finding in found] == ["warn", "warn"]
    assert "it has 40 reads, the file 41" in found[0].title and "1 read, the file 41" in found[1].title
    assert found[0].remedy.commands == (f"rm {path}.fxi",)


def test_same_number_of_reads_but_other_bases(tmp_path):
    path = built(tmp_path)
    write_reads(path, sequences(40, 100))
    (finding,) = judged(path)
    assert "bases" in finding.title


def test_unfinished_and_broken_indexes_are_found(tmp_path):
    path = built(tmp_path)
    with sqlite3.connect(f"{path}.fxi") as database:
        database.execute("DELETE FROM stat")
    database.close()
    assert "interrupted" in judged(path)[0].title
    (tmp_path / "r.fa.fxi").write_bytes(b"x" * 5000)
    assert "cannot be read" in judged(path)[0].title or "no index" in judged(path)[0].title
    (tmp_path / "r.fa.fxi").unlink()
    (tmp_path / "r.fa.fxi-journal").touch()
    assert "interrupted" in judged(path)[0].title


def test_an_older_index_that_may_fit_is_a_remark(tmp_path):
    path = built(tmp_path)
    os.utime(f"{path}.fxi", (1, 1))
    (finding,) = judged(path)
    assert finding.severity == "info" and companions.find(path)[0].older


def test_large_gzip_is_told_what_it_costs(capsys):
    large = reads(compression="gzip", bytes=100_000_000_000, path="t.fa.gz")
    (finding,) = access.seekable_compression(facts(train=large))
    assert "100 GB of plain gzip" in finding.title and finding.remedy.commands == ("gzip -dc t.fa.gz > t.fa",)
    for quiet in (reads(), reads(compression="gzip"), reads(compression="bgzf", bytes=10**11)):
        assert not list(access.seekable_compression(facts(train=quiet)))


def test_nothing_is_said_of_one_file_given_twice(capsys, tmp_path):
    path = write_reads(tmp_path / "t.fa", sequences(50))
    found = findings(
        capsys,
        "--fasta",
        path,
        "--val",
        path,
        "--mapping",
        write_mapping(tmp_path / "m.tsv"),
        "--only",
        "split",
    )
    assert ("V01", "error") in found
    for check in ("V02", "V03", "V04", "V05", "V08"):
        assert "one file" in found[check, "skip"]["why"], check


def test_shortcuts_need_two_classes(tmp_path):
    path = write(tmp_path / "t.fa", made_reads(300, lambda _, s: s.randint(50, 90), classes=1))
    known = audited(path)
    assert known.shortcuts == ()
    assert not list(shortcuts.no_shortcuts(facts(train=reads(), audit=known)))
    assert not list(access.indexes_belong(facts(files=(InputFile(role="train", path="x", bytes=1),))))
