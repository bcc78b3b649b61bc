"""What a scan counts of every class: reads, letters by kind and tax ids."""

from __future__ import annotations

from collections import Counter

import numpy as np

from metagene_train.reads.counts.bases import KINDS, BaseCounts
from metagene_train.reads.headers.pattern import ABSENT

_DIRECT = 1 << 16
"""Class ids below this are rows of the table, larger ones get a row when they are first seen."""

_READS, _LETTERS = 0, 1
_UNSET = ABSENT - 1


class ClassTally:
    """As a rule the letters of reads are A, C, G and T and a class has one tax id, so only what is
    different is counted read by read."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._counts = np.zeros((_LETTERS + len(KINDS), 0), dtype=np.int64)
        """Reads, letters and of these each kind but A, C, G and T, by row."""
        self._usual_tax = np.zeros(0, dtype=np.int64)
        self._other_taxa: Counter[tuple[int, int]] = Counter()
        """Reads with another tax id than is usual, by row and tax id."""

    def add(self, class_ids: np.ndarray, tax_ids: np.ndarray, lengths: np.ndarray) -> None:
        """Reads by their class, tax id (-1 for none) and letters [N] int64."""
        if not len(class_ids):
            return
        rows = self._rows_of(class_ids)
        reads = np.bincount(rows, minlength=self._counts.shape[1])
        self._counts[_READS] += reads
        if (lengths == lengths[0]).all():
            self._counts[_LETTERS] += reads * lengths[0]
        else:
            self._counts[_LETTERS] += _weighted(rows, lengths, len(reads))
        if not (self._usual_tax.take(rows) == tax_ids).all():
            self._count_taxa(rows, tax_ids)

    def add_unusual(self, class_ids: np.ndarray, kinds: np.ndarray) -> None:
        """The letters by kind [M, K] of those of these reads that hold others than A, C, G and T."""
        rows = self._rows_of(class_ids)
        for counts, letters in zip(self._counts[_LETTERS + 1 :], kinds.T[1:], strict=True):
            if letters.any():
                counts += _weighted(rows, letters, len(counts))

    def _rows_of(self, class_ids: np.ndarray) -> np.ndarray:
        """Rows [N] of classes, for which there is room then."""
        rows = class_ids
        if class_ids.max() >= _DIRECT:
            large = class_ids >= _DIRECT
            known, places = np.unique(class_ids[large], return_inverse=True)
            own = [self._rows.setdefault(one, _DIRECT + len(self._rows)) for one in known.tolist()]
            rows = class_ids.copy()
            rows[large] = np.array(own)[places]
        missing = int(rows.max()) + 1 - self._counts.shape[1]
        if missing > 0:
            self._counts = np.pad(self._counts, ((0, 0), (0, missing)))
            self._usual_tax = np.append(self._usual_tax, np.full(missing, _UNSET))
        return rows

    def _count_taxa(self, rows: np.ndarray, tax_ids: np.ndarray) -> None:
        new = self._usual_tax[rows] == _UNSET
        self._usual_tax[rows[new]] = ABSENT
        # The first one that a class has; of several values for one place the last one is kept.
        new &= tax_ids != ABSENT
        self._usual_tax[rows[new][::-1]] = tax_ids[new][::-1]
        others = self._usual_tax[rows] != tax_ids
        self._other_taxa.update(zip(rows[others].tolist(), tax_ids[others].tolist(), strict=True))

    def merge(self, later: ClassTally) -> None:
        """Count what another tally counted."""
        classes = later._classes()
        if not classes:
            return
        rows = self._rows_of(np.array(list(classes.values())))
        self._counts[:, rows] += later._counts[:, list(classes)]
        for row, (theirs, taxa) in zip(rows.tolist(), later._taxa().items(), strict=True):
            if self._usual_tax[row] == _UNSET:
                self._usual_tax[row] = later._usual_tax[theirs]
            for tax_id, reads in taxa.items():
                if tax_id != self._usual_tax[row]:
                    self._other_taxa[row, tax_id] += reads

    def _classes(self) -> dict[int, int]:
        """Class ids by row, ascending in rows: those that have reads."""
        large = list(self._rows)
        return {
            row: row if row < _DIRECT else large[row - _DIRECT]
            for row in np.flatnonzero(self._counts[_READS]).tolist()
        }

    def _taxa(self) -> dict[int, dict[int, int]]:
        """Reads by row and tax id, -1 for none."""
        found = {row: {int(self._usual_tax[row]): int(self._counts[_READS, row])} for row in self._classes()}
        for (row, tax_id), reads in self._other_taxa.items():
            found[row][tax_id] = reads
            found[row][int(self._usual_tax[row])] -= reads
        return found

    def reads(self) -> dict[int, int]:
        """Class to its reads, ascending."""
        return {class_id: int(self._counts[_READS, row]) for class_id, row in self._ascending()}

    def bases(self) -> dict[int, BaseCounts]:
        """Class to the letters of its reads, ascending."""
        found = {}
        for class_id, row in self._ascending():
            letters, *unusual = self._counts[_LETTERS:, row].tolist()
            found[class_id] = BaseCounts(letters - sum(unusual), *unusual)
        return found

    def tax_ids(self) -> dict[int, dict[int, int]]:
        """Class to tax id to reads, classes ascending; only of reads that have one."""
        taxa = self._taxa()
        stated = {
            class_id: {tax_id: reads for tax_id, reads in taxa[row].items() if tax_id != ABSENT and reads}
            for class_id, row in self._ascending()
        }
        return {class_id: found for class_id, found in stated.items() if found}

    def _ascending(self) -> list[tuple[int, int]]:
        return sorted((class_id, row) for row, class_id in self._classes().items())


def _weighted(rows: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Sums of weights by row; exact, because no batch has as many letters as a float can count."""
    return np.bincount(rows, weights=weights, minlength=count).astype(np.int64)
