"""Records of FASTA: a header line with >, then sequence lines, wrapped or not, up to the next one."""

from __future__ import annotations

import numpy as np

from metagene_train.reads.records.layout import Layout
from metagene_train.reads.records.window import Lines, Window


def find_records(window: Window, lines: Lines) -> Layout:
    """The whole records of a window; the last one is whole only if the file ends with the window."""
    is_header = window.data.take(lines.starts[:-1]) == ord(">")
    if is_header[::2].all() and not is_header[1::2].any() and not (window.final and len(lines) % 2):
        count = len(lines) // 2 if window.final else max(0, len(lines) - 1) // 2
        return _one_line_layout(window, lines, count)
    headers = np.flatnonzero(is_header)
    if not len(headers):
        return _layout(window, lines, headers, np.array([len(lines)]))
    if headers[0]:
        # Only blank lines can come before the first header: `formats.sniff` has seen to that.
        return _layout(window, lines, headers[:0], headers[:1])
    if window.final:
        return _layout(window, lines, headers, np.append(headers, len(lines)))
    return _layout(window, lines, headers[:-1], headers)


def _one_line_layout(window: Window, lines: Lines, count: int) -> Layout:
    """Records of two lines each: their starts and ends are taken apart once, where others need lookups."""
    header_end, sequence_stop = lines.ends[: 2 * count].reshape(count, 2).T.copy()
    starts, sequence_start = lines.starts[: 2 * count].reshape(count, 2).T.copy()
    record_end = np.append(starts[1:], lines.starts[2 * count])
    return Layout(
        lines=2 * count,
        starts=starts,
        ends=np.minimum(record_end, window.content_end) if window.completed_line else record_end,
        line=np.arange(0, 2 * count, 2),
        header_start=starts + 1,
        header_end=header_end,
        sequence_start=sequence_start,
        sequence_end=record_end,
        length=sequence_stop - sequence_start,
        quality_start=None,
        quality_end=None,
        faults=np.zeros(count, dtype=np.uint8),
    )


def _layout(window: Window, lines: Lines, headers: np.ndarray, bounds: np.ndarray) -> Layout:
    """Records with these header lines; ``bounds`` are the same and the line after the last record."""
    next_headers = bounds[1:]
    ends = lines.starts[next_headers]
    sequence_start = lines.starts[headers + 1]
    length = ends - sequence_start - (next_headers - headers - 1)
    if lines.returns is not None:
        before = np.concatenate(([0], np.cumsum(lines.returns)))
        length -= before[next_headers] - before[headers + 1]
    return Layout(
        lines=int(bounds[-1]),
        starts=lines.starts[headers],
        ends=np.minimum(ends, window.content_end),
        line=headers,
        header_start=lines.starts[headers] + 1,
        header_end=lines.ends[headers],
        sequence_start=sequence_start,
        sequence_end=ends,
        length=length,
        quality_start=None,
        quality_end=None,
        faults=np.zeros(len(headers), dtype=np.uint8),
    )
