"""Can training start, or go on, where the config wants its results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from metagene_doctor.checks.commands import train_command
from metagene_doctor.checks.remedies import edit
from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Example, Finding, Remedy, Severity

run_finding = partial(Finding, id="C04", scope="config")


def output_directory_usable(facts: Facts) -> Iterator[Finding]:
    """The output directory is empty, or holds an unfinished run of this config, which --resume continues.

    Keys on which finished steps depend must be those of that run (model, optimizer, batch size, data,
    seed); others may have changed.
    """
    there = facts.previous_run
    assert there
    another = edit(facts, "Choose another directory", "training.output_dir", there.free_directory)
    if there.state == "other files":
        yield run_finding(
            severity=Severity.ERROR,
            title=f"{there.directory} is not empty and holds no run",
            why="Training refuses to start among other files.",
            remedy=another,
        )
    elif there.differences:
        keys = [difference.partition(" was ")[0] for difference in there.differences]
        named = ", ".join(keys[:2]) + (f" and {len(keys) - 2:,} more" if len(keys) > 2 else "")
        verb = "differs" if len(keys) == 1 else "differ"
        yield run_finding(
            severity=Severity.WARN,
            title=f"{there.directory} holds the run of another config: {named} {verb}",
            count=len(keys),
            examples=tuple(Example(text=difference) for difference in there.differences),
            why="Training neither starts there nor resumes that run.",
            remedy=another,
        )
    elif there.finished:
        yield run_finding(
            severity=Severity.WARN,
            title=f"{there.directory} holds a finished run of this config",
            why="Training does not start there again; --resume goes on only when the run is to be longer.",
            remedy=another,
        )
    elif there.continues:
        at = "" if there.step is None else f", at step {there.step:,}"
        yield run_finding(
            severity=Severity.INFO,
            title=f"{there.directory} holds an unfinished run of this config{at}",
            why="Training goes on from there with --resume, and does not start without.",
            remedy=Remedy(
                text="Go on with it:",
                commands=(train_command(facts, resume=True),),
            ),
        )
