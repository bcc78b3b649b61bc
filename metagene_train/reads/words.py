"""Many short byte strings at once, as rows of eight-byte words taken from any position of a buffer.

A buffer needs ``SPARE`` readable bytes before the first string and after the last one, because
loads reach beyond a string's ends; what they bring along is masked out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SPARE = 512
LONGEST_ROW = SPARE - 8
WORD = 8

_SOME = 16
"""Words that are compared before all are."""

_FOUR_CHARACTERS = np.uint64(0xFFFFFFFF)

LOW_BYTES = np.array([(1 << (8 * count)) - 1 for count in range(9)], dtype=np.uint64)
"""Masks that keep the first 0..8 bytes of a little-endian word."""

_ZEROS = np.uint64(0x3030303030303030)
_HIGH_BITS = np.uint64(0x8080808080808080)
_ABOVE_NINE = np.uint64(0x7676767676767676)
_EVEN_BYTES = np.uint64(0x000000FF000000FF)
_ONE_BYTE, _EIGHT_BYTES, _NINE_BYTES = np.uint64(8), np.uint64(64), np.uint64(72)


def gather_words(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Strings of a uint8 buffer as rows of words [N, W] uint64, zero-padded to the longest.

    Strings are of at most ``LONGEST_ROW`` bytes, or one longer one at a time.
    """
    rows = gather_unmasked(buffer, starts, int(lengths.max(initial=1)))
    mask_columns(rows.T, lengths)
    return rows


def gather_unmasked(buffer: np.ndarray, starts: np.ndarray, longest: int) -> np.ndarray:
    """Rows of words [N, W] that hold as many bytes as the longest string, with what follows the others.

    To copy all of a row costs as much as one word does.
    """
    width = -(-longest // WORD) * WORD
    return gather_strings(buffer, starts, width).view("<u8").reshape(len(starts), width // WORD)


def mask_columns(columns: np.ndarray, lengths: np.ndarray) -> None:
    """Put zeros behind strings of some lengths [N], given as columns of words [W, N]."""
    longest = int(lengths.max(initial=1))
    shortest = int(lengths.min(initial=longest))
    for number in range(shortest // WORD, len(columns)):
        if shortest == longest:
            columns[number] &= LOW_BYTES[longest - WORD * number]
        else:
            columns[number] &= LOW_BYTES.take(np.clip(lengths - WORD * number, 0, WORD))


def gather_reversed(buffer: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The same strings read backwards, as rows of words like those of `gather_words`."""
    longest = int(lengths.max(initial=1))
    width = -(-longest // WORD) * WORD
    rows = gather_unmasked(buffer, starts + lengths - width, width)
    shortest = int(lengths.min(initial=longest))
    for column in range((width - shortest + WORD - 1) // WORD):
        spare = np.minimum(np.maximum(width - lengths - WORD * column, 0), WORD)
        rows[:, column] &= ~LOW_BYTES[spare]
    return rows.byteswap()[:, ::-1]


def gather_strings(buffer: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Strings of one length of a uint8 buffer, one after the other [N * length] uint8."""
    strings = np.ndarray((len(buffer) - length + 1,), dtype=f"V{length}", buffer=buffer, strides=(1,))
    return strings[starts].view(np.uint8)


class Numbers(NamedTuple):
    """The number that each of some words starts with."""

    values: np.ndarray
    """int64 [N]; 0 where there are no digits."""
    bits: np.ndarray
    """uint64 [N]: bits of the word up to and with the character that ends the number."""
    ended: np.ndarray
    """bool [N]: whether that character is within the word and is the one that should end it."""


def leading_numbers(words: np.ndarray, end: int) -> Numbers:
    """Numbers of up to seven ASCII digits at the front of words [N], ended by the character ``end``.

    Three multiplications turn eight digits into a number (Lemire, "Quickly parsing eight digits",
    2018).
    """
    if len(words) > _SOME and not ((words[:_SOME] ^ words[0]) & _FOUR_CHARACTERS).any():
        # Perhaps all are equal, as lengths of reads often are.
        alone = leading_numbers(words[:1], end)
        taken = np.uint64((1 << int(alone.bits[0])) - 1)
        if not ((words ^ words[0]) & taken).any():
            return Numbers(*(np.broadcast_to(column, len(words)) for column in alone))
    digits = words ^ _ZEROS
    others = digits + _ABOVE_NINE
    others |= digits
    others &= _HIGH_BITS
    others ^= others - np.uint64(1)
    # Now every bit up to the highest one of the first byte that is no digit.
    bits = np.bitwise_count(others).astype(np.uint64)
    ended = ((digits >> (bits - _ONE_BYTE)) & LOW_BYTES[1]) == np.uint64(end) ^ (_ZEROS & LOW_BYTES[1])
    digits <<= _NINE_BYTES - bits
    pairs = digits * np.uint64(10)
    digits >>= _ONE_BYTE
    pairs += digits
    values = pairs & _EVEN_BYTES
    values *= np.uint64(0x000F424000000064)
    pairs >>= np.uint64(16)
    pairs &= _EVEN_BYTES
    pairs *= np.uint64(0x0000271000000001)
    values += pairs
    values >>= np.uint64(32)
    return Numbers(values.view(np.int64), bits, ended)


def drop_bits(words: np.ndarray, following: np.ndarray, bits: np.ndarray | np.uint64) -> np.ndarray:
    """The eight bytes that start so many ``bits`` (8..64) after the start of words [N]."""
    dropped: np.ndarray = (words >> bits) | (following << (_EIGHT_BYTES - bits))
    return dropped


def ones_between(bits: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many of the bits begin..end-1 are set [N] int64. Bit 0 is the lowest one of the first word.

    ``bits`` [W] uint64; begins and ends [N] int64 are of 0..64 W - 1.
    """
    with_word = np.cumsum(np.bitwise_count(bits), dtype=np.int64)

    def before(places: np.ndarray) -> np.ndarray:
        word = places >> 6
        following = bits[word]
        following >>= (places & 63).view(np.uint64)
        counted: np.ndarray = with_word[word]
        counted -= np.bitwise_count(following)
        return counted

    return before(ends) - before(begins)


def hash_rows(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """64-bit hashes [N] of zero-padded rows of words; padding columns do not change them.

    The halves of each word are mixed, so that its last bytes reach the low bits too, and it is weighted
    with a constant of its column: neither equal words nor equal differences cancel.
    """
    total = lengths.astype(np.uint64)
    total *= np.uint64(0x9E3779B97F4A7C15)
    for column, weight in enumerate(column_weights(rows.shape[1])):
        mixed = rows[:, column] >> np.uint64(32)
        mixed ^= rows[:, column]
        mixed *= weight
        total += mixed
    total ^= total >> np.uint64(32)
    total *= np.uint64(0xC4CEB9FE1A85EC53)
    total ^= total >> np.uint64(29)
    total *= np.uint64(0xFF51AFD7ED558CCD)
    total ^= total >> np.uint64(32)
    return total


def column_weights(count: int) -> np.ndarray:
    """Odd 64-bit constants, one for each column: steps of the golden ratio, mixed."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    steps ^= steps >> np.uint64(31)
    steps *= np.uint64(0xBF58476D1CE4E5B9)
    return steps | np.uint64(1)
