"""A new split: whole fragments, or whole genomes, go to one side, and every class to both if it can.

Reads that belong together (mates, identical sequences; or one genome) get one label: the number of
the first of them. Labels spread over the two kinds of ties in turn until nothing changes. In each
class the labels are put in an order that depends on the seed alone, and the first ones, up to the
share that is wanted, are for validation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from metagene_doctor.repair.draft import Draft
from metagene_doctor.repair.fragments import genomes_of, hashes_of, names_of
from metagene_doctor.repair.marks import COPY, VALIDATION, Marks, allocated
from metagene_doctor.repair.plan import SplitBy
from metagene_doctor.repair.spill import Spill, mix
from metagene_train.errors import DataError

_CHUNK = 1 << 20
_MOST_BINS, _FEWEST_BINS, _CELLS = 1 << 12, 1 << 4, 1 << 24
_SET_ASIDE = -2
"""In the array of classes; -1 is a read that is kept and has no class."""

MOST_OF_A_CLASS = 0.5
"""A class with few groups gives one of them to validation, unless it is more than this share of it."""

FEWEST_READS_PER_GENOME = 2
"""On average; below it the names tell reads apart, not genomes."""


class Split:
    """Chooses the validation reads of a job."""

    name = "split"

    def __init__(self, directory: Path, by: SplitBy, share: float, genome_regex: str, seed: int):
        self._directory = directory
        self._by = by
        self._share = share
        self._seed = seed
        self._genome = re.compile(genome_regex)
        self._ties = [Spill(directory, "names")]
        if by == "fragment":
            self._ties.append(Spill(directory, "equal-sequences"))
        self._classes = (directory / "classes").open("wb")

    def watch(self, draft: Draft) -> None:
        kept = draft.kept
        ordinals = draft.ordinals.astype(np.uint64)
        names = names_of(draft) if self._by == "fragment" else genomes_of(draft, self._genome)
        self._ties[0].add(np.stack([names, ordinals], axis=1)[kept])
        if self._by == "fragment":
            filled = kept & (draft.lengths > 0)
            self._ties[1].add(np.stack([hashes_of(draft), ordinals], axis=1)[filled])
        self._classes.write(np.where(kept, draft.class_ids, _SET_ASIDE).astype(np.int32).tobytes())

    def decide(self, marks: Marks) -> Counter[str]:
        """Raises DataError if there is nothing to choose from."""
        self._classes.close()
        path = self._directory / "classes"
        classes = np.memmap(path, dtype=np.int32, mode="r+", shape=marks.records)
        for chunk in _chunks(marks.records):
            classes[chunk][marks.flags[chunk] & COPY > 0] = _SET_ASIDE
        labels = self._labelled(marks)
        groups = _Groups(classes, labels, self._seed)
        if self._by == "genome" and groups.count * FEWEST_READS_PER_GENOME > groups.reads:
            raise DataError(
                f"the names hold {groups.count:,} different genomes in {groups.reads:,} reads: they tell "
                "reads apart, not genomes; say what to look for: --genome-regex '(?P<genome>...)'"
            )
        limits = groups.limits(self._share)
        chosen = 0
        with_validation: set[int] = set()
        for chunk, kinds, keys in groups:
            validation = (kinds != _SET_ASIDE) & (keys < limits.below(kinds))
            marks.flags[chunk] |= np.where(validation, VALIDATION, 0).astype(np.uint8)
            chosen += int(np.count_nonzero(validation))
            with_validation.update(np.unique(kinds[validation]).tolist())
        if not chosen:
            raise DataError(
                f"no read can be held out: every class has one {self._by} only "
                f"({groups.count:,} in {groups.reads:,} reads)"
            )
        for spill in self._ties:
            spill.remove()
        del classes, labels, groups
        path.unlink()
        (self._directory / "labels").unlink()
        return Counter(
            {
                "reads for validation": chosen,
                f"{self._by}s": limits.groups,
                "classes": limits.classes,
                "classes without validation reads": limits.classes - len(with_validation),
            }
        )

    def _labelled(self, marks: Marks) -> np.ndarray:
        """The label [N] of each record; copies have no part in it."""
        records = marks.records
        kind = np.uint32 if records < 2**32 else np.uint64
        labels = allocated(self._directory / "labels", kind, records)
        for chunk in _chunks(records):
            labels[chunk] = np.arange(chunk.start, chunk.stop)
        settled, turn = 0, 0
        while settled < len(self._ties):
            changed = _spread(self._ties[turn % len(self._ties)], labels, marks)
            settled = 0 if changed else settled + 1
            # The label of a label is one of the same group: long chains shrink by half each turn.
            for chunk in _chunks(records if changed else 0):
                labels[chunk] = labels[labels[chunk]]
            turn += 1
        return labels


def _spread(ties: Spill, labels: np.ndarray, marks: Marks) -> bool:
    """Give all records of a key the smallest of their labels; whether any changed."""
    changed = False
    for rows in ties.blocks():
        rows = rows[marks.flags[rows[:, 1]] & COPY == 0]
        if not len(rows):
            continue
        first = np.flatnonzero(np.concatenate(([True], rows[1:, 0] != rows[:-1, 0])))
        ordinals = rows[:, 1]
        before = labels[ordinals]
        smallest = np.repeat(np.minimum.reduceat(before, first), np.diff(np.append(first, len(rows))))
        differ = before != smallest
        if differ.any():
            labels[ordinals[differ]] = smallest[differ]
            # Also the first read of each label's group, so that the whole group follows.
            np.minimum.at(labels, before[differ], smallest[differ])
            changed = True
    return changed


def _chunks(records: int) -> Iterator[slice]:
    for start in range(0, records, _CHUNK):
        yield slice(start, min(start + _CHUNK, records))


class _Groups:
    """Reads by class of their group and key of their group, in chunks of the file."""

    def __init__(self, classes: np.ndarray, labels: np.ndarray, seed: int):
        self._classes = classes
        self._labels = labels
        self._seed = seed
        self.reads = self.count = 0
        for chunk in _chunks(len(classes)):
            kept = classes[chunk] != _SET_ASIDE
            self.reads += int(np.count_nonzero(kept))
            self.count += int(np.count_nonzero(kept & (labels[chunk] == np.arange(chunk.start, chunk.stop))))

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Chunk, class [N] of the first read of each read's group, and key [N] of the group."""
        for chunk in _chunks(len(self._classes)):
            labels = self._labels[chunk]
            kinds = np.where(self._classes[chunk] == _SET_ASIDE, _SET_ASIDE, self._classes[labels])
            yield chunk, kinds, mix(labels, 2 * self._seed)

    def limits(self, share: float) -> _Limits:
        """The key of each class below which its groups are for validation.

        A histogram of keys finds the bin in which the limit of a class lies; only groups with keys
        in that bin are then looked at one by one.
        """
        known = np.unique(np.concatenate([np.unique(kinds) for _, kinds, _ in self]))
        known = known[known != _SET_ASIDE]
        bins = int(np.clip(_CELLS // max(1, len(known)), _FEWEST_BINS, _MOST_BINS))
        shift = np.uint64(64 - (bins.bit_length() - 1))
        bins = 1 << (bins.bit_length() - 1)
        counts = np.zeros((len(known), bins), dtype=np.int64)
        for _, kinds, keys in self:
            kept = kinds != _SET_ASIDE
            places = np.searchsorted(known, kinds[kept]) * bins + (keys[kept] >> shift).astype(np.int64)
            counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)
        totals = counts.sum(axis=1)
        below = np.cumsum(counts, axis=1)
        crossing = np.argmax(below >= np.maximum(1, share * totals)[:, None], axis=1)
        rows = []
        for _, kinds, keys in self:
            kept = np.flatnonzero(kinds != _SET_ASIDE)
            places = np.searchsorted(known, kinds[kept])
            inside = (keys[kept] >> shift).astype(np.int64) == crossing[places]
            rows.append(np.stack([places[inside].astype(np.uint64), keys[kept][inside]], axis=1))
        near = np.concatenate(rows)
        near = near[np.lexsort((near[:, 1], near[:, 0]))]
        bounds = np.searchsorted(near[:, 0], np.arange(len(known) + 1))
        limits = np.zeros(len(known), dtype=np.uint64)
        for place in range(len(known)):
            before = int(below[place, crossing[place]] - counts[place, crossing[place]])
            keys = near[bounds[place] : bounds[place + 1], 1]
            start = int(crossing[place]) << int(shift)
            limits[place] = _limit(keys, before, start, share, int(totals[place]))
        return _Limits(known, limits, self.count)


def _limit(keys: np.ndarray, before: int, start: int, share: float, total: int) -> int:
    """The key below which groups are taken, of those [M] (ascending) in the bin that starts at ``start``.

    ``before`` reads have smaller keys. Taken is what comes closest to the share of all ``total`` reads:
    at least one group, but none rather than more than `MOST_OF_A_CLASS`.
    """
    values, first = np.unique(keys, return_index=True)
    taken = before + np.append(first, len(keys))
    # Everything before the first, the second, ... group of the bin, or all of them.
    ends = [*values.tolist(), min(int(values[-1]) + 1, 2**64 - 1)]
    possible = [
        (abs(count - share * total), count, end if place else start)
        for place, (count, end) in enumerate(zip(taken.tolist(), ends, strict=True))
        if 0 < count <= max(MOST_OF_A_CLASS, share) * total and count < total
    ]
    return min(possible)[2] if possible else 0


class _Limits:
    def __init__(self, known: np.ndarray, limits: np.ndarray, groups: int):
        self._known = known
        self._limits = limits
        self.groups = groups
        self.classes = len(known)

    def below(self, kinds: np.ndarray) -> np.ndarray:
        """The limit [N] of each class."""
        places = np.minimum(np.searchsorted(self._known, kinds), len(self._known) - 1)
        return self._limits[places]
