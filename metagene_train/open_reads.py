"""The read index of the reads of a run, opened the way the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metagene_train.config import DatasetConfig
from metagene_train.reads.access import open_files
from metagene_train.reads.access.data_set import distinct_files
from metagene_train.reads.access.joined import AnyIndex, JoinedIndex, progress_of_all
from metagene_train.reads.access.read_index import DESCRIPTORS, ReadIndex
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.formats import sniff


def open_reads(
    named: str | Path | Sequence[str | Path],
    settings: DatasetConfig,
    progress: Callable[[int, int], None] | None = None,
) -> AnyIndex:
    """The reads of a file, of a pattern's files or of several, in this order (`distinct_files`).

    The index of a file is built in one pass when there is none yet or the file has changed.
    ``progress`` is told the bytes read and the bytes in all while that is done. Raises InputError
    (missing file, or not of the format or compression that ``settings`` name) and DataError (damage).
    """
    files = distinct_files(named)
    if len(files) > 1:
        open_files.allow(len(files), DESCRIPTORS)
    # What is missing is told before hours are spent on another file.
    for file in files:
        sniff(file, settings.file_format, settings.gzip)
    advances: Sequence[Callable[[int, int], None] | None] = [progress]
    if progress is None or len(files) > 1:
        advances = [None] * len(files)
    if progress is not None and len(files) > 1:
        advances = progress_of_all([file.stat().st_size for file in files], progress)
    parts = [
        ReadIndex.open_or_build(
            file,
            header=HeaderPattern(settings.header_regex),
            index_dir=settings.index_dir,
            file_format=settings.file_format,
            progress=advance,
        )
        for file, advance in zip(files, advances, strict=True)
    ]
    return parts[0] if len(parts) == 1 else JoinedIndex(parts)
