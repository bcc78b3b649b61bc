"""One look at a reads file: all of it, or at level quick parts of a large one."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_doctor.facts.reads import companions
from metagene_doctor.facts.reads.facts import InputFile, ReadsFacts, Role, from_scan
from metagene_doctor.facts.reads.quick_look import look_quickly
from metagene_train.errors import DataError

if TYPE_CHECKING:
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.reads.watching import Progress, Watcher

READ_IN_FULL_BYTES = 200_000_000
"""Files up to this size are read in full even at the quick level: seconds."""


def is_large(path: Path) -> bool:
    """Whether it is not read in full at the quick level. Streams always are."""
    from metagene_train.reads.records.formats import is_stream

    return not is_stream(path) and path.is_file() and path.stat().st_size > READ_IN_FULL_BYTES


def collect(
    role: Role,
    path: Path,
    *,
    header: HeaderPattern,
    file_format: str,
    index_dir: Path | None,
    quick: bool,
    watcher: Watcher | None = None,
    progress: Progress | None = None,
) -> tuple[InputFile, ReadsFacts | None, tuple[bytes, ...]]:
    """The file, what is in it, and an unbiased sample of its sequences.

    A file that is not FASTA or FASTQ is a fact (``refused``). Raises InputError when it is missing,
    empty or cannot be opened. A pipe or standard input (``-``) is read to its end at every level,
    and has no index. A ``watcher`` sees the reads of a file that is read in full.
    """
    from metagene_train.reads.parallel import worthwhile_processes
    from metagene_train.reads.records.formats import is_stream, name_of, sniff
    from metagene_train.reads.scan import scan

    started = time.perf_counter()
    stream = is_stream(path)
    try:
        if not stream:
            sniff(path, file_format)
            if quick and is_large(path):
                facts, sample = look_quickly(role, path, header, file_format)
                file = InputFile(
                    role=role, path=str(path), bytes=facts.bytes, companions=companions.find(path)
                )
                return file, facts, sample
        kept_in = None if stream else index_dir
        found = scan(
            path,
            header=header,
            file_format=file_format,
            index_dir=kept_in,
            watcher=watcher,
            progress=progress,
            processes=worthwhile_processes(path),
        )
    except DataError as error:
        size = 0 if stream else path.stat().st_size
        return InputFile(role=role, path=name_of(path), bytes=size, refused=str(error)), None, ()
    indexed = kept_in is not None and found.complete
    facts = from_scan(role, found, indexed, time.perf_counter() - started)
    beside = () if stream else companions.find(path)
    file = InputFile(role=role, path=found.path, bytes=found.bytes_present, companions=beside)
    first = "" if stream or header.is_standard else _first_header(path, file_format)
    return file, facts.model_copy(update={"stream": stream, "first_header": first}), found.sample


def _first_header(path: Path, file_format: str) -> str:
    from metagene_train.reads.records.records import iter_reads

    with suppress(DataError):
        for read in iter_reads(path, file_format=file_format):
            return read.header
    return ""
