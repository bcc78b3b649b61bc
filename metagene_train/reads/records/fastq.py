"""Records of FASTQ: four lines as a rule, wrapped or damaged ones as the exception.

Runs of sound four-line records are recognised together. Where one does not fit, `_find_one` reads
single records by the full rules. A quality line may start with @, so a line with @ ends a record
only where the quality is as long as the sequence, or has at least as many lines as the sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_train.reads.records.layout import (
    CUT_RECORD,
    LENGTHS_DIFFER,
    MISSING_PLUS,
    SOUND,
    STRAY_TEXT,
    Layout,
)
from metagene_train.reads.records.window import Lines, Window

_AT, _PLUS = ord("@"), ord("+")
_LONGEST_BURST = 256


class _Lined(NamedTuple):
    """A record as lines of the window: its header, its + line, the line after it; bases; fault.

    The sequence is the lines between header and plus, the quality those between plus and stop. For
    a record without + line, ``plus`` is where it would have been and the quality is empty.
    """

    header: int
    plus: int
    stop: int
    length: int
    fault: int


def find_records(window: Window, lines: Lines) -> Layout:
    """The whole records of a window, sound or not; at the end of the file also a cut one."""
    found: list[np.ndarray] = []
    reader: _LineReader | None = None
    position, burst = 0, 1
    while position < len(lines):
        quick = _four_line_records(window, lines, position)
        if len(quick):
            found.append(quick)
            position += 4 * len(quick)
            burst = 1
            if len(lines) - position < 4 and not window.final:
                break
        reader = reader or _LineReader(window, lines)
        slow, stop = _read_singly(reader, position, burst)
        if len(slow):
            found.append(slow)
        if stop == position:
            break
        position, burst = stop, min(2 * burst, _LONGEST_BURST)
    records = np.concatenate(found) if found else np.zeros((0, len(_Lined._fields)), dtype=np.int64)
    return _layout(window, lines, records, position)


def _four_line_records(window: Window, lines: Lines, position: int) -> np.ndarray:
    """Sound four-line records from a line on, up to the first one that is something else."""
    count = (len(lines) - position) // 4
    first = np.arange(position, position + 4 * count, 4, dtype=np.int64)
    starts, ends, data = lines.starts, lines.ends, window.data
    length = ends[first + 1] - starts[first + 1]
    letter = data[starts[first + 1]]
    sound = (
        (data[starts[first]] == _AT)
        & (data[starts[first + 2]] == _PLUS)
        & (length > 0)
        & (length == ends[first + 3] - starts[first + 3])
        & (letter != _AT)
        & (letter != _PLUS)
    )
    if not sound.all():
        count = int(np.argmin(sound))
        first, length = first[:count], length[:count]
    return np.stack([first, first + 2, first + 4, length, np.zeros(count, dtype=np.int64)], axis=1)


class _LineReader:
    """Lines as plain Python numbers, for reading one record at a time."""

    def __init__(self, window: Window, lines: Lines):
        self.count = len(lines)
        self.final = window.final
        self._raw = window.raw
        self._starts = lines.starts.tolist()
        self._ends = lines.ends.tolist()

    def first(self, line: int) -> int:
        """The first byte of a line, 0 if it is empty."""
        start = self._starts[line]
        return self._raw[start] if start < self._ends[line] else 0

    def length(self, line: int) -> int:
        return int(self._ends[line] - self._starts[line])

    def is_blank(self, line: int) -> bool:
        return not self._raw[self._starts[line] : self._ends[line]].strip()


def _read_singly(lines: _LineReader, position: int, wanted: int) -> tuple[np.ndarray, int]:
    """Up to ``wanted`` records from a line on, and the line after them and any blank lines."""
    found: list[_Lined] = []
    while position < lines.count and len(found) < wanted:
        if lines.is_blank(position):
            position += 1
            continue
        one = _find_one(lines, position)
        if one is None:
            break
        found.append(one)
        position = one.stop
    return np.array(found, dtype=np.int64).reshape(-1, len(_Lined._fields)), position


def _find_one(lines: _LineReader, header: int) -> _Lined | None:
    """The record that starts with a line; None if the window ends before the record does."""
    line = header + 1
    if lines.first(header) != _AT:
        while line < lines.count and lines.first(line) != _AT:
            line += 1
        whole = line < lines.count or lines.final
        return _Lined(header, line, line, 0, STRAY_TEXT) if whole else None
    length = 0
    while line < lines.count and lines.first(line) not in (_AT, _PLUS):
        length += lines.length(line)
        line += 1
    plus = line
    if plus == lines.count:
        return _Lined(header, plus, plus, length, CUT_RECORD) if lines.final else None
    if lines.first(plus) == _AT:
        return _Lined(header, plus, plus, length, MISSING_PLUS)
    line = plus + 1
    missing = length
    while missing > 0:
        if line == lines.count:
            return _Lined(header, plus, line, length, CUT_RECORD) if lines.final else None
        if lines.first(line) == _AT and line - plus >= plus - header:
            return _Lined(header, plus, line, length, LENGTHS_DIFFER)
        missing -= lines.length(line)
        line += 1
    return _Lined(header, plus, line, length, LENGTHS_DIFFER if missing else SOUND)


def _layout(window: Window, lines: Lines, records: np.ndarray, consumed: int) -> Layout:
    header, plus, stop, length, faults = records.T
    starts = lines.starts[header]
    ends = np.minimum(lines.starts[stop], window.content_end)
    is_stray = faults == STRAY_TEXT
    after_plus = np.minimum(plus + 1, stop)
    return Layout(
        lines=consumed,
        starts=starts,
        ends=ends,
        line=header,
        header_start=starts + ~is_stray,
        header_end=lines.ends[header],
        sequence_start=lines.starts[header + 1],
        sequence_end=np.where(is_stray, lines.starts[header + 1], lines.starts[plus]),
        length=length,
        quality_start=lines.starts[after_plus],
        quality_end=lines.starts[stop],
        faults=faults.astype(np.uint8),
    )
