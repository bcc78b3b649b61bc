"""What others want to know of every read, found out in the pass that counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metagene_train.errors import DataError
from metagene_train.reads.counts.letters import Letters
from metagene_train.reads.headers.columns import HeaderColumns, HeaderParser, HeaderRows
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.batches import RecordBatch, iter_batches
from metagene_train.reads.records.formats import sniff
from metagene_train.reads.records.layout import SOUND
from metagene_train.reads.sources.source import open_source

Progress = Callable[[int, int], None]
"""Called after each chunk with the bytes of the file done and in all, 0 where that is not known."""


@dataclass(frozen=True)
class Watched:
    """A batch, valid until the next one is read, and what is known of it already."""

    batch: RecordBatch
    places: np.ndarray
    """int64 [N]: the records of the batch that are sound and have bases."""
    rows: HeaderRows
    columns: HeaderColumns
    """As ``header`` takes them apart."""
    header: HeaderPattern
    letters: Letters | None = None
    """None where nobody has counted them."""


class Watcher(Protocol):
    """Told of every batch of one or more files, in two steps, because several processes may read a file."""

    def see(self, watched: Watched) -> Any:
        """What is wanted of a batch. It is found in the process that reads it, maybe a forked one: what
        is changed here may be lost, and the result is sent between processes."""

    def take(self, seen: Any) -> None:
        """What `see` has found, batch after batch in the order of the file."""

    def spoil(self) -> None:
        """What was taken of this file does not count: it could not be read by several processes, and is
        counted anew without anybody watching."""


def read_again(
    path: Path, header: HeaderPattern, file_format: str = "auto", progress: Progress | None = None
) -> Iterator[Watched]:
    """What a watcher is told of a file, in a pass of its own. Raises DataError where the file is damaged."""
    form, parser = sniff(path, file_format), HeaderParser(header)
    with closing(open_source(path, form.compression)) as source:
        for batch in iter_batches(source, form):
            if len(batch):
                rows = HeaderRows.of(batch)
                yield Watched(batch, usable_places(batch), rows, parser.parse(batch, rows), header)
            if progress:
                progress(source.position, source.size)
        if source.problems:
            raise DataError(f"{path}: {source.problems[0].message}")


def usable_places(batch: RecordBatch) -> np.ndarray:
    """int64 [N]: the records of a batch that are sound and have bases."""
    return np.flatnonzero((batch.layout.faults == SOUND) & (batch.layout.length > 0))
