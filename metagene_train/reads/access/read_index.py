"""Random access to the reads of a file, for training: memory-mapped positions and one `pread`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from metagene_train.errors import DataError
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.index import files as index_files
from metagene_train.reads.index.files import COLUMNS, IndexKey, default_index_dir
from metagene_train.reads.parallel import worthwhile_processes
from metagene_train.reads.records.formats import sniff
from metagene_train.reads.records.records import Read, parse_record
from metagene_train.reads.scan import scan

_LINE_FEED = ord("\n")


DESCRIPTORS = len(COLUMNS) + 2
"""What an index holds open: its arrays, each of which Python's mmap keeps a descriptor of, and the reads."""


class ReadIndex:
    """The accepted reads of a file, by position 0..N-1 in file order.

    Safe to share between threads, forked processes and, by pickling, spawned ones: nothing but the
    directory travels, arrays are mapped again, and reads are fetched with `os.pread`, which has no
    file position to share. A read that is not as it was indexed is a DataError, never garbage.
    """

    def __init__(self, directory: Path, meta: dict[str, Any]):
        self._directory = directory
        self._meta = meta
        self._accepted = int(meta["accepted"])
        self._kind = str(meta["key"]["kind"])
        self._arrays = {
            name: _mapped(directory / name, COLUMNS.get(name, np.int64))
            for name in (*COLUMNS, index_files.REJECTED)
        }
        self._descriptor = self._open_reads()

    @classmethod
    def open_or_build(
        cls,
        path: str | Path,
        *,
        header: HeaderPattern | None,
        index_dir: str | Path | None = None,
        file_format: str = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> ReadIndex:
        """Open the index of a file, building it with one scan if there is none or the file changed.

        ``header=None`` indexes reads of any header, all with class -1. ``index_dir=None`` is
        ``$METAGENE_CACHE/index`` or ``~/.cache/metagene/index``. A compressed file is unpacked into
        the index once. Raises DataError if the file is damaged or none of its records is usable,
        InputError if there is no such file or the index cannot be written.
        """
        path = Path(path)
        root = Path(index_dir).expanduser() if index_dir else default_index_dir()
        form = sniff(path, file_format)
        directory = root / IndexKey.of(path, form, header).directory()
        meta = index_files.load_meta(directory)
        if meta is None:
            found = scan(
                path,
                header=header,
                file_format=file_format,
                index_dir=root,
                progress=progress,
                processes=worthwhile_processes(path),
            )
            if found.problems:
                damage = "\n".join(f"{path}: {_describe(problem)}" for problem in found.problems)
                raise DataError(
                    f"{damage}; `metagene doctor --fasta {shlex.quote(str(path))}` says what to do about it"
                )
            directory = root / IndexKey.of(path, form, header).directory()
            meta = index_files.load_meta(directory)
            if meta is None:
                raise DataError(f"{path}: changed while its index was built; run again when it is complete")
        index = cls(directory, meta)
        if not len(index):
            raise DataError(
                f"{path}: none of its {index.records:,} records is usable; {index.rejection_summary}; "
                "`metagene doctor --fasta` with it says what to do, such as --header-regex (in a config "
                "dataset.header_regex) for other headers"
            )
        return index

    def __len__(self) -> int:
        return self._accepted

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self._directory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        meta = index_files.load_meta(state["directory"])
        if meta is None:
            raise DataError(f"{state['directory']}: the read index is gone; was the reads file changed?")
        self.__init__(state["directory"], meta)  # type: ignore[misc]

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @property
    def path(self) -> str:
        """The reads file, as a real path."""
        return str(self._meta["key"]["fingerprint"]["path"])

    @property
    def parts(self) -> tuple[ReadIndex, ...]:
        """The indexes of which this one is made: itself. See `joined.JoinedIndex`."""
        return (self,)

    def path_of(self, position: int) -> str:
        """The file that the read at a position is in."""
        return self.path

    @property
    def records(self) -> int:
        """Records in the file, accepted and rejected."""
        return self._accepted + int(self._meta["rejected"])

    @property
    def rejection_summary(self) -> str:
        """Why records were rejected, in one line; empty if none was."""
        return "; ".join(
            f"{item['count']:,} record{'' if item['count'] == 1 else 's'} rejected "
            f"({item['kind']}: {item['reason']}; first at line "
            f"{item['examples'][0]['line']:,}: {item['examples'][0]['text']})"
            for item in self._meta["scan"]["rejected"]
        )

    @property
    def class_ids(self) -> np.ndarray:
        """Class of every read [N] int32; -1 without a header pattern."""
        return self._arrays["class_ids"]

    @property
    def lengths(self) -> np.ndarray:
        """Length of every read in bases [N] int32."""
        return self._arrays["lengths"]

    def read(self, position: int) -> Read:
        """The read at a position. Its ``line`` is 0: positions do not know lines."""
        if not -self._accepted <= position < self._accepted:
            raise IndexError(f"read {position} of {self._accepted}")
        position = int(position) % self._accepted
        span = int(self._arrays["spans"][position])
        raw = os.pread(self._descriptor, span, int(self._arrays["offsets"][position]))
        rejected = self._arrays[index_files.REJECTED]
        before = int(np.searchsorted(rejected, position, side="right")) if len(rejected) else 0
        if len(raw) == span and raw[:1] == (b">" if self._kind == "fasta" else b"@"):
            read = parse_record(raw, self._kind, record=position + 1 + before)
            if len(read.sequence) == self._arrays["lengths"][position]:
                return read
        raise DataError(f"{self.path}: was changed after it was indexed; start again")

    def sequences(self, positions: Sequence[int] | np.ndarray) -> list[bytes]:
        """The sequences of the reads at some positions (0..N-1), as `read` gives them, without their
        headers: three times as fast."""
        wanted = np.asarray(positions, dtype=np.int64)
        if not len(wanted):
            return []
        # In file order, which makes the system's look-up of where they lie cheaper by a third.
        order = np.argsort(wanted)
        ascending = wanted[order]
        if not 0 <= ascending[0] <= ascending[-1] < self._accepted:
            raise IndexError(f"reads {ascending[0]} to {ascending[-1]} of {self._accepted}")
        if self._kind == "fasta":
            spans, offsets, lengths = (
                self._arrays[name][ascending] for name in ("spans", "offsets", "lengths")
            )
            # Not mapped: the page fault of a read that no other lies near costs twice as much as this,
            # and a file that was cut short would end the process.
            raws = map(os.pread, repeat(self._descriptor), spans.tolist(), offsets.tolist())
            found = _one_line_sequences(b"".join(raws), spans.astype(np.int64), lengths, order)
            if found is not None:
                return found
        return [self.read(position).sequence for position in wanted.tolist()]

    def _open_reads(self) -> int:
        """A descriptor of the file that the offsets are of."""
        key = self._meta["key"]
        if key["compression"] != "none":
            return os.open(self._directory / index_files.UNPACKED, os.O_RDONLY)
        expected = key["fingerprint"]
        descriptor = os.open(self.path, os.O_RDONLY)
        state = os.fstat(descriptor)
        if (state.st_size, state.st_mtime_ns) != (expected["size"], expected["mtime_ns"]):
            os.close(descriptor)
            raise DataError(f"{self.path}: was changed after it was indexed; start again")
        return descriptor


def _one_line_sequences(
    joined: bytes, spans: np.ndarray, lengths: np.ndarray, order: np.ndarray
) -> list[bytes] | None:
    """The sequences of records [N] of FASTA that lie one behind the other; that of the first one at place
    ``order[0]`` of the list.

    None where not every record is a header line and a sequence line of the length it should have. A few
    hundred records cost less here than their look-up in a file only if every operation counts: bytes are
    compared with bytes, which is quicker than to ask an array whether any or all of it are true.
    """
    count = len(spans)
    ends = np.cumsum(spans)
    begins = ends - lengths
    begins -= 1
    starts = ends - spans
    if len(joined) != ends[-1] or int((begins - starts).min()) < 2 or b"\r" in joined:
        return None
    data = np.frombuffer(joined, np.uint8)
    feeds = np.concatenate((begins, ends))
    feeds -= 1
    if data[starts].tobytes() != b">" * count or data[feeds].tobytes() != b"\n" * (2 * count):
        return None
    if np.count_nonzero(data == _LINE_FEED) != 2 * count:
        return None
    placed = np.empty_like(begins)
    placed[order] = begins
    length = int(lengths[0])
    if lengths.tobytes() == lengths[:1].tobytes() * count:
        together = np.ndarray((len(joined) - length,), f"V{length}", joined, strides=(1,))
        return together[placed].tolist()
    stops = np.empty_like(begins)
    stops[order] = ends - 1
    return [joined[begin:stop] for begin, stop in zip(placed.tolist(), stops.tolist(), strict=True)]


def _mapped(path: Path, kind: type[np.generic]) -> np.ndarray:
    """The array in a file, which the operating system reads as it is needed."""
    if not path.stat().st_size:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r").view(np.ndarray)


def _describe(problem: Any) -> str:
    place = [
        f"line {problem.line:,}" if problem.line else "",
        f"record {problem.record:,}" if problem.record else "",
    ]
    where = ", ".join(filter(None, place))
    return f"{where}: {problem.message}" if where else problem.message
