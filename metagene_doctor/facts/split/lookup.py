"""Which of some held hashes have been met among others, and where first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

LARGEST_TABLE_BITS = 26
"""Twice 64 MiB."""


class Met(NamedTuple):
    """Held hashes that were met among others."""

    kinds: np.ndarray
    """intp [M]"""
    columns: np.ndarray
    """intp [M]: which of the different held hashes."""
    places: np.ndarray
    """int64 [M]: which of the others."""


class Lookup:
    """Of each of some hashes [N] uint64 the first record it was met in, apart by kind (strand, mate number).

    Tables of the hashes' leading and trailing bits turn away most others before they are searched for.
    """

    def __init__(self, hashes: np.ndarray, kinds: int):
        import numpy as np

        self._ordered, place = np.unique(hashes, return_inverse=True)
        self._place: np.ndarray = place.astype(np.uint32)
        self._first = np.zeros((kinds, len(self._ordered)), dtype=np.uint32)
        bits = min(LARGEST_TABLE_BITS, max(16, (8 * len(self._ordered)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._low = np.uint64((1 << bits) - 1)
        self._leading, self._trailing = np.zeros((2, 1 << bits), dtype=bool)
        self._leading[self._ordered >> self._shift] = True
        self._trailing[self._ordered & self._low] = True

    def forget(self) -> None:
        """As if none had been met."""
        self._first[:] = 0

    def find(self, hashes: np.ndarray, kinds: np.ndarray, places: np.ndarray) -> Met:
        """Those of other reads that are held; changes nothing."""
        import numpy as np

        maybe = np.flatnonzero(self._leading[hashes >> self._shift])
        maybe = maybe[self._trailing[hashes[maybe] & self._low]]
        if not len(maybe):
            return Met(*np.zeros((3, 0), dtype=np.intp))
        column = np.minimum(np.searchsorted(self._ordered, hashes[maybe]), len(self._ordered) - 1)
        found = self._ordered[column] == hashes[maybe]
        return Met(kinds[maybe[found]].astype(np.intp), column[found], places[maybe[found]])

    def note(self, met: Met, before: int) -> None:
        """Keep the first record seen per hash and kind. So many records came before those."""
        if not len(met.places):
            return
        unseen = self._first[met.kinds, met.columns] == 0
        kinds, columns, places = (values[unseen] for values in met)
        # Later assignments win, so the batch goes in backwards to keep its first read.
        self._first[kinds[::-1], columns[::-1]] = before + 1 + places[::-1]

    def first(self, kinds: np.ndarray) -> np.ndarray:
        """uint32 [N]: for each held hash, the first record seen with it and that kind, 0 for none."""
        return self._first[kinds, self._place]
