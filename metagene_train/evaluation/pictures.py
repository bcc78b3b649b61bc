"""The pictures of a run: training curves, class distribution, confusion. All readable with 3,500 classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_train.metrics import confused_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from scipy.sparse import csr_array

NAMED_CLASSES = 30
"""Classes up to which each has its own named bar or matrix row."""

CONFUSED_PAIRS = 25
"""Pairs shown when there are too many classes for a matrix."""

NAME_LENGTH = 32
TRAINING, EVALUATED = "#4477aa", "#ee6677"  # Tol's bright scheme: told apart by colour-blind readers


def training_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss, validation metrics and learning rate by optimizer step, from the lines of metrics.jsonl."""
    train = [line for line in lines if line.get("phase") == "train"]
    evals = [line for line in lines if line.get("phase") == "eval"]
    figure = _figure(7, 8)
    loss, metric, rate = figure.subplots(3, sharex=True)
    loss.plot(*_series(train, "loss"), color=TRAINING, label="training")
    loss.plot(*_series(evals, "loss"), "o-", color=EVALUATED, label="validation")
    loss.set_ylabel("loss (nats per read)")
    for name, label, style in (
        ("macro_f1", "macro-F1", "o-"),
        ("mcc", "MCC", "s--"),
        ("accuracy", "accuracy", "^:"),
    ):
        metric.plot(*_series(evals, name), style, label=label)
    metric.set_ylabel("validation metric")
    rate.plot(*_series(train, "lr"), color="black")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("optimizer step")
    for axes in (loss, metric):
        axes.legend(frameon=False)
    _save(figure, path)


def class_distribution(
    evaluated: np.ndarray, trained: np.ndarray | None, names: Sequence[str], path: Path
) -> None:
    """Reads per class, of the evaluated and of the training reads int [K]: a bar per class, or for
    many classes the reads of the largest, second largest ... class on logarithmic axes."""
    counts = [("evaluated", evaluated, EVALUATED)]
    if trained is not None:
        counts.insert(0, ("training", trained, TRAINING))
    if len(names) <= NAMED_CLASSES:
        figure = _figure(7, 1.5 + 0.28 * len(names))
        axes = figure.subplots()
        height = 0.8 / len(counts)
        for place, (label, reads, colour) in enumerate(counts):
            offset = (place - (len(counts) - 1) / 2) * height
            axes.barh(np.arange(len(names)) + offset, reads, height, color=colour, label=label)
        axes.set_yticks(np.arange(len(names)), [_short(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("reads")
        if trained is not None and trained.max() > 20 * max(int(evaluated.max()), 1):
            axes.set_xscale("log")
    else:
        figure = _figure(7, 4.5)
        axes = figure.subplots()
        for label, reads, colour in counts:
            present = np.sort(reads[reads > 0])[::-1]
            note = f"{label} ({len(present):,} of {len(names):,} classes)"
            axes.loglog(np.arange(1, len(present) + 1), present, color=colour, label=note)
        axes.set_xlabel("class, by reads")
        axes.set_ylabel("reads of the class")
    axes.legend(frameon=False)
    _save(figure, path)


def f1_by_training_reads(f1: np.ndarray, trained: np.ndarray, path: Path) -> None:
    """F1 of each class, float [K] (NaN is left out), by its training reads int [K], and the median F1
    of classes with a similar number: whether rare classes are the weak ones."""
    known = ~np.isnan(f1)
    f1, trained = f1[known], trained[known]
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    axes.plot(trained, f1, "o", color=TRAINING, markersize=4, alpha=0.4 if len(f1) > 100 else 0.8)
    if len(f1) > NAMED_CLASSES:
        tenths = np.array_split(np.argsort(trained, kind="stable"), 10)
        middle = [np.median(trained[tenth]) for tenth in tenths]
        axes.plot(
            middle, [np.median(f1[tenth]) for tenth in tenths], color="black", label="median of a tenth"
        )
        axes.legend(frameon=False)
    if len(trained) and trained.max() > 0:
        axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.2)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("training reads of the class")
    axes.set_ylabel("F1 of the class")
    _save(figure, path)


def confusion(table: csr_array, names: Sequence[str], path: Path) -> None:
    """Fractions of the reads of each true class by predicted class, int [K, K]; for many classes the
    pairs that are mistaken most."""
    if len(names) <= NAMED_CLASSES:
        figure = _confusion_matrix(table.toarray(), [_short(name) for name in names])
    else:
        figure = _confusion_pairs(table, names)
    _save(figure, path)


def _confusion_matrix(reads: np.ndarray, names: list[str]) -> Figure:
    size = 3.5 + 0.3 * len(names)
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    total = reads.sum(axis=1, keepdims=True)
    fraction = np.divide(reads, total, out=np.full(reads.shape, np.nan), where=total > 0)
    image = axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(np.arange(len(names)), names, rotation=90)
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(names) <= 12:
        for true, predicted in np.argwhere(reads > 0):
            colour = "white" if fraction[true, predicted] > 0.5 else "black"
            text = f"{fraction[true, predicted]:.2f}"
            axes.text(predicted, true, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.8)
    return figure


def _confusion_pairs(table: csr_array, names: Sequence[str]) -> Figure:
    pairs = confused_pairs(table, CONFUSED_PAIRS)
    support = np.asarray(table.sum(axis=1)).ravel()
    figure = _figure(9, 1.5 + 0.3 * max(len(pairs), 1))
    axes = figure.subplots()
    axes.barh(np.arange(len(pairs)), [reads for _, _, reads in pairs], color=EVALUATED)
    axes.set_yticks(
        np.arange(len(pairs)), [f"{_short(names[t])} → {_short(names[p])}" for t, p, _ in pairs], fontsize=7
    )
    for place, (true, _, reads) in enumerate(pairs):
        share = f" {100 * reads / support[true]:.0f} % of the class"
        axes.text(reads, place, share, va="center", fontsize=7)
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("reads of the true class given to the other class (true → predicted)")
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot: no global state, no display, safe in any thread.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _series(lines: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
