"""The balance of a file: what was read is what was written, set aside and left out as a copy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from metagene_doctor.repair.draft import Draft


@dataclass
class Amount:
    records: int = 0
    bases: int = 0

    def add(self, records: int, bases: int) -> None:
        self.records += records
        self.bases += bases

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.records + other.records, self.bases + other.bases)


@dataclass
class Balance:
    """Records and bases of one input file. ``blanks`` are those taken out of written sequences."""

    read: Amount = field(default_factory=Amount)
    written: Amount = field(default_factory=Amount)
    set_aside: Amount = field(default_factory=Amount)
    copies: Amount = field(default_factory=Amount)
    blanks: int = 0

    def count(self, draft: Draft, written: np.ndarray) -> None:
        """Add a batch, of which the records ``written`` [N] are written and those kept besides are copies."""
        lengths, kept = draft.batch.layout.length, draft.kept
        self.read.add(len(draft), int(lengths.sum()))
        self.written.add(int(np.count_nonzero(written)), int(draft.lengths[written].sum()))
        self.set_aside.add(int(np.count_nonzero(~kept)), int(lengths[~kept].sum()))
        self.copies.add(int(np.count_nonzero(kept & ~written)), int(lengths[kept & ~written].sum()))
        self.blanks += int(draft.removed[written].sum())

    def leave_out(self, copies: Amount) -> None:
        """Count records as copies that were counted as written."""
        self.copies.add(copies.records, copies.bases)
        self.written.add(-copies.records, -copies.bases)

    def __add__(self, other: Balance) -> Balance:
        """Of both files together."""
        return Balance(
            self.read + other.read,
            self.written + other.written,
            self.set_aside + other.set_aside,
            self.copies + other.copies,
            self.blanks + other.blanks,
        )

    @property
    def holds(self) -> bool:
        parts = (self.written, self.set_aside, self.copies)
        return (
            self.read.records == sum(part.records for part in parts)
            and self.read.bases == sum(part.bases for part in parts) + self.blanks
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, known: dict[str, Any]) -> Balance:
        amounts = {name: Amount(**known[name]) for name in ("read", "written", "set_aside", "copies")}
        return cls(**amounts, blanks=known["blanks"])
