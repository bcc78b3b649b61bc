"""``metagene doctor --fix``: what is decided of all records together (copies, split, shuffle)."""

import json
import random

import pytest
from doctor_fixtures import opposite, sequences
from reads_fixtures import fasta, random_reads, written
from repair_fixtures import counts, fix, fixed, pairs, quick_disk, reads_of

from metagene_doctor.cli.main import main
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan

__all__ = ["quick_disk"]


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
    from metagene_train.reads.records.batches import iter_batches

    return iter_batches(source, form, 4000)


# Split and shuffle


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


def test_a_name_too_narrow_for_its_number_is_refused_before_anything_is_changed(capsys, tmp_path):
    path = written(tmp_path / "x.fa", fasta([("1 abcd", sequence) for sequence in sequences(10)]))
    before = path.read_bytes()
    regex = r"^(?P<class_id>\d+) (?P<name>[\w-]{1,10})$"
    code, _, error = fix(capsys, path, "--header-regex", regex, "--fix", out=tmp_path / "out")
    assert code == 1 and "record 10: repeats an earlier header" in error and "-copy10" in error
    assert path.read_bytes() == before and not (tmp_path / "out" / "x.fa").exists()


def test_repeated_headers_that_a_pattern_leaves_no_place_in_are_left_and_told(capsys, tmp_path):
    """Headers of the class alone: a number would be part of it. The other repairs are made all the same."""
    regex = r"^(?P<class_id>\d+)$"
    path = written(tmp_path / "x.fa", fasta([(str(n % 2), s.lower()) for n, s in enumerate(sequences(20))]))
    code, out, _ = fix(capsys, path, "--header-regex", regex, "--fix")
    assert (
        code == 0 and "left, repeated: the header pattern has no group (?P<name>...) for a number: 18" in out
    )
    manifest = fixed(capsys, path, "--header-regex", regex, "--fix", out=tmp_path / "out")
    (left,) = counts(manifest, "headers").items()
    assert left == ("left, repeated: the header pattern has no group (?P<name>...) for a number", 18)
    assert reads_of(tmp_path / "out" / "x.fa") == [(header, s.upper()) for header, s in reads_of(path)]
    main(["doctor", "--fasta", str(path), "--header-regex", regex, "--only", "F14", "--json"])
    (found,) = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["id"] == "F14"]
    assert (
        found["count"] == 18
        and not found["remedy"]["commands"]
        and "(?P<name>...)" in found["remedy"]["text"]
    )
