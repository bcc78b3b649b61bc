"""Metrics agree with scikit-learn's own and with numbers worked out by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from metagene_train.metrics import (
    ConfidenceTally,
    ConfusionTally,
    accuracy_gain,
    area_under_roc,
    confused_pairs,
    headline_metrics,
    metrics_of,
    prediction_metrics,
)


def random_problem(reads=400, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, reads)
    scores = rng.random((reads, classes)) + 0.5 * np.eye(classes)[labels]
    return labels, scores / scores.sum(axis=1, keepdims=True)


def test_agrees_with_scikit_learn():
    labels, probabilities = random_problem()
    predictions = probabilities.argmax(axis=1)
    found = prediction_metrics(labels, predictions, 7)
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(labels, predictions, average="macro"))
    assert found.micro_f1 == pytest.approx(sklearn_metrics.f1_score(labels, predictions, average="micro"))
    assert found.mcc == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, predictions))
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    assert area_under_roc(labels, probabilities)[0] == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    assert (found.confusion.toarray() == sklearn_metrics.confusion_matrix(labels, predictions)).all()
    assert headline_metrics(labels, predictions, 7) == found.headline


def test_macro_f1_is_over_classes_present_or_predicted():
    # Class 0: precision 1, recall 1/2, F1 2/3. Class 1: 1 of 1 found, precision 1, F1 1.
    # Class 2 is predicted once and never there: F1 0. Classes 3 and 4 do not occur at all.
    found = headline_metrics(np.array([0, 0, 1]), np.array([0, 2, 1]), 5)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["accuracy"] == found["micro_f1"] == pytest.approx(2 / 3)


def test_undefined_per_class_values_are_nan_not_zero():
    found = prediction_metrics(np.array([0, 0, 1]), np.array([0, 2, 0]), 4)
    assert np.isnan(found.recall[2]) and found.precision[2] == 0
    assert np.isnan(found.precision[1]) and found.recall[1] == 0
    assert np.isnan(found.f1[3])
    assert list(found.support) == [2, 1, 0, 0]
    assert list(found.predicted) == [2, 0, 1, 0]


def test_auroc_of_one_class_is_undefined_with_a_reason():
    auroc, note = area_under_roc(np.zeros(3, int), np.full((3, 2), 0.5))
    assert auroc is None and note is not None and "two classes" in note
    assert prediction_metrics(np.zeros(3, int), np.zeros(3, int), 2).mcc == 0.0


def test_auroc_ignores_classes_without_reads():
    labels, probabilities = random_problem(classes=4)
    wide = np.hstack([probabilities, np.zeros((len(labels), 3))])
    assert area_under_roc(labels, wide)[0] == pytest.approx(area_under_roc(labels, probabilities)[0])


def test_many_classes_stay_sparse():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 200_000, 5000)
    predictions = np.where(rng.random(5000) < 0.5, labels, rng.integers(0, 200_000, 5000))
    found = headline_metrics(labels, predictions, 200_000)
    assert found["mcc"] == pytest.approx(found["accuracy"], abs=0.01)


def test_counted_in_parts_it_is_the_same():
    labels, probabilities = random_problem()
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    parts, confidences = ConfusionTally(7), ConfidenceTally()
    for part in np.array_split(np.random.default_rng(1).permutation(len(labels)), 9):
        parts.add(labels[part], predictions[part])
        confidences.add(confidence[part], predictions[part] == labels[part])
    whole = prediction_metrics(labels, predictions, 7)
    assert metrics_of(parts.table).headline == whole.headline
    assert (parts.table.toarray() == whole.confusion.toarray()).all()
    assert confidences.calibration_error == pytest.approx(
        tallied(confidence, predictions == labels).calibration_error
    )
    assert confidences.coverage == tallied(confidence, predictions == labels).coverage


def tallied(confidence, correct):
    tally = ConfidenceTally()
    tally.add(np.array(confidence), np.array(correct))
    return tally


def test_calibration_error_by_hand():
    # Two reads at 0.9 of which one is right (gap 0.4), two at 0.6 of which both are (gap 0.4).
    error = tallied([0.9, 0.9, 0.6, 0.6], [True, False, True, True]).calibration_error
    assert error == pytest.approx(0.4)
    assert tallied([1.0, 1.0], [True, True]).calibration_error == 0


def test_coverage_counts_reads_that_reach_the_threshold():
    rows = {row.threshold: row for row in tallied([0.5, 0.85], [False, True]).coverage}
    assert rows[0.0].classified == 2 and rows[0.0].accuracy == 0.5
    assert rows[0.5].classified == 2
    assert rows[0.8].fraction == 0.5 and rows[0.8].accuracy == 1.0
    assert rows[0.99].accuracy is None


def test_confused_pairs_are_the_largest_mistakes_first():
    labels = np.array([0, 0, 0, 1, 1, 2])
    predictions = np.array([1, 1, 0, 2, 1, 2])
    found = prediction_metrics(labels, predictions, 3)
    assert confused_pairs(found.confusion) == [(0, 1, 2), (1, 2, 1)]


def test_accuracy_gain_covers_the_truth_about_95_times_of_100():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        hard = rng.random(300)
        low, high = accuracy_gain(hard < 0.7, np.where(rng.random(300) < 0.8, hard, rng.random(300)) < 0.6)
        hits += low <= 0.1 <= high
    assert 0.9 < hits / 400 < 0.985
