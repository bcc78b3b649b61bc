"""What an evaluation leaves in RUN_DIR/evaluation/: numbers, tables and pictures."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metagene_train import __version__
from metagene_train.errors import InputError
from metagene_train.evaluation.baseline import Baseline
from metagene_train.evaluation.evaluate import Evaluation
from metagene_train.metrics import confused_pairs
from metagene_train.run_files import read_metric_lines

FILES = (
    "metrics.json",
    "per_class.tsv",
    "confusion_matrix.tsv",
    "confusion_matrix.png",
    "class_distribution.png",
    "f1_by_training_reads.png",
    "training_curves.png",
)
"""What `write_evaluation` leaves; files of an earlier evaluation do not outlive it."""


def check_writable(run_dir: Path) -> None:
    """Raise InputError before a model is judged rather than after it, when nothing could be written."""
    if run_dir.is_dir() and not os.access(run_dir, os.W_OK):
        raise InputError(f"{run_dir}: cannot be written, and the evaluation goes there")


def write_evaluation(evaluation: Evaluation) -> Path:
    """Write RUN_DIR/evaluation/ (metrics.json, tables, pictures) and return that directory."""
    from metagene_train.evaluation import pictures

    directory = evaluation.run_dir / "evaluation"
    directory.mkdir(exist_ok=True)
    settings = evaluation.config.metrics
    metrics, labels = evaluation.metrics, evaluation.labels
    for stale in directory.iterdir():
        if stale.name in FILES:
            stale.unlink()
    _write_rows(directory / "per_class.tsv", per_class_rows(evaluation) if settings.per_class_report else [])
    if settings.confusion_matrix:
        _write_rows(directory / "confusion_matrix.tsv", confusion_rows(evaluation))
        pictures.confusion(metrics.confusion, labels.names, directory / "confusion_matrix.png")
    pictures.class_distribution(
        metrics.support, evaluation.train_reads, labels.names, directory / "class_distribution.png"
    )
    if evaluation.train_reads is not None:
        pictures.f1_by_training_reads(
            metrics.f1, evaluation.train_reads, directory / "f1_by_training_reads.png"
        )
    if lines := read_metric_lines(evaluation.run_dir):
        pictures.training_curves(lines, directory / "training_curves.png")
    text = json.dumps(evaluation_record(evaluation), indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "metrics.json").write_text(text + "\n", encoding="utf-8")
    return directory


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """metrics.json, also what ``metagene evaluate --json`` prints. None is a value that is undefined."""
    metrics, labels = evaluation.metrics, evaluation.labels
    return {
        "schema_version": 1,
        "tool_version": __version__,
        "fasta": evaluation.title,
        "chose_checkpoint": evaluation.chose_checkpoint,
        "reads": metrics.reads,
        "reads_of_unknown_class": evaluation.reads_of_unknown_class,
        "reads_rejected": evaluation.reads_rejected,
        "rejection_reasons": evaluation.rejection_reasons or None,
        "reads_cut": evaluation.reads_cut,
        "classes": len(labels),
        "classes_with_reads": int((metrics.support > 0).sum()),
        "device": evaluation.device,
        "seconds": round(evaluation.seconds, 3),
        "reads_per_s": round(evaluation.reads_per_s, 1),
        "model": {
            **metrics.headline,
            "auroc": metrics.auroc,
            "auroc_note": metrics.auroc_note,
            "auroc_reads": evaluation.auroc_reads,
            "log_loss": evaluation.log_loss,
            "calibration_error": evaluation.calibration_error,
        },
        "baseline": _baseline_record(evaluation.baseline),
        "accuracy_gain": evaluation.accuracy_gain and list(evaluation.accuracy_gain),
        "baseline_note": evaluation.baseline_note,
        "coverage": [asdict(row) for row in evaluation.coverage],
        "confused_pairs": [
            {"true": labels.names[true], "predicted": labels.names[predicted], "reads": reads}
            for true, predicted, reads in confused_pairs(metrics.confusion)
        ],
    }


def _baseline_record(baseline: Baseline | None) -> dict[str, Any] | None:
    if baseline is None:
        return None
    return {name: value for name, value in vars(baseline).items() if name != "correct"}


def per_class_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row per class, in label order; None where a value is undefined or not known."""
    metrics, labels = evaluation.metrics, evaluation.labels
    train = evaluation.train_reads
    return [
        {
            "class_id": labels.class_ids[label],
            "label_name": labels.names[label],
            "train_reads": None if train is None else int(train[label]),
            "reads": int(metrics.support[label]),
            "predicted": int(metrics.predicted[label]),
            "precision": _number(metrics.precision[label]),
            "recall": _number(metrics.recall[label]),
            "f1": _number(metrics.f1[label]),
        }
        for label in range(len(labels))
    ]


def confusion_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row per pair of true and predicted class that occurs: the confusion matrix without its zeros."""
    labels, table = evaluation.labels, evaluation.metrics.confusion.tocoo()
    return [
        {
            "class_id": labels.class_ids[true],
            "label_name": labels.names[true],
            "predicted_class_id": labels.class_ids[predicted],
            "predicted_label_name": labels.names[predicted],
            "reads": int(reads),
        }
        for true, predicted, reads in zip(table.row, table.col, table.data, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
