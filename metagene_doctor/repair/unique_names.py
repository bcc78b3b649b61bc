"""Names that occur twice: the second read of a name becomes ``name-copy2``, and so on.

The number counts the records of one header, so the mates of a pair that occurs twice stay a pair.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from metagene_doctor.facts.reads.hashes import hash_strings, split_mate
from metagene_doctor.repair.draft import Draft
from metagene_doctor.repair.marks import COPY, Marks
from metagene_doctor.repair.spill import Spill
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.records import decode_header

WITHOUT_A_PLACE = "left, repeated: the header pattern has no group (?P<name>...) for a number"
_TAGS = re.compile(rb"-cop(y+)")


class UniqueNames:
    """Part of ``headers``: looks at headers as the other repairs leave them.

    ``tag`` is what goes between name and number: ``-copy`` with so many y that no header holds it,
    so that no new name can be an old one. Headers of a pattern of one's own that have no place for a
    number stay as they are.
    """

    name = "headers"

    def __init__(self, directory: Path):
        self._spill = Spill(directory, "headers")
        self._longest = 0

    def watch(self, draft: Draft) -> None:
        batch = draft.batch
        long = [batch.header(record) for record in draft.rows.too_long.tolist()]
        for headers in (draft.rows.bytes.tobytes(), *long, *draft.headers.values()):
            if b"-copy" in headers:
                self._longest = max(self._longest, *map(len, _TAGS.findall(headers)))
        hashes = draft.rows.hashes(batch)
        for record, header in draft.headers.items():
            hashes[record] = hash_strings([header])[0]
        kept = draft.kept
        fixed = np.zeros(len(draft), dtype=np.uint64)
        if not draft.pattern.is_standard:
            fixed[
                [not can_be_renamed(draft.pattern, draft.header(record)) for record in range(len(draft))]
            ] = 1
        rows = np.stack([hashes, draft.ordinals.astype(np.uint64), fixed], axis=1)
        self._spill.add(rows[kept])

    @property
    def tag(self) -> str:
        return "-cop" + "y" * (self._longest + 1)

    def decide(self, marks: Marks) -> Counter[str]:
        renamed = left = 0
        for rows in self._spill.blocks():
            rows = rows[marks.flags[rows[:, 1]] & COPY == 0]
            if not len(rows):
                continue
            new = np.concatenate(([True], rows[1:, 0] != rows[:-1, 0]))
            first = np.flatnonzero(new)
            rank = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
            fixed = rows[:, 2] > 0
            left += int(np.count_nonzero((rank > 0) & fixed))
            again = (rank > 0) & ~fixed
            marks.occurrences[rows[again, 1]] = rank[again] + 1
            renamed += int(np.count_nonzero(again))
        self._spill.remove()
        return Counter({"repeated names made unique": renamed, WITHOUT_A_PLACE: left})


def can_be_renamed(pattern: HeaderPattern, header: bytes) -> bool:
    """Whether the pattern leaves a place for a number."""
    return renamed(pattern, header, "-copy2") is not None


def renamed(pattern: HeaderPattern, header: bytes, suffix: str) -> bytes | None:
    """A header with a suffix to its name, None where the pattern leaves no place for one."""
    text = decode_header(header)
    before = pattern.parse(text)
    match = re.search(pattern.regex, text) if before is not None else None
    places = []
    if match and before and before.name is not None:
        places.append(match.end("name"))
    token = text.split(maxsplit=1)[0] if text.split() else ""
    places += [len(split_mate(token)[0]) + len(text) - len(text.lstrip()), len(text)]
    for place in places:
        candidate = text[:place] + suffix + text[place:]
        after = pattern.parse(candidate)
        if before is None or (after is not None and after.class_id == before.class_id):
            return candidate.encode()
    return None
