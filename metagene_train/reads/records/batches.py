"""Records in batches: the same few array operations for thousands of records at a time.

Everything that reads a whole file (the scan, the iterator over reads, a leakage check) takes its
records from here, so there is one opinion on where a record starts and ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metagene_train.reads.records import fasta, fastq
from metagene_train.reads.records.formats import ReadFormat
from metagene_train.reads.records.layout import CUT_RECORD, Layout
from metagene_train.reads.records.window import Window
from metagene_train.reads.sources.source import ByteSource, is_cut

CHUNK_BYTES = 1 << 22
"""Temporaries of a chunk of this size stay in the processor's cache: 2 MiB take a little longer, 64 MiB took
1.7 times as long as those."""


@dataclass(frozen=True)
class RecordBatch:
    """Consecutive records of a file. Positions in the layout index ``data``, which is reused: a
    batch is valid until the next one is asked for.

    ``first_record`` and ``first_line`` count from 1; ``offset`` is where ``data[begin]`` lies in
    the unpacked file; ``lines`` and ``crlf_lines`` cover every line up to the end of the batch.
    """

    data: np.ndarray
    raw: bytearray
    layout: Layout
    begin: int
    end: int
    offset: int
    first_record: int
    first_line: int
    lines: int
    crlf_lines: int

    def __len__(self) -> int:
        return len(self.layout.starts)

    def offsets(self) -> np.ndarray:
        """Where the records start in the unpacked file [N] int64."""
        return self.layout.starts + (self.offset - self.begin)

    def line(self, record: int) -> int:
        """The line on which a record of the batch (from 0) starts."""
        return self.first_line + int(self.layout.line[record])

    def header(self, record: int) -> bytes:
        layout = self.layout
        return bytes(self.raw[layout.header_start[record] : layout.header_end[record]])

    def sequence(self, record: int) -> bytes:
        layout = self.layout
        return _joined(self.raw, layout.sequence_start[record], layout.sequence_end[record])

    def sequences(self, records: np.ndarray) -> list[bytes]:
        """The sequences of some records."""
        starts, ends = self.layout.sequence_start[records], self.layout.sequence_end[records]
        length = int(self.layout.length[records[0]]) if len(records) else 0
        if length and (ends - starts == length + 1).all() and (self.layout.length[records] == length).all():
            together = np.ndarray((len(self.data) - length,), f"V{length}", self.data, strides=(1,))
            return together[starts].tolist()
        return [_joined(self.raw, *place) for place in zip(starts.tolist(), ends.tolist(), strict=True)]

    def text(self, records: np.ndarray) -> bytes:
        """The sequences of some records, one after the other."""
        return b"".join(self.sequences(records))

    def quality(self, record: int) -> bytes | None:
        layout = self.layout
        if layout.quality_start is None or layout.quality_end is None:
            return None
        return _joined(self.raw, layout.quality_start[record], layout.quality_end[record])

    def faulty(self) -> list[int]:
        """Records of the batch (from 0) whose structure is not whole."""
        return np.flatnonzero(self.layout.faults).tolist()

    def mixed_with_fastq(self) -> list[int]:
        """FASTA records of the batch (from 0) in which a line with @ and later one with + start."""
        found: list[int] = []
        if self.layout.quality_start is not None or self.raw.find(b"@", self.begin, self.end) < 0:
            return found
        place = self.raw.find(b"\n@", self.begin, self.end)
        while place >= 0:
            record = int(np.searchsorted(self.layout.starts, place, side="right")) - 1
            end = int(self.layout.ends[record])
            if self.raw.find(b"\n+", place, end) >= 0:
                found.append(record)
            place = self.raw.find(b"\n@", end, self.end)
        return found

    def damaged_by_nul(self) -> list[int]:
        """Records of the batch (from 0) that hold NUL bytes."""
        if self.raw.find(b"\0", self.begin, self.end) < 0:
            return []
        places = np.flatnonzero(self.data[self.begin : self.end] == 0) + self.begin
        owners = np.unique(np.searchsorted(self.layout.starts, places, side="right") - 1)
        return owners[owners >= 0].tolist()


def _joined(raw: bytearray, start: int, end: int) -> bytes:
    """Lines start..end without their line ends; the last line may lack one."""
    block = bytes(raw[start:end])
    if b"\r" in block:
        return b"".join(line.removesuffix(b"\r") for line in block.split(b"\n"))
    return block.replace(b"\n", b"")


def iter_batches(
    source: ByteSource, form: ReadFormat, chunk_bytes: int = CHUNK_BYTES, offset: int = 0
) -> Iterator[RecordBatch]:
    """Every record of a source, sound or not, in batches of about ``chunk_bytes``.

    ``offset`` is where the source starts in the unpacked file.

    Memory is bounded by the chunk and the longest record. Raises DataError for a record of more
    than `window.LONGEST_RECORD` bytes; damaged compression is left in ``source.problems``, and the
    record it cuts has a fault.
    """
    find_records = fasta.find_records if form.kind == "fasta" else fastq.find_records
    window = Window(source, chunk_bytes, offset)
    window.advance(window.begin)
    record = line = 1
    while True:
        lines = window.lines()
        layout = find_records(window, lines)
        ended = window.final and layout.lines == len(lines)
        if ended and form.kind == "fasta" and is_cut(source):
            # Nothing in FASTA tells a whole last record from one that lost its end.
            layout.faults[-1:] = CUT_RECORD
        if layout.lines:
            end = int(lines.starts[layout.lines])
            yield RecordBatch(
                data=window.data,
                raw=window.raw,
                layout=layout,
                begin=window.begin,
                end=end,
                offset=window.offset,
                first_record=record,
                first_line=line,
                lines=layout.lines,
                crlf_lines=lines.crlf(0, layout.lines),
            )
            record += len(layout.starts)
            line += layout.lines
        if ended:
            return
        window.advance(int(lines.starts[layout.lines]))
