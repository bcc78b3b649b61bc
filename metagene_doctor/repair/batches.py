"""The records of a job, one batch after the other, with the repairs of single records made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol

from metagene_doctor.repair.damaged import Damaged
from metagene_doctor.repair.draft import Draft
from metagene_doctor.repair.headers import Headers
from metagene_doctor.repair.letters import CODES_TO_N, UPPERCASE, URACIL_TO_T
from metagene_doctor.repair.line_ends import LineEnds
from metagene_doctor.repair.plan import Input, Job, Plan
from metagene_doctor.repair.whole_words import WholeWords
from metagene_train.errors import DataError
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.batches import iter_batches
from metagene_train.reads.sources.source import open_source

Progress = Callable[[int, int], None]
"""Told the bytes read and the bytes in all."""


class RecordRepair(Protocol):
    """Changes single records, or sets them aside, without regard to the others."""

    @property
    def name(self) -> str: ...

    def apply(self, draft: Draft) -> None: ...


def record_repairs(plan: Plan) -> list[RecordRepair]:
    """In the order of `plan.ORDER`."""
    every: tuple[RecordRepair, ...] = (
        LineEnds(),
        UPPERCASE,
        URACIL_TO_T,
        CODES_TO_N,
        Headers(),
        WholeWords(),
        Damaged(plan.classes, plan.largest_unknown),
    )
    return [repair for repair in every if repair.name in plan]


def repaired_batches(job: Job, plan: Plan, progress: Progress | None = None) -> Iterator[tuple[Input, Draft]]:
    """Every record of a job.

    Raises DataError at the end of a file that is damaged, if the plan does not say what is to become
    of it, and if the file is no longer the one the plan was made for.
    """
    pattern, repairs = HeaderPattern(plan.header_regex), record_repairs(plan)
    first = done = 0
    total = sum(each.fingerprint.size for each in job.inputs)
    for each in job.inputs:
        refuse_changed(each)
        broken: str | None = None
        with closing(open_source(each.path, each.form.compression)) as source:
            for batch in iter_batches(source, each.form):
                draft = Draft(batch, each.form.kind, pattern, first)
                for repair in repairs:
                    repair.apply(draft)
                broken = broken or _first_broken(draft)
                yield each, draft
                first += len(batch)
                if progress:
                    progress(done + source.position, total)
            done += each.fingerprint.size
            if source.problems and not plan.salvage:
                raise DataError(
                    f"{each.path}: {source.problems[0].message}. Fetch the file again; or keep the part "
                    "that can be read: --salvage"
                )
        if broken and "drop-damaged" not in plan:
            raise DataError(f"{each.path}: {broken}; set such records aside: --fix drop-damaged")
        refuse_changed(each)


def refuse_changed(each: Input) -> None:
    """Raises DataError if a file is no longer the one that the plan was made for."""
    if not each.fingerprint.still_holds(each.path):
        raise DataError(f"{each.path}: was changed or removed while it was being read")


def _first_broken(draft: Draft) -> str | None:
    for record, reason in sorted(draft.broken.items()):
        line, number = draft.batch.line(record), draft.batch.first_record + record
        return f"line {line:,}, record {number:,}: {reason}"
    return None
