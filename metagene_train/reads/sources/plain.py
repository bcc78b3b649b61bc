"""Bytes that are not compressed."""

from __future__ import annotations

from metagene_train.reads.problems import Problem
from metagene_train.reads.sources.raw import DamageError, RawBytes


class PlainSource:
    """A file that is not compressed."""

    def __init__(self, raw: RawBytes):
        self._raw = raw
        self.problems: list[Problem] = []

    @property
    def position(self) -> int:
        return self._raw.position

    @property
    def size(self) -> int:
        return self._raw.size

    def readinto(self, view: memoryview) -> int:
        try:
            return self._raw.readinto(view)
        except DamageError as damage:
            self.problems.append(damage.problem)
            return 0

    def close(self) -> None:
        self._raw.close()
