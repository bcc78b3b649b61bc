"""What a read can be told by besides its sequence: length, composition, quality, name; on a sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_doctor.facts.reads.hashes import split_mate
from metagene_train.reads.counts.sample import Picked, Sample
from metagene_train.reads.records.records import decode_header
from metagene_train.reads.watching import Watched

SAMPLE_READS = 50_000
"""A share of such a sample is known to half a percentage point, a correlation to 0.01."""

_LARGEST_FILE_BITS = 44
"""17 TB."""

Row = tuple[tuple[float, ...], str]
"""The numbers of a read, in the order of `Traits`, and its name."""


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
    """An even choice of at most ``wanted`` reads with a class, of one file or several."""

    def __init__(self, expected: int | None = None, wanted: int = SAMPLE_READS):
        """Of about so many ``expected`` reads; None if that is not known, which takes longer."""
        self._file = 0
        self._sample: Sample[Row] = Sample(wanted)
        if expected is not None:
            self._sample.expect(expected)

    def begin_file(self) -> None:
        self._file += 1

    def see(self, watched: Watched) -> Picked[Row]:
        batch, columns = watched.batch, watched.columns
        places = watched.places[columns.matched[watched.places]]
        # One file after the other, none of which is larger than that.
        positions = batch.offsets()[places] + (self._file << _LARGEST_FILE_BITS)
        return self._sample.pick(positions, lambda wanted: _rows(watched, places[wanted]))

    def take(self, picked: Picked[Row]) -> None:
        self._sample.keep(picked)

    def result(self) -> Traits:
        """All reads of the sample, in file order."""
        rows = self._sample.items
        table = np.array([numbers for numbers, _ in rows], dtype=np.float64).reshape(-1, 6)
        class_ids, length, gc, unknown, lower, quality = table.T
        names = tuple(name for _, name in rows)
        return Traits(class_ids.astype(np.int64), length, gc, unknown, lower, quality, names)


def _rows(watched: Watched, records: np.ndarray) -> list[Row]:
    batch, columns, layout = watched.batch, watched.columns, watched.batch.layout
    bounds = (layout.header_start, layout.header_end, columns.name_start, columns.mate, columns.class_id)
    rows: list[Row] = []
    for record, sequence, header_start, header_end, name_start, mate, class_id in zip(
        records.tolist(),
        batch.sequences(records),
        *(values[records].tolist() for values in bounds),
        strict=True,
    ):
        if name_start >= 0:
            name_end = header_end - (2 if mate >= 0 else 0)
            name = decode_header(bytes(batch.raw[header_start + name_start : name_end]))
        else:
            fields = watched.header.parse(decode_header(batch.header(record)))
            name = (fields.name if fields else None) or ""
        quality = batch.quality(record)
        rows.append(((class_id, *_traits(sequence, quality)), split_mate(name)[0]))
    return rows


def _traits(sequence: bytes, quality: bytes | None) -> tuple[float, float, float, float, float]:
    upper = sequence.upper()
    weak = upper.count(b"A") + upper.count(b"T") + upper.count(b"U")
    strong = upper.count(b"G") + upper.count(b"C")
    known = weak + strong
    lower = 0 if upper == sequence else sum(letter >= ord("a") for letter in sequence)
    return (
        len(sequence),
        strong / known if known else 0.5,
        1 - known / len(sequence),
        lower / len(sequence),
        sum(quality) / len(quality) if quality else float("nan"),
    )
