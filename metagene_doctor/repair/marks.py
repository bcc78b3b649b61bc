"""Marks: what was decided for each record after the whole file had been seen, one array entry each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

COPY, VALIDATION = 1, 2

_FLAGS, _OCCURRENCES = "flags", "occurrences"


class Marks:
    """Memory-mapped arrays over the records of a job.

    ``flags`` [N] uint8 holds the bits COPY (left out as a copy) and VALIDATION (goes to the second
    file); ``occurrences`` [N] uint32 is n for the n-th record of a name, 0 for the first.
    """

    def __init__(
        self,
        directory: Path,
        records: int,
        flags: np.ndarray,
        occurrences: np.ndarray,
        firsts: Sequence[int] = (0,),
    ):
        self.directory = directory
        self.records = records
        self.flags = flags
        self.occurrences = occurrences
        self.firsts = firsts
        """The first record of each input."""

    @classmethod
    def create(cls, directory: Path, records: int, firsts: Sequence[int] = (0,)) -> Marks:
        """Nothing decided yet. Raises OSError where the disk has no room."""
        directory.mkdir(parents=True, exist_ok=True)
        return cls(
            directory,
            records,
            allocated(directory / _FLAGS, np.uint8, records),
            allocated(directory / _OCCURRENCES, np.uint32, records),
            firsts,
        )

    @classmethod
    def load(cls, directory: Path, records: int) -> Marks:
        """What was saved."""
        shape = max(1, records)
        return cls(
            directory,
            records,
            np.memmap(directory / _FLAGS, dtype=np.uint8, mode="r", shape=shape),
            np.memmap(directory / _OCCURRENCES, dtype=np.uint32, mode="r", shape=shape),
        )

    def inputs_of(self, records: np.ndarray) -> np.ndarray:
        """The input (from 0) that each of some records [N] is of; where empty inputs begin with it, the
        last of them."""
        return np.searchsorted(self.firsts, records, side="right") - 1

    def save(self) -> None:
        for column in (self.flags, self.occurrences):
            assert isinstance(column, np.memmap)
            column.flush()


def allocated(path: Path, kind: Any, count: int) -> np.ndarray:
    """A mapped array [count] of zeros, one entry at least, that has its place on the disk.

    Raises OSError where there is no room. A sparse file would only end the process (SIGBUS), when
    entries are set that the disk cannot take.
    """
    size = max(1, count)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size * np.dtype(kind).itemsize)
    return np.memmap(path, dtype=kind, mode="r+", shape=size)
