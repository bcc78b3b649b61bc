"""What a range of a file adds to the index and to the search for repeats, held until its turn comes."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Columns(Protocol):
    """What takes the columns of an index: see `writer.IndexWriter`."""

    def append(
        self, offsets: np.ndarray, spans: np.ndarray, lengths: np.ndarray, class_ids: np.ndarray
    ) -> None: ...

    def skip(self, accepted_before: np.ndarray) -> None: ...


class HeldColumns:
    """Columns of the index for the reads of a range; rejected records count from its start."""

    def __init__(self) -> None:
        self._reads: list[tuple[np.ndarray, ...]] = []
        self._rejected: list[np.ndarray] = []

    def append(
        self, offsets: np.ndarray, spans: np.ndarray, lengths: np.ndarray, class_ids: np.ndarray
    ) -> None:
        """Copies, in the types of the index: half the bytes to send between processes."""
        kinds = (np.int64, np.uint32, np.int32, np.int32)
        columns = (offsets, spans, lengths, class_ids)
        self._reads.append(tuple(np.array(c, dtype=kind) for c, kind in zip(columns, kinds, strict=True)))

    def skip(self, accepted_before: np.ndarray) -> None:
        self._rejected.append(np.array(accepted_before, dtype=np.int64))

    def pour(self, columns: Columns, accepted: int) -> None:
        """Hand everything on, when so many accepted reads come before the range."""
        for reads in self._reads:
            columns.append(*reads)
        for rejected in self._rejected:
            columns.skip(rejected + accepted)


class HeldHashes:
    """Hashes in the order of their arrival."""

    def __init__(self) -> None:
        self.held: list[np.ndarray] = []

    def add(self, hashes: np.ndarray) -> None:
        """Hashes [N] uint64."""
        self.held.append(hashes.copy())
