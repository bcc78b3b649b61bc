"""Copies: of reads of one class with one sequence, on either strand, the first is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metagene_doctor.repair.balance import Amount
from metagene_doctor.repair.draft import Draft
from metagene_doctor.repair.fragments import hashes_of
from metagene_doctor.repair.marks import COPY, Marks
from metagene_doctor.repair.plan import Role
from metagene_doctor.repair.spill import Spill, mix

ACROSS = "of these, validation reads that repeat a training read"

_LENGTH = np.uint64((1 << 32) - 1)


class Deduplicate:
    """Sequences are compared as training sees them, by a 64-bit hash, length and class.

    A chance collision within one class and length would take a read that is no copy: among 558 million
    reads of 3,507 equal classes and one length that is expected 0.0000024 times (sum of n²/2⁶⁵).
    """

    name = "deduplicate"

    def __init__(self, directory: Path, sides: Sequence[Role]):
        """``sides`` are those of the inputs."""
        self._held_out = np.array([side == "val" for side in sides])
        self._spill = Spill(directory, "sequences")
        self.copies: list[Amount] = []
        """Of each input, once they are decided; bases without the blanks that were taken out."""

    def watch(self, draft: Draft) -> None:
        places = np.flatnonzero(draft.kept & draft.sound & (draft.lengths > 0))
        if not len(places):
            return
        hashes = hashes_of(draft)[places]
        classes, lengths = draft.class_ids[places], draft.lengths[places]
        kind = ((classes + 1).astype(np.uint64) << np.uint64(32)) + lengths.astype(np.uint64)
        self._spill.add(
            np.stack([hashes ^ mix(kind), draft.ordinals[places].astype(np.uint64), kind], axis=1)
        )

    def decide(self, marks: Marks) -> Counter[str]:
        records, bases = np.zeros((2, len(marks.firsts)), dtype=np.int64)
        across = 0
        for rows in self._spill.blocks():
            if not len(rows):
                continue
            rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
            same = (rows[1:, 0] == rows[:-1, 0]) & (rows[1:, 2] == rows[:-1, 2])
            copies, lengths = rows[1:, 1][same], rows[1:, 2][same] & _LENGTH
            marks.flags[copies] |= COPY
            inputs = marks.inputs_of(copies)
            starts = np.concatenate(([0], np.where(same, 0, np.arange(1, len(rows)))))
            kept = rows[np.maximum.accumulate(starts), 1][1:][same]
            across += int(np.count_nonzero(self._held_out[inputs] & ~self._held_out[marks.inputs_of(kept)]))
            np.add.at(records, inputs, 1)
            np.add.at(bases, inputs, lengths.astype(np.int64))
        self._spill.remove()
        self.copies = [Amount(*both) for both in zip(records.tolist(), bases.tolist(), strict=True)]
        return Counter({"copies left out": int(records.sum()), ACROSS: across})
