"""The survey: one pass over the inputs that finds out what a plan would change, and decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metagene_doctor.repair.balance import Balance
from metagene_doctor.repair.batches import Progress, repaired_batches
from metagene_doctor.repair.deduplicate import Deduplicate
from metagene_doctor.repair.draft import Draft, Tally
from metagene_doctor.repair.marks import Marks
from metagene_doctor.repair.plan import Job, Plan
from metagene_doctor.repair.split import Split
from metagene_doctor.repair.unique_names import UniqueNames
from metagene_train.errors import DataError


class FileRepair(Protocol):
    """Sees all records of a job, then decides; changes nothing itself."""

    @property
    def name(self) -> str: ...

    def watch(self, draft: Draft) -> None: ...

    def decide(self, marks: Marks) -> Counter[str]: ...


@dataclass
class Found:
    """What is to be expected of a job: repair -> what -> how often, and per input what goes where."""

    tally: Tally = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of the records that are kept, at most, as they will be written and before compression."""
    records: int = 0
    tag: str = ""

    @property
    def bytes(self) -> int:
        """Of the kept records of all inputs."""
        return sum(self.sizes.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "tally": {repair: dict(counts) for repair, counts in self.tally.items()},
            "balances": {path: balance.to_dict() for path, balance in self.balances.items()},
            "sizes": self.sizes,
            "records": self.records,
            "tag": self.tag,
        }

    @classmethod
    def from_dict(cls, known: dict[str, Any]) -> Found:
        return cls(
            {repair: Counter(counts) for repair, counts in known["tally"].items()},
            {path: Balance.from_dict(each) for path, each in known["balances"].items()},
            known["sizes"],
            known["records"],
            known["tag"],
        )


_GROWTH = 64
"""Bytes by which a rewritten header may be longer."""


def survey(job: Job, plan: Plan, directory: Path, progress: Progress | None = None) -> Found:
    """What would change; decisions about single records are left in ``directory`` as `Marks`.

    Raises DataError where a file is damaged beyond the plan, or nothing would be left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = UniqueNames(directory) if "headers" in plan else None
    deduplicate = (
        Deduplicate(directory, [each.role for each in job.inputs]) if "deduplicate" in plan else None
    )
    watchers: list[FileRepair] = []
    if deduplicate:
        watchers.append(deduplicate)
    if names:
        watchers.append(names)
    if "split" in plan:
        watchers.append(Split(directory, plan.split_by, plan.validation_share, plan.genome_regex, plan.seed))
    paths = [str(each.path) for each in job.inputs]
    found = Found(balances={path: Balance() for path in paths}, sizes=dict.fromkeys(paths, 0))
    for each, draft in repaired_batches(job, plan, progress):
        for watcher in watchers:
            watcher.watch(draft)
        kept = draft.kept
        found.balances[str(each.path)].count(draft, kept)
        draft.tally(found.tally)
        found.records += len(draft)
        spans = draft.batch.layout.ends - draft.batch.layout.starts
        found.sizes[str(each.path)] += int(spans[kept].sum()) + len(draft.headers) * _GROWTH + 1
    if "line-ends" in plan:
        marks_removed = sum(each.form.byte_order_mark for each in job.inputs)
        if marks_removed:
            found.tally.setdefault("line-ends", Counter())["byte order marks"] += marks_removed
    if not any(balance.written.records for balance in found.balances.values()):
        reasons = found.tally.get("drop-damaged", Counter()).most_common(1)
        raise DataError(
            f"{job.title}: none of {found.records:,} records could be kept"
            + (f" ({reasons[0][1]:,}: {reasons[0][0]})" if reasons else "")
        )
    marks = Marks.create(directory, found.records, _firsts(found))
    for watcher in watchers:
        counts = +watcher.decide(marks)
        if counts:
            found.tally.setdefault(watcher.name, Counter()).update(counts)
    marks.save()
    if deduplicate:
        for balance, copies in zip(found.balances.values(), deduplicate.copies, strict=True):
            balance.leave_out(copies)
    found.tag = names.tag if names else ""
    if names:
        for path, size in zip(paths, _growth(found, marks), strict=True):
            found.sizes[path] += size
    return found


def _growth(found: Found, marks: Marks) -> Iterator[int]:
    """Bytes by which the names that are made unique lengthen each input's records, at most."""
    for first, balance in zip(_firsts(found), found.balances.values(), strict=True):
        here = slice(first, first + balance.read.records)
        yield int(np.count_nonzero(marks.occurrences[here])) * _GROWTH


def _firsts(found: Found) -> list[int]:
    """The first record of each input."""
    return list(accumulate((balance.read.records for balance in found.balances.values()), initial=0))[:-1]
