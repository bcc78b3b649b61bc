"""Which headers of several files are also in an earlier one of them, exactly.

What repeats within a file the scan of that file has counted; this counts over all files of a side, in
a pass that others make anyway, or in one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    from metagene_train.reads.records.batches import RecordBatch


class SharedHeaders(Frozen):
    headers: int
    """Of a file that are also in an earlier one; each counts once a file, repeated in it or not."""
    examples: tuple[tuple[int, int], ...] = ()
    """Records, numbered from 1 over all files (`ReadsFacts.locate`), of a header and its repetition in a
    later file."""


class SharedHeaderTally:
    """Sees every record of every file of a side, in their order, as it streams by."""

    def __init__(self, side: ReadsFacts):
        from metagene_train.reads.counts.distinct import RepeatCounter

        self._side = side
        self._hashes = RepeatCounter()
        self._records = 0

    def look(self, batch: RecordBatch) -> None:
        from metagene_train.reads.headers.columns import HeaderRows

        if len(batch):
            self._hashes.add(HeaderRows.of(batch).hashes(batch))
            self._records += len(batch)

    @property
    def complete(self) -> bool:
        """Whether every record was seen."""
        return self._records == self._side.records

    def result(self) -> SharedHeaders:
        """The counts of all records. Ends the collection."""
        repeats = self._hashes.repeats()
        within = sum(file.duplicate_headers for file in self._side.files)
        pairs = ((first + 1, again + 1) for first, again in repeats.examples)
        return SharedHeaders(
            headers=repeats.count - within,
            examples=tuple(pair for pair in pairs if self._in_two_files(*pair)),
        )

    def _in_two_files(self, first: int, again: int) -> bool:
        return self._side.locate(first)[0] is not self._side.locate(again)[0]


def collect(
    side: ReadsFacts, file_format: str, progress: Callable[[int, int], None] | None = None
) -> SharedHeaders:
    """Count in a pass of its own over the files of a side."""
    from metagene_train.reads.access.joined import progress_of_all
    from metagene_train.reads.records.batches import iter_batches
    from metagene_train.reads.records.formats import sniff
    from metagene_train.reads.sources.source import open_source

    tally = SharedHeaderTally(side)
    paths = [Path(file.path) for file in side.files]
    advances = progress_of_all([path.stat().st_size for path in paths], progress) if progress else ()
    for number, path in enumerate(paths):
        form = sniff(path, file_format)
        with closing(open_source(path, form.compression)) as source:
            for batch in iter_batches(source, form):
                tally.look(batch)
                if advances:
                    advances[number](source.position, source.size)
    return tally.result()
