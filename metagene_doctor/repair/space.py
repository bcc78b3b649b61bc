"""Whether the disk has room, before the first byte is written."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from metagene_doctor.repair.plan import Input, Plan
from metagene_doctor.report.quantities import file_size
from metagene_train.errors import InputError
from metagene_train.reads.source import open_source

_HEAD = 1 << 20
_GZIP_RATIO = 0.5
"""Of records of random bases, with qualities, at a fast level: an upper bound in practice."""

_BYTES_PER_RECORD = {"deduplicate": 24, "headers": 16, "split": 44}
"""Of temporary files during the survey; and 5 of marks, that stay until the end."""

_MARKS = 5


def check_before_survey(plan: Plan, directory: Path) -> None:
    """With sizes estimated from the first MiB of each file. Raises InputError if there is no room."""
    records = unpacked = 0.0
    for job in plan.jobs:
        for each in job.inputs:
            in_file, size = _estimate(each)
            records += in_file
            unpacked += size
    notes = records * (_MARKS + sum(_BYTES_PER_RECORD.get(repair, 0) for repair in plan.repairs))
    _require(max(notes, records * _MARKS + _to_write(plan, unpacked)), directory)


def check_before_writing(plan: Plan, unpacked: int, directory: Path) -> None:
    """With the size that the survey found. Raises InputError if there is no room."""
    _require(_to_write(plan, unpacked), directory)


def _to_write(plan: Plan, unpacked: float) -> float:
    """Bytes of the outputs, and of the buckets that a shuffle makes them from."""
    compressed = all(name.endswith(".gz") for job in plan.jobs for name in job.outputs)
    return unpacked * (_GZIP_RATIO if compressed else 1) + (unpacked if "shuffle" in plan else 0)


def _require(needed: float, directory: Path) -> None:
    place = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"{directory}: the repair needs about {file_size(needed)}, {file_size(free)} are free; "
            "choose a directory on a larger disk"
        )


def _estimate(each: Input) -> tuple[float, float]:
    """Records and bytes of a file when it is unpacked, as the first MiB suggests."""
    head = bytearray(_HEAD)
    filled = 0
    with closing(open_source(each.path, each.form.compression)) as source:
        while count := source.readinto(memoryview(head)[filled:]):
            filled += count
        unpacked = source.size * filled / max(1, source.position)
    lines = bytes(head[:filled]).split(b"\n")
    starts = sum(line.startswith(b">") for line in lines) if each.form.kind == "fasta" else len(lines) / 4
    return max(1, starts) * unpacked / max(1, filled), unpacked
