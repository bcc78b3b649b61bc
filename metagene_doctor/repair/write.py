"""Writing: a second pass over the inputs that makes the new files, and must find what the survey found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from metagene_doctor.repair.balance import Amount, Balance
from metagene_doctor.repair.batches import Progress, repaired_batches
from metagene_doctor.repair.draft import Draft, Tally
from metagene_doctor.repair.marks import COPY, VALIDATION, Marks
from metagene_doctor.repair.outputs import Output
from metagene_doctor.repair.plan import Input, Job, Plan
from metagene_doctor.repair.quarantine import Quarantine
from metagene_doctor.repair.shuffle import Buckets
from metagene_doctor.repair.survey import Found
from metagene_doctor.repair.unique_names import renamed
from metagene_train.errors import DataError, RunError


@dataclass(frozen=True)
class Written:
    """A file that is whole but for its name; there is none where no records were left to write.
    Bytes and digest (SHA-256) are of the file on disk."""

    name: str
    records: int
    bases: int
    bytes: int = 0
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


class _Side:
    """One new file, or the buckets that it will be made from. There is none of no records."""

    def __init__(self, directory: Path, name: str, buckets: Buckets | None):
        self.name = name
        self.amount = Amount()
        self._directory = directory
        self._buckets = buckets
        self._output: Output | None = None

    def take(self, draft: Draft, wanted: np.ndarray) -> None:
        if not wanted.any():
            return
        self.amount.add(int(np.count_nonzero(wanted)), int(draft.lengths[wanted].sum()))
        if self._buckets is not None:
            self._buckets.add(draft.ordinals[wanted], draft.pieces(wanted))
            return
        if self._output is None:
            self._output = Output(self._directory, self.name)
        for piece in draft.runs(wanted):
            self._output.take(piece)

    def finish(self) -> None:
        """See everything onto the disk: no more reads will come. Does nothing the second time."""
        if self._buckets is not None:
            self._buckets.flush()
        elif self._output is not None:
            self._output.close()

    def written(self) -> Written:
        """What is in the finished file."""
        made = Written(self.name, self.amount.records, self.amount.bases)
        if self._output is None:
            return made
        return replace(made, bytes=self._output.bytes, sha256=self._output.sha256)


def write(
    job: Job,
    plan: Plan,
    found: Found,
    marks: Marks,
    directory: Path,
    buckets_in: Path,
    quarantine: Quarantine,
    progress: Progress | None = None,
) -> list[Written]:
    """Make the files of a job under their partial names.

    Raises RunError if what was written is not what the survey found, record for record and base for
    base; DataError as `repaired_batches` does.
    """
    sides = []
    for name in job.outputs:
        buckets = None
        if "shuffle" in plan:
            place = buckets_in / name
            place.mkdir(parents=True)
            buckets = Buckets(place, found.bytes, plan.seed)
        sides.append(_Side(directory, name, buckets))
    tally: Tally = {}
    balances = {str(each.path): Balance() for each in job.inputs}
    inputs = groupby(repaired_batches(job, plan, progress), key=itemgetter(0))
    for each, drafts in inputs:
        open_sides = sides[job.inputs.index(each) :][:1] if job.apart else sides
        for _, draft in drafts:
            if draft.first + len(draft) > found.records:
                raise DataError(f"{each.path}: was changed while it was being read")
            draft.tally(tally)
            here = slice(draft.first, draft.first + len(draft))
            flags = marks.flags[here]
            written = draft.kept & (flags & COPY == 0)
            _rename(each, draft, marks.occurrences[here], found.tag)
            validation = flags & VALIDATION > 0
            for side, wanted in zip(open_sides, (~validation, validation), strict=False):
                side.take(draft, written & wanted)
            balances[str(each.path)].count(draft, written)
            quarantine.take(each, draft)
        if job.apart:
            # Of hundreds of files not all can be open.
            open_sides[0].finish()
    for side in sides:
        side.finish()
    made = [side.written() for side in sides]
    _compare(job, found, tally, balances, made)
    # The survey counts blanks of copies with those of the records that are written.
    found.balances = balances
    return made


def _rename(each: Input, draft: Draft, occurrences: np.ndarray, tag: str) -> None:
    for record in np.flatnonzero(occurrences).tolist():
        suffix = f"{tag}{occurrences[record]}"
        header = renamed(draft.pattern, draft.header(record), suffix)
        if header is None:  # a pattern that bounds the length of a name took a shorter number
            number = draft.batch.first_record + record
            raise DataError(
                f"{each.path}: line {draft.batch.line(record):,}, record {number:,}: repeats an earlier "
                f"header, and the header pattern leaves no place for a number ({suffix}); let its group "
                "(?P<name>...) be longer, or leave the repair 'headers' out"
            )
        draft.headers[record] = header


def _compare(job: Job, found: Found, tally: Tally, balances: dict[str, Balance], made: list[Written]) -> None:
    """The second pass against the first, and each file's balance."""
    for each in job.inputs:
        before, now = found.balances[str(each.path)], balances[str(each.path)]
        same = before.read == now.read and before.set_aside == now.set_aside
        if not (same and before.holds and now.holds):
            raise RunError(f"{each.path}: the counts do not balance ({before} before, {now} now)")
    for repair, counts in tally.items():
        for what, number in counts.items():
            if found.tally.get(repair, Counter())[what] != number:
                raise RunError(f"{repair}: {number:,} {what}, but the survey found another number")
    expected = [balances[str(each.path)].written for each in job.inputs]
    given = [Amount(one.records, one.bases) for one in made]
    if not job.apart:
        expected, given = [sum(expected, Amount())], [sum(given, Amount())]
    for each, here, there in zip(job.inputs, expected, given, strict=False):
        if here != there:
            raise RunError(f"{each.path}: the files made do not hold what was read ({here} read, {there})")


def shuffle(
    job: Job, plan: Plan, found: Found, made: list[Written], directory: Path, buckets_in: Path
) -> list[Written]:
    """Make the files of a job from their buckets."""
    shuffled = []
    for one in made:
        if not one.records:
            shuffled.append(one)
            continue
        output = Output(directory, one.name)
        for piece in Buckets(buckets_in / one.name, found.bytes, plan.seed).shuffled():
            output.take(piece)
        output.close()
        shuffled.append(Written(one.name, one.records, one.bases, output.bytes, output.sha256))
    return shuffled
