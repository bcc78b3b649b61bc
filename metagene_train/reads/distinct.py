"""How many of a stream of 64-bit hashes repeat an earlier one, exactly and in bounded memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from metagene_train.errors import InputError
from metagene_train.reads.problems import EXAMPLES_KEPT

HASHES_IN_MEMORY = 1 << 24
"""Kept in memory (128 MiB, and as much again to sort them); more go to a temporary file in sorted runs."""


@dataclass(frozen=True)
class Repeats:
    """``count`` of hashes that repeat an earlier one; ``examples`` are positions (from 0) of the first
    of a value and its first repetition, at most five."""

    count: int
    examples: tuple[tuple[int, int], ...]


class RepeatCounter:
    """Hashes are collected and sorted in runs; equal ones meet when the runs are merged.

    Sorting and comparing neighbours is far cheaper than a set (about 75 bytes an entry) and than
    ``numpy.unique``. For 558 million records the runs take 4.5 GB of disk.
    """

    def __init__(self, directory: Path | None = None, capacity: int = HASHES_IN_MEMORY):
        self._directory = directory
        self._arrived = np.empty(capacity, dtype=np.uint64)
        self._count = 0
        self._run_lengths: list[int] = []
        self._file: IO[bytes] | None = None

    def add(self, hashes: np.ndarray) -> None:
        """Hashes [N] uint64. Raises InputError if they have to go to a disk that is full."""
        while len(hashes):
            if self._count == len(self._arrived):
                self._spill()
            taken = hashes[: len(self._arrived) - self._count]
            self._arrived[self._count : self._count + len(taken)] = taken
            self._count += len(taken)
            hashes = hashes[len(taken) :]

    def repeats(self) -> Repeats:
        """Repetitions among all hashes. Ends the collection.

        Examples need the order of arrival, which is known only while all hashes are in memory.
        """
        arrived = self._arrived[: self._count]
        ascending = np.sort(arrived)
        if self._file is not None:
            return Repeats(self._merge([*self._mapped_runs(self._file), ascending]), ())
        repeated = ascending[1:] == ascending[:-1]
        values = ascending[:-1][repeated][:EXAMPLES_KEPT]
        pairs = (np.flatnonzero(arrived == value)[:2].tolist() for value in np.unique(values))
        return Repeats(int(np.count_nonzero(repeated)), tuple(sorted((one, two) for one, two in pairs)))

    def _merge(self, runs: list[np.ndarray]) -> int:
        """Repetitions in sorted runs, over ranges of hash values that fit in memory one by one."""
        total = sum(map(len, runs))
        parts = max(1, -(-total // len(self._arrived)))
        bounds = [(part << 64) // parts for part in range(1, parts)]
        cuts = [
            [0, *np.searchsorted(run, np.array(bounds, dtype=np.uint64)).tolist(), len(run)] for run in runs
        ]
        repeated = 0
        for part in range(parts):
            slices = [run[cut[part] : cut[part + 1]] for run, cut in zip(runs, cuts, strict=True)]
            merged = np.concatenate(slices)
            merged.sort()
            repeated += int(np.count_nonzero(merged[1:] == merged[:-1]))
        return repeated

    def _spill(self) -> None:
        self._arrived.sort()
        try:
            if self._file is None:
                # Without a name, so that it is gone with the process, however that ends.
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
            self._file.write(self._arrived.data)
        except OSError as error:
            raise InputError(
                f"{self._directory or tempfile.gettempdir()}: no room for the hashes that find repeated "
                f"headers ({error.strerror}); set TMPDIR to a larger disk"
            ) from None
        self._run_lengths.append(len(self._arrived))
        self._count = 0

    def _mapped_runs(self, file: IO[bytes]) -> list[np.ndarray]:
        file.flush()
        hashes = np.memmap(file, dtype=np.uint64, mode="r")
        return np.split(hashes, np.cumsum(self._run_lengths)[:-1])
