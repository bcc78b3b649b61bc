"""``metagene doctor --fix`` as a user meets it: each repair on small files, plans, refusals, exit codes."""

import gzip
import json
import os
import random
import re
import shlex
import shutil

import pytest
from doctor_fixtures import opposite, sequences, write_mapping, write_reads
from reads_fixtures import bgzf, fasta, fastq, random_reads, written

from metagene_doctor.cli.main import main
from metagene_train.reads.headers import HeaderPattern
from metagene_train.reads.records import iter_reads
from metagene_train.reads.scan import scan


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nothing here depends on whether files are seen onto the disk, which takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def fix(capsys, path, *arguments, out=None):
    """(exit code, stdout, stderr) of a repair of one file."""
    target = () if out is None else ("-o", str(out))
    code = main(["doctor", "--fasta", str(path), *map(str, arguments), *target])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fixed(capsys, path, *arguments, out):
    """The manifest of a repair that has to succeed."""
    code, _, err = fix(capsys, path, *arguments, out=out)
    assert code == 0, err
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rechecked"] and all(each["balances"] for each in manifest["inputs"])
    assert not list(out.glob("*.partial")) and not (out / ".metagene-repair").exists()
    return manifest


def counts(manifest, repair):
    return manifest["repairs"][0]["counts"].get(repair, {})


def reads_of(path):
    return [(read.header, read.sequence.decode()) for read in iter_reads(path)]


# Single repairs


@pytest.mark.parametrize(
    ("repair", "before", "after", "what"),
    [
        ("uppercase", "ACGTacgtNn", "ACGTACGTNN", {"letters": 5, "reads": 1}),
        ("u-to-t", "ACGUUu", "ACGTTt", {"letters": 3, "reads": 1}),
        ("iupac-to-n", "ACRYg-*n", "ACNNgNNn", {"letters": 4, "reads": 1}),
    ],
)
def test_letters_change_in_sequences_and_nowhere_else(capsys, tmp_path, repair, before, after, what):
    header = "lbl|1|9|10|acguryN/1"
    path = written(tmp_path / "x.fq", f"@{header}\n{before}\n+{header}\n{'acgu' * 3:.{len(before)}}\n")
    manifest = fixed(capsys, path, "--fix", repair, out=tmp_path / "out")
    assert (tmp_path / "out" / "x.fq").read_text() == path.read_text().replace(
        f"\n{before}\n", f"\n{after}\n"
    )
    assert counts(manifest, repair) == what


def test_line_ends(capsys, tmp_path):
    path = written(
        tmp_path / "x.fa",
        b"\xef\xbb\xbf\r\n\r\n>lbl|1|||a/1\r\nACG T\r\n\r\nAC\tGT\r\n>lbl|2|||b/1\r\nACGT\n\n\n>lbl|2|||c/1\nAC\nGT\r",
    )
    manifest = fixed(capsys, path, "--fix", "line-ends", out=tmp_path / "out")
    assert (
        tmp_path / "out" / "x.fa"
    ).read_bytes() == b">lbl|1|||a/1\nACGT\nACGT\n>lbl|2|||b/1\nACGT\n>lbl|2|||c/1\nAC\nGT\n"
    assert counts(manifest, "line-ends") == {
        "CR at the ends of lines": 5,
        "blank lines": 3,
        "blanks in sequences": 2,
        "byte order marks": 1,
    }
    assert manifest["inputs"][0]["blanks"] == 2


def test_fastq_is_put_on_four_lines_and_blanks_take_their_quality_along(capsys, tmp_path):
    path = written(
        tmp_path / "x.fq",
        b"@lbl|1|||a/1\nAC\nGT\n+\n01\n23\n\n@lbl|1|||b/1\nA CG\n+\nabcd\n@lbl|1|||c/1\nAC\n+\n@@\n",
    )
    fixed(capsys, path, "--fix", "line-ends", out=tmp_path / "out")
    assert (
        tmp_path / "out" / "x.fq"
    ).read_bytes() == b"@lbl|1|||a/1\nACGT\n+\n0123\n@lbl|1|||b/1\nACG\n+\nacd\n@lbl|1|||c/1\nAC\n+\n@@\n"


HEADERS = {
    "blanks in the name": ("lbl|3|562|4|Escherichia coli  K12-5/1", "lbl|3|562|4|Escherichia_coli_K12-5/1"),
    "stale length": ("lbl|3|562|150|r1/2", "lbl|3|562|4|r1/2"),
    "no length, genus and species": ("lbl|3|562|Azo|Azo caulinodans/1", "lbl|3|562|4|Azo|Azo_caulinodans/1"),
    "no length, one name": ("lbl|3|562|r7/1", "lbl|3|562|4|r7/1"),
    "only class and name": ("lbl|3|r7", "lbl|3||4|r7"),
    "blanks around fields": (" LBL | 3 | 562 | 4 | r7/1 ", "lbl|3|562|4|r7/1"),
    "no tax id": ("lbl|3|NA|4|r7/1", "lbl|3||4|r7/1"),
    "slashes in the name": ("lbl|3|562|4|a/b/1", "lbl|3|562|4|a_b/1"),
    "slash at the end": ("lbl|3|562|4|a/", "lbl|3|562|4|a"),
    "mate in a comment": ("lbl|3|562|4|r7 2:N:0:ACGT", "lbl|3|562|4|r7_N:0:ACGT/2"),
    "no name": ("lbl|3|562|4|/1", "lbl|3|562|4|unnamed/1"),
    "Latin-1": (b"lbl|3|562|4|caf\xe9/1", "lbl|3|562|4|café/1"),
    "sound": ("lbl|3|||r1/2", "lbl|3|||r1/2"),
}


@pytest.mark.parametrize(("before", "after"), HEADERS.values(), ids=HEADERS)
def test_headers_are_mended_towards_the_template(capsys, tmp_path, before, after):
    before = before if isinstance(before, bytes) else before.encode()
    path = written(tmp_path / "x.fa", b">" + before + b"\nAC\nGT\n")
    fixed(capsys, path, "--fix", "headers", out=tmp_path / "out")
    assert (tmp_path / "out" / "x.fa").read_text() == f">{after}\nAC\nGT\n"


@pytest.mark.parametrize(
    "header",
    ["read1", "", "lbl", "lbl||562|4|r1/1", "lbl|x|562|4|r1", "lbl|3|genus|sp|r1", f"lbl|{2**31}|1|4|r"],
)
def test_headers_without_a_class_cannot_be_mended_and_are_set_aside(capsys, tmp_path, header):
    path = written(tmp_path / "x.fa", f">lbl|1|1|4|good/1\nACGT\n>{header}\nTTTT\n")
    fixed(capsys, path, "--fix", "headers", "--fix", "drop-damaged", out=tmp_path / "out")
    assert reads_of(tmp_path / "out" / "x.fa") == [("lbl|1|1|4|good/1", "ACGT")]
    assert (tmp_path / "out" / "quarantine.fa").read_text() == f">{header}\nTTTT\n"
    table = (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()
    assert table[1].split("\t")[:3] == [str(path), "2", "3"] and "header: " in table[1]


def test_repeated_names_become_unique_and_mates_stay_together(capsys, tmp_path):
    names = ["a/1", "a/2", "b-copy2", "a/1", "a/2", "b", "b", "a/1"]
    path = written(tmp_path / "x.fa", "".join(f">lbl|1||4|{name}\nACGT\n" for name in names))
    manifest = fixed(capsys, path, "--fix", "headers", out=tmp_path / "out")
    made = [header.split("|")[4] for header, _ in reads_of(tmp_path / "out" / "x.fa")]
    assert made == ["a/1", "a/2", "b-copy2", "a-copyy2/1", "a-copyy2/2", "b", "b-copyy2", "a-copyy3/1"]
    assert counts(manifest, "headers") == {"repeated names made unique": 4}


def test_headers_of_another_pattern_keep_their_layout(capsys, tmp_path):
    regex = r"^(?P<name>.+?) len=(?P<readlen>\d+) class=(?P<class_id>\d+)$"
    path = written(
        tmp_path / "x.fa", ">E coli len=9 class=3\nACGT\n>r2 len=4 class=3\nACGT\n>r2 len=4 class=3\nAC\n"
    )
    fixed(capsys, path, "--header-regex", regex, "--fix", "headers", out=tmp_path / "out")
    assert [header for header, _ in reads_of(tmp_path / "out" / "x.fa")] == [
        "E_coli len=4 class=3",
        "r2 len=4 class=3",
        "r2 len=2 class=3",
    ]


def test_a_pattern_without_room_for_a_number_is_refused(capsys, tmp_path):
    path = written(tmp_path / "x.fa", ">7\nACGT\n>7\nAC\n")
    code, _, err = fix(
        capsys, path, "--header-regex", r"^(?P<class_id>\d+)$", "--fix", "headers", out=tmp_path / "o"
    )
    assert code == 1
    assert "line 3, record 2" in err and "(?P<name>...)" in err
    assert not (tmp_path / "o" / "x.fa").exists()


def test_damaged_records_are_set_aside_with_place_and_reason(capsys, tmp_path):
    path = written(
        tmp_path / "x.fq",
        "@lbl|0||4|a/1\nACGT\n+\nIIII\n"
        "@lbl|0||4|b/1\nACGT\n+\nIII\n"
        "@lbl|0||4|c/1\nAC\0T\n+\nIIII\n"
        "@lbl|9||4|d/1\nACGT\n+\nIIII\n"
        "@lbl|0||4|e/1\nNNGT\n+\nIIII\n"
        "@what\nACGT\n+\nIIII\n"
        "@lbl|0||0|f/1\n\n+\n\n"
        "@lbl|0||4|g/1\nACGT\n+\nII",
    )
    mapping = write_mapping(tmp_path / "labels.tsv", 2)
    manifest = fixed(capsys, path, "--mapping", mapping, "--fix", out=tmp_path / "out")
    assert reads_of(tmp_path / "out" / "x.fq") == [("lbl|0||4|a/1", "ACGT")]
    rows = [line.split("\t") for line in (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()]
    assert [(row[1], row[2], row[3]) for row in rows[1:]] == [
        ("2", "5", "sequence and quality differ in length"),
        ("3", "9", "the record holds NUL bytes"),
        ("4", "13", "its class is not in the mapping"),
        ("5", "17", "more than 0.1 of its letters are read as N"),
        ("6", "21", "header: does not start with lbl|"),
        ("7", "25", "the read has no bases"),
        ("8", "29", "the file ends inside the record"),
    ]
    assert sum(counts(manifest, "drop-damaged").values()) == 7
    kept = path.read_bytes().replace(b"@lbl|0||4|a/1\nACGT\n+\nIIII\n", b"") + b"\n"
    # The blank line that an empty read has for its quality is no part of any record.
    assert (tmp_path / "out" / "quarantine.fq").read_bytes() == kept.replace(b"+\n\n@", b"+\n@")


def test_how_many_n_are_tolerated_is_an_option(capsys, tmp_path):
    path = written(tmp_path / "x.fa", ">lbl|0||4|a/1\nNNGT\n>lbl|0||4|b/1\nNNNT\n")
    fixed(capsys, path, "--fix", "drop-damaged", "--max-n", "0.5", out=tmp_path / "out")
    assert reads_of(tmp_path / "out" / "x.fa") == [("lbl|0||4|a/1", "NNGT")]


def test_damage_is_not_copied_silently(capsys, tmp_path):
    path = written(tmp_path / "x.fq", fastq(random_reads(3)) + b"@lbl|1||4|x/1\nACGT\n+\nII\n")
    code, _, err = fix(capsys, path, "--fix", "uppercase", out=tmp_path / "out")
    assert code == 1
    assert "line 13, record 4: " in err and "--fix drop-damaged" in err


# Copies


def test_the_first_copy_of_each_class_is_kept_on_either_strand(capsys, tmp_path):
    one, two = sequences(2)
    path = written(
        tmp_path / "x.fa",
        fasta(
            [
                ("lbl|0|||a/1", one),
                ("lbl|0|||b/1", two),
                ("lbl|0|||c/1", opposite(one)),
                ("lbl|1|||d/1", one),
                ("lbl|0|||e/1", two.lower()),
                ("lbl|0|||f/1", one[:-1]),
                ("lbl|1|||g/1", one),
            ]
        ),
    )
    manifest = fixed(capsys, path, "--fix", "deduplicate", out=tmp_path / "out")
    assert [header[-3:-2] for header, _ in reads_of(tmp_path / "out" / "x.fa")] == ["a", "b", "d", "f"]
    assert counts(manifest, "deduplicate") == {"copies left out": 3}
    assert manifest["inputs"][0]["copies"] == {"records": 3, "bases": 3 * len(one)}


def test_copies_that_do_not_fit_in_memory_are_found_on_disk(capsys, tmp_path, monkeypatch):
    from metagene_doctor.repair import deduplicate, spill, unique_names

    pool = sequences(400, length=60)
    source = random.Random(1)
    drawn = [source.choice(pool) for _ in range(3000)]
    path = written(tmp_path / "x.fa", fasta([(f"lbl|0||60|{i % 700}/1", s) for i, s in enumerate(drawn)]))
    whole = fixed(capsys, path, "--fix", "deduplicate", "--fix", "headers", out=tmp_path / "whole")
    for module in (deduplicate, unique_names):
        monkeypatch.setattr(module, "Spill", lambda place, name: spill.Spill(place, name, rows_in_memory=3))
    monkeypatch.setattr("metagene_doctor.repair.batches.iter_batches", small_batches)
    spilt = fixed(capsys, path, "--fix", "deduplicate", "--fix", "headers", out=tmp_path / "spilt")
    assert (tmp_path / "whole" / "x.fa").read_bytes() == (tmp_path / "spilt" / "x.fa").read_bytes()
    assert whole["repairs"] == spilt["repairs"]
    kept = [sequence for _, sequence in reads_of(tmp_path / "whole" / "x.fa")]
    assert kept == list(dict.fromkeys(drawn))


def small_batches(source, form):
    from metagene_train.reads.batches import iter_batches

    return iter_batches(source, form, 4000)


# Split and shuffle


def pairs(count, classes=4, seed=0, length=80):
    """Mates of fragments; every fifth fragment repeats the sequences of the one before it."""
    pool = sequences(2 * count, length, seed)
    reads = []
    for i in range(count):
        twin = i - 1 if i % 5 == 4 else i
        for mate in (1, 2):
            sequence = pool[2 * twin + mate - 1]
            reads.append((f"lbl|{i % classes}|{100 + i % classes}|{length}|f{i}/{mate}", sequence))
    return reads


def test_split_keeps_fragments_together_and_every_class_on_both_sides(capsys, tmp_path):
    path = written(tmp_path / "x.fa", fasta(pairs(2000)))
    manifest = fixed(capsys, path, "--fix", "split", "--validation-share", "0.2", out=tmp_path / "out")
    train, val = (reads_of(tmp_path / "out" / name) for name in ("train.fa", "val.fa"))
    assert sorted(train + val) == sorted(reads_of(path))
    assert not {header[:-2] for header, _ in train} & {header[:-2] for header, _ in val}
    assert not {sequence for _, sequence in train} & {sequence for _, sequence in val}
    for class_id in range(4):
        held = sum(header.startswith(f"lbl|{class_id}|") for header, _ in val)
        assert held == pytest.approx(0.2 * 1000, rel=0.1)
    assert counts(manifest, "split")["reads for validation"] == len(val)
    # In the order of the input.
    places = {header: place for place, (header, _) in enumerate(reads_of(path))}
    assert [places[header] for header, _ in train] == sorted(places[header] for header, _ in train)
    code = main(
        ["doctor", "--fasta", str(tmp_path / "out" / "train.fa"), "--val", str(tmp_path / "out" / "val.fa"), "-q",
         "--only", "split", "--fail-on", "warn"]
    )  # fmt: skip
    assert code == 0


def test_split_depends_on_the_seed_and_on_nothing_else(capsys, tmp_path, monkeypatch):
    path = written(tmp_path / "x.fa", fasta(pairs(300)))
    fixed(capsys, path, "--fix", "split", out=tmp_path / "one")
    fixed(capsys, path, "--fix", "split", "--seed", "1", out=tmp_path / "other")
    from metagene_doctor.repair import spill, split

    monkeypatch.setattr(split, "Spill", lambda place, name: spill.Spill(place, name, rows_in_memory=7))
    monkeypatch.setattr(split, "_CHUNK", 13)
    monkeypatch.setattr("metagene_doctor.repair.batches.iter_batches", small_batches)
    fixed(capsys, path, "--fix", "split", out=tmp_path / "again")
    one, again, other = ((tmp_path / name / "val.fa").read_bytes() for name in ("one", "again", "other"))
    assert one == again != other


def test_split_takes_two_files_as_one(capsys, tmp_path):
    reads = pairs(200)
    path, val = written(tmp_path / "a.fa", fasta(reads[::2])), written(tmp_path / "b.fa", fasta(reads[1::2]))
    manifest = fixed(capsys, path, "--val", val, "--fix", "split", out=tmp_path / "out")
    train, held = (reads_of(tmp_path / "out" / name) for name in ("train.fa", "val.fa"))
    assert not {header[:-2] for header, _ in train} & {header[:-2] for header, _ in held}
    assert [each["read"]["records"] for each in manifest["inputs"]] == [200, 200]
    assert len(train) + len(held) == 400


def test_split_follows_chains_of_ties_in_few_turns(capsys, tmp_path, monkeypatch):
    """The second mate of each of 500 fragments has the sequence of the next one's first, turned around."""
    from metagene_doctor.repair import split

    pool = sequences(501, 40)
    chain = [
        (f"lbl|0||40|c{i}/{mate}", pool[i] if mate == 1 else opposite(pool[i + 1]))
        for i in range(500)
        for mate in (1, 2)
    ]
    random.Random(2).shuffle(chain)
    path = written(tmp_path / "x.fa", fasta(chain + pairs(1500, classes=1, seed=7, length=40)))
    turns, spread = [], split._spread
    monkeypatch.setattr(split, "_spread", lambda *arguments: turns.append(0) or spread(*arguments))
    manifest = fixed(capsys, path, "--fix", "split", "--validation-share", "0.3", out=tmp_path / "out")
    sides = [
        {header.split("|")[4][0] for header, _ in reads_of(tmp_path / "out" / name)}
        for name in ("train.fa", "val.fa")
    ]
    assert sides.count({"c", "f"}) == 1 and sides.count({"f"}) == 1
    assert counts(manifest, "split")["fragments"] == 1 + 1500 - 300
    assert len(turns) < 30


def test_split_by_genome(capsys, tmp_path):
    reads = [
        (f"lbl|{genome % 3}||40|NC_{genome:06d}.{1 + genome % 2}-{i}/1", sequence)
        for genome in range(30)
        for i, sequence in enumerate(sequences(20, 40, genome))
    ]
    path = written(tmp_path / "x.fa", fasta(reads))
    manifest = fixed(capsys, path, "--fix", "split", "--split-by", "genome", out=tmp_path / "out")
    train, val = (
        {header.split("|")[4].split("-")[0] for header, _ in reads_of(tmp_path / "out" / name)}
        for name in ("train.fa", "val.fa")
    )
    assert len(train) == 27 and len(val) == 3 and not train & val
    assert counts(manifest, "split") == {"reads for validation": 60, "genomes": 30, "classes": 3}


def test_names_that_tell_no_genomes_apart_are_refused(capsys, tmp_path):
    path = written(tmp_path / "x.fa", fasta(random_reads(50)))
    code, _, err = fix(capsys, path, "--fix", "split", "--split-by", "genome", out=tmp_path / "out")
    assert code == 1 and "--genome-regex" in err
    regex = r"^read(?P<genome>\d)"
    fixed(
        capsys,
        path,
        "--fix",
        "split",
        "--split-by",
        "genome",
        "--genome-regex",
        regex,
        out=tmp_path / "other",
    )


def test_a_class_with_one_fragment_stays_in_training(capsys, tmp_path):
    reads = [*pairs(50, classes=1), ("lbl|9||4|alone/1", "ACGT"), ("lbl|9||4|alone/2", "GGCC")]
    path = written(tmp_path / "x.fa", fasta(reads))
    manifest = fixed(capsys, path, "--fix", "split", out=tmp_path / "out")
    assert counts(manifest, "split")["classes without validation reads"] == 1
    assert not any(header.startswith("lbl|9|") for header, _ in reads_of(tmp_path / "out" / "val.fa"))


def test_nothing_to_hold_out_is_refused(capsys, tmp_path):
    path = written(tmp_path / "x.fa", fasta(pairs(1)))
    code, _, err = fix(capsys, path, "--fix", "split", out=tmp_path / "out")
    assert code == 1 and "no read can be held out" in err


def test_shuffle_is_a_random_order_of_the_same_records(capsys, tmp_path, monkeypatch):
    reads = [(f"lbl|{i // 1000}||40|r{i}/1", s) for i, s in enumerate(sequences(4000, 40))]
    path = written(tmp_path / "x.fa", fasta(reads))
    fixed(capsys, path, "--fix", "shuffle", out=tmp_path / "one")
    made = reads_of(tmp_path / "one" / "x.fa")
    assert sorted(made) == sorted(reads) and made != reads
    order = scan(tmp_path / "one" / "x.fa", header=HeaderPattern()).class_order
    assert abs(order) < 0.05 < 0.9 < scan(path, header=HeaderPattern()).class_order
    # Every place gets records from everywhere: mean rank in each tenth is that of the whole, ± 5 sigma.
    ranks = [int(header.split("|")[4][1:-2]) for header, _ in made]
    for tenth in range(10):
        part = ranks[400 * tenth : 400 * (tenth + 1)]
        assert sum(part) / 400 == pytest.approx(2000, abs=5 * 4000 / 12**0.5 / 20)

    fixed(capsys, path, "--fix", "shuffle", "--seed", "5", out=tmp_path / "other")
    assert (tmp_path / "other" / "x.fa").read_bytes() != (tmp_path / "one" / "x.fa").read_bytes()
    from metagene_doctor.repair import shuffle, write

    monkeypatch.setattr(shuffle, "BUFFER_BYTES", 5000)
    monkeypatch.setattr(
        write, "Buckets", lambda place, size, seed: shuffle.Buckets(place, size, seed, bucket_bytes=10_000)
    )
    fixed(capsys, path, "--fix", "shuffle", out=tmp_path / "again")
    assert (tmp_path / "again" / "x.fa").read_bytes() == (tmp_path / "one" / "x.fa").read_bytes()


def test_split_and_shuffle_together_mix_classes_of_any_size(capsys, tmp_path):
    reads = [(f"lbl|{int(i % 50 == 0)}||40|r{i}/1", s) for i, s in enumerate(sequences(4000, 40))]
    path = written(tmp_path / "x.fa", fasta(reads))
    fixed(
        capsys, path, "--fix", "split", "--fix", "shuffle", "--validation-share", "0.5", out=tmp_path / "out"
    )
    ones = [i for i, (header, _) in enumerate(reads_of(tmp_path / "out" / "train.fa")) if header[4] == "1"]
    assert 600 < sum(ones) / len(ones) < 1400, "half of 2,000 records is expected"


# Plans, files, refusals


@pytest.fixture
def messy(tmp_path):
    reads = [(header, sequence.lower()) for header, sequence in random_reads(40)]
    content = fasta(reads).replace(b"\n", b"\r\n") + b">nothing\r\nACGT\r\n"
    return written(tmp_path / "messy.fa", content)


def test_a_dry_run_says_what_would_change_and_writes_nothing(capsys, tmp_path, messy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, out, _ = fix(capsys, messy, "--fix")
    assert code == 0
    assert f"letters: {40 * 150:,}; reads: 40" in out and "CR at the ends of lines: 80" in out
    assert "40 kept, 1 set aside" in out and "Nothing was written" in out
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {path for path in after if path != temporary} == {path for path in before if path != temporary}
    planned = json.loads(fix(capsys, messy, "--fix", "--json")[1])
    manifest = fixed(capsys, messy, "--fix", out=tmp_path / "out")
    assert planned["repairs"] == manifest["repairs"]
    assert planned["written"] is False and planned["outputs"] == []


def test_inputs_are_never_touched(capsys, tmp_path, messy):
    before = messy.read_bytes(), messy.stat().st_mtime_ns
    fixed(capsys, messy, "--fix", out=tmp_path / "out")
    assert (messy.read_bytes(), messy.stat().st_mtime_ns) == before


def test_what_was_repaired_passes_the_doctor_and_a_second_repair_changes_nothing(capsys, tmp_path, messy):
    fixed(capsys, messy, "--fix", out=tmp_path / "out")
    made = tmp_path / "out" / "messy.fa"
    assert main(["doctor", "--fasta", str(made), "--only", "data", "--fail-on", "warn", "-q"]) == 0
    again = fixed(capsys, made, "--fix", out=tmp_path / "again")
    assert again["repairs"][0]["counts"] == {}
    assert (tmp_path / "again" / "messy.fa").read_bytes() == made.read_bytes()


@pytest.mark.parametrize("pack", [gzip.compress, bgzf], ids=["gzip", "bgzf"])
def test_compressed_inputs_give_compressed_outputs_unless_told_otherwise(capsys, tmp_path, pack):
    content = fasta(random_reads(30))
    path = written(tmp_path / "x.fa.gz", pack(content.lower().replace(b">lbl", b">lbl")))
    fixed(capsys, path, "--fix", "uppercase", out=tmp_path / "out")
    assert gzip.decompress((tmp_path / "out" / "x.fa.gz").read_bytes()) == content
    fixed(capsys, path, "--fix", "uppercase", "--no-gzip", out=tmp_path / "plain")
    assert (tmp_path / "plain" / "x.fa").read_bytes() == content
    fixed(capsys, tmp_path / "plain" / "x.fa", "--fix", "uppercase", "--gzip", out=tmp_path / "packed")
    assert gzip.decompress((tmp_path / "packed" / "x.fa.gz").read_bytes()) == content


def test_a_cut_gzip_file_is_salvaged_only_when_asked_for(capsys, tmp_path):
    content = fasta(random_reads(2000))
    packed = gzip.compress(content)
    path = written(tmp_path / "x.fa.gz", packed[: len(packed) // 2])
    code, _, err = fix(capsys, path, "--fix", out=tmp_path / "out")
    assert code == 1
    assert f"the file ends at byte {len(packed) // 2:,}" in err and "--salvage" in err
    assert not (tmp_path / "out" / "x.fa.gz").exists()
    manifest = fixed(capsys, path, "--fix", "uppercase", "--salvage", out=tmp_path / "salvaged")
    reads = reads_of(tmp_path / "salvaged" / "x.fa.gz")
    assert reads == random_reads(2000)[: len(reads)] and len(reads) > 900
    assert counts(manifest, "drop-damaged") == {"the file ends inside the record": 1}


def test_two_files_are_repaired_side_by_side(capsys, tmp_path):
    train, val = tmp_path / "a" / "reads.fa", tmp_path / "b" / "reads.fa"
    for path in (train, val):
        path.parent.mkdir()
        write_reads(path, [sequence.lower() for sequence in sequences(9)], name=path.parent.name)
    fixed(capsys, train, "--val", val, "--fix", "uppercase", out=tmp_path / "out")
    assert (tmp_path / "out" / "train-reads.fa").read_text().count(">") == 9
    assert "|b0/1" in (tmp_path / "out" / "val-reads.fa").read_text()


def test_files_of_a_config_are_repaired(capsys, tmp_path, messy):
    config = written(tmp_path / "c.yaml", f"dataset:\n  train_fasta: {messy}\n")
    assert main(["doctor", "--config", str(config), "--fix", "-o", str(tmp_path / "out"), "-q"]) == 0
    assert (tmp_path / "out" / "messy.fa").exists() and capsys.readouterr().out == ""


@pytest.mark.parametrize("what", ["finished", "other files", "a file", "other options", "other input"])
def test_existing_output_is_refused(capsys, tmp_path, messy, what, monkeypatch):
    out = tmp_path / "out"
    arguments = ["--fix"]
    if what == "finished":
        fixed(capsys, messy, "--fix", out=out)
    elif what == "other files":
        out.mkdir()
        written(out / "notes.txt", "mine")
    elif what == "a file":
        written(out, "mine")
    else:
        interrupted_at_write(capsys, messy, out, monkeypatch)
        if what == "other options":
            arguments += ["--seed", "4"]
        else:
            messy.write_bytes(messy.read_bytes() + b">lbl|1|||more/1\nACGT\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, _, err = fix(capsys, messy, *arguments, out=out)
    assert code == 2 and str(out) in err and len(err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def interrupted_at_write(capsys, path, out, monkeypatch, *arguments):
    from metagene_doctor.repair import run

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "write", interrupted)
        assert fix(capsys, path, "--fix", *arguments, out=out)[0] == 130


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_is_noticed_before_the_first_byte(capsys, tmp_path, messy, monkeypatch, there):
    if there:
        (tmp_path / "out").mkdir()
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9, 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    code, _, err = fix(capsys, messy, "--fix", out=tmp_path / "out")
    assert code == 2 and "100 bytes are free" in err
    assert (tmp_path / "out").exists() == there and not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fix", "uppercas"), "uppercase"),
        (("--salvage",), "--fix"),
        (("-o", "somewhere"), "--fix"),
        (("--fix", "split", "--validation-share", "1.5"), "--validation-share"),
        (("--fix", "split", "--genome-regex", "("), "--genome-regex"),
        (("--fix", "split", "--genome-regex", "x"), "group"),
        (("--fix", "--header-regex", "x"), "class_id"),
    ],
)
def test_usage_errors_are_exit_2(capsys, messy, arguments, message):
    code, _, err = fix(capsys, messy, *arguments)
    assert code == 2 and message in err


def test_a_repair_without_reads_is_a_usage_error(capsys):
    assert main(["doctor", "--fix"]) == 2
    assert "--fasta" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\n\n", None])
def test_input_that_holds_no_reads_is_exit_2(capsys, tmp_path, content):
    path = tmp_path / "x.fa"
    if content is not None:
        path.write_bytes(content)
    code, _, err = fix(capsys, path, "--fix", out=tmp_path / "out")
    assert code == 2 and str(path) in err
    assert not (tmp_path / "out").exists()


def test_the_same_file_twice_and_two_kinds_are_refused(capsys, tmp_path, messy):
    code, _, err = fix(capsys, messy, "--val", messy, "--fix", out=tmp_path / "out")
    assert code == 2 and "twice" in err
    other = written(tmp_path / "x.fq", fastq(random_reads(3)))
    code, _, err = fix(capsys, messy, "--val", other, "--fix", "split", out=tmp_path / "out")
    assert code == 2 and "FASTQ" in err


def test_a_file_without_a_single_usable_read_is_exit_1(capsys, tmp_path):
    path = written(tmp_path / "x.fa", ">a\nACGT\n>b\nAC\n")
    code, _, err = fix(capsys, path, "--fix", out=tmp_path / "out")
    assert code == 1 and "none of 2 records" in err and "does not start with lbl|" in err


def test_an_unusable_mapping_is_exit_1(capsys, tmp_path, messy):
    mapping = written(tmp_path / "labels.tsv", "a\tb\n")
    assert fix(capsys, messy, "--mapping", mapping, "--fix")[0] == 1


def test_a_failed_recheck_is_exit_1_and_nothing_gets_its_name(capsys, tmp_path, messy, monkeypatch):
    from metagene_doctor.repair import run

    monkeypatch.setattr(run, "recheck", lambda *_: ["messy.fa: 39 records instead of 40"])
    code, out, _ = fix(capsys, messy, "--fix", out=tmp_path / "out")
    assert code == 1 and "39 records instead of 40" in out and "NOT REPAIRED" in out
    assert not (tmp_path / "out" / "messy.fa").exists()
    monkeypatch.undo()
    fixed(capsys, messy, "--fix", out=tmp_path / "out")


def test_the_recheck_notices_what_a_repair_left_behind(capsys, tmp_path, messy, monkeypatch):
    from metagene_doctor.repair.letters import Letters

    monkeypatch.setattr(Letters, "apply", lambda self, draft: None)
    code, out, _ = fix(capsys, messy, "--fix", out=tmp_path / "out")
    assert code == 1 and "still 6,000 lower-case bases" in out


def test_counts_that_do_not_balance_are_not_published(capsys, tmp_path, messy, monkeypatch):
    from metagene_doctor.repair.draft import Draft

    lossy = Draft.tally

    def losing(draft, into):
        lossy(draft, into)
        draft.batch.layout.length[:1] += 1

    monkeypatch.setattr(Draft, "tally", losing)
    code, _, err = fix(capsys, messy, "--fix", out=tmp_path / "out")
    assert code == 1 and err
    assert not (tmp_path / "out" / "messy.fa").exists()


# What findings advise


def advised(capsys, *arguments):
    """(finding, repairs it names) -> the command, of a doctor's report."""
    main(["doctor", *map(str, arguments), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {
        (finding["id"], *re.findall(r"--fix (\S+)", command)): command
        for finding in findings
        for command in (finding["remedy"] or {"commands": ()})["commands"]
        if command.startswith("metagene doctor --fasta") and " --fix " in command
    }


def follow(command, out):
    words = shlex.split(command)
    assert words[0] == "metagene" and words[-2:] == ["-o", "repaired"]
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
        ("C05", "split"),
        ("F05", "line-ends"),
        ("F07", "headers", "drop-damaged"),
        ("F09", "uppercase"),
        ("F10", "u-to-t"),
        ("F11", "line-ends", "iupac-to-n"),
        ("F12", "drop-damaged"),
        ("F13", "drop-damaged"),
        ("F13", "headers"),
        ("F14", "headers"),
        ("F15", "deduplicate"),
        ("L02", "drop-damaged"),
        ("C05", "split"),
    }
    follow(named.pop(("C05", "split")), tmp_path / "split")
    assert (tmp_path / "split" / "val.fa").exists()
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
    follow(advised(capsys, "--fasta", path)["F02", "drop-damaged"], tmp_path / "out")
    copy = tmp_path / "out" / path.name
    assert ("F02", "drop-damaged") not in advised(capsys, "--fasta", copy)
    assert reads_of(copy) == random_reads(500)[: len(reads_of(copy))] != []


def test_commands_name_all_files_of_a_side(capsys, tmp_path):
    reads = pairs(300, classes=1)
    for number in range(3):
        written(tmp_path / f"lane {number}.fa", fasta(reads[200 * number :][:200]))
    others = [(f"lbl|8|1|80|other{n}/1", s) for n, s in enumerate(sequences(30, 80, 5))]
    val = written(tmp_path / "v.fa", fasta(reads[:100] + others))
    pattern = tmp_path / "lane *.fa"
    named = advised(capsys, "--fasta", pattern, "--val", val)
    assert {
        ("V02", "split"),
        ("V06", "split"),
        ("F15", "deduplicate"),
    } <= set(named)
    for finding in [("V06", "split"), ("F15", "deduplicate")]:
        assert shlex.quote(str(pattern)) in named[finding]
        follow(named[finding], tmp_path / finding[0])
    assert [path.name for path in sorted((tmp_path / "F15").glob("*.fa"))] == [
        f"lane {n}.fa" for n in range(3)
    ]
    after = advised(capsys, "--fasta", tmp_path / "F15" / "lane *.fa")
    assert ("F15", "deduplicate") not in after and ("C05", "split") in after
    follow(after["C05", "split"], tmp_path / "C05")
    after = advised(capsys, "--fasta", tmp_path / "V06" / "train.fa", "--val", tmp_path / "V06" / "val.fa")
    assert not {name for name in after if name[0][0] == "V"}
    # A file of both sides is given once.
    again = advised(capsys, "--fasta", pattern, "--val", tmp_path / "lane 1.fa", "--val", val)["V01", "split"]
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
    assert set(named) == {("V02", "split"), ("V03", "split"), ("L07", "shuffle"), ("F15", "deduplicate")}
    named.pop(("F15", "deduplicate"))
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
