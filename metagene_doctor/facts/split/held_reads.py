"""The validation reads as hashes, held to be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.reads.hashes import ReadHashes


class Held(NamedTuple):
    """Reads [N] as `reads.hashes.ReadHashes` has them."""

    records: np.ndarray
    """uint32 [N]: record numbers, from 1 over all files of the side."""
    sequences: np.ndarray
    strands: np.ndarray
    names: np.ndarray
    mates: np.ndarray
    prefixes: np.ndarray
    """uint32 [N, 2]; empty where no sieve is made of them."""


class HeldReads:
    """All reads of the validation side, as they come in: 22 bytes each, with prefixes 30."""

    def __init__(self, *, prefixes: bool = False):
        self._with_prefixes = prefixes
        self._batches: list[Held] = []
        self.classes: set[int] = set()

    def find(self, hashes: ReadHashes) -> tuple[Held, set[int]]:
        """What is held of a batch, with the places of its reads for record numbers, and their classes."""
        import numpy as np

        prefixes = hashes.prefixes if self._with_prefixes else hashes.prefixes[:0]
        columns = (hashes.sequences, hashes.strands, hashes.names, hashes.mates, prefixes)
        return Held(hashes.places.astype(np.uint32), *columns), set(np.unique(hashes.class_ids).tolist())

    def note(self, found: tuple[Held, set[int]], before: int) -> None:
        """Those of a batch, of a side with so many records before it."""
        held, classes = found
        self._batches.append(held._replace(records=held.records + (before + 1)))
        self.classes |= classes

    def release(self) -> Held:
        """All reads, in order, which are no longer held here then."""
        import numpy as np

        if not self._batches:
            words, kinds = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int8)
            return Held(words.astype(np.uint32), words, kinds, words, kinds, np.zeros((0, 2), np.uint32))
        columns = [list(column) for column in zip(*self._batches, strict=True)]
        self._batches = []
        # One after the other, so that nothing is there twice but one column.
        together = []
        for column in columns:
            together.append(np.concatenate(column))
            column.clear()
        return Held(*together)
