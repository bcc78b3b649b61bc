"""A repair from plan to manifest: survey, write, shuffle, check, publish; each stage once.

Nothing has its name before everything has been written, balanced and read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metagene_doctor.repair import space
from metagene_doctor.repair.balance import Balance
from metagene_doctor.repair.batches import Progress
from metagene_doctor.repair.marks import Marks
from metagene_doctor.repair.outputs import Output, publish, sync_directory
from metagene_doctor.repair.plan import Job, Plan
from metagene_doctor.repair.quarantine import Quarantine
from metagene_doctor.repair.recheck import recheck
from metagene_doctor.repair.state import MANIFEST, State, is_new
from metagene_doctor.repair.survey import Found, survey
from metagene_doctor.repair.unique_names import WITHOUT_A_PLACE
from metagene_doctor.repair.write import Written, shuffle, write
from metagene_train import __version__
from metagene_train.errors import InputError, RunError
from metagene_train.reads.access.data_set import title_of

StartStage = Callable[[str], Progress]


@dataclass
class Outcome:
    """What a plan would do (``directory`` is None), or what it has done.

    ``wrong`` is what the re-check found; the files are not published then.
    """

    plan: Plan
    found: list[Found]
    directory: Path | None = None
    made: list[list[Written]] = field(default_factory=list)
    quarantine: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def set_aside(self) -> int:
        return self.total.set_aside.records

    @property
    def repeated_headers_left(self) -> int:
        """Because the header pattern leaves no place for a number."""
        return sum(found.tally.get("headers", Counter())[WITHOUT_A_PLACE] for found in self.found)

    @property
    def total(self) -> Balance:
        """Of all inputs together."""
        return sum((balance for found in self.found for balance in found.balances.values()), Balance())

    @property
    def files(self) -> list[Written]:
        """The new files; none of inputs of which nothing is left."""
        return [one for made in self.made for one in made if one.records]

    def to_dict(self) -> dict[str, Any]:
        """The manifest."""
        names = {one.name for one in self.files}
        inputs = []
        for job, found in zip(self.plan.jobs, self.found, strict=True):
            for number, each in enumerate(job.inputs):
                balance: Balance = found.balances[str(each.path)]
                inputs.append(
                    {
                        "path": str(each.path),
                        "side": each.role,
                        "format": str(each.form),
                        "bytes": each.fingerprint.size,
                        "sha256": self.digests.get(str(each.path)),
                        **balance.to_dict(),
                        "balances": balance.holds,
                        "outputs": [name for name in job.outputs_of(number) if name in names],
                    }
                )
        total = self.total
        return {
            "schema_version": 1,
            "tool_version": __version__,
            "written": self.directory is not None,
            "key": self.plan.key(),
            "plan": self.plan.to_dict(),
            "inputs": inputs,
            "total": {**total.to_dict(), "balances": total.holds},
            "repairs": [
                {"inputs": [str(each.path) for each in job.inputs]}
                | {"counts": {repair: dict(counts) for repair, counts in found.tally.items()}}
                for job, found in zip(self.plan.jobs, self.found, strict=True)
            ],
            "outputs": [one.to_dict() for one in self.files],
            "quarantine": self.quarantine,
            "rechecked": self.directory is not None and not self.wrong,
            "problems": self.wrong,
        }


def look(plan: Plan, stage: StartStage) -> Outcome:
    """What the plan would change. Writes nothing but temporary files, which are gone at the end.

    Raises InputError where these have no room, DataError as `survey` does.
    """
    space.check_before_look(plan)
    found = []
    try:
        for job in plan.jobs:
            with tempfile.TemporaryDirectory(prefix="metagene-repair-") as place:
                found.append(survey(job, plan, Path(place), stage(f"Looking at {_title(job)}")))
    except OSError as error:
        place = tempfile.gettempdir()
        raise RunError(
            f"{place}: no notes can be written there ({error.strerror or error}); set TMPDIR to another "
            "directory"
        ) from None
    return Outcome(plan, found)


def _title(job: Job) -> str:
    return title_of([each.path.name for each in job.inputs])


def repair(plan: Plan, directory: Path, stage: StartStage) -> Outcome:
    """Carry out the plan, or what is left of it after an earlier attempt.

    Raises InputError before anything is written (the directory holds something else, no room),
    DataError and RunError where it cannot go on; what is finished is kept for the next attempt.
    """
    _refuse_inputs_inside(plan, directory)
    if is_new(directory):
        space.check_before_survey(plan, directory)
    state = State.begin(directory, plan)
    try:
        outcome = Outcome(plan, _surveyed(state, plan, stage), directory)
        _write(state, outcome, stage)
        _shuffle(state, outcome)
        outcome.wrong = recheck(
            outcome.files, plan, directory, outcome.repeated_headers_left, stage("Reading the new files")
        )
        if not outcome.wrong:
            _publish(state, outcome)
        return outcome
    except OSError as error:
        raise RunError(
            f"{directory}: cannot be written ({error.strerror or error}); the same command again goes on"
        ) from None
    finally:
        state.close()


def _refuse_inputs_inside(plan: Plan, directory: Path) -> None:
    try:
        directory.stat()
    except OSError as error:
        # Asked first, because what `resolve` makes of such a link depends on the version of Python.
        if error.errno == errno.ELOOP:
            raise InputError(f"{directory}: is a link that leads back to itself") from None
    inside = directory.resolve()
    for job in plan.jobs:
        for each in job.inputs:
            if inside in each.path.resolve().parents:
                raise InputError(
                    f"{directory}: holds {each.path}, which is to be repaired; choose another directory"
                )


def _surveyed(state: State, plan: Plan, stage: StartStage) -> list[Found]:
    known = state.result("survey")
    if known is None:
        state.fresh("survey")
        found = [
            survey(job, plan, _notes(state, number), stage(f"Looking at {_title(job)}"))
            for number, job in enumerate(plan.jobs)
        ]
        known = [each.to_dict() for each in found]
        state.finish("survey", known)
    return [Found.from_dict(each) for each in known]


def _notes(state: State, job: int) -> Path:
    return state.work / "survey" / str(job)


def _write(state: State, outcome: Outcome, stage: StartStage) -> None:
    plan, directory = outcome.plan, state.directory
    known = state.result("write")
    if known is None:
        state.forget_partial_files()
        buckets = state.fresh("buckets")
        space.check_before_writing(plan, outcome.found, directory)
        quarantine = Quarantine(directory)
        with ThreadPoolExecutor(1) as beside:
            digests = {
                str(each.path): beside.submit(_digest, each.path) for job in plan.jobs for each in job.inputs
            }
            made = [
                write(
                    job,
                    plan,
                    found,
                    Marks.load(_notes(state, number), found.records),
                    directory,
                    buckets,
                    quarantine,
                    stage(f"Repairing {_title(job)}"),
                )
                for number, (job, found) in enumerate(zip(plan.jobs, outcome.found, strict=True))
            ]
            known = {
                "made": [[one.to_dict() for one in files] for files in made],
                "found": [found.to_dict() for found in outcome.found],
                "quarantine": [file.name for file in quarantine.close()],
                "digests": {path: _result(digest) for path, digest in digests.items()},
            }
        state.finish("write", known)
    outcome.made = [[Written(**one) for one in files] for files in known["made"]]
    outcome.found = [Found.from_dict(found) for found in known["found"]]
    outcome.quarantine, outcome.digests = known["quarantine"], known["digests"]


def _result(digest: Future[str]) -> str:
    return digest.result()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shuffle(state: State, outcome: Outcome) -> None:
    if "shuffle" not in outcome.plan:
        return
    known = state.result("shuffle")
    if known is None:
        jobs = zip(outcome.plan.jobs, outcome.found, outcome.made, strict=True)
        made = [
            shuffle(job, outcome.plan, found, files, state.directory, state.work / "buckets")
            for job, found, files in jobs
        ]
        known = [[one.to_dict() for one in files] for files in made]
        state.finish("shuffle", known)
    outcome.made = [[Written(**one) for one in files] for files in known]


def _publish(state: State, outcome: Outcome) -> None:
    """Names for everything; the manifest last, so that where it is all the rest is too."""
    directory = state.directory
    manifest = Output(directory, MANIFEST)
    text = json.dumps(outcome.to_dict(), indent=1, ensure_ascii=False) + "\n"
    # A file name may have bytes that are no UTF-8; JSON has them as escapes.
    manifest.take(text.encode(errors="backslashreplace"))
    manifest.close()
    for name in (*(one.name for one in outcome.files), *outcome.quarantine, MANIFEST):
        publish(directory, name)
    sync_directory(directory)
    state.end()
