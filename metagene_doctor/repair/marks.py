"""Marks: what was decided for each record after the whole file had been seen, one array entry each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COPY, VALIDATION = 1, 2

_FLAGS, _OCCURRENCES = "flags", "occurrences"


class Marks:
    """Memory-mapped arrays over the records of a job, sparse where nothing was decided.

    ``flags`` [N] uint8 holds the bits COPY (left out as a copy) and VALIDATION (goes to the second
    file); ``occurrences`` [N] uint32 is n for the n-th record of a name, 0 for the first.
    """

    def __init__(self, directory: Path, records: int, mode: str = "r"):
        self.records = records
        self.directory = directory
        shape = max(1, records)
        self.flags = np.memmap(directory / _FLAGS, dtype=np.uint8, mode=mode, shape=shape)  # type: ignore[call-overload]
        self.occurrences = np.memmap(  # type: ignore[call-overload]
            directory / _OCCURRENCES, dtype=np.uint32, mode=mode, shape=shape
        )

    @classmethod
    def create(cls, directory: Path, records: int) -> Marks:
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory, records, "w+")

    def save(self) -> None:
        self.flags.flush()
        self.occurrences.flush()
