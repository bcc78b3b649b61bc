"""What all walks through compressed files share: pieces, positions, and damage as a problem.

A compressed file is one part after the other (gzip calls them members, zstd frames, xz and bzip2
streams), each with its own checksum. Ordinary readers end quietly where a truncated file ends; the
walks report damage with its byte position instead, so that whatever could be read still counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from metagene_train.reads.problems import Problem
from metagene_train.reads.sources.raw import DamageError, RawBytes

_PIECE = 1 << 18
TRAILING_GARBAGE = "_trailing_garbage"


class CompressedSource(ABC):
    """``name`` of the compression starts the kinds of damage; ``part`` is what it calls its parts."""

    name: str
    part: str

    def __init__(self, raw: RawBytes):
        self._raw = raw
        self.problems: list[Problem] = []
        self._pending = b""
        self._part_start = 0
        self._read_to = 0
        self._parts = 0
        self._ended = False

    @property
    def position(self) -> int:
        return self._read_to - len(self._pending)

    @property
    def size(self) -> int:
        return self._raw.size

    def readinto(self, view: memoryview) -> int:
        if self._ended or not len(view):
            return 0
        try:
            count = self._unpack_into(view)
        except DamageError as damage:
            self.problems.append(damage.problem)
            count = 0
        self._ended = not count
        return count

    def close(self) -> None:
        self._raw.close()

    @abstractmethod
    def _unpack_into(self, view: memoryview) -> int:
        """Bytes written to a view that is not empty; 0 at the end. Raises DamageError."""

    def _refill(self) -> bool:
        piece = self._raw.read(_PIECE)
        self._read_to += len(piece)
        self._pending += piece
        return bool(piece)

    def _take(self, count: int) -> bytes:
        while len(self._pending) < count:
            if not self._refill():
                raise self._truncated()
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _next_part(self, magic_bytes: int) -> bool:
        """Go to the next part and have its first bytes pending; False at the end of the file."""
        self._part_start = self.position
        while len(self._pending) < magic_bytes and self._refill():
            pass
        if not self._pending:
            return False
        if self._parts and not self._starts_part(self._pending):
            return self._skip_padding()
        self._parts += 1
        return True

    @abstractmethod
    def _starts_part(self, start: bytes) -> bool:
        """Whether bytes behind a part are another part."""

    def _skip_padding(self) -> bool:
        """Zero bytes after the last part are padding, as gzip itself holds; else it is garbage."""
        while not self._pending.strip(b"\0"):
            self._pending = b""
            if not self._refill():
                return False
        while self._raw.read(_PIECE):  # a stream knows its size only at its end
            pass
        surplus = self.size - self._part_start
        self._pending, self._read_to = b"", self._part_start
        raise self._damage(
            TRAILING_GARBAGE,
            f"the {surplus:,} bytes after the last {self.name} {self.part} are not {self.name}",
            self._part_start,
        )

    def _damage(self, kind: str, message: str, byte_offset: int) -> DamageError:
        return DamageError(Problem(self.name + kind, message, byte_offset=byte_offset))

    def _corrupt(self, reason: object) -> DamageError:
        return self._damage(
            "_corrupt",
            f"the {self.name} {self.part} that starts at byte {self._part_start:,} cannot be decoded "
            f"({reason})",
            self.position,
        )

    def _truncated(self) -> DamageError:
        self._pending = b""  # looked at, too short to be anything
        return self._damage(
            "_truncated",
            f"the file ends at byte {self.size:,} inside the {self.name} {self.part} that starts at byte "
            f"{self._part_start:,}",
            self.size,
        )
