"""How far validation reads differ from training reads, trait by trait, as one kind of effect size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from metagene_doctor.facts.reads.shortcuts import binned
from metagene_doctor.facts.reads.traits import Traits
from metagene_doctor.finding import Frozen

BINS = 20

DriftTrait = Literal["class shares", "read length", "GC content", "N content", "quality"]


class Drift(Frozen):
    """``effect`` is Cramér's V between side and trait, both sides weighed equally, less what samples of
    this size show by chance: 0 for the same distribution, 1 for no value in common."""

    trait: DriftTrait
    effect: float
    train: float | None = None
    val: float | None = None
    """Medians; means of the N content, of which the median is 0 as a rule."""


def measure(
    train: Traits,
    val: Traits,
    train_classes: Mapping[int, int],
    val_classes: Mapping[int, int],
) -> tuple[Drift, ...]:
    """Class shares from the counts of all reads, the rest from the samples."""
    found = []
    if train_classes and val_classes:
        found.append(Drift(trait="class shares", effect=_of_counts(train_classes, val_classes)))
    if not len(train.length) or not len(val.length):
        return tuple(found)
    numeric: tuple[tuple[DriftTrait, np.ndarray, np.ndarray], ...] = (
        ("read length", train.length, val.length),
        ("GC content", train.gc, val.gc),
        ("N content", train.unknown, val.unknown),
        ("quality", train.quality, val.quality),
    )
    for trait, ours, theirs in numeric:
        if np.isnan(ours).any() or np.isnan(theirs).any():
            continue
        middle = np.mean if trait == "N content" else np.median
        bins = binned(np.concatenate((ours, theirs)), BINS)
        counts = [np.bincount(part, minlength=int(bins.max()) + 1) for part in np.split(bins, [len(ours)])]
        effect = cramers_v(counts[0], counts[1])
        found.append(Drift(trait=trait, effect=effect, train=float(middle(ours)), val=float(middle(theirs))))
    return tuple(found)


def _of_counts(train: Mapping[int, int], val: Mapping[int, int]) -> float:
    classes = sorted(train.keys() | val.keys())
    first, second = (np.array([side.get(name, 0) for name in classes]) for side in (train, val))
    return cramers_v(first, second)


def cramers_v(first: np.ndarray, second: np.ndarray) -> float:
    """Cramér's V of a table of two rows of counts [K], as if both rows had the same total.

    The expected value of its square under equal distributions, (K-1)/4 (1/n1 + 1/n2), is taken off.
    """
    present = (first + second) > 0
    ours, theirs = first[present] / first.sum(), second[present] / second.sum()
    squared = 0.5 * float(((ours - theirs) ** 2 / (ours + theirs)).sum())
    by_chance = (len(ours) - 1) / 4 * (1 / int(first.sum()) + 1 / int(second.sum()))
    return math.sqrt(max(0.0, squared - by_chance))
