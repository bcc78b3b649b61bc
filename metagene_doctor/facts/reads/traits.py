"""What a read can be told by besides its sequence: length, composition, quality, name; on a sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_doctor.facts.reads.hashes import chosen, split_mate
from metagene_train.reads.headers.columns import HeaderColumns
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.batches import RecordBatch
from metagene_train.reads.records.records import decode_header

SAMPLE_READS = 50_000
"""A share of such a sample is known to half a percentage point, a correlation to 0.01."""


class Traits(NamedTuple):
    """One row per read [N]; reads without a class are not among them."""

    class_ids: np.ndarray
    length: np.ndarray
    """Bases."""
    gc: np.ndarray
    """Share of G and C among A, C, G, T and U; 0.5 for a read without any."""
    unknown: np.ndarray
    """Share of letters other than A, C, G, T and U."""
    lower: np.ndarray
    """Share of lower-case letters."""
    quality: np.ndarray
    """Mean quality character (ASCII code); NaN in FASTA."""
    names: tuple[str, ...]
    """Names without mate numbers; empty where the header pattern has no name."""


class TraitSample:
    """An even choice of about ``wanted`` of ``reads`` records, taken as they stream by."""

    def __init__(self, header: HeaderPattern, reads: int, wanted: int = SAMPLE_READS):
        self._header = header
        self._one_in = max(1, round(reads / wanted))
        self._rows: list[tuple[float, ...]] = []
        self._names: list[str] = []

    def look(self, batch: RecordBatch, kept: np.ndarray, columns: HeaderColumns) -> None:
        """See `read_hashes.Look`."""
        numbers = (batch.first_record + kept).astype(np.uint64)
        picked = kept[columns.matched[kept] & chosen(numbers, self._one_in)]
        for record in picked.tolist():
            self._rows.append((int(columns.class_id[record]), *_traits(batch, record)))
            fields = self._header.parse(decode_header(batch.header(record)))
            self._names.append(split_mate(fields.name)[0] if fields and fields.name else "")

    def result(self) -> Traits:
        """All reads taken so far, in file order."""
        table = np.array(self._rows, dtype=np.float64).reshape(-1, 6)
        class_ids, length, gc, unknown, lower, quality = table.T
        return Traits(class_ids.astype(np.int64), length, gc, unknown, lower, quality, tuple(self._names))


def _traits(batch: RecordBatch, record: int) -> tuple[float, float, float, float, float]:
    sequence = batch.sequence(record)
    upper = sequence.upper()
    weak = upper.count(b"A") + upper.count(b"T") + upper.count(b"U")
    strong = upper.count(b"G") + upper.count(b"C")
    known = weak + strong
    lower = 0 if upper == sequence else sum(letter >= ord("a") for letter in sequence)
    quality = batch.quality(record)
    return (
        len(sequence),
        strong / known if known else 0.5,
        1 - known / len(sequence),
        lower / len(sequence),
        sum(quality) / len(quality) if quality else float("nan"),
    )
