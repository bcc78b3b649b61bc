"""How often training sequences repeat, and whether the same sequence is given different classes.

Sequences are told apart by their strand-neutral hash. While they are few all are kept; then only
those whose hash ends in so many zero bits, which keeps or drops all copies of a sequence together
and so leaves the shares unbiased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.reads.hashes import ReadHashes

CAPACITY = 1 << 22
"""Reads kept, 12 bytes each; beyond, every second sequence is dropped."""


class RepeatFacts(Frozen):
    """Counts over the reads of the kept sequences; reads without a class are not among them."""

    reads: int
    distinct: int
    """Reads that differ in class or sequence: what ``--fix deduplicate`` would leave."""
    kept_one_in: int = 1
    """1: all sequences were kept and the counts are exact."""
    shared_reads: int = 0
    """Reads whose sequence also occurs in another class."""
    shared_sequences: int = 0
    best_correct: int = 0
    """Reads that are right when every sequence is given its most frequent class."""

    @property
    def repeated(self) -> int:
        """Reads that repeat another one of their class. The same sequence in another class is a label
        that contradicts (``shared_reads``), which no copy can be taken out for."""
        return self.reads - self.distinct


class ClassedHashes(NamedTuple):
    """Reads [M] that have a class."""

    sequences: np.ndarray
    """uint64 [M]: strand-neutral hashes."""
    class_ids: np.ndarray
    """int32 [M]"""


class RepeatTally:
    """Counts repeats in a stream of reads."""

    def __init__(self, capacity: int = CAPACITY):
        import numpy as np

        self._capacity = capacity
        self._zero_bits = 0
        self._hashes = [np.zeros(0, dtype=np.uint64)]
        self._classes = [np.zeros(0, dtype=np.int32)]
        self._kept = 0

    def find(self, hashes: ReadHashes) -> ClassedHashes:
        """The reads of a batch that have a class and may be kept; changes nothing."""
        wanted = (hashes.class_ids >= 0) & self._chosen(hashes.sequences)
        return ClassedHashes(hashes.sequences[wanted], hashes.class_ids[wanted])

    def note(self, found: ClassedHashes, before: int = 0) -> None:
        """Count them, as far as they are still to be kept, wherever in the files they stand."""
        wanted = self._chosen(found.sequences)
        self._hashes.append(found.sequences[wanted])
        self._classes.append(found.class_ids[wanted])
        self._kept += int(wanted.sum())
        while self._kept > self._capacity:
            self._thin_out()

    def _chosen(self, hashes: np.ndarray) -> np.ndarray:
        import numpy as np

        chosen: np.ndarray = hashes & np.uint64((1 << self._zero_bits) - 1) == 0
        return chosen

    def _thin_out(self) -> None:
        import numpy as np

        self._zero_bits += 1
        hashes, classes = np.concatenate(self._hashes), np.concatenate(self._classes)
        chosen = self._chosen(hashes)
        self._hashes, self._classes = [hashes[chosen]], [classes[chosen]]
        self._kept = int(chosen.sum())

    def result(self) -> RepeatFacts:
        """The counts of all reads so far."""
        import numpy as np

        if not self._kept:
            return RepeatFacts(reads=0, distinct=0)
        hashes, classes = np.concatenate(self._hashes), np.concatenate(self._classes)
        order = np.lexsort((classes, hashes))
        hashes, classes = hashes[order], classes[order]
        new_sequence = np.concatenate(([True], hashes[1:] != hashes[:-1]))
        new_pair = new_sequence | np.concatenate(([True], classes[1:] != classes[:-1]))
        pairs = np.flatnonzero(new_pair)
        reads_of_pair = np.diff(np.append(pairs, len(hashes)))
        first_pair = np.flatnonzero(new_sequence[pairs])
        classes_of_sequence = np.diff(np.append(first_pair, len(pairs)))
        reads_of_sequence = np.add.reduceat(reads_of_pair, first_pair)
        shared = classes_of_sequence > 1
        return RepeatFacts(
            reads=len(hashes),
            distinct=len(pairs),
            kept_one_in=1 << self._zero_bits,
            shared_reads=int(reads_of_sequence[shared].sum()),
            shared_sequences=int(shared.sum()),
            best_correct=int(np.maximum.reduceat(reads_of_pair, first_pair).sum()),
        )
