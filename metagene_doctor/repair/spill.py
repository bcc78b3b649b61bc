"""Rows of numbers brought together by key, at any size: on disk when they are many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROWS_IN_MEMORY = 1 << 21
"""Rows that are collected before they go to disk, and about as many that are looked at together."""

_PARTS = 256
_PART_BITS = 8


class Spill:
    """Rows [N, W] uint64 whose first column is a key with evenly spread bits, such as a hash.

    Memory holds `ROWS_IN_MEMORY` rows, or all the rows of one key where those are more. Files
    ``<name>-<part>`` in the directory hold the rest.
    """

    def __init__(self, directory: Path, name: str, rows_in_memory: int = ROWS_IN_MEMORY):
        self._directory = directory
        self._name = name
        self._capacity = rows_in_memory
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0
        self._width = 0
        self._spilt = False

    def add(self, rows: np.ndarray) -> None:
        """Rows [N, W] uint64, all of one width."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        self._width = rows.shape[1]
        if self._waiting_rows >= self._capacity:
            self._write()

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in blocks, sorted by key and otherwise in the order of arrival.

        All rows of a key are in one block. May be asked for more than once.
        """
        if not self._spilt:
            if self._waiting:
                yield _by_key(np.concatenate(self._waiting))
            return
        if self._waiting:
            self._write()
        for part in range(_PARTS):
            path = self._path(part)
            if path.exists():
                rows = np.memmap(path, dtype=np.uint64, mode="r").reshape(-1, self._width)
                yield from self._ranges(rows, part)

    def remove(self) -> None:
        """Delete the files."""
        for part in range(_PARTS):
            self._path(part).unlink(missing_ok=True)

    def _write(self) -> None:
        rows = np.concatenate(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        self._spilt = True
        parts = rows[:, 0] >> np.uint64(64 - _PART_BITS)
        order = np.argsort(parts, kind="stable")
        bounds = np.searchsorted(parts[order], np.arange(_PARTS + 1))
        for part in np.flatnonzero(np.diff(bounds)).tolist():
            with self._path(part).open("ab") as file:
                file.write(rows[order[bounds[part] : bounds[part + 1]]].tobytes())

    def _ranges(self, rows: np.ndarray, part: int) -> Iterator[np.ndarray]:
        """A part in ranges of keys that fit in memory."""
        ranges = -(-len(rows) // self._capacity)
        if ranges == 1:
            yield _by_key(np.array(rows))
            return
        span = 1 << (64 - _PART_BITS)
        bounds = [part * span + span * number // ranges for number in range(ranges)]
        for number, low in enumerate(bounds):
            chosen = []
            for start in range(0, len(rows), self._capacity):
                piece = np.array(rows[start : start + self._capacity])
                inside = piece[:, 0] >= np.uint64(low)
                if number + 1 < ranges:
                    inside &= piece[:, 0] < np.uint64(bounds[number + 1])
                chosen.append(piece[inside])
            yield _by_key(np.concatenate(chosen))

    def _path(self, part: int) -> Path:
        return self._directory / f"{self._name}-{part:03d}"


def _by_key(rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort(rows[:, 0], kind="stable")]


def mix(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Numbers [N] as evenly spread keys [N] uint64: a bijection for each seed (SplitMix64's finaliser)."""
    mixed = values.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    for _ in range(2):
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
