"""Which reads may be among some held ones, on either strand, by their first sixteen bases alone.

Most reads of another file are turned away by that, before they are hashed whole.
"""

from __future__ import annotations

import numpy as np

from metagene_train.reads.words import gather_words

PREFIX_WORDS = 2
_PREFIX = 8 * PREFIX_WORDS
_LARGEST_BITS = 26
"""64 MiB."""

_ALL_TRUE = np.uint64(0x0101010101010101)
_WEIGHTS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)


def prefix_keys(rows: np.ndarray) -> np.ndarray:
    """Keys [N] uint32 of the first sixteen bytes of zero-padded rows of words."""
    keys = rows[:, 0] * _WEIGHTS[0]
    if rows.shape[1] > 1:
        keys += rows[:, 1] * _WEIGHTS[1]
    keys >>= np.uint64(32)
    return keys.astype(np.uint32)


class PrefixSieve:
    """Made from the `prefix_keys` of the normalised held reads and of their reverse complements."""

    def __init__(self, keys: np.ndarray):
        bits = min(_LARGEST_BITS, max(16, (16 * len(keys)).bit_length()))
        self._shift = np.uint32(32 - bits)
        self._held = np.zeros(1 << bits, dtype=bool)
        self._held[keys >> self._shift] = True

    def may_hold(self, letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """False [N] where the sequence that starts there in the buffer is certainly none of the held.

        What does not start with sixteen of A, C, G, T and N, because it is shorter, wrapped early or yet
        to be normalised, may always be one.
        """
        rows = gather_words(letters, starts, np.full(len(starts), _PREFIX))
        maybe: np.ndarray = self._held[prefix_keys(rows) >> self._shift]
        characters = rows.reshape(-1).view(np.uint8)
        # A, C, E and G differ in two bits only.
        normal = characters & np.uint8(0xF9) == ord("A")
        normal &= characters != ord("E")
        normal |= characters == ord("T")
        normal |= characters == ord("N")
        words = normal.view(np.uint64)
        if not (words == _ALL_TRUE).all():
            maybe |= (words.reshape(-1, PREFIX_WORDS) != _ALL_TRUE).any(axis=1)
        return maybe
