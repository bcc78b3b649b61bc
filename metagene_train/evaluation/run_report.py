"""RUN_DIR/report.html: what a run is worth, on one page that needs nothing else.

Made from the files of the run directory alone, so it can be made again at any time. Pictures are
embedded; there is no script and nothing is fetched.
"""

from __future__ import annotations

import base64
import csv
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from metagene_train import __version__
from metagene_train.run_files import read_metric_lines, read_record

CLASS_ROWS = 500
"""Rows of the per-class table on the page; per_class.tsv has all."""

METRIC_NAMES = {"macro_f1": "macro-F1", "mcc": "MCC", "accuracy": "accuracy"}
"""Columns of the headline table. Micro-F1 is accuracy when a read has one class."""

PICTURES = {
    "training_curves.png": "Training curves",
    "class_distribution.png": "Reads per class",
    "f1_by_training_reads.png": "F1 by training reads",
    "confusion_matrix.png": "Confusion",
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 } th, td { padding: .2rem .7rem; text-align: right }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #888 }
td { border-bottom: 1px solid #ddd } tr.model td { font-weight: 600 }
img { max-width: 100% } .note { color: #555 } .scroll { max-height: 30rem; overflow: auto }
"""


def write_report(run_dir: Path) -> Path:
    """Write RUN_DIR/report.html from what the run directory holds, and return its path.

    Parts whose files are not there (no evaluation yet, no prediction of memory) are left out.
    """
    path = run_dir / "report.html"
    unfinished = path.with_name(".report.html.unfinished")
    unfinished.write_text(report_html(run_dir), encoding="utf-8")
    unfinished.replace(path)
    return path


def report_html(run_dir: Path) -> str:
    evaluation = read_record(run_dir / "evaluation" / "metrics.json")
    parts = [_headline_section(evaluation), _coverage_section(evaluation)] if evaluation else []
    parts += [_resources_section(run_dir), *_pictures(run_dir / "evaluation")]
    if evaluation:
        parts += [_confused_section(evaluation), _classes_section(run_dir / "evaluation" / "per_class.tsv")]
    parts.append(_run_section(read_record(run_dir / "run.json")))
    title = f"Run {run_dir.resolve().name}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>\n"
        + "\n".join(part for part in parts if part)
        + f'\n<p class="note">metagene {__version__}</p></body></html>\n'
    )


def headline_rows(evaluation: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """Who -> metrics, from evaluation/metrics.json: chance, the baseline, the model, and its gain."""
    baseline, model = evaluation["baseline"], evaluation["model"]
    if baseline is None:
        return [("this model", model)]
    gain = {name: model[name] - baseline["kmer"][name] for name in METRIC_NAMES}
    return [
        ("chance: most frequent class", baseline["majority"]),
        ("chance: drawn by class frequency", baseline["random"]),
        (f"{baseline['k']}-mer logistic regression", baseline["kmer"]),
        ("this model", model),
        ("model − regression", gain),
    ]


def headline_notes(evaluation: dict[str, Any]) -> list[str]:
    """What one must know to read the headline table, a sentence each."""
    notes = []
    baseline = evaluation["baseline"]
    if baseline is None:
        notes.append(f"No baseline: {evaluation['baseline_note']}.")
    else:
        sampled = baseline["training_reads"] < baseline["training_reads_available"]
        notes.append(
            f"The regression learned from {baseline['training_reads']:,}"
            + (f" (sampled) of {baseline['training_reads_available']:,}" if sampled else "")
            + f" training reads, with {baseline['classes_seen']:,} of {evaluation['classes']:,} classes"
            + ("." if baseline["converged"] else "; its solver stopped before it had converged.")
        )
    if evaluation["chose_checkpoint"]:
        notes.append(
            "These reads also chose the best checkpoint, which flatters the model a little; "
            "reads that the run never saw (--fasta) do not."
        )
    if evaluation["reads_of_unknown_class"]:
        notes.append(f"Reads of unknown class, not judged: {evaluation['reads_of_unknown_class']:,}.")
    if evaluation["reads_rejected"]:
        notes.append(f"{evaluation['rejection_reasons']}.")
    if evaluation["reads_cut"]:
        notes.append(f"Reads cut to the longest length of the model: {evaluation['reads_cut']:,}.")
    model = evaluation["model"]
    if model["auroc"] is None:
        notes.append(f"No AUROC: {model['auroc_note']}.")
    elif model["auroc_reads"] < evaluation["reads"]:
        notes.append(f"AUROC is from a random sample of {model['auroc_reads']:,} reads.")
    return notes


def quality_line(evaluation: dict[str, Any]) -> str:
    """What the headline table leaves out."""
    model, gain = evaluation["model"], evaluation["accuracy_gain"]
    parts = [
        f"accuracy over the regression: {gain[0]:+.3f} to {gain[1]:+.3f} (95 % interval)" if gain else "",
        f"AUROC {model['auroc']:.3f} (one class against the rest)" if model["auroc"] is not None else "",
        f"log loss {model['log_loss']:.3f} nats",
        f"expected calibration error {model['calibration_error']:.3f}",
        f"{evaluation['reads_per_s']:,.1f} reads/s on {evaluation['device']}",
    ]
    return "; ".join(part for part in parts if part) + "."


def _run_section(run: dict[str, Any] | None) -> str:
    if not run:
        return ""
    rows = [(name.replace("_", " "), _plain(value)) for name, value in run.items() if _is_plain(value)]
    return "<h2>The run</h2>" + _table(("", ""), rows)


def _headline_section(evaluation: dict[str, Any]) -> str:
    names = list(METRIC_NAMES)
    rows = [
        (
            who,
            *(
                f"{values[name]:+.3f}" if who.startswith("model −") else f"{values[name]:.3f}"
                for name in names
            ),
        )
        for who, values in headline_rows(evaluation)
    ]
    introduction = (
        f"{evaluation['reads']:,} reads of {evaluation['classes_with_reads']:,} classes "
        f"(the model knows {evaluation['classes']:,}) in {evaluation['fasta']}."
    )
    return (
        f"<h2>How good it is</h2><p>{escape(introduction)}</p>"
        + _table(("", *METRIC_NAMES.values()), rows, emphasis="this model")
        + f"<p>{escape(quality_line(evaluation))}</p>"
        + "".join(f'<p class="note">{escape(note)}</p>' for note in headline_notes(evaluation))
    )


def _coverage_section(evaluation: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['threshold']:g}",
            f"{row['classified']:,}",
            f"{100 * row['fraction']:.1f} %",
            "–" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %",
        )
        for row in evaluation["coverage"]
    ]
    return (
        "<h2>What a confidence threshold does</h2>"
        "<p>For <code>metagene predict --threshold</code>: "
        "reads that reach it, and how many of those are right.</p>"
        + _table(("threshold", "reads classified", "of all", "right"), rows)
    )


def _resources_section(run_dir: Path) -> str:
    """Predicted beside measured; a row needs at least one of the two."""
    record = read_record(run_dir / "predicted.json") or {}
    predicted = record.get("memory", {})
    speed = (record.get("time") or {}).get("reads_per_s") or {}
    lines = read_metric_lines(run_dir)
    speeds = [line["reads_per_s"] for line in lines if line.get("reads_per_s") is not None]

    def highest(name: str) -> float | None:
        return max((line[name] for line in lines if line.get(name) is not None), default=None)

    rows = [
        ("allocated by PyTorch, peak (GiB)", predicted.get("live_gib"), highest("peak_allocated_gib")),
        ("reserved by PyTorch, peak (GiB)", predicted.get("reserved_gib"), highest("peak_reserved_gib")),
        ("whole device (GiB)", predicted.get("device_gib"), None),
        (
            "reads per second",
            speed.get("expected"),
            statistics.median(speeds[1:] or speeds) if speeds else None,
        ),
    ]
    known = [
        (name, *("–" if value is None else f"{value:.2f}" for value in values))
        for name, *values in rows
        if any(value is not None for value in values)
    ]
    if not known:
        return ""
    return "<h2>Predicted and measured</h2>" + _table(("", "predicted", "measured"), known)


def _pictures(directory: Path) -> list[str]:
    parts = []
    for name, title in PICTURES.items():
        if (directory / name).exists():
            data = base64.b64encode((directory / name).read_bytes()).decode("ascii")
            parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{data}">')
    return parts


def _confused_section(evaluation: dict[str, Any]) -> str:
    rows = [
        (f"{pair['true']} → {pair['predicted']}", f"{pair['reads']:,}")
        for pair in evaluation["confused_pairs"]
    ]
    return "<h2>Most confused</h2>" + _table(("true → predicted", "reads"), rows) if rows else ""


def _classes_section(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        classes = list(csv.DictReader(file, delimiter="\t"))
    # Worst first: that is where something can be done. Classes without reads come last.
    classes.sort(key=lambda row: (row["f1"] == "", float(row["f1"] or 0), -int(row["reads"])))
    shown = classes[:CLASS_ROWS]
    rows = [
        (
            row["label_name"],
            row["class_id"],
            *(f"{int(row[name]):,}" if row[name] else "–" for name in ("train_reads", "reads", "predicted")),
            *(f"{float(row[name]):.3f}" if row[name] else "–" for name in ("precision", "recall", "f1")),
        )
        for row in shown
    ]
    header = ("class", "id", "training reads", "reads", "predicted", "precision", "recall", "F1")
    note = (
        f" The {CLASS_ROWS} worst of {len(classes):,};"
        if len(classes) > CLASS_ROWS
        else " All classes, worst first;"
    )
    return (
        f'<h2>Classes</h2><p class="note">{note} the whole table is evaluation/per_class.tsv.</p>'
        f'<div class="scroll">{_table(header, rows)}</div>'
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], emphasis: str | None = None) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        ('<tr class="model">' if row[0] == emphasis else "<tr>")
        + "".join(f"<td>{escape(str(cell))}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and value != ""


def _plain(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
