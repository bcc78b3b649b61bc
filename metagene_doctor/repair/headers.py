"""Headers: blanks, stale lengths and missing fields mended towards ``lbl|class|tax|len|name/mate``.

What is missing beyond repair is the class: a header without one is left as it is, for
`drop-damaged` to set its read aside.
"""

from __future__ import annotations

import re

import numpy as np

from metagene_doctor.repair.draft import Draft
from metagene_train.reads.headers.pattern import HeaderFields, HeaderPattern
from metagene_train.reads.records.records import decode_header

_BLANKS = re.compile(r"\s+")
_COMMENT_MATE = re.compile(r"^(.*\S)\s+([12]):([YN]:.*)$", re.DOTALL)
_SLASH_MATE = re.compile(r"^(.*)/(\d{1,9})$", re.DOTALL)
_NO_TAX_ID = frozenset({"", "NA", "-", "0"})
UNNAMED = "unnamed"


class Headers:
    """Mends headers one by one; names that occur twice are `unique_names`' business."""

    name = "headers"

    def apply(self, draft: Draft) -> None:
        stale = draft.matched & (draft.columns.readlen >= 0) & (draft.columns.readlen != draft.lengths)
        suspects = draft.sound & (stale | ~draft.matched)
        if not draft.pattern.is_standard:
            suspects = draft.sound.copy()
        elif draft.rows.non_ascii(draft.batch):
            suspects |= draft.sound & _beyond_ascii(draft)
        done = {
            what: np.zeros(len(draft), dtype=np.int64)
            for what in ("mended to match", "lengths corrected", "encoded as UTF-8")
        }
        for record in np.flatnonzero(suspects).tolist():
            before = draft.batch.header(record)
            text = decode_header(before)
            mended = mend(draft.pattern, text, int(draft.lengths[record]))
            after = (text if mended is None else mended).encode()
            if after == before:
                continue
            if not draft.matched[record] and mended is not None:
                done["mended to match"][record] = 1
            elif stale[record]:
                done["lengths corrected"][record] = 1
            else:
                what = "encoded as UTF-8" if text.encode() == after else "mended to match"
                done[what][record] = 1
            draft.put_header(record, after)
        for what, counts in done.items():
            draft.note(self.name, what, counts)


def _beyond_ascii(draft: Draft) -> np.ndarray:
    return np.array([not draft.batch.header(record).isascii() for record in range(len(draft))])


def mend(pattern: HeaderPattern, header: str, length: int) -> str | None:
    """The header as it should be, itself if nothing is wrong with it, None if it cannot be mended.

    Headers of a pattern of one's own keep their layout: only blanks in the name and the read length
    are mended. The class is never changed.
    """
    given = pattern.parse(header)
    if given is not None:
        mended: str | None = _with_name_and_length(pattern, header, given, length)
    else:
        mended = _template(header, length) if pattern.is_standard else header.strip()
    fields = None if mended is None else pattern.parse(mended)
    if given is not None and (fields is None or fields.class_id != given.class_id):
        return header
    return mended if fields is not None else None


def _with_name_and_length(pattern: HeaderPattern, header: str, fields: HeaderFields, length: int) -> str:
    """Groups of the pattern replaced where they stand, the last one first."""
    match = re.search(pattern.regex, header)
    assert match
    changes: list[tuple[int, int, str]] = []
    if fields.readlen is not None and fields.readlen != length:
        changes.append((*match.span("readlen"), str(length)))
    if fields.name is not None and _BLANKS.search(fields.name):
        changes.append((*match.span("name"), _BLANKS.sub("_", fields.name.strip())))
    for start, end, text in sorted(changes, reverse=True):
        header = header[:start] + text + header[end:]
    return header


def _template(header: str, length: int) -> str | None:
    """``lbl|class|tax|len|name/mate`` from what is left of it; None without lbl and a class.

    Known remains: blanks around fields and in names, no read length (lbl|class|tax|name), neither
    tax id nor read length (lbl|class|name), more fields or slashes in the name, a mate number as
    Illumina's comment (name 1:N:0:...).
    """
    label, *fields = (field.strip() for field in header.strip().split("|"))
    if label.lower() != "lbl" or not fields or not fields[0].isdecimal():
        return None
    class_id, *rest = fields
    tax_id = ""
    if len(rest) >= 2 and (rest[0].isdecimal() or rest[0] in _NO_TAX_ID):
        tax_id = "" if rest[0] in _NO_TAX_ID else rest[0]
        rest = rest[1:]
        if len(rest) >= 2 and (rest[0].isdecimal() or rest[0] in _NO_TAX_ID):
            rest = rest[1:]
    elif len(rest) >= 2:
        return None
    return f"lbl|{class_id}|{tax_id}|{length}|{_name('|'.join(rest))}"


def _name(text: str) -> str:
    """A name without blanks, and slashes only before the mate number."""
    mate = ""
    if comment := _COMMENT_MATE.match(text):
        text, mate = f"{comment[1]}_{comment[3]}", comment[2]
    elif slash := _SLASH_MATE.match(text):
        text, mate = slash[1], slash[2]
    name = _BLANKS.sub("_", text.strip().strip("/")).replace("/", "_") or UNNAMED
    return f"{name}/{mate}" if mate else name
