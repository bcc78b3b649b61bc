"""Records of FASTA: a header line with >, then sequence lines, wrapped or not, up to the next one."""

from __future__ import annotations

import numpy as np

from metagene_train.reads.layout import Layout
from metagene_train.reads.window import Lines, Window


def find_records(window: Window, lines: Lines) -> Layout:
    """The whole records of a window; the last one is whole only if the file ends with the window."""
    headers = np.flatnonzero(window.data[lines.starts[:-1]] == ord(">"))
    if not len(headers):
        return _layout(window, lines, headers, np.array([len(lines)]))
    if headers[0]:
        # Only blank lines can come before the first header: `formats.sniff` has seen to that.
        return _layout(window, lines, headers[:0], headers[:1])
    if window.final:
        return _layout(window, lines, headers, np.append(headers, len(lines)))
    return _layout(window, lines, headers[:-1], headers)


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
