"""``metagene doctor --fix`` over several files: decided together, counted one by one."""

import bz2
import gzip
import json
import lzma
import shutil

import pytest
import zstandard
from doctor_fixtures import opposite, sequences
from reads_fixtures import bgzf, fasta, fastq, random_reads, written
from repair_fixtures import counts, fix, fixed, made, pairs, quick_disk, reads_of

from metagene_doctor.cli.main import main
from metagene_doctor.repair.plan import told_apart
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan

__all__ = ["quick_disk"]

PACKED = {
    ".fa": bytes,
    ".fa.gz": gzip.compress,
    ".fa.bgz": bgzf,
    ".fa.zst": zstandard.ZstdCompressor().compress,
    ".fa.xz": lzma.compress,
    ".fa.bz2": bz2.compress,
}


def parts(tmp_path, reads, names):
    """The reads dealt to as many files as there are names, one after the other."""
    size = -(-len(reads) // len(names))
    paths = []
    for number, name in enumerate(names):
        suffix = "." + name.partition(".")[2]
        content = fasta(reads[number * size : (number + 1) * size])
        paths.append(written(tmp_path / name, PACKED[suffix](content)))
    return paths


def unpacked(path):
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def test_every_file_keeps_its_name_and_has_its_balance(capsys, tmp_path):
    reads = random_reads(60, length=40)
    names = [f"lane{number}{suffix}" for number, suffix in enumerate(PACKED)]
    paths = parts(tmp_path, [(header, sequence.lower()) for header, sequence in reads], names)
    written(paths[0], paths[0].read_bytes() + b">nothing\nACGT\n")
    manifest = fixed(capsys, paths, "--fix", out=tmp_path / "out")
    outputs = ["lane0.fa", *(f"lane{number}.fa.gz" for number in range(1, 6))]
    assert [each["outputs"] for each in manifest["inputs"]] == [[name] for name in outputs]
    assert [one["name"] for one in manifest["outputs"]] == outputs
    for number, name in enumerate(outputs):
        assert unpacked(tmp_path / "out" / name) == fasta(reads[10 * number : 10 * number + 10])
    assert [each["read"]["records"] for each in manifest["inputs"]] == [11] + [10] * 5
    assert [each["set_aside"]["records"] for each in manifest["inputs"]] == [1] + [0] * 5
    assert manifest["total"]["read"] == {"records": 61, "bases": 60 * 40 + 4}
    assert manifest["total"]["written"] == {"records": 60, "bases": 60 * 40}
    assert counts(manifest, "uppercase") == {"letters": 60 * 40, "reads": 60}


def test_the_quarantine_names_the_file_of_origin(capsys, tmp_path):
    paths = [
        written(tmp_path / "a.fa", ">lbl|0||4|a/1\nACGT\n>bad one\nACGT\n"),
        written(tmp_path / "b.fq", "@lbl|0||4|b/1\nACGT\n+\nIIII\n@bad two\nACGT\n+\nIIII\n"),
        written(tmp_path / "c\td\n.fa", ">lbl|0||4|c/1\nACGT\n>lbl|0||0|bad/1\n\n"),
    ]
    manifest = fixed(capsys, paths, "--fix", out=tmp_path / "out")
    rows = [line.split("\t") for line in (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()]
    assert [(row[0], row[1], row[2]) for row in rows[1:]] == [
        (str(paths[0]), "2", "3"),
        (str(paths[1]), "2", "5"),
        (str(tmp_path / "c") + "\\td\\n.fa", "2", "3"),
    ]
    assert sorted(manifest["quarantine"]) == ["quarantine.fa", "quarantine.fq", "quarantine.tsv"]
    assert (tmp_path / "out" / "quarantine.fa").read_text() == ">bad one\nACGT\n>lbl|0||0|bad/1\n\n"
    assert (tmp_path / "out" / "quarantine.fq").read_text() == "@bad two\nACGT\n+\nIIII\n"


def test_copies_and_repeated_names_are_found_across_files(capsys, tmp_path):
    one, two, three = sequences(3)
    paths = [
        written(tmp_path / "a.fa", fasta([("lbl|0|||x/1", one), ("lbl|0|||y/1", two)])),
        written(tmp_path / "b.fa", fasta([("lbl|0|||x/1", three), ("lbl|0|||z/1", opposite(one))])),
        written(tmp_path / "c.fq", fastq([("lbl|0|||x/1", "ACGTACGT"), ("lbl|0|||w/1", two)])),
    ]
    manifest = fixed(capsys, paths, "--fix", "deduplicate", "--fix", "headers", out=tmp_path / "out")
    out = tmp_path / "out"
    assert reads_of(out / "a.fa") == [("lbl|0|||x/1", one), ("lbl|0|||y/1", two)]
    assert reads_of(out / "b.fa") == [("lbl|0|||x-copy2/1", three)]
    assert reads_of(out / "c.fq") == [("lbl|0|||x-copy3/1", "ACGTACGT")]
    assert [each["copies"]["records"] for each in manifest["inputs"]] == [0, 1, 1]
    assert manifest["total"]["copies"]["records"] == 2
    assert counts(manifest, "headers") == {"repeated names made unique": 2}


def test_a_dry_run_foretells_what_is_written_of_each_file(capsys, tmp_path):
    reads = random_reads(60, classes=2)
    paths = [
        written(tmp_path / "a.fa", fasta(reads[:40])),
        written(tmp_path / "b.fa", fasta([*reads[20:50], *reads[:5]])),
        written(tmp_path / "c.fa", fasta([("no class", "ACGT"), *reads[50:], reads[55]])),
    ]
    plan = ["--fix", "--fix", "deduplicate"]
    code, out, _ = fix(capsys, paths, *plan, "--json")
    assert code == 0
    foretold = json.loads(out)
    manifest = fixed(capsys, paths, *plan, out=tmp_path / "out")
    parts = ("read", "written", "set_aside", "copies", "blanks", "balances")
    assert [[each[part] for part in parts] for each in foretold["inputs"]] == [
        [each[part] for part in parts] for each in manifest["inputs"]
    ]
    assert [each["copies"]["records"] for each in manifest["inputs"]] == [0, 25, 1]
    assert foretold["total"] == manifest["total"]
    _, text, _ = fix(capsys, paths, *plan)
    assert "60 kept, 1 set aside (1.1 %), 26 copies left out (29.9 %) of 87 records" in text


def test_a_file_of_which_nothing_is_left_gives_none(capsys, tmp_path):
    reads = random_reads(4)
    paths = [written(tmp_path / name, fasta(reads)) for name in ("a.fa", "b.fa")]
    written(paths[1], fasta(reads[:2]))
    code, out, _ = fix(capsys, paths, "--fix", "deduplicate", out=tmp_path / "out")
    assert code == 0 and f"nothing of {paths[1]} is left" in out
    assert sorted(made(tmp_path / "out")) == ["a.fa", "manifest.json"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [each["outputs"] for each in manifest["inputs"]] == [["a.fa"], []]


@pytest.mark.parametrize("repairs", [["split"], ["shuffle"], ["split", "shuffle"], ["split", "deduplicate"]])
def test_files_split_and_shuffled_together_are_as_one_file(capsys, tmp_path, repairs):
    reads = pairs(300)
    paths = parts(tmp_path, reads, ["a.fa", "b.fa.gz", "c.fa.zst"])
    options = [word for repair in repairs for word in ("--fix", repair)]
    whole = written(tmp_path / "train.fa", fasta(reads))
    fixed(capsys, whole, *options, "--no-gzip", out=tmp_path / "one")
    manifest = fixed(capsys, paths, *options, "--no-gzip", out=tmp_path / "several")
    names = ["train.fa", "val.fa"] if "split" in repairs else ["train.fa"]
    assert [one["name"] for one in manifest["outputs"]] == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()
    assert [each["read"]["records"] for each in manifest["inputs"]] == [200, 200, 200]
    assert all(each["outputs"] == names for each in manifest["inputs"])
    if "shuffle" in repairs:
        assert abs(scan(tmp_path / "several" / names[0], header=HeaderPattern()).class_order) < 0.2
    packed = fixed(capsys, paths, *options, out=tmp_path / "packed")
    assert [one["name"] for one in packed["outputs"]] == [f"{name}.gz" for name in names]


def test_sides_are_repaired_apart(capsys, tmp_path):
    reads = random_reads(40)
    train = parts(tmp_path, reads[:30], ["t1.fa", "t2.fa", "t3.fa"])
    (tmp_path / "v").mkdir()
    val = parts(tmp_path / "v", reads[20:], ["t1.fa", "v2.fa"])
    arguments = ["--val", val[0], "--val", val[1]]
    manifest = fixed(capsys, train, *arguments, "--fix", "deduplicate", out=tmp_path / "out")
    names = ["train-t1.fa", "t2.fa", "t3.fa", "val-t1.fa", "v2.fa"]
    assert [one["name"] for one in manifest["outputs"]] == names
    assert manifest["total"]["copies"]["records"] == 0, "a copy on the other side is what split is for"
    manifest = fixed(capsys, train, *arguments, "--fix", "shuffle", out=tmp_path / "shuffled")
    assert [(one["name"], one["records"]) for one in manifest["outputs"]] == [
        ("train.fa", 30),
        ("val.fa", 20),
    ]
    assert sorted(reads_of(tmp_path / "shuffled" / "train.fa")) == sorted(reads[:30])
    manifest = fixed(capsys, train, "--val", val[0], "--fix", "shuffle", out=tmp_path / "mixed")
    assert [one["name"] for one in manifest["outputs"]] == ["train.fa", "t1.fa"]


def test_patterns_and_lists_of_a_config(capsys, tmp_path):
    parts(tmp_path, random_reads(9), ["p1.fa", "p2.fa", "p3.fa.gz"])
    assert len(fixed(capsys, tmp_path / "p*", "--fix", out=tmp_path / "pattern")["inputs"]) == 3
    config = written(
        tmp_path / "c.yaml",
        f"dataset:\n  train_fasta: [{tmp_path}/p1.fa]\n  val_fasta: '{tmp_path}/p[23].*'\n",
    )
    assert main(["doctor", "--config", str(config), "--fix", "-o", str(tmp_path / "config"), "-q"]) == 0
    assert sorted(made(tmp_path / "config")) == ["manifest.json", "p1.fa", "p2.fa", "p3.fa.gz"]


@pytest.mark.parametrize(
    ("files", "taken", "names"),
    [
        ([("train", "a/x.fa"), ("train", "b/y.fa.gz")], [], ["x.fa", "y.fa"]),
        ([("train", "a/x.fa"), ("val", "b/x.fa.gz")], [], ["train-x.fa", "val-x.fa"]),
        ([("train", "a/x.fa"), ("train", "b/x.fa"), ("val", "c/x.fa")], [], ["a-x.fa", "b-x.fa", "c-x.fa"]),
        ([("train", "a/X.fa"), ("train", "a/x.fa.zst")], [], ["1-X.fa", "2-x.fa"]),
        ([("train", "a/x.fa"), ("train", "b/x.fa"), ("train", "a-x.fa")], [], ["a-x.fa", "b-x.fa", "3-a-x.fa"]),
        ([("val", "a/train.fa")], ["train.fa.gz"], ["1-train.fa"]),
        ([("train", "manifest.json"), ("train", ".metagene-repair"), ("train", ".gz")], [],
         ["repaired-manifest.json", "repaired-.metagene-repair", "reads"]),
        ([("train", "x.fa.partial"), ("train", "x.fa")], [], ["1-x.fa", "2-x.fa"]),
        ([("train", "n" * 250 + ".fa")], [], ["n" * 197 + ".fa"]),
    ],
)  # fmt: skip
def test_new_names_differ_and_are_never_the_repair_s_own(tmp_path, files, taken, names):
    assert told_apart([(role, tmp_path / path) for role, path in files], taken) == names


def test_two_kinds_are_repaired_side_by_side_and_never_joined(capsys, tmp_path):
    paths = [
        written(tmp_path / "a.fa", fasta(random_reads(5)).lower().replace(b">lbl", b">lbl")),
        written(tmp_path / "b.fq", fastq(random_reads(5, seed=1))),
    ]
    manifest = fixed(capsys, paths, "--fix", out=tmp_path / "out")
    assert [one["name"] for one in manifest["outputs"]] == ["a.fa", "b.fq"]
    for repair in ("split", "shuffle"):
        code, _, err = fix(capsys, paths, "--fix", repair, out=tmp_path / "no")
        assert code == 2 and str(paths[0]) in err and str(paths[1]) in err
        assert not (tmp_path / "no").exists()


def test_a_dry_run_tells_of_every_file_and_of_the_disk(capsys, tmp_path):
    paths = parts(tmp_path, random_reads(50), [f"{number}.fa" for number in range(25)])
    code, out, _ = fix(capsys, paths, "--fix", "shuffle", "--fix", "uppercase")
    assert code == 0
    assert f"{paths[0]} (fasta): 2 records, 300 bp" in out and "... and 5 more files" in out
    assert "50 kept of 50 records → train.fa" in out
    needed = 2 * sum(path.stat().st_size for path in paths)
    assert f"{needed // 1000}." in out.split("It would take up to ")[1]
    planned = json.loads(fix(capsys, paths, "--fix", "shuffle", "--fix", "uppercase", "--json")[1])
    assert len(planned["inputs"]) == 25 and planned["total"]["read"]["records"] == 50
    both = fix(capsys, paths, "--val", parts(tmp_path, random_reads(5), ["v.fa"])[0], "--fix")[1]
    assert "In all: 55 kept of 55 records" in both


def test_the_disk_is_checked_for_the_sum(capsys, tmp_path, monkeypatch):
    reads = random_reads(4000)
    paths = parts(tmp_path, reads, ["a.fa", "b.fa.gz", "c.fa"])
    size = len(fasta(reads))
    usage = type(shutil.disk_usage(tmp_path))

    def with_free(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 0, free))
        return fix(capsys, paths, "--fix", "uppercase", out=tmp_path / "out")

    # Two files as they are and one packed to less than half, 5 bytes of notes a read.
    code, _, err = with_free(int(0.8 * size))
    assert code == 2 and "are free" in err and not (tmp_path / "out").exists()
    assert with_free(int(0.9 * size))[0] == 0


def test_one_damaged_file_of_several_stops_before_anything_is_published(capsys, tmp_path):
    paths = parts(tmp_path, random_reads(30), ["a.fa", "b.fa.gz", "c.fa"])
    written(paths[1], paths[1].read_bytes()[:-20])
    code, _, err = fix(capsys, paths, "--fix", out=tmp_path / "out")
    assert code == 1 and str(paths[1]) in err and "--salvage" in err
    assert not (tmp_path / "out" / "a.fa").exists()
    manifest = fixed(capsys, paths, "--fix", "--salvage", out=tmp_path / "salvaged")
    assert [each["read"]["records"] for each in manifest["inputs"]][::2] == [10, 10]


def test_more_files_than_a_process_may_open(capsys, tmp_path):
    import resource

    paths = [written(tmp_path / f"{n}.fa", f">lbl|{n}||4|a/1\nACGT\n") for n in range(150)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        manifest = fixed(capsys, paths, "--fix", out=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(manifest["outputs"]) == 150


def test_repairs_with_commas_between_them(capsys, tmp_path):
    path = written(tmp_path / "t.fa", fasta(pairs(40, classes=2)))
    apart = fixed(capsys, path, "--fix", "deduplicate", "--fix", "split", out=tmp_path / "apart")
    together = fixed(capsys, path, "--fix", "split,deduplicate", out=tmp_path / "together")
    assert (
        together["key"] == apart["key"]
        and made(tmp_path / "together").keys() == made(tmp_path / "apart").keys()
    )
    code, _, err = fix(capsys, path, "--fix", "split,dedup")
    assert code == 2 and "no repair 'dedup'" in err


def test_a_split_says_what_it_leaves_out_of_each_side(capsys, tmp_path):
    """What is done to the training reads is done to validation reads that a split brings in."""
    pool = sequences(40)

    def named(numbers, name):
        return [(f"lbl|{n % 2}|1|60|{name}{n}", pool[n]) for n in numbers]

    train = written(tmp_path / "t.fa", fasta([*named(range(20), "t"), *named(range(3), "again")]))
    # Five training reads, one of them on the other strand and once more; one read of its own twice.
    strange = [
        ("lbl|0|1|60|reverse", opposite(pool[0])),
        ("lbl|0|1|60|n", "N" * 60),
        ("nothing", "ACGT"),
    ]
    val = written(
        tmp_path / "v.fa",
        fasta([*named(range(20, 40), "v"), *named(range(4), "w"), *strange, *named([20], "again")]),
    )
    repairs = ("--val", val, "--fix", "drop-damaged", "--fix", "deduplicate", "--fix", "split")
    code, dry, _ = fix(capsys, train, *repairs)
    assert code == 0
    assert "copies left out: 9; of these, validation reads that repeat a training read: 5" in dry
    assert "of --fasta: 20 kept, 3 copies left out (13.0 %) of 23 records" in dry
    assert "of --val: 20 kept, 2 set aside (7.1 %), 6 copies left out (21.4 %) of 28 records" in dry
    out = tmp_path / "out"
    manifest = fixed(capsys, train, *repairs, out=out)
    sides = {each["side"]: each for each in manifest["inputs"]}
    assert sides["train"]["copies"]["records"] == 3 and sides["val"]["copies"]["records"] == 6
    assert sides["val"]["set_aside"]["records"] == 2 and sides["train"]["set_aside"]["records"] == 0
    assert len(reads_of(out / "train.fa")) + len(reads_of(out / "val.fa")) == 40
    aside = [line.split("\t")[0] for line in (out / "quarantine.tsv").read_text().splitlines()[1:]]
    assert aside == [str(val)] * 2
    # Copies of the training reads are still there when each side is repaired for itself.
    alone = fixed(capsys, train, *repairs[:-2], out=tmp_path / "alone")
    assert {each["side"]: each["copies"]["records"] for each in alone["inputs"]} == {"train": 3, "val": 2}
