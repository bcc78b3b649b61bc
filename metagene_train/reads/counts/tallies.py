"""Statistics that grow batch by batch, each in memory that does not grow with the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metagene_train.reads.problems import EXAMPLES_KEPT, Place, Problem, Rejection, shorten

ORDER_LAG = 8
"""Reads apart at which classes are compared to see whether a file is sorted; more than mates."""

_DENSE = 1 << 20
"""Values below this are counted in an array, the few above it one by one."""


@dataclass(frozen=True)
class Origin:
    """Where a part of a file starts: so many lines and records come before it."""

    lines: int
    records: int

    def place(self, place: Place) -> Place:
        """A place of the part, counted from the start of the file."""
        return replace(place, line=place.line + self.lines, record=place.record + self.records)

    def problem(self, problem: Problem) -> Problem:
        """Damage of the part, counted from the start of the file; byte offsets always are."""
        line = None if problem.line is None else problem.line + self.lines
        record = None if problem.record is None else problem.record + self.records
        return replace(problem, line=line, record=record)


_FIRST_QUALITIES = 64
"""First reads of a file whose qualities are looked at in any case."""


class Histogram:
    """Occurrences of non-negative integers, most of them small."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, dtype=np.int64)
        self._large: Counter[int] = Counter()

    def add(self, values: np.ndarray) -> None:
        """Values [N] int64."""
        largest = int(values.max(initial=0))
        if largest < len(self._counts) and len(values) and values.min() == largest:
            self._counts[largest] += len(values)
            return
        if largest >= _DENSE:
            large = values >= _DENSE
            self._large.update(values[large].tolist())
            values = values[~large]
        counts = np.bincount(values, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def merge(self, other: Histogram) -> None:
        """Count what another histogram counted."""
        self._large.update(other._large)
        longer, shorter = sorted((self._counts, other._counts), key=len, reverse=True)
        self._counts = longer.copy()
        self._counts[: len(shorter)] += shorter

    def as_dict(self) -> dict[int, int]:
        """Values that occurred, ascending, with their occurrences."""
        small = {int(value): int(self._counts[value]) for value in np.flatnonzero(self._counts)}
        return small | dict(sorted(self._large.items()))

    def clipped(self) -> np.ndarray:
        """Occurrences of 0, 1, ... [largest + 1]; all values from 2^20 on share the last entry."""
        if not self._large:
            return self._counts
        counts = np.zeros(_DENSE + 1, dtype=np.int64)
        counts[: len(self._counts)] = self._counts
        counts[_DENSE] = self._large.total()
        return counts


class OrderTally:
    """How many reads have the class of the read ``ORDER_LAG`` before them."""

    def __init__(self) -> None:
        self.same = 0
        self._earliest = self._recent = np.zeros(0, dtype=np.int64)

    def add(self, class_ids: np.ndarray) -> None:
        self._follow(class_ids, class_ids)

    def merge(self, later: OrderTally) -> None:
        """Count what another tally counted, of the reads that follow the ones counted here."""
        self._follow(later._earliest, later._recent)
        self.same += later.same

    def _follow(self, first: np.ndarray, last: np.ndarray) -> None:
        """Reads that start with ``first`` and end with ``last``, which overlap if they are few."""
        joined = np.concatenate((self._recent, first[:ORDER_LAG]))
        for one in (joined, first):
            self.same += int(np.count_nonzero(one[ORDER_LAG:] == one[:-ORDER_LAG]))
        if len(self._earliest) < ORDER_LAG:
            self._earliest = np.concatenate((self._earliest, first))[:ORDER_LAG].copy()
        whole = joined if len(first) < ORDER_LAG else last
        self._recent = whole[-ORDER_LAG:].copy()


class QualityTally:
    """The lowest and highest quality character of the first reads, and of one in 512 of all."""

    def __init__(self) -> None:
        self._first: list[bytes] = []
        self._others: tuple[int, int] | None = None

    def add(self, offsets: np.ndarray, quality: Callable[[int], bytes]) -> None:
        """Reads by where they start [N] int64; ``quality`` fetches that of the read at a place of N.

        Which reads are looked at depends on where they start, and so not on chunks or ranges.
        """
        for place in range(min(len(offsets), _FIRST_QUALITIES - len(self._first))):
            self._first.append(_ends(quality(place)))
        chosen = offsets.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(55) == 0
        for place in np.flatnonzero(chosen).tolist():
            self._others = _wider(self._others, _ends(quality(place)))

    def merge(self, later: QualityTally) -> None:
        """Count what another tally counted, of the reads that follow the ones counted here."""
        self._first = (self._first + later._first)[:_FIRST_QUALITIES]
        if later._others:
            self._others = _wider(self._others, bytes(later._others))

    @property
    def range(self) -> tuple[int, int] | None:
        """As ASCII codes; None if no quality was seen."""
        found = self._others
        for ends in self._first:
            found = _wider(found, ends)
        return found


def _ends(quality: bytes) -> bytes:
    return bytes((min(quality), max(quality))) if quality else b""


def _wider(found: tuple[int, int] | None, ends: bytes) -> tuple[int, int] | None:
    if not ends:
        return found
    low, high = found or (255, 0)
    return min(low, *ends), max(high, *ends)


class Examples:
    """A count, and the first five places."""

    def __init__(self) -> None:
        self.count = 0
        self.places: list[Place] = []

    @property
    def wanted(self) -> int:
        """How many more places there is room for."""
        return EXAMPLES_KEPT - len(self.places)

    def show(self, line: int, record: int, text: str) -> None:
        """Keep a place if there is room; ``count`` is the caller's."""
        if self.wanted:
            self.places.append(Place(line, record, shorten(text)))

    def merge(self, later: Examples, origin: Origin) -> None:
        """Count what another tally counted in what follows, which starts at ``origin``."""
        self.count += later.count
        self.places += [origin.place(place) for place in later.places[: self.wanted]]


class Rejections:
    """Rejected records by kind and reason."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Examples] = {}

    def add(self, kind: str, reason: str, line: int, record: int, text: str) -> None:
        examples = self._found.setdefault((kind, reason), Examples())
        examples.count += 1
        examples.show(line, record, text)

    def merge(self, later: Rejections, origin: Origin) -> None:
        """Count what another tally counted in what follows, which starts at ``origin``."""
        for key, found in later._found.items():
            self._found.setdefault(key, Examples()).merge(found, origin)

    def as_tuple(self) -> tuple[Rejection, ...]:
        """Most frequent first."""
        ordered = sorted(self._found.items(), key=lambda item: -item[1].count)
        return tuple(
            Rejection(kind, reason, found.count, tuple(found.places)) for (kind, reason), found in ordered
        )


class Problems:
    """Damage by kind and message: the first place of each, and how often it was met."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], Problem] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, problem: Problem) -> None:
        key = problem.kind, problem.message
        self._first.setdefault(key, problem)
        self._counts[key] += problem.count

    def add_all(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self.add(problem)

    def merge(self, later: Problems, origin: Origin) -> None:
        """Count what another tally counted in what follows, which starts at ``origin``."""
        for problem in later.as_tuple():
            self.add(origin.problem(problem))

    def as_tuple(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(first.kind, first.message, first.line, first.record, first.byte_offset, self._counts[key])
            for key, first in self._first.items()
        )
