"""Lines: LF at their ends, none blank, no blanks in sequences, four of them to a FASTQ record."""

from __future__ import annotations

import numpy as np

from metagene_doctor.repair.draft import BLANK, Draft
from metagene_train.reads.counts.bases import WHITESPACE

_LINE_FEED, _CARRIAGE_RETURN = 10, 13


class LineEnds:
    """What stands before the first record (a byte order mark, blank lines) is never copied."""

    name = "line-ends"

    def apply(self, draft: Draft) -> None:
        batch, layout = draft.batch, draft.batch.layout
        draft.tidy_lines = True
        blanks = draft.letters(BLANK)
        draft.removed += blanks
        draft.unblanked |= blanks > 0
        draft.note(self.name, "blanks in sequences", blanks)
        for record in np.flatnonzero(blanks).tolist():
            if _starts_anew(draft, record):
                draft.broken[record] = "a blank hides a > or @ or + at the start of a sequence line"
        if batch.crlf_lines:
            returns = np.zeros(len(batch.data) + 1, dtype=np.int64)
            pairs = (batch.data[:-1] == _CARRIAGE_RETURN) & (batch.data[1:] == _LINE_FEED)
            np.cumsum(pairs, out=returns[2:])
            draft.note(self.name, "CR at the ends of lines", returns[layout.ends] - returns[layout.starts])
        if layout.quality_start is None or layout.quality_end is None:
            draft.note(self.name, "blank lines", _blank_lines(draft))
            return
        feeds = np.concatenate(([0], np.cumsum(batch.data == _LINE_FEED, dtype=np.int32)))
        in_sequence = feeds[layout.sequence_end] - feeds[layout.sequence_start]
        in_quality = feeds[layout.quality_end] - feeds[layout.quality_start]
        wrapped = draft.sound & ((in_sequence > 1) | (in_quality > 1))
        draft.rewrapped |= wrapped
        draft.note(self.name, "records put on four lines", wrapped.astype(np.int64))


def _starts_anew(draft: Draft, record: int) -> bool:
    """Whether, without its blanks, a line of the sequence would be taken for the start of something."""
    layout = draft.batch.layout
    block = bytes(draft.batch.raw[layout.sequence_start[record] : layout.sequence_end[record]])
    if draft.kind == "fasta":
        return any(line.strip(WHITESPACE).startswith(b">") for line in block.split(b"\n"))
    return block.strip(WHITESPACE)[:1] in (b"@", b"+")


def _blank_lines(draft: Draft) -> np.ndarray:
    """Empty lines [N] in each record of FASTA."""
    data, layout = draft.batch.data, draft.batch.layout
    is_feed = data == _LINE_FEED
    blank = is_feed[:-1] & is_feed[1:]
    if draft.batch.crlf_lines:
        blank[1:] |= is_feed[:-2] & (data[1:-1] == _CARRIAGE_RETURN) & is_feed[2:]
    if not blank.any():
        return np.zeros(len(draft), dtype=np.int64)
    # Entry i counts the blank lines that end before byte i.
    ended = np.zeros(len(data) + 1, dtype=np.int64)
    np.cumsum(blank, out=ended[2:])
    return ended[layout.ends] - ended[layout.starts]
