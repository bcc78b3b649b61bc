"""How good predictions are: the numbers that training watches and that an evaluation reports.

One read has one true class and one predicted class, both contiguous label ids in ``0..K-1``. Nothing
here is dense in classes x classes or loops over reads, so thousands of classes cost what they must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HEADLINE = ("macro_f1", "micro_f1", "mcc", "accuracy")
"""The metrics that early stopping and the headline table know, in the order they are shown."""

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Confidence thresholds of the coverage table."""


@dataclass(frozen=True)
class Metrics:
    """All metrics of one set of predictions over K classes.

    ``precision``, ``recall``, ``f1`` are float64 [K], NaN where undefined (a class without reads has no
    recall, one never predicted no precision, one that is neither has no F1); ``support`` and
    ``predicted`` are int64 [K], reads of the class and reads given to it; ``confusion`` is a sparse
    int64 [K, K] of reads, rows true, columns predicted. ``auroc`` is None where it is undefined,
    and ``auroc_note`` then says why.
    """

    reads: int
    accuracy: float
    macro_f1: float
    micro_f1: float
    mcc: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    predicted: np.ndarray
    confusion: csr_array
    auroc: float | None = None
    auroc_note: str | None = None

    @property
    def headline(self) -> dict[str, float]:
        return {name: float(getattr(self, name)) for name in HEADLINE}


@dataclass(frozen=True)
class Coverage:
    """What a confidence threshold costs and gains: accuracy is None when no read reaches it."""

    threshold: float
    classified: int
    fraction: float
    accuracy: float | None


class ConfusionTally:
    """Counts reads by true and predicted class, so many at a time. It holds what is not zero of K x K
    numbers and nothing for each read."""

    def __init__(self, num_classes: int):
        from scipy.sparse import csr_array

        self.table: csr_array = csr_array((num_classes, num_classes), dtype=np.int64)
        """Reads by true (row) and predicted (column) class, int64 [K, K]."""

    def add(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Count reads: label ids [N] each."""
        from scipy.sparse import coo_array

        ones = np.ones(len(labels), dtype=np.int64)
        self.table = self.table + coo_array((ones, (labels, predictions)), shape=self.table.shape).tocsr()


def headline_metrics(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> dict[str, float]:
    """macro_f1, micro_f1, mcc and accuracy of int ``predictions`` [N] against ``labels`` [N], N > 0."""
    return prediction_metrics(labels, predictions, num_classes).headline


def prediction_metrics(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> Metrics:
    """Every metric that needs the predicted class only; `area_under_roc` needs all probabilities."""
    tally = ConfusionTally(num_classes)
    tally.add(np.asarray(labels), np.asarray(predictions))
    return metrics_of(tally.table)


def metrics_of(confusion: csr_array) -> Metrics:
    """The metrics of a table of reads by true (row) and predicted (column) class, of one read at least.

    Macro-F1 is the mean F1 over the classes that occur in the labels or in the predictions: a class
    that a small validation file happens not to contain neither helps nor hurts, one that is
    predicted without being there counts as 0. With one class per read micro-F1 equals accuracy.
    """
    right = confusion.diagonal()
    support = np.asarray(confusion.sum(axis=1)).ravel()
    predicted = np.asarray(confusion.sum(axis=0)).ravel()
    with np.errstate(invalid="ignore"):
        precision, recall, f1 = right / predicted, right / support, 2 * right / (support + predicted)
    reads = int(support.sum())
    accuracy = float(right.sum() / reads)
    return Metrics(
        reads=reads,
        accuracy=accuracy,
        macro_f1=float(np.nanmean(f1)),
        micro_f1=accuracy,
        mcc=matthews_correlation(confusion),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        predicted=predicted,
        confusion=confusion,
    )


def matthews_correlation(confusion: csr_array) -> float:
    """Matthews correlation coefficient of K classes (R_K; Gorodkin 2004), 0 when undefined.

    From the margins of the table alone: scikit-learn's version builds the dense K x K one.
    """
    true = np.asarray(confusion.sum(axis=1), dtype=np.float64).ravel()
    predicted = np.asarray(confusion.sum(axis=0), dtype=np.float64).ravel()
    reads = true.sum()
    covariance = confusion.diagonal().sum() * reads - true @ predicted
    spread = (reads**2 - true @ true) * (reads**2 - predicted @ predicted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def area_under_roc(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float | None, str | None]:
    """One-versus-rest AUROC, the plain mean over the classes that have reads; or None and the reason."""
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) < 2:
        return None, "AUROC needs reads of at least two classes"
    areas = [roc_auc_score(labels == label, probabilities[:, label]) for label in present]
    return float(np.mean(areas)), None


class ConfidenceTally:
    """How well confidence tells right from wrong, over reads that are counted so many at a time."""

    def __init__(self, bins: int = 15):
        self._bins = bins
        self._gap = np.zeros(bins)
        self._reached, self._right = np.zeros((2, len(THRESHOLDS)), dtype=np.int64)
        self._reads = 0

    def add(self, confidence: np.ndarray, correct: np.ndarray) -> None:
        """Count reads: the probability [N] of the predicted class, and whether it is right, bool [N]."""
        confidence = confidence.astype(np.float64)
        group = np.minimum((confidence * self._bins).astype(np.int64), self._bins - 1)
        self._gap += np.bincount(group, weights=correct - confidence, minlength=self._bins)
        for place, threshold in enumerate(THRESHOLDS):
            reached = confidence >= threshold
            self._reached[place] += np.count_nonzero(reached)
            self._right[place] += np.count_nonzero(reached & correct)
        self._reads += len(confidence)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Guo et al. 2017, arXiv:1706.04599): mean |accuracy - confidence|
        over equal ranges of confidence, which weigh by their reads."""
        return float(np.abs(self._gap).sum() / self._reads)

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """Reads that reach each of `THRESHOLDS`, and how many of those are right."""
        return tuple(
            Coverage(threshold, reached, reached / self._reads, right / reached if reached else None)
            for threshold, reached, right in zip(
                THRESHOLDS, self._reached.tolist(), self._right.tolist(), strict=True
            )
        )


def accuracy_gain(correct: np.ndarray, baseline_correct: np.ndarray) -> tuple[float, float]:
    """95 % interval of the difference in accuracy of two predictors of the same reads, bool [N] each.

    The normal approximation for paired differences. It takes reads as independent draws; reads of one
    genome are not quite, so the truth is somewhat wider.
    """
    reads = len(correct)
    gained, lost = (
        np.count_nonzero(correct & ~baseline_correct),
        np.count_nonzero(baseline_correct & ~correct),
    )
    gain = (gained - lost) / reads
    margin = 1.96 * math.sqrt(max(0.0, (gained + lost) / reads - gain**2) / reads)
    return gain - margin, gain + margin


def confused_pairs(confusion: csr_array, limit: int = 20) -> list[tuple[int, int, int]]:
    """The (true, predicted, reads) off the diagonal with most reads, most first."""
    table = confusion.tocoo()
    wrong = np.flatnonzero(table.row != table.col)
    order = wrong[np.lexsort((table.col[wrong], table.row[wrong], -table.data[wrong]))][:limit]
    return [(int(table.row[i]), int(table.col[i]), int(table.data[i])) for i in order]
