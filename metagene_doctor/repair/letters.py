"""Letters: upper case, T for U, N for what no tokenizer knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metagene_doctor.repair.draft import CODE, LOWER, URACIL, Draft

_ALL = bytes(range(256))


@dataclass(frozen=True)
class Letters:
    """Replaces letters of one kind; lengths and qualities stay what they are."""

    name: str
    kind: int
    table: bytes

    def apply(self, draft: Draft) -> None:
        counts = draft.substitute(self.kind, self.table)
        draft.note(self.name, "letters", counts)
        draft.note(self.name, "reads", (counts > 0).astype(np.int64))


UPPERCASE = Letters("uppercase", LOWER, _ALL.upper())
URACIL_TO_T = Letters("u-to-t", URACIL, bytes.maketrans(b"Uu", b"Tt"))
CODES_TO_N = Letters("iupac-to-n", CODE, b"N" * 256)
