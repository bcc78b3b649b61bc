"""Does a trait of the reads other than their sequence tell their class?

For each trait alone a rule is learnt on one half of a sample, the most frequent class of each of
its values, and judged on the other half. A rule that is right more often than always naming the
largest class has found something to go by.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal

import numpy as np

from metagene_doctor.facts.reads.traits import Traits
from metagene_doctor.finding import Frozen

MOST_BINS = 64
"""Values of a numeric trait are told apart up to this number, more are put into so many quantiles."""

NAME_TOKENS = 6

Trait = Literal["read length", "GC content", "N content", "lower case", "quality", "name"]


class Shortcut(Frozen):
    """How far one trait goes, on reads that its rule was not learnt on."""

    trait: Trait
    part: int | None = None
    """Of a name: which part, from 1, of those between punctuation."""
    correct: float
    """Share of reads whose class the rule names."""
    baseline: float
    """The same for always naming the largest class."""
    mcc: float
    """Matthews correlation over all classes (Gorodkin 2004): 0 for guessing, 1 for always right."""
    reads: int
    """Reads it was judged on."""

    @property
    def surely(self) -> float:
        """The correlation less two standard errors of a chance result."""
        return self.mcc - 2 / math.sqrt(self.reads)


def find(traits: Traits) -> tuple[Shortcut, ...]:
    """Every trait that varies, judged; empty for fewer than two classes."""
    if len(traits.class_ids) < 2 or len(np.unique(traits.class_ids)) < 2:
        return ()
    _, labels = np.unique(traits.class_ids, return_inverse=True)
    found = []
    for trait, part, values in _columns(traits):
        if len(np.unique(values)) > 1:
            correct, baseline, mcc = _judge(values, labels)
            found.append(
                Shortcut(
                    trait=trait,
                    part=part,
                    correct=correct,
                    baseline=baseline,
                    mcc=mcc,
                    reads=len(labels) // 2,
                )
            )
    return tuple(found)


def _columns(traits: Traits) -> Iterator[tuple[Trait, int | None, np.ndarray]]:
    """Each trait as small whole numbers [N]."""
    numeric: tuple[tuple[Trait, np.ndarray], ...] = (
        ("read length", traits.length),
        ("GC content", traits.gc),
        ("N content", traits.unknown),
        ("lower case", traits.lower),
        ("quality", traits.quality),
    )
    for trait, values in numeric:
        if not np.isnan(values).any():
            yield trait, None, binned(values)
    tokens = [name_tokens(name) for name in traits.names]
    for part in range(max(map(len, tokens), default=0)):
        yield "name", part + 1, _numbered([row[part] if part < len(row) else "" for row in tokens])


def _numbered(words: list[str]) -> np.ndarray:
    """Words [N] as numbers in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(word, len(numbers)) for word in words])


def name_tokens(name: str) -> list[str]:
    """The first parts of a name between punctuation; a version such as ``.2`` stays with its accession."""
    return re.findall(r"[A-Za-z0-9]+(?:\.\d+)?", name)[:NAME_TOKENS]


def binned(values: np.ndarray, bins: int = MOST_BINS) -> np.ndarray:
    """Values [N] as bin numbers: each value its own while they are few, else quantiles."""
    distinct, places = np.unique(values, return_inverse=True)
    if len(distinct) <= bins:
        return places
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _judge(values: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """(share correct, baseline, correlation) of the rule learnt on every second read, on the others."""
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    largest = int(np.bincount(labels[learn]).argmax())
    rule = np.full(int(values.max()) + 1, largest)
    pairs, counts = np.unique(
        values[learn].astype(np.int64) * (int(labels.max()) + 1) + labels[learn], return_counts=True
    )
    order = np.argsort(counts, kind="stable")
    rule[pairs[order] // (int(labels.max()) + 1)] = pairs[order] % (int(labels.max()) + 1)
    predicted, true = rule[values[judge]], labels[judge]
    return (
        float((predicted == true).mean()),
        float((true == largest).mean()),
        correlation(predicted, true),
    )


def correlation(predicted: np.ndarray, true: np.ndarray) -> float:
    """Matthews correlation of two labellings [N]; 0 where one of them names one class only."""
    classes = int(max(predicted.max(), true.max())) + 1
    said, are = (np.bincount(labels, minlength=classes).astype(np.float64) for labels in (predicted, true))
    reads = float(len(true))
    spread = (reads**2 - said @ said) * (reads**2 - are @ are)
    agreement = float((predicted == true).sum()) * reads - float(said @ are)
    return agreement / math.sqrt(spread) if spread else 0.0
