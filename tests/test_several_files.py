"""Reads in several files are the reads of one: in the configuration, training and evaluation."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from eval_fixtures import tiny_run
from train_fixtures import change, tiny_config, write_reads

from metagene_doctor.cli.main import main
from metagene_train.config import DatasetConfig
from metagene_train.config_file import dump_config, load_config, set_keys
from metagene_train.errors import ConfigError, DataError, InputError
from metagene_train.evaluation.evaluate import evaluate
from metagene_train.evaluation.files import evaluation_record
from metagene_train.open_reads import open_reads
from metagene_train.reads.access.data_set import distinct_files, spelled_out, title_of
from metagene_train.training.batching import BatchOrder
from metagene_train.training.trainer import train


def write_parts(directory: Path) -> tuple[list[Path], Path]:
    """Three files of reads, one of them compressed, and one file of all."""
    plain = [
        write_reads(directory / "part_1.fa", 20, seed=3),
        write_reads(directory / "part_2.fa", 7, seed=4),
        write_reads(directory / "part_3.fa", 33, seed=5, length=90),
    ]
    whole = directory / "whole.fa"
    whole.write_bytes(b"".join(path.read_bytes() for path in plain))
    packed = plain[1].with_suffix(".fa.gz")
    packed.write_bytes(gzip.compress(plain[1].read_bytes()))
    plain[1].unlink()
    return [plain[0], packed, plain[2]], whole


def opened(directory: Path, named: object):
    return open_reads(named, DatasetConfig(index_dir=str(directory / "index")))


# --- configuration


def test_a_path_stays_a_path_and_a_list_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("dataset:\n  train_fasta: a.fa  # mine\n  val_fasta: [b.fa, 'c/*.fa']\n")
    config = load_config(file).config
    assert (config.dataset.train_fasta, config.dataset.val_fasta) == ("a.fa", ["b.fa", "c/*.fa"])
    assert "train_fasta: a.fa\n" in dump_config(config)
    file.write_text(dump_config(config))
    assert load_config(file).config == config
    assert "train_fasta: [x.fa, y.fa]" in set_keys("", {"dataset.train_fasta": ["x.fa", "y.fa"]})
    other = tmp_path / "other.yaml"
    other.write_text("dataset:\n  train_fasta: a.fa\n  val_fasta: [b.fa]\n")
    assert main(["config", "diff", str(file), str(other)]) == 0
    assert "dataset.val_fasta [b.fa, c/*.fa] → [b.fa]" in capsys.readouterr().out
    assert main(["config", "show", str(file), "dataset.test_fasta=[t.fa, u.fa]"]) == 0
    assert "test_fasta: [t.fa, u.fa]  # command line" in capsys.readouterr().out
    assert main(["config", "check", str(file)]) == 0


@pytest.mark.parametrize("value", ["[]", "3", "[1, 2]", "{a: b}"])
def test_what_names_no_file_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"seed: 1\ndataset:\n  train_fasta: {value}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml:3: dataset\.train_fasta: must"):
        load_config(file)


def test_patterns_are_sorted_and_match_something_and_no_file_counts_twice(tmp_path: Path) -> None:
    parts, _ = write_parts(tmp_path)
    assert distinct_files(str(tmp_path / "part_*")) == parts
    assert spelled_out(str(tmp_path / "part_1*")) == str(parts[0])
    assert spelled_out([str(tmp_path / "part_3.fa"), str(tmp_path / "part_[12].*")]) == [
        str(parts[number]) for number in (2, 0, 1)
    ]
    with pytest.raises(InputError, match=r"nothing_\*: matches no file"):
        distinct_files(str(tmp_path / "nothing_*"))
    with pytest.raises(InputError, match="is named twice"):
        distinct_files([str(parts[0]), str(tmp_path / "part_*")])
    assert title_of(["a.fa"]) == "a.fa"
    assert title_of(["a.fa", "b.fa"]) == "a.fa and b.fa"
    assert title_of(["a.fa", "b.fa", "c.fa"]) == "a.fa and 2 more files"


# --- the index


def check_reads(index, expected: list[bytes]) -> bool:
    places = np.random.default_rng(0).integers(0, len(expected), 200)
    return index.sequences(places) == [expected[place] for place in places]


def test_the_reads_of_files_are_those_of_one(tmp_path: Path) -> None:
    parts, whole = write_parts(tmp_path)
    joined, single = opened(tmp_path, parts), opened(tmp_path, whole)
    assert len(joined) == len(single) == joined.records == 60
    expected = [single.read(place).sequence for place in range(60)]
    assert [joined.read(place).sequence for place in range(60)] == expected
    assert [joined.read(place).header for place in range(60)] == [single.read(p).header for p in range(60)]
    assert joined.sequences([]) == []
    places = np.array([59, 0, 20, 19, 26, 27, 20])
    for ours, theirs in ((joined.lengths, single.lengths), (joined.class_ids, single.class_ids)):
        assert len(ours) == 60
        assert ours[places].tolist() == theirs[places].tolist()
        assert np.array_equal(np.asarray(ours), theirs)
        assert np.asarray(ours).dtype == theirs.dtype
    assert joined.lengths.argmax() == single.lengths.argmax()
    assert [joined.path_of(place) for place in (0, 19, 20, 26, 27, 59)] == [
        str(parts[number]) for number in (0, 0, 1, 1, 2, 2)
    ]
    assert joined.read(27).record == 1
    for wrong in ([60], [-1]):
        with pytest.raises(IndexError):
            joined.sequences(wrong)
    assert check_reads(pickle.loads(pickle.dumps(joined)), expected)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: check_reads(joined, expected), range(8)))
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
            assert all(pool.map(check_reads, [joined] * 4, [expected] * 4))


def test_progress_adds_up_over_the_files(tmp_path: Path) -> None:
    parts, _ = write_parts(tmp_path)
    told: list[tuple[int, int]] = []
    settings = DatasetConfig(index_dir=str(tmp_path / "index"))
    open_reads(parts, settings, lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in parts)
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == size


def test_a_missing_member_is_told_before_another_is_indexed(tmp_path: Path) -> None:
    parts, _ = write_parts(tmp_path)
    with pytest.raises(InputError, match=r"gone\.fa"):
        opened(tmp_path, [*parts, tmp_path / "gone.fa"])
    assert not (tmp_path / "index").exists()


HUNDREDS_OF_FILES = """
import resource, sys
from metagene_train.config import DatasetConfig
from metagene_train.errors import InputError
from metagene_train.open_reads import open_reads
soft, hard = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    index = open_reads(sys.argv[1] + "/*.fa", DatasetConfig(index_dir=sys.argv[1] + "/index"))
except InputError as error:
    sys.exit(f"refused: {error}")
print(len(index), len(set(index.class_ids[range(len(index))].tolist())))
"""


def test_hundreds_of_files_are_open_at_once_where_the_system_allows(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number}.fa").write_text(f">lbl|{number}||4|a/1\nACGT\n>lbl|{number}||4|b/1\nACGT\n")

    def run(soft: int, hard: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", HUNDREDS_OF_FILES, str(tmp_path), str(soft), str(hard)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(256, 2048).stdout == "300 150\n"
    refused = run(256, 600).stderr
    assert refused.startswith("refused: 150 reads files need 1,412 open files, the limit is 600")


# --- training and evaluation


def in_parts(tmp_path: Path, **overrides: object):
    """The same run on one file and on three, in two directories."""
    config = tiny_config(tmp_path, training__group_by_length=True, **overrides)
    parts, whole = write_parts(tmp_path)
    one = change(config, dataset__train_fasta=str(whole), training__output_dir=str(tmp_path / "one"))
    several = change(
        config, dataset__train_fasta=str(tmp_path / "part_*"), training__output_dir=str(tmp_path / "several")
    )
    return one, several, parts


def test_training_on_files_is_training_on_one(tmp_path: Path) -> None:
    one, several, parts = in_parts(tmp_path)
    summaries = [train(config, quiet=True) for config in (one, several)]
    assert [summary.train_reads for summary in summaries] == [60, 60]
    losses = []
    for name in ("one", "several"):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines])
    assert len(losses[0]) >= 16
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert json.loads((tmp_path / "several" / "run.json").read_text())["train_reads"] == 60
    # What a pattern matched is kept: a resumed run must not see other reads.
    kept = load_config(tmp_path / "several" / "config.yaml").config.dataset.train_fasta
    assert kept == [str(path) for path in parts]
    write_reads(tmp_path / "part_4.fa", 3, seed=9)
    with pytest.raises(InputError, match=r"dataset\.train_fasta was"):
        train(several, resume=True, quiet=True)


def test_every_read_is_seen_once_per_epoch(tmp_path: Path) -> None:
    from metagene_train.labels import LabelMap, read_mapping
    from metagene_train.tokenizer import load_tokenizer
    from metagene_train.training.dataset import ReadDataset

    one, several, _ = in_parts(tmp_path)
    labels = LabelMap.from_mapping(read_mapping(one.dataset.mapping_tsv))
    data = [
        ReadDataset(
            open_reads(config.dataset.train_fasta, config.dataset),
            labels,
            load_tokenizer(config.tokenizer),
            config,
        )
        for config in (one, several)
    ]
    assert np.array_equal(data[0].label_counts, data[1].label_counts)
    for epoch in range(2):
        orders = [list(BatchOrder(60, 8, seed=1, lengths=d.lengths).batches(epoch)) for d in data]
        assert orders[0] == orders[1]
        assert sorted(number for batch in orders[1] for number in batch) == list(range(60))
        for batch in orders[1]:
            assert data[0].__getitems__(batch) == data[1].__getitems__(batch)


def test_unusable_reads_are_told_by_file(tmp_path: Path) -> None:
    _, several, parts = in_parts(tmp_path)
    with parts[2].open("a") as file:
        file.write(">lbl|99||4|x/1\nACGT\n>no class\nACGT\n")
    with pytest.raises(DataError) as error:
        train(several, quiet=True)
    told = str(error.value)
    assert f"{parts[2]}: 1 record rejected" in told
    assert f"{parts[2]}: classes that are not in the mapping: 99 (1 reads)" in told
    assert str(parts[0]) not in told
    lenient = change(several, dataset__strict_classes=False, training__output_dir=str(tmp_path / "lenient"))
    summary = train(lenient, quiet=True)
    assert (summary.train_reads, summary.excluded_reads) == (60, 1)


def test_evaluation_of_files_is_that_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, whole = write_parts(tmp_path)
    run = tiny_run(tmp_path, dataset__train_fasta=[str(path) for path in parts])
    several, one = evaluate(run, parts, device="cpu"), evaluate(run, whole, device="cpu")
    assert several.files == tuple(parts)
    volatile = ("fasta", "seconds", "reads_per_s", "baseline")
    records = [evaluation_record(found) for found in (several, one)]
    for name in records[0].keys() - set(volatile):
        assert records[0][name] == pytest.approx(records[1][name]) if name == "model" else True
        assert name in ("model", "coverage") or records[0][name] == records[1][name]
    assert several.baseline.training_reads == one.baseline.training_reads == 60
    assert several.baseline.kmer == one.baseline.kmer
    assert main(["evaluate", str(run), *(f"--fasta={path}" for path in parts), "--device", "cpu", "-q"]) == 0
    assert "60 reads" in capsys.readouterr().out
    code = main(["evaluate", str(run), "--fasta", str(whole), "--fasta", str(tmp_path / "gone.fa"), "-q"])
    assert code == 2
    assert "gone.fa" in capsys.readouterr().err


# --- estimate and autotune


def test_lengths_and_counts_are_those_of_all_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path)
    parts, whole = write_parts(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(dump_config(config))
    texts = []
    for files in (parts, [whole]):
        options = [part for path in files for part in ("--fasta", str(path))]
        assert main(["estimate", "--config", str(file), "--gpu", "rtx4090", "--json", *options]) in (0, 1)
        texts.append(json.loads(capsys.readouterr().out))
    assert texts[0]["time"] == texts[1]["time"]
    output = tmp_path / "tuned.yaml"
    options = [part for path in parts for part in ("--fasta", str(path))]
    code = main(["autotune", "--device", "cpu", "--config", str(file), "-q", *options, "-o", str(output)])
    assert code == 0
    assert load_config(output).config.dataset.train_fasta == [str(path) for path in parts]
    assert "part_1.fa and 2 more files: 60 reads" in output.read_text()
