"""Prefixes of headers (``lbl|class_id|tax_id|readlen|``) that were met before, recognised unparsed.

Beside its reads a file has few of them: as a rule one a class. To compare their words costs a third of
what it takes to find the ends of numbers and turn digits into them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metagene_train.reads.words import LOW_BYTES, WORD, column_weights

_WORDS = 4
"""Words of a prefix at most: three numbers of up to seven digits take 28 bytes."""

_MOST = 1 << 13
"""Prefixes kept; where there are more, they do not repeat enough to be worth it."""

_MOST_SLOT_BITS = 18
_ATTEMPTS = 32

_TOO_MANY_MISSED = 0.25
_LONGEST_REST = 64
"""Batches that are not looked up after one in which too many prefixes were not known."""


class Prefixes(NamedTuple):
    """The numbers in prefixes and where the names behind them start [N] int64, and whether that is certain
    [N] bool; where it is not they may be anything."""

    class_id: np.ndarray
    tax_id: np.ndarray
    readlen: np.ndarray
    name_start: np.ndarray
    sure: np.ndarray


class KnownPrefixes:
    """What was learnt of the headers of earlier batches."""

    def __init__(self) -> None:
        self._texts: dict[bytes, tuple[int, ...]] = {}
        self._table: _Table | None = None
        self._looked_up = False
        self._failures = self._rest = 0

    def look_up(self, columns: np.ndarray) -> Prefixes | None:
        """Prefixes of headers given as columns of zero-padded words [W, N]; None: it is of no use now."""
        if self._table and not self._rest:
            self._looked_up = True
            return self._table.look_up(columns)
        self._looked_up = False
        self._rest = max(0, self._rest - 1)
        return None

    def learn(self, texts: list[bytes], numbers: list[tuple[int, ...]], missed: float) -> None:
        """Prefixes with their numbers and lengths, and the share of headers that ``look_up`` missed."""
        if self._table and not self._looked_up:
            return
        self._failures = self._failures + 1 if self._looked_up and missed > _TOO_MANY_MISSED else 0
        self._rest = min((1 << self._failures) - 1, _LONGEST_REST)
        self._texts |= zip(texts, numbers, strict=True)
        if len(self._texts) > _MOST:
            self._texts, self._table, self._rest = {}, None, _LONGEST_REST
        elif self._texts and not (self._table and self._table.takes(self._texts)):
            self._table = _Table(self._texts)


class _Table:
    """Prefixes by a hash of their first two words, as far as even the shortest has them.

    Hashes are made so that no two prefixes share one, where that can be had. Otherwise the later one of
    two is found, and the other is not.
    """

    def __init__(self, texts: dict[bytes, tuple[int, ...]]):
        room = 2 * len(texts)
        self._count = 0
        self._words, self._masks = np.zeros((2, _WORDS, room), dtype=np.uint64)
        self._numbers = np.zeros((4, room), dtype=np.int64)
        self._shortest = min(map(len, texts))
        self._longest = 0
        self._key_mask = LOW_BYTES[min(max(self._shortest - WORD, 0), WORD)]
        bits = min(max(8, 2 * len(texts).bit_length() - 2), _MOST_SLOT_BITS)
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(1 << bits, dtype=np.int64)
        words = _as_columns(list(texts))
        for self._weights in column_weights(2 * _ATTEMPTS).reshape(_ATTEMPTS, 2):
            if len(set(self._hashes(words).tolist())) == len(texts):
                break
        self.takes(texts)

    def takes(self, texts: dict[bytes, tuple[int, ...]]) -> bool:
        """Whether there is room for the prefixes, of which it holds the first ones; then it takes them."""
        new = list(texts)[self._count :]
        if len(texts) > self._words.shape[1] or any(len(text) < self._shortest for text in new):
            return False
        added = slice(self._count, len(texts))
        lengths = np.array([len(text) for text in new], dtype=np.int64)
        self._words[:, added] = words = _as_columns(new)
        for number, masks in enumerate(self._masks):
            masks[added] = LOW_BYTES[np.clip(lengths - WORD * number, 0, WORD)]
        self._numbers[:3, added] = np.array([texts[text] for text in new], dtype=np.int64).reshape(-1, 3).T
        self._numbers[3, added] = lengths
        self._slots[self._hashes(words)] = np.arange(len(texts))[added]
        self._longest = max(self._longest, int(lengths.max(initial=0)))
        self._count = len(texts)
        return True

    def look_up(self, columns: np.ndarray) -> Prefixes:
        """As `KnownPrefixes.look_up`."""
        codes = self._slots.take(self._hashes(columns))
        differs = np.zeros(columns.shape[1], dtype=np.uint64)
        for number in range(-(-self._longest // WORD)):
            words = self._words[number].take(codes)
            if number < len(columns):
                words ^= columns[number]
            if WORD * (number + 1) > self._shortest:
                words &= self._masks[number].take(codes)
            differs |= words
        class_id, tax_id, readlen, name_start = (numbers.take(codes) for numbers in self._numbers)
        return Prefixes(class_id, tax_id, readlen, name_start, differs == 0)

    def _hashes(self, columns: np.ndarray) -> np.ndarray:
        """Slots [N] int64 of words [W, N]."""
        hashes = columns[0] * self._weights[0]
        if len(columns) > 1:
            hashes += (columns[1] & self._key_mask) * self._weights[1]
        hashes >>= self._shift
        return hashes.view(np.int64)


def _as_columns(texts: list[bytes]) -> np.ndarray:
    """Texts as columns of zero-padded words [4, N]."""
    joined = b"".join(text.ljust(_WORDS * WORD, b"\0") for text in texts)
    return np.ascontiguousarray(np.frombuffer(joined, dtype="<u8").reshape(len(texts), _WORDS).T)
