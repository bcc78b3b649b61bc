"""Damaged reads: set aside, with the reason, what training could not use."""

from __future__ import annotations

import numpy as np

from metagene_doctor.repair.draft import UNKNOWN, Draft
from metagene_train.reads.records.records import decode_header


class Damaged:
    """``classes`` are the known ones, None if all are welcome; ``largest_unknown`` is a share of letters."""

    name = "drop-damaged"

    def __init__(self, classes: tuple[int, ...] | None, largest_unknown: float):
        self._classes = None if classes is None else np.array(sorted(classes), dtype=np.int64)
        self._largest_unknown = largest_unknown

    def apply(self, draft: Draft) -> None:
        for record, reason in draft.broken.items():
            draft.set_aside(record, reason)
        for record in np.flatnonzero(draft.sound & (draft.lengths == 0)).tolist():
            draft.set_aside(record, "the read has no bases")
        for record in np.flatnonzero(draft.sound & ~draft.matched).tolist():
            reason = draft.pattern.explain(decode_header(draft.header(record)))
            draft.set_aside(record, f"header: {reason}")
        if self._classes is not None:
            unknown = draft.sound & draft.matched & ~np.isin(draft.class_ids, self._classes)
            for record in np.flatnonzero(unknown).tolist():
                draft.set_aside(record, "its class is not in the mapping")
        letters = draft.letters(UNKNOWN)
        for record in np.flatnonzero(letters > self._largest_unknown * draft.lengths).tolist():
            draft.set_aside(record, f"more than {self._largest_unknown:.3g} of its letters are read as N")
