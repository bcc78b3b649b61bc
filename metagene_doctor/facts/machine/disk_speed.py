"""How fast a disk gives single reads from anywhere in a file, past the page cache (level deep)."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from metagene_doctor.finding import Frozen

PLACES = 256
PAGE_BYTES = 4096
SEQUENTIAL_BYTES = 128 << 20
SECONDS = 10.0
"""A slow disk is asked no longer than this for either kind."""


class DiskSpeedFacts(Frozen):
    path: str
    file_bytes: int
    random_reads_per_s: float
    sequential_bytes_per_s: float


def collect(path: Path) -> DiskSpeedFacts | None:
    """Time both kinds of access to a file; None where the system cannot be told to forget its cache."""
    if not hasattr(os, "posix_fadvise"):
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        draw, count, started = random.Random(0), 0, time.perf_counter()
        while count < PLACES and time.perf_counter() - started < SECONDS:
            os.pread(descriptor, PAGE_BYTES, draw.randrange(max(1, size - PAGE_BYTES)))
            count += 1
        random_rate = count / (time.perf_counter() - started)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        done, started = 0, time.perf_counter()
        while done < min(size, SEQUENTIAL_BYTES) and time.perf_counter() - started < SECONDS:
            done += len(os.pread(descriptor, 1 << 20, done))
        sequential_rate = done / (time.perf_counter() - started)
    finally:
        os.close(descriptor)
    return DiskSpeedFacts(
        path=str(path),
        file_bytes=size,
        random_reads_per_s=random_rate,
        sequential_bytes_per_s=sequential_rate,
    )
