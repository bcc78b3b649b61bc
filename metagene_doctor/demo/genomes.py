"""The bundled genome excerpts, and the rule that splits them into training and validation regions."""

from __future__ import annotations

import csv
import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
BLOCKS_PER_SPLIT = 5
"""Every fifth block of an excerpt is for validation, the other four for training."""


@dataclass(frozen=True)
class Region:
    """A stretch of one excerpt that belongs to one side of the split; ``start`` counts from 0."""

    class_id: int
    excerpt: str
    """Accession and bases, counting from 1, of the bundled excerpt: ``NC_001416.1:1-48502``."""
    start: int
    """First base in the excerpt."""
    sequence: str
    """Upper-case bases."""


@dataclass(frozen=True)
class Organism:
    class_id: int
    name: str
    tax_id: int


@cache
def organisms() -> tuple[Organism, ...]:
    """The classes of the demo, in class_id order."""
    with (DATA / "SOURCES.tsv").open() as table:
        rows = {
            int(row["class_id"]): Organism(int(row["class_id"]), row["label_name"], int(row["tax_id"]))
            for row in csv.DictReader(table, delimiter="\t")
        }
    return tuple(rows[class_id] for class_id in sorted(rows))


@cache
def regions(side: str) -> tuple[Region, ...]:
    """The regions of one side, ``train`` or ``validation``; no base is on both sides.

    An excerpt is cut into blocks of 20,000 bases, or of a fortieth of its length when that is
    shorter, and the third block of every five goes to validation. Of the other four, blocks one and
    two are one region, and so are four and five.
    """
    found = []
    for class_id, excerpt, sequence in _excerpts():
        block = min(20_000, len(sequence) // 40)
        for first in range(0, len(sequence), block * BLOCKS_PER_SPLIT):
            bounds = {
                "train": [(first, first + 2 * block), (first + 3 * block, first + 5 * block)],
                "validation": [(first + 2 * block, first + 3 * block)],
            }[side]
            found += [
                Region(class_id, excerpt, start, sequence[start:end])
                for start, end in bounds
                if sequence[start:end]
            ]
    return tuple(found)


def _excerpts() -> list[tuple[int, str, str]]:
    """(class_id, accession with bases, sequence) of every excerpt."""
    text = lzma.decompress((DATA / "genomes.fa.xz").read_bytes()).decode()
    records = []
    for entry in text.split(">")[1:]:
        header, sequence = entry.split("\n", 1)
        class_id, excerpt = header.split()
        records.append((int(class_id), excerpt, sequence.replace("\n", "")))
    return records
