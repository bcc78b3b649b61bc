"""The indexes of several files as one: reads by position, in the order of the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from metagene_train.reads.access.data_set import title_of
from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.records.records import Read

PIECE = 1 << 20
"""Values of a column that are looked at together, 4 MB."""


class JoinedColumn:
    """A column [N] that lies in several arrays. It is searched where it lies: joined, the lengths of
    5 x 10^8 reads would be 2 GB in memory, where mapped files take none of their own."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = tuple(parts)
        self._starts = starts_of(parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """Values at positions [M] int of 0..N-1."""
        positions = np.asarray(positions)
        found = np.empty(positions.shape, dtype=self.parts[0].dtype)
        owners = np.searchsorted(self._starts, positions, side="right") - 1
        for part in np.unique(owners).tolist():
            here = owners == part
            found[here] = self.parts[part][positions[here] - self._starts[part]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it in memory."""
        return np.concatenate(self.parts).astype(dtype or self.parts[0].dtype, copy=False)

    def argmax(self) -> int:
        """The first position of the largest value."""
        best, highest = -1, None
        for begin, values in pieces_of(self):
            place = int(values.argmax())
            if highest is None or values[place] > highest:
                best, highest = begin + place, values[place]
        return best


Column = np.ndarray | JoinedColumn


def pieces_of(column: Column) -> Iterator[tuple[int, np.ndarray]]:
    """Position of the first value, and values [P], of one piece of a column after another.

    Whole, mapped columns would be copied: numpy does that with a read-only array to find its largest value.
    """
    before = 0
    for part in column.parts if isinstance(column, JoinedColumn) else (column,):
        for begin in range(0, len(part), PIECE):
            yield before + begin, part[begin : begin + PIECE]
        before += len(part)


class JoinedIndex:
    """The accepted reads of several files, by position 0..N-1: `ReadIndex` for each, seen as one.

    As safe under threads, fork and spawn as its parts, and as small: nothing is copied from them.
    """

    def __init__(self, parts: Sequence[ReadIndex]):
        self.parts = tuple(parts)
        self._starts = starts_of(parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def path(self) -> str:
        """What to call the files in a message."""
        return title_of([part.path for part in self.parts])

    def path_of(self, position: int) -> str:
        """The file that the read at a position is in."""
        return self.parts[self._owner(position)].path

    @property
    def records(self) -> int:
        """Records in the files, accepted and rejected."""
        return sum(part.records for part in self.parts)

    @property
    def rejection_summary(self) -> str:
        """Why records were rejected, in one line that names the files; empty if none was."""
        reasons = ((part.path, part.rejection_summary) for part in self.parts)
        return "; ".join(f"{path}: {reason}" for path, reason in reasons if reason)

    @property
    def class_ids(self) -> JoinedColumn:
        """Class of every read [N] int32."""
        return JoinedColumn([part.class_ids for part in self.parts])

    @property
    def lengths(self) -> JoinedColumn:
        """Length of every read in bases [N] int32."""
        return JoinedColumn([part.lengths for part in self.parts])

    def read(self, position: int) -> Read:
        """The read at a position; its ``record`` counts from the start of its own file."""
        if not 0 <= position < len(self):
            raise IndexError(f"read {position} of {len(self)}")
        owner = self._owner(position)
        return self.parts[owner].read(int(position) - int(self._starts[owner]))

    def sequences(self, positions: Sequence[int] | np.ndarray) -> list[bytes]:
        """The sequences of the reads at some positions, in that order."""
        wanted = np.asarray(positions, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"reads {wanted.min()} to {wanted.max()} of {len(self)}")
        found: list[bytes] = [b""] * len(wanted)
        owners = np.searchsorted(self._starts, wanted, side="right") - 1
        for part in np.unique(owners).tolist():
            here = np.flatnonzero(owners == part)
            sequences = self.parts[part].sequences(wanted[here] - self._starts[part])
            for place, sequence in zip(here.tolist(), sequences, strict=True):
                found[place] = sequence
        return found

    def _owner(self, position: int) -> int:
        return int(np.searchsorted(self._starts, position, side="right")) - 1


AnyIndex = ReadIndex | JoinedIndex


def starts_of(parts: Sequence[Any]) -> np.ndarray:
    """Position at which each part starts, and where the last one ends [parts + 1] int64."""
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)


def progress_of_all(
    sizes: Sequence[int], progress: Callable[[int, int], None]
) -> list[Callable[[int, int], None]]:
    """What each of several files, of so many bytes, tells its progress to, so that it adds up."""

    def advance(before: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(before + done, sum(sizes))

    return [advance(sum(sizes[:number])) for number in range(len(sizes))]
