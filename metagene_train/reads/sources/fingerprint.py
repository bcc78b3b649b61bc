"""Whether a file is the one that was read before."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from metagene_train.reads.sources.raw import END_BYTES


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the content of a file without reading all of it."""

    path: str
    size: int
    mtime_ns: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Of a file as it is now; ``digest`` is SHA-256 over its first and last 64 KiB."""
        real = path.resolve()
        with real.open("rb") as file:
            state = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read(END_BYTES))
            file.seek(max(0, state.st_size - END_BYTES))
            digest.update(file.read(END_BYTES))
        return cls(str(real), state.st_size, state.st_mtime_ns, digest.hexdigest())

    def still_holds(self, path: Path) -> bool:
        """Whether the file is there and is the same."""
        try:
            return Fingerprint.of(path) == self
        except OSError:
            return False
