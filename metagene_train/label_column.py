"""Labels of all reads of some files, looked up piece by piece: nothing is held for each read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metagene_train.labels import LabelMap
from metagene_train.reads.access.joined import Column, pieces_of


class LabelColumn:
    """Label ids int64 of reads 0..N-1, -1 where the class of a read has none."""

    def __init__(self, class_ids: Column, labels: LabelMap):
        self._class_ids = class_ids
        self._labels = labels

    def __len__(self) -> int:
        return len(self._class_ids)

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self._labels.labels_of(self._class_ids[positions])

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Position of the first read, and labels [P], of one piece after another."""
        for begin, class_ids in pieces_of(self._class_ids):
            yield begin, self._labels.labels_of(class_ids)


Labels = np.ndarray | LabelColumn


def labelled_pieces(labels: Labels) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions int64 [P] and labels [P] of the reads that have one, piece by piece."""
    for begin, values in labels.pieces() if isinstance(labels, LabelColumn) else pieces_of(labels):
        here = np.flatnonzero(values >= 0)
        if len(here):
            yield begin + here, values[here]


def label_counts(labels: Labels, num_classes: int) -> np.ndarray:
    """Reads of every label, int64 [K]."""
    counts = np.zeros(num_classes, dtype=np.int64)
    for _, values in labelled_pieces(labels):
        counts += np.bincount(values, minlength=num_classes)
    return counts


def at_ordinals(ordinals: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels of the reads with these numbers [M] (ascending) among those that have a label."""
    positions, values, first = [], [], 0
    for here, found in labelled_pieces(labels):
        inside = ordinals[np.searchsorted(ordinals, first) : np.searchsorted(ordinals, first + len(here))]
        positions.append(here[inside - first])
        values.append(found[inside - first])
        first += len(here)
    return np.concatenate(positions), np.concatenate(values)
