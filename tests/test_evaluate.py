"""Evaluation: the numbers are those of the predictions, and all that is promised is written."""

import csv
import json
import re

import numpy as np
import pyarrow.parquet
import pytest
from eval_fixtures import tiny_run
from sklearn.metrics import f1_score, log_loss

from metagene_doctor.cli.main import main
from metagene_train.config import HEADER_REGEX
from metagene_train.errors import DataError, InputError
from metagene_train.evaluation import evaluate as evaluate_module
from metagene_train.evaluation.evaluate import evaluate
from metagene_train.evaluation.files import FILES, evaluation_record, write_evaluation
from metagene_train.evaluation.run_report import headline_notes, headline_rows, report_html, write_report
from metagene_train.prediction.predict import predict


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("evaluate"))


def val_fasta(run_dir):
    return run_dir.parent / "val.fa"


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_agrees_with_predict(run_dir, tmp_path):
    found = evaluate(run_dir, device="cpu")
    assert found.files == (val_fasta(run_dir),)
    predict(run_dir, val_fasta(run_dir), tmp_path / "out.parquet", device="cpu", probabilities="all")
    predicted = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    headers = [
        line[1:].split("|") for line in val_fasta(run_dir).read_text().splitlines() if line.startswith(">")
    ]
    truth = np.array([int(fields[1]) for fields in headers])
    assert found.metrics.reads == len(truth) == 15
    class_ids = predicted["class_id"].to_numpy()
    assert found.metrics.accuracy == pytest.approx(np.mean(truth == class_ids))
    assert found.metrics.macro_f1 == pytest.approx(f1_score(truth, class_ids, average="macro"))
    probabilities = np.column_stack([predicted[f"p_{class_id}"] for class_id in (10, 11, 12)])
    assert found.log_loss == pytest.approx(log_loss(truth, probabilities, labels=[10, 11, 12]), rel=1e-4)
    assert found.coverage[0].classified == 15


def test_baseline_learns_composition(run_dir):
    found = evaluate(run_dir, device="cpu")
    # The reads of the first class are rich in A; those of the other two, rich in C and in G, are the
    # same to canonical k-mers: a third of the reads is certain, the rest an even guess.
    assert found.baseline.kmer["accuracy"] >= 0.5 > found.baseline.majority["accuracy"]
    assert found.baseline.training_reads == 48
    gain = found.metrics.accuracy - found.baseline.kmer["accuracy"]
    assert sum(found.accuracy_gain) / 2 == pytest.approx(gain)
    assert list(found.train_reads) == [16, 16, 16]


def test_buffers_and_samples_change_nothing_but_auroc(run_dir, monkeypatch):
    whole = evaluate(run_dir, device="cpu")
    monkeypatch.setattr(evaluate_module, "BUFFER_READS", 4)
    parts = evaluate(run_dir, device="cpu", batch_size=3)
    assert (parts.metrics.confusion != whole.metrics.confusion).nnz == 0
    assert parts.metrics.auroc == pytest.approx(whole.metrics.auroc)
    assert parts.log_loss == pytest.approx(whole.log_loss, abs=1e-5)
    monkeypatch.setattr(evaluate_module, "AUROC_READS", 9)
    sampled = evaluate(run_dir, device="cpu")
    assert sampled.auroc_reads == 9 and whole.auroc_reads == 15
    assert (sampled.metrics.confusion != whole.metrics.confusion).nnz == 0


def test_writes_everything(run_dir):
    found = evaluate(run_dir, device="cpu")
    directory = write_evaluation(found)
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    record = json.loads((directory / "metrics.json").read_text())
    assert record == json.loads(json.dumps(evaluation_record(found)))
    assert record["model"]["macro_f1"] == pytest.approx(found.metrics.macro_f1)
    rows = table(directory / "per_class.tsv")
    assert [row["class_id"] for row in rows] == ["10", "11", "12"]
    assert sum(int(row["reads"]) for row in rows) == sum(int(row["predicted"]) for row in rows) == 15
    confusion = table(directory / "confusion_matrix.tsv")
    assert sum(int(row["reads"]) for row in confusion) == 15
    right = sum(int(row["reads"]) for row in confusion if row["class_id"] == row["predicted_class_id"])
    assert right / 15 == pytest.approx(found.metrics.accuracy)
    for name in FILES:
        if name.endswith(".png"):
            assert (directory / name).read_bytes().startswith(b"\x89PNG")


def test_report_stands_alone(run_dir):
    write_evaluation(evaluate(run_dir, device="cpu"))
    (run_dir / "predicted.json").write_text(
        '{"memory": {"live_gib": 0.66, "reserved_gib": 0.9, "device_gib": 1.25}}'
    )
    page = write_report(run_dir).read_text()
    assert "4-mer logistic regression" in page and "chance" in page
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page and "https://" not in page and "<script" not in page
    # Predicted beside measured: 0.70 is the highest peak_allocated_gib of metrics.jsonl.
    assert "<td>0.66</td><td>0.70</td>" in page
    (run_dir / "predicted.json").unlink()


def test_report_without_evaluation_and_with_markup_in_names(tmp_path):
    (tmp_path / "run.json").write_text('{"status": "failed", "error": "<b>boom</b>"}')
    page = report_html(tmp_path)
    assert "&lt;b&gt;boom" in page and "<b>boom" not in page and "How good it is" not in page


def test_unknown_classes(tmp_path):
    run_dir = tiny_run(tmp_path)
    fasta = tmp_path / "other.fa"
    fasta.write_text(val_fasta(run_dir).read_text() + ">lbl|99||4|x/1\nACGT\n")
    with pytest.raises(DataError, match="reads of a class that the model does not know: 1"):
        evaluate(run_dir, fasta, device="cpu")
    fasta.write_text(">lbl|99||4|x/1\nACGT\n")
    with pytest.raises(DataError, match="none of its 1 reads"):
        evaluate(run_dir, fasta, device="cpu")


def test_reads_that_are_left_out_are_counted(tmp_path):
    run_dir = tiny_run(tmp_path, dataset__strict_classes=False)
    fasta = tmp_path / "other.fa"
    fasta.write_text(val_fasta(run_dir).read_text() + ">lbl|99||4|x/1\nACGT\n>no class\nACGT\n")
    found = evaluate(run_dir, fasta, device="cpu")
    assert (found.metrics.reads, found.reads_of_unknown_class, found.reads_rejected) == (15, 1, 1)
    write_evaluation(found)
    page = write_report(run_dir).read_text()
    assert "Reads of unknown class, not judged: 1" in page and "1 record rejected" in page


def test_missing_training_reads_are_said(tmp_path):
    run_dir = tiny_run(tmp_path)
    (tmp_path / "train.fa").unlink()
    found = evaluate(run_dir, device="cpu")
    assert found.baseline is None and "train.fa" in found.baseline_note
    assert [who for who, _ in headline_rows(evaluation_record(found))] == ["this model"]
    write_evaluation(found)
    assert table(run_dir / "evaluation" / "per_class.tsv")[0]["train_reads"] == ""
    assert "No baseline" in write_report(run_dir).read_text()


def test_metric_settings_are_followed_and_old_files_go(tmp_path):
    run_dir = tiny_run(
        tmp_path,
        metrics__compute_auroc=False,
        metrics__confusion_matrix=False,
        metrics__per_class_report=False,
    )
    (run_dir / "evaluation").mkdir()
    (run_dir / "evaluation" / "confusion_matrix.tsv").write_text("old")
    (run_dir / "evaluation" / "notes.txt").write_text("mine")
    found = evaluate(run_dir, device="cpu")
    directory = write_evaluation(found)
    assert found.metrics.auroc is None and "compute_auroc" in found.metrics.auroc_note
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "metrics.json",
        "class_distribution.png",
        "training_curves.png",
        "f1_by_training_reads.png",
        "notes.txt",
    }


def test_test_reads_are_preferred(tmp_path):
    test_fasta = tmp_path / "test.fa"
    test_fasta.write_text(">lbl|10||8|x/1\nACGTACGT\n>lbl|11||8|y/1\nGGGTACGT\n")
    run_dir = tiny_run(tmp_path, dataset__test_fasta=str(test_fasta))
    found = evaluate(run_dir, device="cpu")
    assert found.metrics.reads == 2 and not found.chose_checkpoint


def test_reads_that_chose_the_checkpoint_are_said_to_flatter(run_dir, tmp_path):
    copy = tmp_path / "fresh.fa"
    copy.write_bytes(val_fasta(run_dir).read_bytes())
    notes = [
        " ".join(headline_notes(evaluation_record(evaluate(run_dir, fasta, device="cpu"))))
        for fasta in (None, copy)
    ]
    assert "flatters" in notes[0] and "flatters" not in notes[1]


def test_no_reads_to_judge(tmp_path):
    run_dir = tiny_run(tmp_path, dataset__val_fasta=None)
    with pytest.raises(InputError, match="--fasta"):
        evaluate(run_dir, device="cpu")


def test_many_classes(tmp_path):
    run_dir = tiny_run(tmp_path, classes=60)
    found = evaluate(run_dir, device="cpu")
    write_evaluation(found)
    assert found.metrics.support.shape == (60,)
    page = write_report(run_dir).read_text()
    assert "All classes" in page and "3 classes (the model knows 60)" in page


def test_command(run_dir, capsys):
    assert main(["evaluate", str(run_dir), "--device", "cpu"]) == 0
    streams = capsys.readouterr()
    assert "this model" in streams.out and "4-mer logistic regression" in streams.out
    assert "report.html" in streams.err
    assert main(["evaluate", str(run_dir), "--device", "cpu", "--json", "--quiet"]) == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["baseline"]["k"] == 4 and streams.err == ""
    assert main(["evaluate", str(run_dir / "nothing")]) == 2


def test_pieces_of_the_file_change_nothing_but_the_order(run_dir, monkeypatch):
    """Reads are judged a piece of the file at a time, and nothing but a byte is held for each."""
    whole = evaluate(run_dir, device="cpu")
    monkeypatch.setattr("metagene_train.reads.access.joined.PIECE", 7)
    pieces = evaluate(run_dir, device="cpu")
    assert pieces.metrics.headline == whole.metrics.headline
    assert (pieces.metrics.confusion.toarray() == whole.metrics.confusion.toarray()).all()
    assert pieces.metrics.auroc == pytest.approx(whole.metrics.auroc)
    assert pieces.log_loss == pytest.approx(whole.log_loss)
    assert pieces.calibration_error == pytest.approx(whole.calibration_error)
    assert pieces.coverage == whole.coverage and pieces.accuracy_gain == pytest.approx(whole.accuracy_gain)
    assert pieces.baseline.kmer == whole.baseline.kmer and pieces.baseline.random == whole.baseline.random
    assert (pieces.train_reads == whole.train_reads).all()


def with_other_headers(text):
    return re.sub(r">lbl\|(\d+)\|\d+\|\d+\|(\S+)/1", r">\2 class=\1", text)


def test_reads_with_other_headers_than_those_of_the_run(run_dir, tmp_path, capsys):
    other = tmp_path / "other.fa"
    other.write_text(with_other_headers(val_fasta(run_dir).read_text()))
    command = ["evaluate", str(run_dir), "--device", "cpu", "--fasta", str(other)]
    assert main(command) == 1
    assert "--header-regex" in capsys.readouterr().err
    assert main([*command, "--json", "-q", "--header-regex", r"class=(?P<class_id>\d+)"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert main([*command[:-1], str(val_fasta(run_dir)), "--json", "-q"]) == 0
    own = json.loads(capsys.readouterr().out)
    # The same reads, and the baseline learns from training reads with the run's own headers.
    assert record["model"] == own["model"] and record["baseline"]["kmer"] == own["baseline"]["kmer"]
    assert main([*command, "--header-regex", "class=("]) == 2
    assert "--header-regex is not a regular expression" in capsys.readouterr().err
    assert main([*command, "--header-regex", "class=(.)"]) == 2
    assert "--header-regex must have a group (?P<class_id>...)" in capsys.readouterr().err


def test_the_header_pattern_of_the_run_is_taken_unless_another_is_given(tmp_path):
    run_dir = tiny_run(tmp_path)
    standard = val_fasta(run_dir).read_text()
    for name in ("train", "val"):
        file = tmp_path / f"{name}.fa"
        file.write_text(with_other_headers(file.read_text()))
    config = run_dir / "model" / "config.yaml"
    pattern = r"class=(?P<class_id>\d+)"
    config.write_text(re.sub("header_regex: .*", lambda _: f"header_regex: '{pattern}'", config.read_text()))
    found = evaluate(run_dir, device="cpu")
    assert (found.metrics.reads, found.baseline.training_reads) == (15, 48)
    (tmp_path / "standard.fa").write_text(standard)
    again = evaluate(run_dir, tmp_path / "standard.fa", header_regex=HEADER_REGEX, device="cpu")
    assert again.metrics.headline == found.metrics.headline and again.baseline.kmer == found.baseline.kmer
