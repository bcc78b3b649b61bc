"""The command that a report ends with: copied as it is, it goes on with what the doctor looked at."""

import gzip
import shlex
from pathlib import Path

import pytest
from doctor_command import doctor
from doctor_fixtures import sequences, write_mapping
from reads_fixtures import fasta, written
from repair_fixtures import quick_disk, reads_of

import metagene_doctor
from metagene_doctor.cli.main import main
from metagene_train.config_file import load_config

__all__ = ["quick_disk"]

QUICK = ("--only", "data", "--only", "config")


@pytest.fixture
def reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mapping(tmp_path / "labels.tsv", 2)
    records = [(f"lbl|{n % 2}|{100 + n % 2}|60|r{n}/1", s) for n, s in enumerate(sequences(80))]
    return written(tmp_path / "my reads.fa", fasta(records)).name


def next_commands(capsys, *arguments):
    code, out, _ = doctor(capsys, *arguments, "--fail-on", "error")
    assert code == 0, out
    verdict = out.strip().splitlines()[-1]
    assert verdict.startswith("READY") and " Next: " in verdict
    return [shlex.split(command) for command in verdict.partition(" Next: ")[2].split(" && ")]


def test_validation_reads_that_are_missing_are_made_and_taken_along(capsys, reads, tmp_path):
    split, autotune = next_commands(capsys, "--fasta", reads, "--mapping", "labels.tsv", *QUICK)
    assert main([*split[1:], "-q"]) == 0
    assert autotune[:2] == ["metagene", "autotune"]
    given = dict(zip(autotune[2::2], autotune[3::2], strict=True))
    assert given["--mapping"] == "labels.tsv"
    sides = [len(reads_of(tmp_path / given[option])) for option in ("--fasta", "--val")]
    assert sum(sides) == 80 and sides[1] == 8
    # With them nothing is missing, and there is nothing to do first.
    (again,) = next_commands(
        capsys, "--fasta", given["--fasta"], "--val", given["--val"], "--mapping", "labels.tsv", *QUICK
    )
    assert again == autotune


def test_packed_fastq_is_split_into_packed_fastq(capsys, reads, tmp_path):
    text = "".join(f"@{header}\n{s}\n+\n{'I' * len(s)}\n" for header, s in reads_of(tmp_path / reads))
    written(tmp_path / "reads.fq.gz", gzip.compress(text.encode()))
    split, autotune = next_commands(capsys, "--fasta", "reads.fq.gz", *QUICK)
    assert main([*split[1:], "-q"]) == 0
    for option in ("--fasta", "--val"):
        assert (tmp_path / autotune[autotune.index(option) + 1]).is_file()


def test_with_a_config_the_run_gets_them(capsys, reads, tmp_path):
    (tmp_path / "c.yaml").write_text(f"dataset:\n  train_fasta: {reads}\n  mapping_tsv: labels.tsv\n")
    split, train = next_commands(capsys, "--config", "c.yaml", *QUICK)
    assert main([*split[1:], "-q"]) == 0
    assert train[:4] == ["metagene", "train", "--config", "c.yaml"]
    dataset = load_config(train[3], train[4:]).config.dataset
    assert len(reads_of(tmp_path / dataset.train_fasta)) + len(reads_of(tmp_path / dataset.val_fasta)) == 80


def test_reads_of_a_pipe_have_to_be_saved_and_split_by_their_owner(capsys, reads, tmp_path, monkeypatch):
    with (tmp_path / reads).open() as file:
        monkeypatch.setattr("sys.stdin", file)
        (autotune,) = next_commands(capsys, "--fasta", "-", *QUICK)
    assert autotune[2:6] == ["--fasta", "train.fa", "--val", "val.fa"]


def test_who_ignores_it_or_does_not_ask_gets_none(capsys, reads, tmp_path):
    ignored = written(tmp_path / "ignored.yaml", "- id: C05\n  reason: a probe of the speed\n")
    for more in (("--ignore", ignored), ("--skip", "C05")):
        (autotune,) = next_commands(capsys, "--fasta", reads, *more, *QUICK)
        assert "--val" not in autotune and reads in autotune


def test_options_beside_the_config_are_not_forgotten(capsys, reads, tmp_path):
    records = reads_of(tmp_path / reads)
    written(tmp_path / "v.fa", fasta(records[:10]))
    pattern = r"lbl\|(?P<class_id>\d+)"
    (tmp_path / "c.yaml").write_text(
        f"dataset:\n  train_fasta: gone.fa\n  mapping_tsv: labels.tsv\n  header_regex: {pattern}x\n"
    )
    options = ("--fasta", reads, "--fasta", "v.fa", "--val", "v.fa", "--header-regex", pattern)
    (train,) = next_commands(
        capsys, "--config", "c.yaml", *options, "--index-dir", "here", *QUICK, "--skip", "V01"
    )
    dataset = load_config(train[3], train[4:]).config.dataset
    assert dataset.train_fasta == [reads, "v.fa"] and dataset.val_fasta == "v.fa"
    assert (dataset.mapping_tsv, dataset.header_regex, dataset.index_dir) == ("labels.tsv", pattern, "here")
    assert not [word for word in train if "mapping" in word]


def test_an_encoder_brings_its_tokenizer_without_being_told(capsys, reads):
    encoder = Path(metagene_doctor.__file__).parent / "demo" / "data" / "encoder"
    (autotune,) = next_commands(capsys, "--fasta", reads, "--encoder", encoder, "--only", "F18")
    assert str(encoder) in autotune and "--tokenizer" not in autotune
