"""Prediction: every read gets a row, in order, whatever the file, and nothing is left of a failure."""

import bz2
import csv
import gzip
import os
import random
import sys
import threading

import numpy as np
import pyarrow.parquet
import pytest
import zstandard
from eval_fixtures import tiny_run
from train_fixtures import random_read

from metagene_doctor.cli.main import main
from metagene_train.errors import DataError, InputError
from metagene_train.prediction import predict as predict_module
from metagene_train.prediction.predict import predict, sample_name


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("predict"))


def rows_of(path):
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file, delimiter="," if ".csv" in path.name else "\t"))


def write_fasta(path, count=20, seed=3):
    generator = random.Random(seed)
    reads = [random_read(generator, generator.randint(10, 90)) for _ in range(count)]
    path.write_text("".join(f">read{i} some comment\n{read}\n" for i, read in enumerate(reads)))
    return path


def test_every_read_has_a_row_in_input_order(run_dir, tmp_path):
    fasta = tmp_path / "reads.fa"
    fasta.write_text(">a\nACGTACGTAA\n>empty\n\n>c x y\nacguacguaa\n>all_n\nNNNNN\n>e\nGGGTTTACAGATTACA\n")
    summary = predict(run_dir, fasta, tmp_path / "out.tsv", device="cpu")
    rows = rows_of(tmp_path / "out.tsv")
    assert [row["read"] for row in rows] == ["a", "empty", "c", "all_n", "e"]
    for place in (1, 3):
        assert rows[place]["label_name"] == "unclassified" and rows[place]["class_id"] == ""
        assert rows[place]["note"] == "no A, C, G or T"
        assert rows[place]["confidence"] == rows[place]["p_10"] == ""
    # Lower case and U are the same read.
    assert {**rows[0], "read": ""} == {**rows[2], "read": ""}
    assert (summary.reads, summary.classified) == (5, 3)
    assert summary.unclassified == {"no A, C, G or T": 2}
    for row in (rows[0], rows[2], rows[4]):
        probabilities = {class_id: float(row[f"p_{class_id}"]) for class_id in (10, 11, 12)}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert int(row["class_id"]) == max(probabilities, key=probabilities.get)
        assert row["label_name"] == f"taxon {int(row['class_id']) - 10}"
        assert float(row["confidence"]) == max(probabilities.values())


def test_rows_do_not_depend_on_buffer_or_batch(run_dir, tmp_path, monkeypatch):
    fasta = write_fasta(tmp_path / "reads.fa")
    predict(run_dir, fasta, tmp_path / "one.parquet", device="cpu")
    monkeypatch.setattr(predict_module, "BUFFER_READS", 3)
    seen = []
    predict(
        run_dir,
        fasta,
        tmp_path / "many.parquet",
        batch_size=2,
        device="cpu",
        progress=lambda done, _: seen.append(done),
    )
    one, many = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("one", "many"))
    assert one["read"].to_pylist() == many["read"].to_pylist() == [f"read{i}" for i in range(20)]
    assert np.allclose(one["confidence"], many["confidence"], atol=1e-5)
    assert seen == [3, 6, 9, 12, 15, 18, 20]


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.tsv", "out.tsv.gz", "out.parquet"])
def test_every_format_holds_the_same(run_dir, tmp_path, name):
    fasta = write_fasta(tmp_path / "reads.fa", 5)
    predict(run_dir, fasta, tmp_path / name, device="cpu")
    if name.endswith(".parquet"):
        rows = pyarrow.parquet.read_table(tmp_path / name).to_pylist()
    else:
        rows = rows_of(tmp_path / name)
    predict(run_dir, fasta, tmp_path / "reference.tsv", device="cpu")
    for row, expected in zip(rows, rows_of(tmp_path / "reference.tsv"), strict=True):
        assert row.keys() == expected.keys()
        assert row["read"] == expected["read"] and int(row["class_id"]) == int(expected["class_id"])
        assert float(row["confidence"]) == pytest.approx(float(expected["confidence"]), abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"reads.fa", name, "reference.tsv"})


def test_fastq_gzip(run_dir, tmp_path):
    fastq = tmp_path / "reads.fq.gz"
    fastq.write_bytes(gzip.compress(b"@r1 1:N:0\nACGTACGT\n+\nIIIIIIII\n@r2\nTTTTGGGA\n+\nIIIIIIII\n"))
    predict(run_dir, fastq, tmp_path / "out.tsv", device="cpu")
    assert [row["read"] for row in rows_of(tmp_path / "out.tsv")] == ["r1", "r2"]


def test_threshold_keeps_the_confidence_of_the_unclassified(run_dir, tmp_path):
    fasta = write_fasta(tmp_path / "reads.fa")
    predict(run_dir, fasta, tmp_path / "all.tsv", device="cpu")
    expected = [float(row["confidence"]) for row in rows_of(tmp_path / "all.tsv")]
    threshold = float(np.median(expected))
    summary = predict(run_dir, fasta, tmp_path / "some.tsv", threshold=threshold, device="cpu")
    rows = rows_of(tmp_path / "some.tsv")
    low = [value < threshold for value in expected]
    assert 0 < sum(low) < len(low)
    assert [row["note"] == "below threshold" for row in rows] == low
    assert [row["label_name"] == "unclassified" for row in rows] == low
    assert [float(row["confidence"]) for row in rows] == expected
    assert summary.unclassified == {"below threshold": sum(low)}
    assert summary.classified == len(low) - sum(low)


def test_probability_columns(run_dir, tmp_path):
    fasta = write_fasta(tmp_path / "reads.fa", 4)
    predict(run_dir, fasta, tmp_path / "all.tsv", probabilities="all", device="cpu")
    predict(run_dir, fasta, tmp_path / "top.tsv", probabilities="top", top_k=2, device="cpu")
    predict(run_dir, fasta, tmp_path / "none.tsv", probabilities="none", device="cpu")
    full, top, none = (rows_of(tmp_path / f"{name}.tsv") for name in ("all", "top", "none"))
    assert list(none[0]) == ["read", "class_id", "label_name", "confidence", "note"]
    assert list(top[0])[5:] == ["top1_class_id", "top1_p", "top2_class_id", "top2_p"]
    for row, best in zip(full, top, strict=True):
        ranked = sorted(((float(row[f"p_{c}"]), str(c)) for c in (10, 11, 12)), reverse=True)
        assert best["top1_class_id"] == best["class_id"] == ranked[0][1]
        assert (best["top2_class_id"], float(best["top2_p"])) == (ranked[1][1], ranked[1][0])


def test_per_sample_counts_all_reads(run_dir, tmp_path):
    fasta = write_fasta(tmp_path / "soil.fa")
    with fasta.open("a") as file:
        file.write(">empty\n\n")
    predict(run_dir, fasta, tmp_path / "reads.tsv", threshold=0.5, device="cpu")
    predict(run_dir, fasta, tmp_path / "sample.tsv", threshold=0.5, per_sample=True, device="cpu")
    reads, sample = rows_of(tmp_path / "reads.tsv"), rows_of(tmp_path / "sample.tsv")
    assert {row["sample"] for row in sample} == {"soil"}
    assert sample[-1]["label_name"] == "unclassified" and sample[-1]["class_id"] == ""
    assert sum(float(row["fraction"]) for row in sample) == pytest.approx(1, abs=1e-4)
    assert {row["label_name"] for row in sample} == {"taxon 0", "taxon 1", "taxon 2", "unclassified"}
    for row in sample:
        own = [read for read in reads if read["label_name"] == row["label_name"]]
        assert int(row["reads"]) == len(own)
        scored = [float(read["confidence"]) for read in own if read["confidence"]]
        if scored:
            assert float(row["mean_confidence"]) == pytest.approx(np.mean(scored), rel=1e-4)
        else:
            assert row["mean_confidence"] == ""
    counts = [int(row["reads"]) for row in sample[:-1]]
    assert counts == sorted(counts, reverse=True)


def test_damage_leaves_no_output(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_module, "BUFFER_READS", 1)
    fastq = tmp_path / "cut.fq"
    fastq.write_text("@r1\nACGT\n+\nIIII\n@r2\nACGT\n+\nII\n")
    for per_sample in (False, True):
        with pytest.raises(DataError, match="record 2"):
            predict(run_dir, fastq, tmp_path / "out.tsv", per_sample=per_sample, device="cpu")
        assert [path.name for path in tmp_path.iterdir()] == ["cut.fq"]


def test_damage_keeps_an_earlier_output(run_dir, tmp_path):
    (tmp_path / "out.tsv").write_text("from before\n")
    (tmp_path / "cut.fq").write_text("@r1\nACGT\n+\nII\n")
    with pytest.raises(DataError):
        predict(run_dir, tmp_path / "cut.fq", tmp_path / "out.tsv", device="cpu")
    assert (tmp_path / "out.tsv").read_text() == "from before\n"


def test_wrong_places_are_told_before_anything_is_read(run_dir, tmp_path):
    fasta = write_fasta(tmp_path / "reads.fa", 1)
    content = fasta.read_bytes()
    for output, message in (
        (tmp_path / "out.xlsx", "must end in"),
        (tmp_path / "no" / "out.tsv", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            predict(run_dir, fasta, output, device="cpu")
    link = tmp_path / "same.tsv"
    link.symlink_to(fasta)
    with pytest.raises(InputError, match="is the input"):
        predict(run_dir, fasta, link, device="cpu")
    assert fasta.read_bytes() == content
    pattern, output = str(tmp_path / "*s*"), tmp_path / "classes.tsv"
    link.unlink()
    assert [predict(run_dir, pattern, output, device="cpu").reads for _ in range(2)] == [1, 1]
    with pytest.raises(InputError, match="no such run directory"):
        predict(tmp_path / "nothing", fasta, tmp_path / "out.tsv")


def test_unfinished_run_says_its_state(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "run.json").write_text('{"status": "interrupted"}')
    with pytest.raises(InputError, match=r"interrupted.*--resume"):
        predict(tmp_path, write_fasta(tmp_path / "reads.fa"), tmp_path / "out.tsv")


def test_long_reads_are_cut_and_counted(run_dir, tmp_path):
    fasta = tmp_path / "long.fa"
    fasta.write_text(f">long\n{random_read(random.Random(0), 3000)}\n>short\nACGTACGT\n")
    summary = predict(run_dir, fasta, tmp_path / "out.tsv", device="cpu")
    assert summary.reads_cut == 1 and "longest length of the model: 1" in summary.text


def test_truncation_off_is_an_error(tmp_path):
    run_dir = tiny_run(tmp_path, tokenizer__truncation=False)
    fasta = tmp_path / "long.fa"
    fasta.write_text(f">long\n{random_read(random.Random(0), 3000)}\n")
    with pytest.raises(DataError, match="3,000 bases"):
        predict(run_dir, fasta, tmp_path / "out.tsv", device="cpu")


def test_reverse_complement_averages_both_strands(tmp_path):
    run_dir = tiny_run(tmp_path, dataset__reverse_complement=True)
    fasta = tmp_path / "strands.fa"
    fasta.write_text(">forward\nAACCGGTTTACAGATTA\n>reverse\nTAATCTGTAAACCGGTT\n")
    predict(run_dir, fasta, tmp_path / "out.tsv", device="cpu")
    forward, reverse = rows_of(tmp_path / "out.tsv")
    for column in ("p_10", "p_11", "p_12"):
        assert float(forward[column]) == pytest.approx(float(reverse[column]), abs=1e-5)


def test_out_of_memory_halves_the_batch(run_dir, tmp_path, monkeypatch):
    import torch

    from metagene_train.training import step

    original, sizes = step.evaluation_step, []

    def fussy(model, batch):
        sizes.append(len(batch["input_ids"]))
        if len(batch["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, batch)

    fasta = write_fasta(tmp_path / "reads.fa", 10)
    predict(run_dir, fasta, tmp_path / "plain.tsv", device="cpu")
    monkeypatch.setattr(step, "evaluation_step", fussy)
    predict(run_dir, fasta, tmp_path / "small.tsv", batch_size=8, device="cpu")
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert [r["class_id"] for r in rows_of(tmp_path / "small.tsv")] == [
        r["class_id"] for r in rows_of(tmp_path / "plain.tsv")
    ]


def test_sample_name():
    from pathlib import Path

    assert sample_name(Path("/data/soil.1.fastq.gz")) == "soil.1"
    assert sample_name(Path("reads.fa")) == "reads"


def test_command(run_dir, tmp_path, capsys):
    fasta = write_fasta(tmp_path / "reads.fa", 4)
    arguments = ["predict", str(run_dir), "--fasta", str(fasta), "-o", str(tmp_path / "out.csv")]
    assert main([*arguments, "--device", "cpu", "--threshold", "0.5"]) == 0
    streams = capsys.readouterr()
    assert streams.out == "" and "4 reads" in streams.err
    assert main([*arguments, "--device", "cpu", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (
        main(["predict", str(run_dir), "--fasta", str(tmp_path / "none.fa"), "-o", str(tmp_path / "x.tsv")])
        == 2
    )
    assert not (tmp_path / "x.tsv").exists()
    assert main([*arguments, "--threshold", "2"]) == 2


def piped(monkeypatch, content):
    """Standard input that ends after ``content``."""
    reading, writing = os.pipe()
    thread = threading.Thread(target=lambda: os.fdopen(writing, "wb").write(content))
    thread.start()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading, "r"))
    return thread


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, zstandard.compress])
def test_standard_input_is_classified_like_a_file(run_dir, tmp_path, monkeypatch, pack):
    fasta = write_fasta(tmp_path / "reads.fa")
    predict(run_dir, fasta, tmp_path / "file.tsv", device="cpu")
    piped(monkeypatch, pack(fasta.read_bytes()))
    arguments = ["predict", str(run_dir), "--fasta", "-", "-o", str(tmp_path / "out.tsv"), "--device", "cpu"]
    assert main([*arguments, "--quiet"]) == 0
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "file.tsv").read_bytes()


def test_a_named_pipe_that_ends_too_soon_is_an_error(run_dir, tmp_path, capsys):
    fasta = write_fasta(tmp_path / "reads.fa", count=5000)
    os.mkfifo(tmp_path / "pipe")
    cut = gzip.compress(fasta.read_bytes())[:-3000]
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(cut)).start()
    arguments = ["predict", str(run_dir), "--fasta", str(tmp_path / "pipe"), "-o", str(tmp_path / "out.tsv")]
    assert main([*arguments, "--device", "cpu"]) == 1
    assert f"the file ends at byte {len(cut):,} inside the gzip member" in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()


def test_several_files_are_one_sample(run_dir, tmp_path):
    fasta, other = write_fasta(tmp_path / "a.fa"), write_fasta(tmp_path / "b.fa", seed=9)
    for path in (fasta, other):
        predict(run_dir, path, path.with_suffix(".tsv"), device="cpu")
    found = predict(run_dir, [fasta, other], tmp_path / "both.tsv", device="cpu")
    assert found.reads == 40
    assert rows_of(tmp_path / "both.tsv") == rows_of(tmp_path / "a.tsv") + rows_of(tmp_path / "b.tsv")
    predict(run_dir, str(tmp_path / "[ab].fa"), tmp_path / "sample.tsv", device="cpu", per_sample=True)
    assert {row["sample"] for row in rows_of(tmp_path / "sample.tsv")} == {"a+b"}
    with pytest.raises(InputError, match="is named twice"):
        predict(run_dir, [fasta, tmp_path / "." / "a.fa"], tmp_path / "twice.tsv", device="cpu")
    with pytest.raises(InputError, match="matches no file"):
        predict(run_dir, str(tmp_path / "*.fq"), tmp_path / "none.tsv", device="cpu")
