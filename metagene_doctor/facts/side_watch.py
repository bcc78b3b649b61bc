"""What is found out about the reads of a side in the same pass that scans its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.audit import Audit, SeenInBatch
    from metagene_doctor.facts.reads.hashes import ReadHashes
    from metagene_doctor.facts.reads.prefix_sieve import PrefixSieve
    from metagene_doctor.facts.reads.shared_headers import SharedHeaderTally
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.reads.watching import Progress, Watched


class HashUser(Protocol):
    """Wants the hashes of every read; in two steps, as a `metagene_train.reads.watching.Watcher` does."""

    def find(self, hashes: ReadHashes) -> Any:
        """What is wanted of those of a batch; changes nothing."""

    def note(self, found: Any, before: int) -> None:
        """What was found in a batch, of a side with so many records before it."""


class Hashing(NamedTuple):
    """How reads are to be hashed: see `reads.hashes.hash_batch`."""

    segment_step: int = 0
    sieve: PrefixSieve | None = None


WHOLE = Hashing()
"""Every read, and no segments."""


class SeenOfSide(NamedTuple):
    records: int
    by_hash: list[Any]
    audit: SeenInBatch | None
    headers: np.ndarray | None


class SideWatch:
    """A `metagene_train.reads.watching.Watcher` of all files of one side, in their order."""

    def __init__(
        self,
        hash_users: Sequence[HashUser] = (),
        audit: Audit | None = None,
        headers: SharedHeaderTally | None = None,
        *,
        hashing: Hashing = WHOLE,
    ):
        self.hash_users = hash_users
        self.audit = audit
        self.headers = headers
        self._hashing = hashing
        self._records = 0
        self.spoilt = False
        """A file was not watched to its end: what was seen is to be thrown away."""

    def begin_file(self) -> None:
        """Before each file."""
        if self.audit:
            self.audit.begin_file()

    def see(self, watched: Watched) -> SeenOfSide:
        from metagene_doctor.facts.reads.hashes import hash_batch

        by_hash = []
        if self.hash_users:
            hashes = hash_batch(watched, *self._hashing)
            by_hash = [user.find(hashes) for user in self.hash_users]
        return SeenOfSide(
            len(watched.batch),
            by_hash,
            self.audit.see(watched) if self.audit else None,
            self.headers.see(watched) if self.headers else None,
        )

    def take(self, seen: SeenOfSide) -> None:
        for user, found in zip(self.hash_users, seen.by_hash, strict=True):
            user.note(found, self._records)
        if self.audit and seen.audit:
            self.audit.take(seen.audit)
        if self.headers and seen.headers is not None:
            self.headers.take(seen.headers)
        self._records += seen.records

    def spoil(self) -> None:
        self.spoilt = True

    def read(
        self, path: Path, header: HeaderPattern, file_format: str, progress: Progress | None = None
    ) -> None:
        """Watch a file in a pass of its own. Raises DataError where it is damaged."""
        from metagene_train.reads.watching import read_again

        self.begin_file()
        for watched in read_again(path, header, file_format, progress):
            self.take(self.see(watched))
