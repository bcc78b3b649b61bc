"""ReadScan: what one pass over a reads file found."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from metagene_train.reads.counts.bases import BaseCounts
from metagene_train.reads.counts.tallies import ORDER_LAG
from metagene_train.reads.problems import Place, Problem, Rejection
from metagene_train.reads.records.formats import ReadFormat


@dataclass(frozen=True)
class ReadScan:
    """Exact counts over a whole file, but for ``sample`` and ``quality_range``.

    ``records == accepted + sum of rejected counts``, always. A record is *sound* if its structure
    is whole, and *accepted* if it is sound, has bases, and its header matches the pattern.

    Of sound records: ``lengths[n]`` is the number of reads of n bases [longest + 1] int64 (reads of 2^20
    bases and more share the last entry), ``total_bases``, ``longest``, ``bases``. Of accepted reads:
    ``class_counts``, ``class_bases`` (class to letters by kind), ``tax_ids`` (class to tax id to reads),
    ``mates`` (0 for none), ``readlen_mismatches`` (declared and real length differ),
    ``adjacent_same_class`` (class equal to that of the read eight before). Of all records:
    ``duplicate_headers`` (repeats the header of an earlier record), ``duplicate_examples`` (record
    numbers of a first and its repetition; none above 16 million records), ``non_ascii_headers``,
    ``headers_digest`` (does not depend on the order of records). ``sample`` is a uniform sample of at
    most 10,000 sequences of sound reads with bases, as they stand in the file, in its order.
    ``quality_range`` are the lowest and highest quality characters (ASCII codes) of the first 64 reads
    and of one in 512 of all; None in FASTA.

    ``digest`` is SHA-256 of the first and last 64 KiB of the file. Bytes are of the file on disk.
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
    quality_range: tuple[int, int] | None
    lines: int
    crlf_lines: int
    class_counts: dict[int, int]
    class_bases: dict[int, BaseCounts]
    tax_ids: dict[int, dict[int, int]]
    mates: dict[int, int]
    readlen_mismatches: int
    readlen_examples: tuple[Place, ...]
    adjacent_same_class: int
    duplicate_headers: int
    duplicate_examples: tuple[tuple[int, int], ...]
    non_ascii_headers: int
    headers_digest: str
    sample: tuple[bytes, ...]

    @property
    def complete(self) -> bool:
        """Whether the whole file could be read and none of it is damaged."""
        return not self.problems

    @property
    def empty_reads(self) -> int:
        """Sound records without bases, whatever their header."""
        return int(self.lengths[0]) if len(self.lengths) else 0

    @property
    def class_order(self) -> float | None:
        """0 for classes in random order, 1 for a file sorted by class; None if it cannot be told.

        The share of reads with the class of the read eight before, scaled between what a shuffled
        file of the same classes would show on average and 1.
        """
        pairs = self.accepted - ORDER_LAG
        if pairs <= 0 or len(self.class_counts) < 2:
            return None
        expected = math.fsum((count / self.accepted) ** 2 for count in self.class_counts.values())
        return (self.adjacent_same_class / pairs - expected) / (1 - expected)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the sampled sequences, as JSON takes it: mappings have text keys."""
        document: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "lengths":
                value = {int(length): int(value[length]) for length in np.flatnonzero(value)}
            elif field.name == "sample":
                value = len(value)
            document[field.name] = _plain(value)
        for derived in ("complete", "empty_reads", "class_order"):
            document[derived] = getattr(self, derived)
        return document


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(item) for name, item in vars(value).items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
