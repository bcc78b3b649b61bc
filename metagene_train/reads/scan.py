"""The one pass over a reads file: integrity, exact statistics, and the index that training uses."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from metagene_train.errors import DataError, InputError
from metagene_train.reads.counts.distinct import RepeatCounter
from metagene_train.reads.counts.report import ReadScan
from metagene_train.reads.counts.sample import LARGEST_KEY
from metagene_train.reads.headers.columns import HeaderParser
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.index.held import HeldColumns, HeldHashes
from metagene_train.reads.index.writer import IndexWriter, kept_at
from metagene_train.reads.parallel import CAN_FORK, in_order
from metagene_train.reads.problems import Problem
from metagene_train.reads.ranges import RANGE_BYTES, Range, open_range, split
from metagene_train.reads.records.batches import CHUNK_BYTES, iter_batches
from metagene_train.reads.records.formats import ReadFormat
from metagene_train.reads.records.opening import OpenReads, opened
from metagene_train.reads.tally import Tally
from metagene_train.reads.watching import Progress, Watcher

__all__ = ["ReadScan", "scan"]


def scan(
    path: str | Path,
    *,
    header: HeaderPattern | None,
    file_format: str = "auto",
    index_dir: Path | None = None,
    watcher: Watcher | None = None,
    progress: Progress | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    processes: int = 1,
    range_bytes: int = RANGE_BYTES,
) -> ReadScan:
    """Read a file once and count everything; with ``index_dir`` also write the read index there.

    ``header=None`` takes any header and knows no classes. Damage does not raise: it is in
    ``problems`` of the result, and no index is published then. Memory is bounded by
    ``chunk_bytes``, the longest record, the classes and the hashes of `distinct`. ``path`` may be a pipe,
    or ``-`` for standard input, which can have no index. Raises InputError or DataError where there
    is nothing to scan (missing, empty, neither FASTA nor FASTQ).

    With several ``processes`` ranges of a large plain or BGZF file are read at the same time. What is
    found is the same in every detail: where that is not certain (damage, a FASTQ file in which it
    cannot be told where a record starts) the file is read again by this process alone.

    A ``watcher`` is told of every batch, if there is a ``header``. It adds what it takes and holds.
    """
    with opened(path, file_format) as reads:
        if index_dir and reads.stream:
            raise InputError(
                f"{reads.name}: can be read only once, so it cannot have an index; save it first"
            )
        begin = partial(_writer, path, reads.form, header, index_dir)
        if processes > 1 and CAN_FORK and not reads.stream:
            from multiprocessing.sharedctypes import RawValue

            ranges = split(Path(path), reads.form, range_bytes)
            if len(ranges) > 1:
                with begin() as writer:
                    tally = Tally(reads.form, header, writer, RepeatCounter(index_dir))
                    kept = writer.unpacked if writer else None
                    limit = RawValue("Q", LARGEST_KEY)
                    parser = HeaderParser(header) if header else None
                    work = _RangeWork(
                        Path(path), reads.form, header, parser, chunk_bytes, kept, limit, watcher
                    )
                    if _add_ranges(tally, work, ranges, processes, reads, progress):
                        return _finished(tally, reads, reads.source.size, writer)
                if watcher:
                    watcher.spoil()
                    watcher = None
        with begin() as writer:
            tally = Tally(reads.form, header, writer, RepeatCounter(index_dir))
            source = writer.tap(reads.source) if writer else reads.source
            try:
                parser = HeaderParser(header) if header else None
                for batch in iter_batches(source, reads.form, chunk_bytes):
                    watched = tally.add(batch, parser)
                    if watcher and watched:
                        watcher.take(watcher.see(watched))
                    if progress:
                        progress(source.position, 0 if reads.stream else source.size)
            except DataError as error:
                tally.problems.add(Problem("record_too_long", str(error)))
            tally.problems.add_all(source.problems)
            return _finished(tally, reads, source.position, writer)


def _writer(
    path: str | Path, form: ReadFormat, header: HeaderPattern | None, index_dir: Path | None
) -> AbstractContextManager[IndexWriter | None]:
    return IndexWriter.begin(Path(path), form, header, index_dir) if index_dir else nullcontext()


def _finished(tally: Tally, reads: OpenReads, examined: int, writer: IndexWriter | None) -> ReadScan:
    if reads.was_changed:
        tally.problems.add(Problem("changed", "the file was changed while it was being read"))
    found = tally.result(reads, examined)
    if writer and found.complete:
        writer.publish(found.to_dict())
    return found


def _add_ranges(
    tally: Tally,
    work: _RangeWork,
    ranges: list[Range],
    processes: int,
    reads: OpenReads,
    progress: Progress | None,
) -> bool:
    """Whether the ranges were read, and are certain to be what one process would have found."""
    with closing(in_order(work, ranges, processes)) as parts:
        for part, found in zip(ranges, parts, strict=True):
            # A record that was cut may go on in the next range, whose start was a guess then.
            if found is None or not (found.tally.ends_with_a_sound_record or part is ranges[-1]):
                return False
            tally.merge(found.tally)
            if work.watcher:
                for seen in found.seen:
                    work.watcher.take(seen)
            work.sample_limit.value = tally.sample.largest
            if progress:
                progress(part.disk_end, reads.source.size)
    return True


@dataclass(frozen=True)
class _FoundInRange:
    tally: Tally
    seen: list[Any]
    """By the watcher, of each batch."""


@dataclass(frozen=True)
class _RangeWork:
    """Counting one range of a file, in a process of its own."""

    path: Path
    form: ReadFormat
    header: HeaderPattern | None
    parser: HeaderParser | None
    """Each process has a copy, which learns from all of its ranges."""
    chunk_bytes: int
    unpacked: Path | None
    """Where the unpacked bytes are kept, each range at its own place."""
    sample_limit: Any
    """Shared with the other processes: see `Sample.limit`."""
    watcher: Watcher | None

    def __call__(self, part: Range) -> _FoundInRange | None:
        """None where anything is wrong with the bytes."""
        tally = Tally(self.form, self.header, HeldColumns(), HeldHashes())
        tally.sample.limit(self.sample_limit.value)
        seen = []
        with ExitStack() as stack:
            source = stack.enter_context(closing(open_range(self.path, part)))
            if self.unpacked:
                source = stack.enter_context(kept_at(source, self.unpacked, part.start))
            try:
                for batch in iter_batches(source, self.form, self.chunk_bytes, part.start):
                    watched = tally.add(batch, self.parser)
                    if self.watcher and watched:
                        seen.append(self.watcher.see(watched))
            except DataError:
                return None
        if source.problems:
            return None
        tally.sample.prune()
        return _FoundInRange(tally, seen)
