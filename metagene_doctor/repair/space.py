"""Whether the disk has room, before the first byte is written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from metagene_doctor.repair.plan import Input, Job, Plan
from metagene_doctor.repair.survey import Found
from metagene_doctor.report.quantities import file_size
from metagene_train.errors import InputError
from metagene_train.reads.sources.source import open_source

_HEAD = 1 << 20
_GZIP_RATIO = 0.6
"""An upper bound in practice: 0.54 was measured for random bases with random qualities, 0.32 for FASTA."""

_BYTES_PER_RECORD = {"deduplicate": 24, "headers": 16, "split": 44}
"""Of temporary files during the survey; and 5 of marks, that stay until the end."""

_MARKS = 5


def check_before_look(plan: Plan) -> None:
    """Room for the notes of a dry run, with sizes estimated. Raises InputError if there is none."""
    # The notes of a job are gone before the next one is looked at.
    needed = max(_notes(plan, sum(_estimate(each)[0] for each in job.inputs)) for job in plan.jobs)
    place = Path(tempfile.gettempdir())
    _require(needed, place, "looking at the files", "set TMPDIR to a directory on a larger disk")


def check_before_survey(plan: Plan, directory: Path) -> None:
    """With sizes estimated from the first MiB of each file. Raises InputError if there is no room."""
    records, needed = 0.0, 0.0
    for job in plan.jobs:
        estimates = [_estimate(each) for each in job.inputs]
        records += sum(count for count, _ in estimates)
        sizes = {str(each.path): size for each, (_, size) in zip(job.inputs, estimates, strict=True)}
        needed += _to_write(job, plan, sizes)
    _require_for_repair(max(_notes(plan, records), records * _MARKS + needed), directory)


def check_before_writing(plan: Plan, found: Sequence[Found], directory: Path) -> None:
    """With the sizes that the survey found. Raises InputError if there is no room."""
    _require_for_repair(to_write(plan, found), directory)


def to_write(plan: Plan, found: Sequence[Found]) -> float:
    """Bytes that writing needs, at most: the new files, and the buckets of a shuffle beside them."""
    return sum(_to_write(job, plan, each.sizes) for job, each in zip(plan.jobs, found, strict=True))


def _notes(plan: Plan, records: float) -> float:
    return records * (_MARKS + sum(_BYTES_PER_RECORD.get(repair, 0) for repair in plan.repairs))


def _to_write(job: Job, plan: Plan, sizes: Mapping[str, float]) -> float:
    needed = 0.0
    for number, each in enumerate(job.inputs):
        size = sizes[str(each.path)]
        packed = all(name.endswith(".gz") for name in job.outputs_of(number))
        needed += size * (_GZIP_RATIO if packed else 1) + (size if "shuffle" in plan else 0)
    return needed


def _require_for_repair(needed: float, directory: Path) -> None:
    place = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    _require(needed, place, "the repair", "choose a directory on a larger disk", directory)


def _require(needed: float, place: Path, what: str, advice: str, called: Path | None = None) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"{called or place}: {what} needs about {file_size(needed)}, {file_size(free)} are free; {advice}"
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
