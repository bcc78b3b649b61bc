"""Text from any place of a file: what there is to ask, and of a plain file the answer."""

from __future__ import annotations

import os
from typing import Protocol

from metagene_doctor.facts.reads.facts import Damage


class NoPlacesError(Exception):
    """The file cannot be entered where it was tried to."""


class DamagedPlaceError(Exception):
    """There is no text at a place."""

    def __init__(self, kind: str, message: str, offset: int):
        super().__init__(message)
        self.damage = Damage(kind=kind, message=message, byte_offset=offset)


class Text(Protocol):
    """What lies in a file from a place on."""

    @property
    def offset(self) -> int:
        """The byte on disk at which the first record of it can be looked for."""

    @property
    def starts_file(self) -> bool: ...

    @property
    def reaches_end(self) -> bool:
        """Whether `read` has come to the end of the file."""

    def read(self, length: int) -> bytes:
        """So many bytes from the place on, fewer only at the end of the file. Raises DamagedPlaceError."""


class File(Protocol):
    """A file with places."""

    blocked: bool
    size: int

    def text_at(self, place: int) -> Text:
        """From a byte of the file on. Raises DamagedPlaceError or NoPlacesError."""

    def text_before_end(self, length: int) -> Text:
        """From about so many bytes before the end on. Raises DamagedPlaceError."""

    def unpacked_bytes(self) -> float:
        """Of the whole file, as far as the places tell."""


class PlainFile:
    """A file that is not compressed, open as ``descriptor``."""

    blocked = False

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def text_at(self, place: int) -> Text:
        return _PlainText(self._descriptor, self.size, place)

    def text_before_end(self, length: int) -> Text:
        return self.text_at(max(0, self.size - length))

    def unpacked_bytes(self) -> float:
        return self.size


class _PlainText:
    def __init__(self, descriptor: int, size: int, place: int):
        self._descriptor = descriptor
        self._size = size
        self.offset = place
        self.starts_file = place == 0
        self.reaches_end = False

    def read(self, length: int) -> bytes:
        data = os.pread(self._descriptor, length, self.offset)
        self.reaches_end = self.offset + len(data) >= self._size
        return data
