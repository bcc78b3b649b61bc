"""Shuffling a file of any size: records are dealt to buckets by a keyed number, and each is put in order.

The order is that of the records' keys, a bijection of their numbers: it depends on the seed alone, not
on how many buckets there are. Every order of a bucket's size is possible, and no record is in two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from metagene_doctor.repair.spill import mix

BUCKET_BYTES = 1 << 26
BUFFER_BYTES = 1 << 26


class Buckets:
    """Records on their way into random order. Memory: `BUFFER_BYTES`, then one bucket and its copy."""

    def __init__(self, directory: Path, expected_bytes: int, seed: int, bucket_bytes: int = BUCKET_BYTES):
        self._directory = directory
        self._seed = seed
        self._bits = max(0, (expected_bytes // bucket_bytes).bit_length())
        self._keys: list[np.ndarray] = []
        self._pieces: list[bytes] = []
        self._waiting = 0

    def add(self, ordinals: np.ndarray, pieces: list[bytes]) -> None:
        """Records [N] by their number in the job, each as it is to be written."""
        # Keys of their own: those of `split` would put small classes behind the others.
        self._keys.append(mix(ordinals, 2 * self._seed + 1))
        self._pieces += pieces
        self._waiting += sum(map(len, pieces))
        if self._waiting >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put everything into the files of the buckets."""
        if not self._pieces:
            return
        keys = np.concatenate(self._keys)
        pieces = self._pieces
        self._keys, self._pieces, self._waiting = [], [], 0
        buckets = self._bucket(keys)
        order = np.argsort(buckets, kind="stable")
        lengths = np.array([len(piece) for piece in pieces], dtype=np.uint64)
        bounds = np.searchsorted(buckets[order], np.arange((1 << self._bits) + 1))
        for bucket in np.flatnonzero(np.diff(bounds)).tolist():
            places = order[bounds[bucket] : bounds[bucket + 1]]
            with self._path(bucket, "keys").open("ab") as file:
                file.write(np.stack([keys[places], lengths[places]], axis=1).tobytes())
            with self._path(bucket, "records").open("ab") as file:
                file.write(b"".join([pieces[place] for place in places.tolist()]))

    def shuffled(self) -> Iterator[bytes]:
        """All records in order of their keys, a bucket at a time."""
        for bucket in range(1 << self._bits):
            path = self._path(bucket, "keys")
            if not path.exists():
                continue
            rows = np.fromfile(path, dtype=np.uint64).reshape(-1, 2)
            block = memoryview(self._path(bucket, "records").read_bytes())
            ends = np.cumsum(rows[:, 1]).astype(np.int64)
            starts = ends - rows[:, 1].astype(np.int64)
            order = np.argsort(rows[:, 0])
            yield b"".join(
                [
                    block[start:end]
                    for start, end in zip(starts[order].tolist(), ends[order].tolist(), strict=True)
                ]
            )

    def _bucket(self, keys: np.ndarray) -> np.ndarray:
        if not self._bits:
            return np.zeros(len(keys), dtype=np.int64)
        return (keys >> np.uint64(64 - self._bits)).astype(np.int64)

    def _path(self, bucket: int, what: str) -> Path:
        return self._directory / f"bucket-{bucket:06d}.{what}"
