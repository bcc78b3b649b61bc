"""The one pass over a reads file: integrity, exact statistics, and the index that training uses."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metagene_train.reads.bases import BaseCounts, count_bases
from metagene_train.reads.formats import ReadFormat, sniff
from metagene_train.reads.headers import HeaderPattern
from metagene_train.reads.index_files import Fingerprint, IndexWriter
from metagene_train.reads.problems import Place, Problem, Rejection, RejectionTally
from metagene_train.reads.records import LineTally, decode_header, walk
from metagene_train.reads.sample import Reservoir
from metagene_train.reads.source import open_source

LONGEST_COUNTED = 1 << 20
"""Reads of this many bases and longer share the last entry of the length histogram."""

ORDER_LAG = 8
"""Reads apart at which classes are compared to see whether a file is sorted; more than mates."""

Progress = Callable[[int, int], None]
"""Called now and then with the bytes of the file done and to be done."""


@dataclass(frozen=True)
class ReadScan:
    """What one pass over a file found. ``records == accepted + sum of rejected counts``, always.

    ``lengths[n]`` is the number of accepted reads of n bases (numpy int64). Bases, lengths and the
    sample are of accepted reads. ``duplicate_headers`` is how many records repeat the header of an
    earlier record, ``adjacent_same_class`` how many accepted reads have the class of the read
    ``ORDER_LAG`` before.
    """

    path: str
    format: ReadFormat
    bytes_present: int
    bytes_examined: int
    digest: str
    records: int
    accepted: int
    rejected: tuple[Rejection, ...]
    problems: tuple[Problem, ...]
    lengths: np.ndarray
    total_bases: int
    longest: int
    bases: BaseCounts
    lines: int
    crlf_lines: int
    non_ascii_headers: int
    class_counts: dict[int, int]
    tax_ids: dict[int, dict[int, int]]
    mates: dict[int, int]
    readlen_mismatches: int
    readlen_examples: tuple[Place, ...]
    duplicate_headers: int
    adjacent_same_class: int
    sample: tuple[bytes, ...]

    @property
    def complete(self) -> bool:
        """Whether the whole file could be read and none of it is damaged."""
        return not self.problems

    @property
    def empty_reads(self) -> int:
        return sum(rejection.count for rejection in self.rejected if rejection.kind == "empty")

    @property
    def class_order(self) -> float | None:
        """0 for classes in random order, 1 for a file sorted by class; None if it cannot be told.

        The share of reads with the class of the read eight before, scaled between what a shuffled
        file of the same classes would show and 1.
        """
        total = sum(self.class_counts.values())
        if total <= ORDER_LAG or len(self.class_counts) < 2:
            return None
        expected = math.fsum((count / total) ** 2 for count in self.class_counts.values())
        return (self.adjacent_same_class / (total - ORDER_LAG) - expected) / (1 - expected)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the sampled sequences, as JSON takes it."""
        document = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("lengths", "sample", "class_counts", "tax_ids", "mates")
        }
        plain = {
            name: dataclasses.asdict(value) if isinstance(value, BaseCounts | ReadFormat) else value
            for name, value in document.items()
        }
        filled = np.flatnonzero(self.lengths)
        return plain | {
            "rejected": [dataclasses.asdict(rejection) for rejection in self.rejected],
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
            "readlen_examples": [dataclasses.asdict(place) for place in self.readlen_examples],
            "lengths": {str(length): int(self.lengths[length]) for length in filled},
            "class_counts": {str(key): count for key, count in sorted(self.class_counts.items())},
            "tax_ids": {
                str(key): {str(tax): n for tax, n in taxa.items()} for key, taxa in self.tax_ids.items()
            },
            "mates": {str(mate): count for mate, count in sorted(self.mates.items())},
            "complete": self.complete,
            "class_order": self.class_order,
            "sampled": len(self.sample),
        }


def scan(
    path: str | Path,
    *,
    header: HeaderPattern | None,
    file_format: str = "auto",
    index_dir: Path | None = None,
    progress: Progress | None = None,
) -> ReadScan:
    """Read a file once and count everything; with ``index_dir`` also write the read index there.

    ``header=None`` takes any header and knows no classes. Damage does not raise: it is in
    ``problems``, and no index is published then. Raises InputError or DataError where there is
    nothing to scan (missing, empty, neither FASTA nor FASTQ).
    """
    path = Path(path)
    form = sniff(path, file_format)
    tally = LineTally()
    rejected: dict[tuple[str, str], RejectionTally] = {}
    problems: list[Problem] = []
    lengths: Counter[int] = Counter()
    bases = BaseCounts()
    classes: Counter[int] = Counter()
    taxa: defaultdict[int, Counter[int]] = defaultdict(Counter)
    mates: Counter[int] = Counter()
    seen: set[int] = set()
    recent: list[int] = []
    reservoir = Reservoir()
    records = accepted = mismatches = duplicates = same = non_ascii = total = longest = 0
    readlen_places: list[Place] = []
    nul: list[Problem] = []

    def reject(kind: str, reason: str, line: int, record: int, text: str) -> None:
        rejected.setdefault((kind, reason), RejectionTally(kind)).add(line, record, text)

    writer = IndexWriter.begin(path, form, header, index_dir) if index_dir else None
    source = open_source(path, form.compression)
    if writer:
        source = writer.tap(source)
    digest = Fingerprint.of(path).digest
    try:
        for raw in walk(source, form, tally):
            records += 1
            text = decode_header(raw.header)
            fields = header.parse(text) if header and not raw.fault else None
            duplicate = hash(raw.header) in seen
            seen.add(hash(raw.header))
            duplicates += duplicate
            non_ascii += not raw.header.isascii()
            if 0 in raw.header or 0 in raw.sequence:
                nul.append(Problem("nul", "holds NUL bytes", raw.line, raw.record, raw.offset))
            if raw.fault:
                reject("fastq", raw.fault, raw.line, raw.record, text)
                problems.append(Problem("fastq", raw.fault, raw.line, raw.record, raw.offset))
            elif header and fields is None:
                reject("header", header.explain(text), raw.line, raw.record, text)
            elif not raw.sequence:
                reject("empty", "the read has no bases", raw.line, raw.record, text)
            else:
                length = len(raw.sequence)
                accepted += 1
                total += length
                longest = max(longest, length)
                lengths[min(length, LONGEST_COUNTED)] += 1
                bases += count_bases(raw.sequence)
                reservoir.offer(raw.sequence)
                class_id = -1
                if fields:
                    class_id = fields.class_id
                    classes[class_id] += 1
                    mates[fields.mate or 0] += 1
                    if fields.tax_id is not None:
                        taxa[class_id][fields.tax_id] += 1
                    if fields.readlen is not None and fields.readlen != length:
                        mismatches += 1
                        if len(readlen_places) < 5:
                            readlen_places.append(Place(raw.line, raw.record, text[:80]))
                    if len(recent) == ORDER_LAG:
                        same += recent.pop(0) == class_id
                    recent.append(class_id)
                if writer:
                    writer.append(*(np.array([x]) for x in (raw.offset, raw.span, length, class_id)))
                continue
            if writer:
                writer.skip(np.array([accepted]))
        problems = list(source.problems) + problems[:1] + nul[:1]
        histogram = np.zeros(max(lengths, default=0) + 1, dtype=np.int64)
        for length, count in lengths.items():
            histogram[length] = count
        found = ReadScan(
            path=str(path),
            format=form,
            bytes_present=source.size,
            bytes_examined=source.position,
            digest=digest,
            records=records,
            accepted=accepted,
            rejected=tuple(
                Rejection(kind, reason, found.count, tuple(found.examples))
                for (kind, reason), found in sorted(rejected.items(), key=lambda item: -item[1].count)
            ),
            problems=tuple(problems),
            lengths=histogram,
            total_bases=total,
            longest=longest,
            bases=bases,
            lines=tally.lines,
            crlf_lines=tally.crlf,
            non_ascii_headers=non_ascii,
            class_counts=dict(sorted(classes.items())),
            tax_ids={key: dict(taxa[key]) for key in sorted(taxa)},
            mates=dict(sorted(mates.items())),
            readlen_mismatches=mismatches,
            readlen_examples=tuple(readlen_places),
            duplicate_headers=duplicates,
            adjacent_same_class=same,
            sample=reservoir.sequences,
        )
        if writer and found.complete:
            writer.publish(found.to_dict())
        return found
    finally:
        source.close()
        if writer:
            writer.discard()
