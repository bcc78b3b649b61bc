"""``metagene doctor --fix``: plans, files, refusals and exit codes."""

import gzip
import json
import random
import shutil

import pytest
from doctor_fixtures import sequences, write_reads
from reads_fixtures import bgzf, fasta, fastq, random_reads, written
from repair_fixtures import counts, fix, fixed, quick_disk, reads_of

from metagene_doctor.cli.main import main
from metagene_doctor.facts.reads.places import read_pieces
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.ranges import split
from metagene_train.reads.records.formats import sniff
from metagene_train.reads.scan import scan

__all__ = ["quick_disk"]


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
    assert sniff(tmp_path / "out" / "x.fa.gz").compression == "bgzf"
    assert gzip.decompress((tmp_path / "out" / "x.fa.gz").read_bytes()) == content
    fixed(capsys, path, "--fix", "uppercase", "--no-gzip", out=tmp_path / "plain")
    assert (tmp_path / "plain" / "x.fa").read_bytes() == content
    fixed(capsys, tmp_path / "plain" / "x.fa", "--fix", "uppercase", "--gzip", out=tmp_path / "packed")
    assert gzip.decompress((tmp_path / "packed" / "x.fa.gz").read_bytes()) == content


def test_compressed_outputs_are_blocks_that_are_read_in_parallel_and_at_random_places(capsys, tmp_path):
    reads = random_reads(4000)
    # Qualities that do not compress, and blocks that are full to the byte.
    source = random.Random(5)
    noise = ["".join(chr(source.randrange(33, 127)) for _ in range(150)) for _ in reads]
    content = "".join(f"@{h}\n{s}\n+\n{q}\n" for (h, s), q in zip(reads, noise, strict=True)).encode()
    path = written(tmp_path / "x.fq.gz", gzip.compress(content))
    fixed(capsys, path, "--fix", out=tmp_path / "out")
    made = tmp_path / "out" / "x.fq.gz"
    assert gzip.decompress(made.read_bytes()) == content
    whole = scan(made, header=HeaderPattern())
    several = scan(made, header=HeaderPattern(), processes=2, range_bytes=1 << 18)
    assert not whole.problems and whole.records == several.records == 4000
    assert split(made, sniff(made), 1 << 18)[1:], "the file is cut into ranges"
    pieces = read_pieces(made, "fastq", blocked=True)
    assert pieces.places and not pieces.damage


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


def test_a_repair_that_was_killed_when_it_had_finished_says_so(capsys, tmp_path, messy):
    fixed(capsys, messy, "--fix", out=tmp_path / "out")
    code, _, err = fix(capsys, messy, "--fix", out=tmp_path / "out")
    assert code == 2 and "holds this repair, finished; nothing is left to do" in err
    code, _, err = fix(capsys, messy, "--fix", "uppercase", out=tmp_path / "out")
    assert code == 2 and "choose another directory" in err
    written(tmp_path / "out" / "manifest.json", b"\xff{")
    code, _, err = fix(capsys, messy, "--fix", out=tmp_path / "out")
    assert code == 2 and "cannot be read" in err


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
