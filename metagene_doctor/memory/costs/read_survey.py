"""What all reads of an index say about lengths and classes, in memory that does not grow with them.

At 558 million reads an array of lengths is 2 GB, and what sorts or selects in it takes several times as
much. One pass over pieces of the mapped columns gives the same answers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metagene_train.reads.access.joined import AnyIndex

TALLIED_BELOW = 1 << 16
"""Lengths and class ids below this are counted in an array, which is ten times as fast as sorting them."""


@dataclass(frozen=True)
class Survey:
    """``median`` is the median length in bases; ``longest`` [K] int64 are the positions of the K longest
    reads, ascending, of equally long ones the first."""

    reads: int
    median: float
    longest: np.ndarray
    classes: int


def survey(index: AnyIndex, longest: int) -> Survey:
    """One pass over the lengths and classes of all reads; ``longest`` is how many positions to find."""
    from metagene_train.reads.access.joined import pieces_of

    lengths: Counter[int] = Counter()
    classes: set[int] = set()
    positions, bases = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    pieces = zip(pieces_of(index.lengths), pieces_of(index.class_ids), strict=True)
    for (start, some_lengths), (_, some_classes) in pieces:
        lengths.update(_tally(some_lengths))
        classes.update(_tally(some_classes))
        # Only what beats the shortest of those found so far can be among them.
        least = bases.min() if len(bases) == longest else -1
        better = np.flatnonzero(some_lengths > least)
        positions = np.concatenate([positions, start + better])
        bases = np.concatenate([bases, some_lengths[better]])
        kept = np.argsort(-bases, kind="stable")[:longest]
        positions, bases = positions[kept], bases[kept]
    return Survey(len(index), _median(lengths), np.sort(positions), len(classes))


def _tally(values: np.ndarray) -> dict[int, int]:
    """How often each value occurs."""
    if values.min() >= 0 and values.max() < TALLIED_BELOW:
        counts = np.bincount(values)
        found = np.flatnonzero(counts)
        return dict(zip(found.tolist(), counts[found].tolist(), strict=True))
    found, numbers = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))


def _median(counts: Counter[int]) -> float:
    """Of the values that are counted; between two middle ones their mean."""
    values = np.array(sorted(counts), dtype=np.int64)
    upto = np.cumsum([counts[value] for value in values.tolist()])
    middle = [(int(upto[-1]) - 1) // 2, int(upto[-1]) // 2]
    return float(values[np.searchsorted(upto, middle, side="right")].mean())
