"""What a classifier gets without a 7B model: chance, and logistic regression on k-mer frequencies.

Both are judged on the same validation reads as the model, so that a report can say what the model
adds. A read is described by the frequencies of its canonical k-mers (a k-mer and its reverse
complement are one), because a shotgun read comes from either strand of its genome.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from metagene_train.label_column import Labels, at_ordinals, label_counts, labelled_pieces
from metagene_train.metrics import HEADLINE, ConfusionTally, metrics_of

MAX_TRAINING_READS = 20_000
"""Training reads of the regression: enough for 136 features, seconds of work."""

LEAST_INVERSE_PENALTY = 0.01
"""Inverse strength of the L2 penalty where reads are many; see `inverse_penalty`."""

MAX_ITERATIONS = 100
"""Of the L-BFGS solver, which needed 20 to 70 in that trial."""

MANY_CLASSES = 100
"""Classes from which the solver's matrices are wide enough for several threads."""

COUNTED_AT_ONCE = 4096
"""Reads whose k-mers are counted, and whose classes are predicted, in one array."""

RANDOM_DRAWS = 5
"""Draws that the chance level is averaged over."""

SequenceReader = Callable[[np.ndarray], Sequence[bytes]]
"""Positions of reads -> their normalised sequences (upper case ACGTN) in that order."""


@dataclass(frozen=True)
class Baseline:
    """Headline metrics (`metrics.HEADLINE`) of predictors that know nothing of the encoder.

    ``majority`` always names the most frequent training class, ``random`` draws classes by their
    training frequency (mean of `RANDOM_DRAWS` seeded draws), ``kmer`` is the regression. It learned
    from ``training_reads`` of ``training_reads_available`` and ``classes_seen`` of the classes occur in
    these; ``converged`` is False when the solver stopped at its iteration limit.
    """

    majority: dict[str, float]
    random: dict[str, float]
    kmer: dict[str, float]
    k: int
    training_reads: int
    training_reads_available: int
    classes_seen: int
    converged: bool
    seconds: float
    correct: np.ndarray = field(repr=False)
    """Whether the regression is right, bool [M], of the judged reads in their order."""


def kmer_baseline(
    train_labels: Labels,
    train_sequences: SequenceReader,
    labels: Labels,
    sequences: SequenceReader,
    num_classes: int,
    *,
    k: int = 4,
    max_training_reads: int = MAX_TRAINING_READS,
    seed: int = 0,
) -> Baseline:
    """Chance levels and k-mer regression, judged on the reads with true ``labels`` int [M].

    ``train_labels`` int [N] and ``labels`` are label ids, -1 for reads that take no part; the readers
    get positions in these arrays. More than ``max_training_reads`` reads are cut to a seeded sample
    without replacement, in which every read has the same chance.
    """
    started = time.monotonic()
    rng = np.random.default_rng(seed)
    counts = label_counts(train_labels, num_classes)
    available = int(counts.sum())
    ordinals = np.arange(min(available, max_training_reads))
    if available > max_training_reads:
        ordinals = np.sort(rng.choice(available, max_training_reads, replace=False))
    chosen, chosen_labels = at_ordinals(ordinals, train_labels)
    prior = counts / available
    predict, converged = _regression(kmer_frequencies(train_sequences(chosen), k), chosen_labels)

    def judged(predictions: Callable[[np.ndarray], np.ndarray]) -> tuple[dict[str, float], np.ndarray]:
        tally, correct = ConfusionTally(num_classes), []
        for positions, truth in labelled_pieces(labels):
            found = predictions(positions)
            tally.add(truth, found)
            correct.append(found == truth)
        return metrics_of(tally.table).headline, np.concatenate(correct)

    def by_kmers(positions: np.ndarray) -> np.ndarray:
        parts = np.split(positions, range(COUNTED_AT_ONCE, len(positions), COUNTED_AT_ONCE))
        return np.concatenate([predict(kmer_frequencies(sequences(part), k)) for part in parts])

    kmer, correct = judged(by_kmers)
    draws = [
        judged(lambda positions: rng.choice(num_classes, len(positions), p=prior))[0]
        for _ in range(RANDOM_DRAWS)
    ]
    return Baseline(
        majority=judged(lambda positions: np.full(len(positions), prior.argmax()))[0],
        random={name: float(np.mean([draw[name] for draw in draws])) for name in HEADLINE},
        kmer=kmer,
        k=k,
        training_reads=len(chosen),
        training_reads_available=available,
        classes_seen=len(np.unique(chosen_labels)),
        converged=converged,
        seconds=time.monotonic() - started,
        correct=correct,
    )


def _regression(
    frequencies: np.ndarray, train_labels: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], bool]:
    """What predicts label ids [N] of frequencies [N, features], and whether the solver converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    classes = len(np.unique(train_labels))
    if classes == 1:
        return lambda asked: np.full(len(asked), train_labels[0], dtype=np.int64), True
    strength = inverse_penalty(len(train_labels), classes)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MAX_ITERATIONS))
    # Threads wait for each other on matrices as narrow as these: seventeen times the time on busy cores.
    threads = 1 if classes < MANY_CLASSES else None
    with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(frequencies, train_labels)
    return model.predict, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def inverse_penalty(reads: int, classes: int) -> float:
    """scikit-learn's ``C`` for standardised frequencies, by training reads per class.

    Fitted to a trial on real genomes and on simulated ones with many classes (docs/evaluation.md):
    the fewer the reads of a class, the less the penalty may outweigh them.
    """
    return max(LEAST_INVERSE_PENALTY, 0.5 * classes / reads)


def kmer_frequencies(sequences: Sequence[bytes], k: int = 4, *, canonical: bool = True) -> np.ndarray:
    """Frequencies of the k-mers of each read, float32 [reads, features]; rows sum to 1.

    Features are the canonical k-mers in the order of their codes (136 for k=4), or all 4**k with
    ``canonical=False``. k-mers with anything but upper-case ACGT are left out; a read without any
    k-mer is a row of zeros.
    """
    feature = _canonical_feature(k) if canonical else np.arange(4**k)
    width = int(feature.max()) + 1
    counts = np.zeros((len(sequences), width), dtype=np.float32)
    for start in range(0, len(sequences), COUNTED_AT_ONCE):
        part = sequences[start : start + COUNTED_AT_ONCE]
        # One separator behind each read: no k-mer spans two reads.
        bases = _BASE_CODE[np.frombuffer(b"\n".join(part) + b"\n", dtype=np.uint8)]
        row = np.repeat(np.arange(len(part)), [len(sequence) + 1 for sequence in part])
        windows = max(len(bases) - k + 1, 0)
        code = np.zeros(windows, dtype=np.int64)
        valid = np.ones(windows, dtype=bool)
        for offset in range(k):
            base = bases[offset : offset + windows]
            code = code * 4 + base
            valid &= base < 4
        cell = row[:windows][valid] * width + feature[code[valid]]
        counts[start : start + len(part)] = np.bincount(cell, minlength=len(part) * width).reshape(-1, width)
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=counts, where=total > 0)


@cache
def _canonical_feature(k: int) -> np.ndarray:
    """Code of a k-mer (base 4, A C G T = 0 1 2 3) -> column of it and its reverse complement."""
    codes = np.arange(4**k)
    reverse = np.zeros_like(codes)
    rest = codes.copy()
    for _ in range(k):
        reverse = reverse * 4 + (3 - rest % 4)
        rest //= 4
    return np.unique(np.minimum(codes, reverse), return_inverse=True)[1]


_BASE_CODE = np.full(256, 4, dtype=np.uint8)
_BASE_CODE[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4, dtype=np.uint8)
