"""Which headers of several files are also in an earlier one of them, exactly.

What repeats within a file the scan of that file has counted; this counts over all files of a side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    import numpy as np

    from metagene_train.reads.watching import Watched


class SharedHeaders(Frozen):
    headers: int
    """Of a file that are also in an earlier one; each counts once a file, repeated in it or not."""
    examples: tuple[tuple[int, int], ...] = ()
    """Records, numbered from 1 over all files (`ReadsFacts.locate`), of a header and its repetition in a
    later file."""


class SharedHeaderTally:
    """The hashes of all headers of every file of a side, in their order."""

    def __init__(self) -> None:
        from metagene_train.reads.counts.distinct import RepeatCounter

        self._hashes = RepeatCounter()

    def see(self, watched: Watched) -> np.ndarray:
        """Hashes [N] uint64 of all records, sound or not."""
        return watched.rows.hashes(watched.batch)

    def take(self, hashes: np.ndarray) -> None:
        self._hashes.add(hashes)

    def result(self, side: ReadsFacts) -> SharedHeaders:
        """The counts of all records of a side. Ends the collection."""
        repeats = self._hashes.repeats()
        within = sum(file.duplicate_headers for file in side.files)
        pairs = ((first + 1, again + 1) for first, again in repeats.examples)
        return SharedHeaders(
            headers=repeats.count - within,
            examples=tuple(pair for pair in pairs if _in_two_files(side, *pair)),
        )


def _in_two_files(side: ReadsFacts, first: int, again: int) -> bool:
    return side.locate(first)[0] is not side.locate(again)[0]
