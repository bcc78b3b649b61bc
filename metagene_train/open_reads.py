"""The read index of one file of a run, opened the way the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metagene_train.config import DatasetConfig
from metagene_train.reads.formats import sniff
from metagene_train.reads.headers import HeaderPattern
from metagene_train.reads.index import ReadIndex


def open_reads(
    path: str | Path, settings: DatasetConfig, progress: Callable[[int, int], None] | None = None
) -> ReadIndex:
    """The index of ``path``, built in one pass when there is none yet or the file has changed.

    ``progress`` is told the bytes read and the bytes in all while it is built. Raises InputError
    (missing file, or not of the format or compression that ``settings`` name) and DataError (damage).
    """
    sniff(path, settings.file_format, settings.gzip)
    return ReadIndex.open_or_build(
        path,
        header=HeaderPattern(settings.header_regex),
        index_dir=settings.index_dir,
        file_format=settings.file_format,
        progress=progress,
    )
