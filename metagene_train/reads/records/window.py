"""A stretch of a file in memory, that moves on while records are taken from its front."""

from __future__ import annotations

import numpy as np

from metagene_train.errors import DataError
from metagene_train.reads.records.formats import BYTE_ORDER_MARK
from metagene_train.reads.sources.source import ByteSource
from metagene_train.reads.words import SPARE

LONGEST_RECORD = 1 << 30
"""Bytes; a longer record is no read, and memory must have a bound."""

_LINE_FEED, _CARRIAGE_RETURN = 10, 13
_MOST_BITS = 32


class Window:
    """Bytes ``begin`` to ``end`` of ``data`` [uint8] are ``offset`` to ... of the unpacked file.

    ``final`` says that the file ends with the window. A last line without line end is given one
    then (``completed_line``), so that every line of a final window has an end.
    """

    def __init__(self, source: ByteSource, chunk_bytes: int, offset: int = 0):
        self._source = source
        self._chunk_bytes = chunk_bytes
        self._allocate(chunk_bytes)
        self.begin = self.end = SPARE
        self.offset = offset
        self.final = False
        self.completed_line = False
        self._bits = _MOST_BITS

    def _allocate(self, capacity: int) -> None:
        self.raw = bytearray(SPARE + capacity + SPARE)
        self.data = np.frombuffer(self.raw, dtype=np.uint8)
        self._is_feed = np.empty(len(self.raw), dtype=bool)
        self._limit = SPARE + capacity

    def advance(self, begin: int) -> None:
        """Drop what lies before ``begin``, and read on: a chunk at least, and until the buffer is full."""
        kept = bytes(memoryview(self.raw)[begin : self.end])
        self.offset += begin - self.begin
        if len(kept) > LONGEST_RECORD:
            raise DataError(
                f"the record at byte {self.offset:,} is longer than {LONGEST_RECORD:,} bytes: not reads"
            )
        if len(kept) + self._chunk_bytes // 2 > self._limit - SPARE:
            self._allocate(2 * (len(kept) + self._chunk_bytes))
        self.begin, self.end = SPARE, SPARE + len(kept)
        memoryview(self.raw)[self.begin : self.end] = kept
        self._fill()

    def _fill(self) -> None:
        view = memoryview(self.raw)
        while self.end < self._limit:
            count = self._source.readinto(view[self.end : self._limit])
            if not count:
                self.final = True
                break
            self.end += count
        if self.offset == 0 and self.raw.startswith(BYTE_ORDER_MARK, self.begin, self.end):
            self.begin += len(BYTE_ORDER_MARK)
            self.offset += len(BYTE_ORDER_MARK)
        if self.final and self.end > self.begin and self.raw[self.end - 1] != _LINE_FEED:
            self.raw[self.end] = _LINE_FEED
            self.end += 1
            self.completed_line = True

    @property
    def content_end(self) -> int:
        """Where the bytes of the file end, without the line end that was added."""
        return self.end - self.completed_line

    def lines(self) -> Lines:
        """The whole lines of the window."""
        feeds = self._line_feeds()
        starts = np.empty(len(feeds) + 1, dtype=np.int64)
        starts[0] = self.begin
        np.add(feeds, 1, out=starts[1:])
        # Mostly there is none, and to look for a first one costs less than to look before every line end.
        if self.raw.find(b"\r", self.begin, self.end) < 0:
            return Lines(starts, feeds, None)
        returns = self.data[feeds - 1] == _CARRIAGE_RETURN
        if not returns.any():
            return Lines(starts, feeds, None)
        return Lines(starts, feeds, returns & (feeds > starts[:-1]))

    def _line_feeds(self) -> np.ndarray:
        """Where the line feeds are, int64.

        Bytes become bits, and 32, 16 or 8 of those are looked at together, so few that no two of them
        are line feeds, if that can be had. What did for the lines before is tried first.
        """
        size = self.end - self.begin
        is_feed = self._is_feed[: -(-size // _MOST_BITS) * _MOST_BITS]
        np.equal(self.data[self.begin : self.begin + len(is_feed)], _LINE_FEED, out=is_feed)
        is_feed[size:] = False
        bits = np.packbits(is_feed, bitorder="little")
        while True:
            groups = bits.view(f"<u{self._bits // 8}")
            places = np.flatnonzero(groups != 0)
            feeds = groups.take(places)
            below = feeds - feeds.dtype.type(1)
            if not (feeds & below).any():
                places *= self._bits
                places += np.bitwise_count(below)
                places += self.begin
                return places
            if self._bits == 8:
                return np.flatnonzero(is_feed) + self.begin
            self._bits //= 2


class Lines:
    """Line i is ``starts[i]`` to ``ends[i]``; ``starts`` has one more entry, where the next would start.

    ``returns[i]`` is whether the line ended with CR LF; None if none did.
    """

    def __init__(self, starts: np.ndarray, feeds: np.ndarray, returns: np.ndarray | None):
        self.starts = starts
        self.ends = feeds if returns is None else feeds - returns
        self.returns = returns

    def __len__(self) -> int:
        return len(self.ends)

    def crlf(self, first: int, stop: int) -> int:
        """How many of the lines first..stop-1 end with CR LF."""
        return 0 if self.returns is None else int(np.count_nonzero(self.returns[first:stop]))
