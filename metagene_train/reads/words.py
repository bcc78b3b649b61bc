"""Many short byte strings at once: loads of eight bytes from any position of a buffer.

A buffer needs ``SPARE`` readable bytes before the first string and after the last one, because
loads reach beyond a string's ends; what they bring along is masked out.
"""

from __future__ import annotations

import numpy as np

SPARE = 512
LONGEST_ROW = SPARE - 8

_LOW_BYTES = np.array([(1 << (8 * count)) - 1 for count in range(9)], dtype=np.uint64)
"""Masks that keep the first 0..8 bytes of a little-endian word."""

_ZEROS = np.uint64(0x3030303030303030)
_HIGH_BITS = np.uint64(0x8080808080808080)
_ABOVE_NINE = np.uint64(0x7676767676767676)
_EVEN_BYTES = np.uint64(0x000000FF000000FF)


def words_of(buffer: np.ndarray) -> np.ndarray:
    """A view [len - 7] uint64 of a uint8 buffer in which element i holds bytes i..i+7."""
    return np.ndarray((len(buffer) - 7,), dtype="<u8", buffer=buffer, strides=(1,))


def gather_words(words: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Strings of at most ``LONGEST_ROW`` bytes as rows of words [N, W], zero-padded to the longest."""
    columns = np.arange(0, max(8, int(lengths.max(initial=0))), 8, dtype=np.int64)
    rows = words[starts[:, None] + columns]
    rows &= _LOW_BYTES[np.clip(lengths[:, None] - columns, 0, 8)]
    return rows


def decimal_numbers(words: np.ndarray, ends: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers written with ``counts`` (0..8) ASCII digits that end before ``ends``.

    Returns values [N] int64 (0 for no digits) and whether every character was a digit [N]. Three
    multiplications turn eight digits into a number (Lemire, "Quickly parsing eight digits", 2018).
    """
    unused = _LOW_BYTES[8 - counts]
    digits = (words[ends - 8] & ~unused) | (_ZEROS & unused)
    digits ^= _ZEROS
    valid = ((digits + _ABOVE_NINE) | digits) & _HIGH_BITS == 0
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    values = (pairs & _EVEN_BYTES) * np.uint64(0x000F424000000064)
    values += ((pairs >> np.uint64(16)) & _EVEN_BYTES) * np.uint64(0x0000271000000001)
    return (values >> np.uint64(32)).astype(np.int64), valid


def hash_rows(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """64-bit hashes [N] of zero-padded rows of words; padding columns do not change them.

    Each word is mixed so that every bit reaches every bit (the finaliser of MurmurHash3) and
    weighted by its column, so neither equal words nor equal differences cancel.
    """
    mixed = rows ^ (rows >> np.uint64(33))
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= _column_weights(rows.shape[1])
    mixed ^= mixed >> np.uint64(29)
    total = mixed.sum(axis=1, dtype=np.uint64)
    total += lengths.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    total ^= total >> np.uint64(32)
    total *= np.uint64(0xC4CEB9FE1A85EC53)
    return total ^ (total >> np.uint64(29))


def _column_weights(count: int) -> np.ndarray:
    """Odd 64-bit constants, one for each column: steps of the golden ratio, mixed."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    steps ^= steps >> np.uint64(31)
    steps *= np.uint64(0xBF58476D1CE4E5B9)
    return steps | np.uint64(1)
