"""Headers of one word: ``_`` for every blank, so that tools that cut headers at a blank lose nothing."""

from __future__ import annotations

import re

import numpy as np

from metagene_doctor.facts.reads.hashes import read_name
from metagene_doctor.repair.draft import Draft
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.records import decode_header

_BLANKS = b" \t\v\f\r"
_BLANK = re.compile(f"[{_BLANKS.decode()}]")
_COMMENT_MATE = re.compile(r"^(\S+) ([12]):([YN]:.*)$", re.DOTALL)


class WholeWords:
    """Leaves headers alone whose pattern would not find the same in them without blanks."""

    name = "whole-words"

    def apply(self, draft: Draft) -> None:
        done, left = np.zeros((2, len(draft)), dtype=np.int64)
        for record in np.flatnonzero(draft.sound & _with_blanks(draft)).tolist():
            text = decode_header(draft.header(record))
            if not _BLANK.search(text):
                continue
            after = without_blanks(draft.pattern, text)
            if after is None:
                left[record] = 1
            else:
                draft.put_header(record, after.encode())
                done[record] = 1
        draft.note(self.name, "headers", done)
        draft.note(self.name, "left, because their pattern needs the blanks", left)


def _with_blanks(draft: Draft) -> np.ndarray:
    """Which records [N] have a blank in their header, or a header of another repair."""
    found = (draft.rows.bytes[:, :, None] == np.frombuffer(_BLANKS, dtype=np.uint8)).any(axis=(1, 2))
    found[draft.rows.too_long] = True
    found[list(draft.headers)] = True
    return found


def without_blanks(pattern: HeaderPattern, header: str) -> str | None:
    """The header with ``_`` for blanks; None where the pattern would then find another class in it.

    A mate number in a comment (``name 1:N:0``) goes to the end, where it is one without the blank too.
    """
    before, mate = pattern.parse(header), read_name(pattern, header)[1]
    candidates = [header]
    if comment := _COMMENT_MATE.match(header):
        candidates.append(f"{comment[1]} {comment[3]}/{comment[2]}")
    for candidate in candidates:
        mended = _BLANK.sub("_", candidate)
        after = pattern.parse(mended)
        kept = before is None or (after is not None and after.class_id == before.class_id)
        if kept and read_name(pattern, mended)[1] == mate:
            return mended
    return None
