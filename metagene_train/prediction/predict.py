"""Classify the reads of any FASTA or FASTQ file with a trained run, in bounded memory.

Reads stream through in buffers: within a buffer they are batched by length, the output keeps the
order of the input. Every read of the file is in the output, also the ones that cannot be classified.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from metagene_train.errors import InputError
from metagene_train.prediction.abundance import UNCLASSIFIED, Abundance
from metagene_train.prediction.tables import check_table_path, open_table

if TYPE_CHECKING:
    import pyarrow

    from metagene_train.labels import LabelMap
    from metagene_train.prediction.inference import ReadScorer
    from metagene_train.reads.records.opening import OpenReads
    from metagene_train.reads.records.records import Read

BUFFER_READS = 4096
BUFFER_BASES = 1 << 26
"""Reads and bases held at once, whichever is reached first."""

ALL_PROBABILITIES_UP_TO = 50
"""Classes up to which every class gets its own probability column by default."""

EMPTY, LOW_CONFIDENCE = "no A, C, G or T", "below threshold"
"""Why a read is unclassified."""

Probabilities = Literal["all", "top", "none"]


@dataclass(frozen=True)
class PredictionSummary:
    """What happened to the reads of one file; ``unclassified`` is reason -> reads."""

    output: Path
    reads: int
    classified: int
    unclassified: dict[str, int] = field(default_factory=dict)
    reads_cut: int = 0
    """Reads longer than the model takes, classified by their first ``tokenizer.max_length`` tokens."""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The counts in a line or two."""
        share = f" ({100 * (self.classified / self.reads):.1f} %)" if self.reads else ""
        reasons = "".join(f", {count:,} {reason}" for reason, count in self.unclassified.items())
        lines = [
            f"{self.output}: {self.reads:,} reads in {self.seconds:.1f} s, "
            f"{self.classified:,} classified{share}{reasons}"
        ]
        if self.reads_cut:
            lines.append(f"reads cut to the longest length of the model: {self.reads_cut:,}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Predictions:
    """A buffer's reads, in input order. ``label`` int [N] is -1 for unclassified; ``confidence``
    float32 [N] is the probability of the most probable class, NaN for a read without A, C, G or T."""

    names: list[str]
    label: np.ndarray
    confidence: np.ndarray
    note: list[str | None]
    probabilities: np.ndarray


def predict(
    run_dir: str | Path,
    fasta: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    per_sample: bool = False,
    threshold: float | None = None,
    batch_size: int | None = None,
    probabilities: Probabilities | None = None,
    top_k: int = 5,
    device: str = "auto",
    progress: Callable[[int, int | None], None] | None = None,
) -> PredictionSummary:
    """Write the classes of all reads in ``fasta`` to ``output`` (CSV, TSV, .gz, Parquet by suffix).

    ``fasta`` is a file, ``-`` for standard input, a pipe, or several of them, read one after the other.
    One row per read, or one per class with ``per_sample`` (see `abundance.Abundance.table`). A read
    whose best probability is below ``threshold`` is unclassified. ``probabilities`` chooses the
    columns behind the prediction: one per class, the ``top_k`` best classes, or none; None is all
    for up to `ALL_PROBABILITIES_UP_TO` classes and top otherwise. ``progress`` is told the reads done.

    Raises InputError (no such run, file or output directory), DataError (damaged file; no output is
    left behind) and RunError (out of memory or disk).
    """
    from metagene_train.reads.access import open_files
    from metagene_train.reads.access.data_set import distinct_files
    from metagene_train.reads.records.opening import opened

    files, output = distinct_files(fasta, output), Path(output)
    open_files.allow(len(files), 1)
    check_table_path(output)
    if output.exists() and any(file.exists() and output.samefile(file) for file in files):
        raise InputError(f"{output}: is the input")
    from metagene_train.model import load_model
    from metagene_train.prediction.inference import ReadScorer, resolve_device
    from metagene_train.run_files import model_directory

    with ExitStack() as stack:
        # What is no FASTA or FASTQ is told before the encoder is loaded.
        inputs = [stack.enter_context(opened(file)) for file in files]
        classifier = load_model(model_directory(Path(run_dir)), resolve_device(device))
        started = time.monotonic()
        labels = classifier.labels
        scorer = ReadScorer(classifier, batch_size)
        counts: Counter[str] = Counter()
        reads = 0
        abundance = Abundance(labels)
        columns = probabilities or ("all" if len(labels) <= ALL_PROBABILITIES_UP_TO else "top")
        top_k = min(top_k, len(labels))
        schema = abundance.table("").schema if per_sample else read_schema(labels, columns, top_k)
        write = stack.enter_context(open_table(output, schema))
        for buffer in _buffers(inputs):
            found = _classify(buffer, scorer, threshold)
            counts.update(note for note in found.note if note)
            reads += len(buffer)
            if per_sample:
                abundance.add(found.label, found.confidence)
            else:
                write(read_table(found, labels, schema, columns, top_k))
            if progress:
                progress(reads, None)
        if per_sample:
            write(abundance.table("+".join(sample_name(Path(each.name)) for each in inputs)))
    return PredictionSummary(
        output=output,
        reads=reads,
        classified=reads - counts.total(),
        unclassified=dict(counts),
        reads_cut=scorer.reads_cut,
        seconds=time.monotonic() - started,
    )


def sample_name(fasta: Path) -> str:
    """Name of the file without its directory and suffixes: ``soil.fq.gz`` is ``soil``."""
    name = fasta.name
    for suffix in (".gz", ".bgz", ".zst", ".xz", ".bz2", ".fastq", ".fasta", ".fq", ".fa", ".fna"):
        name = name.removesuffix(suffix)
    return name


def read_schema(labels: LabelMap, columns: Probabilities, top_k: int) -> pyarrow.Schema:
    """Columns of the table of reads; those of probabilities are named by class id or by rank."""
    import pyarrow

    fields = [
        ("read", pyarrow.string()),
        ("class_id", pyarrow.int64()),
        ("label_name", pyarrow.string()),
        ("confidence", pyarrow.float32()),
        ("note", pyarrow.string()),
    ]
    if columns == "all":
        fields += [(f"p_{class_id}", pyarrow.float32()) for class_id in labels.class_ids]
    if columns == "top":
        for rank in range(1, top_k + 1):
            fields += [(f"top{rank}_class_id", pyarrow.int64()), (f"top{rank}_p", pyarrow.float32())]
    return pyarrow.schema(fields)


def read_table(
    found: Predictions, labels: LabelMap, schema: pyarrow.Schema, columns: Probabilities, top_k: int
) -> pyarrow.Table:
    """Rows of ``schema``, one per read; what a read that was not scored does not have is null."""
    import pyarrow

    class_ids = np.asarray(labels.class_ids)
    unclassified, unscored = found.label < 0, np.isnan(found.confidence)
    values = [
        pyarrow.array(found.names, pyarrow.string()),
        pyarrow.array(class_ids[found.label], pyarrow.int64(), mask=unclassified),
        pyarrow.array([labels.names[i] if i >= 0 else UNCLASSIFIED for i in found.label]),
        pyarrow.array(found.confidence, pyarrow.float32(), mask=unscored),
        pyarrow.array(found.note, pyarrow.string()),
    ]
    if columns == "all":
        values += [
            pyarrow.array(found.probabilities[:, label], pyarrow.float32(), mask=unscored)
            for label in range(len(labels))
        ]
    if columns == "top":
        best = np.argsort(-found.probabilities, axis=1, kind="stable")[:, :top_k]
        for rank in range(top_k):
            label = best[:, rank]
            probability = found.probabilities[np.arange(len(label)), label]
            values.append(pyarrow.array(class_ids[label], pyarrow.int64(), mask=unscored))
            values.append(pyarrow.array(probability, pyarrow.float32(), mask=unscored))
    return pyarrow.Table.from_arrays(values, schema=schema)


def _buffers(inputs: list[OpenReads]) -> Iterator[list[Read]]:
    from metagene_train.reads.records.records import reads_of

    buffer: list[Read] = []
    bases = 0
    for read in itertools.chain.from_iterable(map(reads_of, inputs)):
        buffer.append(read)
        bases += len(read.sequence)
        if len(buffer) >= BUFFER_READS or bases >= BUFFER_BASES:
            yield buffer
            buffer, bases = [], 0
    if buffer:
        yield buffer


def _classify(buffer: list[Read], scorer: ReadScorer, threshold: float | None) -> Predictions:
    from metagene_train.reads.counts.bases import normalise

    sequences = [normalise(read.sequence) for read in buffer]
    filled = np.flatnonzero([bool(sequence.strip(b"N")) for sequence in sequences])
    probabilities = np.full((len(buffer), len(scorer.classifier.labels)), np.nan, dtype=np.float32)
    if len(filled):
        probabilities[filled] = scorer.probabilities([sequences[i] for i in filled])
    confidence = probabilities.max(axis=1)
    label = np.where(np.isnan(confidence), -1, probabilities.argmax(axis=1))
    note: list[str | None] = [EMPTY if np.isnan(value) else None for value in confidence]
    if threshold is not None:
        low = confidence < threshold
        label[low] = -1
        note = [LOW_CONFIDENCE if is_low else reason for is_low, reason in zip(low, note, strict=True)]
    names = [(read.header.split(maxsplit=1) or [""])[0] for read in buffer]
    return Predictions(names, label, confidence, note, probabilities)
