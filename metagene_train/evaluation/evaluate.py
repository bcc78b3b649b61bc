"""Judge a trained run on reads of known class, beside chance and a k-mer baseline.

`evaluate` computes; `metagene_train.evaluation.files` writes what it found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from metagene_train.errors import DataError, InputError, MetageneError
from metagene_train.evaluation.baseline import Baseline, SequenceReader, kmer_baseline
from metagene_train.label_column import LabelColumn, label_counts, labelled_pieces
from metagene_train.labels import LabelMap
from metagene_train.metrics import (
    ConfidenceTally,
    ConfusionTally,
    Coverage,
    Metrics,
    accuracy_gain,
    area_under_roc,
    metrics_of,
)
from metagene_train.reads.access.data_set import distinct_files, title_of

if TYPE_CHECKING:
    from metagene_train.config import DatasetConfig, RunConfig
    from metagene_train.prediction.inference import ReadScorer
    from metagene_train.reads.access.joined import Column

BUFFER_READS = 1024
BUFFER_BASES = 1 << 26
"""Reads and bases held at once, whichever is reached first."""

AUROC_READS = 20_000
AUROC_NUMBERS = 1 << 26
"""AUROC needs all probabilities of its reads: at most so many reads, and probabilities, are kept."""

Progress = Callable[[int, int], None]
"""Told reads done and reads in all."""


@dataclass(frozen=True)
class Evaluation:
    """How a model did on the reads of ``files``.

    Not judged are ``reads_of_unknown_class``, which the labels of the model do not have, and
    ``reads_rejected``, whose record or header cannot be used (``rejection_reasons``).
    ``log_loss`` is the mean negative log probability (nats) of the true class, without label
    smoothing or class weights. ``auroc_reads`` is how many reads, sampled without replacement, the
    AUROC is from. ``train_reads`` int64 [K] are the training reads by class; it and ``baseline``
    are None, with the reason in ``baseline_note``, when the training reads cannot be read.
    ``accuracy_gain`` is the 95 % interval of what the model has over the k-mer regression.
    """

    run_dir: Path
    files: tuple[Path, ...]
    config: RunConfig
    labels: LabelMap
    metrics: Metrics
    auroc_reads: int
    log_loss: float
    calibration_error: float
    coverage: tuple[Coverage, ...]
    reads_of_unknown_class: int
    reads_rejected: int
    rejection_reasons: str
    reads_cut: int
    train_reads: np.ndarray | None
    baseline: Baseline | None
    accuracy_gain: tuple[float, float] | None
    baseline_note: str | None
    device: str
    seconds: float

    @property
    def chose_checkpoint(self) -> bool:
        """Whether the best checkpoint of the run was chosen by some of these very reads."""
        used = self.config.dataset.val_fasta
        if used is None or not self.config.training.checkpoint.save_best:
            return False
        named = [used] if isinstance(used, str) else used
        return not {Path(file).resolve() for file in named}.isdisjoint(f.resolve() for f in self.files)

    @property
    def title(self) -> str:
        """The files, as they were named."""
        return ", ".join(map(str, self.files))

    @property
    def reads_per_s(self) -> float:
        return self.metrics.reads / self.seconds


@dataclass(frozen=True)
class LabelledReads:
    """Reads of some files: label ids [N] (-1 unknown), lengths [N] in bases, and their sequences;
    ``counts`` int64 [K] are the reads of each label."""

    files: tuple[Path, ...]
    labels: LabelColumn
    counts: np.ndarray
    lengths: Column
    sequences: SequenceReader
    rejected: int
    rejection_reasons: str

    @property
    def unknown(self) -> int:
        return len(self.labels) - int(self.counts.sum())

    @property
    def title(self) -> str:
        """What to call the files in a message."""
        return str(self.files[0]) if len(self.files) == 1 else title_of(self.files)


def evaluate(
    run_dir: str | Path,
    fasta: str | Path | Sequence[str | Path] | None = None,
    *,
    header_regex: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge the model of a run on ``fasta``, by default the run's test reads, else its validation reads.

    ``fasta`` is a file, a pattern of names, or several of them. ``header_regex`` is the header pattern of
    these reads where it is not the run's; the training reads of the baseline keep the run's.

    Raises InputError (no finished run, no such file, no header pattern), DataError (damaged file, no
    reads to judge, or with ``dataset.strict_classes`` reads without a class that the model has) and
    RunError (out of memory).
    """
    from metagene_train.config_file import load_config
    from metagene_train.model import load_model
    from metagene_train.prediction.inference import ReadScorer, resolve_device
    from metagene_train.run_directory import CONFIG, LABELS
    from metagene_train.run_files import model_directory

    run_dir = Path(run_dir)
    model_dir = model_directory(run_dir)
    config, labels = load_config(model_dir / CONFIG).config, LabelMap.load(model_dir / LABELS)
    fasta = fasta or config.dataset.test_fasta or config.dataset.val_fasta
    if fasta is None:
        raise InputError(f"{run_dir}: the run has no test or validation reads; name some with --fasta")
    # All that can be wrong with the reads, before the gigabytes of the encoder are loaded.
    reads = _open_reads(fasta, _with_header(config.dataset, header_regex), labels)
    _check_classes(reads, config.dataset.strict_classes)
    classifier = load_model(model_dir, resolve_device(device))

    started = time.monotonic()
    scorer = ReadScorer(classifier, batch_size)
    metrics, correct, scores = _judge(reads, scorer, config, progress)
    seconds = time.monotonic() - started
    train_reads, baseline, note = _baseline(config, labels, reads)
    return Evaluation(
        run_dir=run_dir,
        files=reads.files,
        config=config,
        labels=labels,
        metrics=metrics,
        **scores,
        reads_of_unknown_class=reads.unknown,
        reads_rejected=reads.rejected,
        rejection_reasons=reads.rejection_reasons,
        reads_cut=scorer.reads_cut,
        train_reads=train_reads,
        baseline=baseline,
        accuracy_gain=accuracy_gain(correct, baseline.correct) if baseline else None,
        baseline_note=note,
        device=str(classifier.model.device),
        seconds=seconds,
    )


def _with_header(settings: DatasetConfig, header_regex: str | None) -> DatasetConfig:
    """The settings of a run with another header pattern, if there is one."""
    if header_regex is None:
        return settings
    own = settings.model_copy()
    try:
        own.header_regex = header_regex
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--header-regex {reason}") from None
    return own


def _open_reads(
    named: str | Path | Sequence[str | Path], settings: DatasetConfig, labels: LabelMap
) -> LabelledReads:
    from metagene_train.open_reads import open_reads
    from metagene_train.reads.counts.bases import normalise

    index = open_reads(named, settings)

    def sequences(positions: np.ndarray) -> list[bytes]:
        return [normalise(sequence) for sequence in index.sequences(positions)]

    column = LabelColumn(index.class_ids, labels)
    return LabelledReads(
        files=tuple(distinct_files(named)),
        labels=column,
        counts=label_counts(column, len(labels)),
        lengths=index.lengths,
        sequences=sequences,
        rejected=index.records - len(index),
        rejection_reasons=index.rejection_summary,
    )


def _check_classes(reads: LabelledReads, strict: bool) -> None:
    problems = []
    if reads.unknown == len(reads.labels):
        raise DataError(
            f"{reads.title}: none of its {reads.unknown:,} reads has a class that the model knows; are they "
            "reads of the classes in the run's labels.json?"
        )
    if reads.unknown:
        problems.append(f"{reads.title}: reads of a class that the model does not know: {reads.unknown:,}")
    if reads.rejected:
        problems.append(f"{reads.title}: {reads.rejection_reasons}")
    if problems and strict:
        remedy = "correct the file, or set dataset.strict_classes: false in model/config.yaml of the run"
        raise DataError("\n".join([*problems, f"{remedy} to leave these reads out"]))


def _judge(
    reads: LabelledReads, scorer: ReadScorer, config: RunConfig, progress: Progress | None
) -> tuple[Metrics, np.ndarray, dict[str, Any]]:
    """Metrics, which of the judged reads are right (bool), and the fields of `Evaluation` beside them.

    The reads of a piece of the file are judged together, the longest first. A byte for each read is all
    that is held of it, and the probabilities of the sample.
    """
    total, num_classes = int(reads.counts.sum()), len(scorer.classifier.labels)
    tally, confidences = ConfusionTally(num_classes), ConfidenceTally()
    correct = np.empty(total, dtype=bool)
    log_loss = 0.0
    sampled = _sample(total, min(AUROC_READS, AUROC_NUMBERS // num_classes), config.seed)
    kept = np.empty((len(sampled), num_classes), dtype=np.float32)
    kept_truth = np.empty(len(sampled), dtype=np.int64)
    first = done = 0
    if progress:
        progress(0, total)
    for positions, truth in labelled_pieces(reads.labels):
        for part in _by_length(reads.lengths[positions]):
            probabilities = scorer.probabilities(reads.sequences(positions[part]))
            predicted = probabilities.argmax(axis=1)
            right = predicted == truth[part]
            tally.add(truth[part], predicted)
            confidences.add(probabilities.max(axis=1), right)
            numbers = first + part
            correct[numbers] = right
            of_truth = probabilities[np.arange(len(part)), truth[part]].astype(np.float64)
            log_loss -= np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).sum()
            place = np.searchsorted(sampled, numbers)
            hit = sampled[np.minimum(place, len(sampled) - 1)] == numbers
            kept[place[hit]] = probabilities[hit]
            kept_truth[place[hit]] = truth[part][hit]
            done += len(part)
            if progress:
                progress(done, total)
        first += len(positions)
    if config.metrics.compute_auroc:
        auroc, note = area_under_roc(kept_truth, kept)
    else:
        auroc, note = None, "not computed (metrics.compute_auroc: false)"
    return (
        replace(metrics_of(tally.table), auroc=auroc, auroc_note=note),
        correct,
        {
            "auroc_reads": len(sampled),
            "log_loss": float(log_loss / total),
            "calibration_error": confidences.calibration_error,
            "coverage": confidences.coverage,
        },
    )


def _sample(total: int, size: int, seed: int) -> np.ndarray:
    """Ascending positions of ``size`` of ``total`` reads, all of them when there are no more."""
    if total <= size:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, size, replace=False))


def _by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Positions in buffers of bounded reads and bases, longest reads first."""
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    bases = np.cumsum(lengths[order], dtype=np.int64) // BUFFER_BASES
    count = np.arange(len(order)) // BUFFER_READS
    return np.split(order, np.flatnonzero(np.diff(bases) | np.diff(count)) + 1)


def _baseline(
    config: RunConfig, labels: LabelMap, reads: LabelledReads
) -> tuple[np.ndarray | None, Baseline | None, str | None]:
    """Training reads by class, the baseline, and why there is none."""
    if config.dataset.train_fasta is None:
        return None, None, "the run's configuration names no training reads"
    try:
        train = _open_reads(config.dataset.train_fasta, config.dataset, labels)
    except MetageneError as error:
        return None, None, f"the training reads cannot be read: {error}"
    baseline = kmer_baseline(
        train.labels, train.sequences, reads.labels, reads.sequences, len(labels), seed=config.seed
    )
    return train.counts, baseline, None
