"""What a repair would do or has done, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from metagene_doctor.repair.balance import Balance
from metagene_doctor.repair.plan import ORDER, Job, Role
from metagene_doctor.repair.run import Outcome
from metagene_doctor.repair.space import to_write
from metagene_doctor.repair.survey import Found
from metagene_doctor.repair.write import Written
from metagene_doctor.report.quantities import base_count, count, file_size, percent

SIDES: dict[Role, str] = {"train": "of --fasta", "val": "of --val"}

MOST_LINES = 20
"""Files listed one by one."""


def describe(outcome: Outcome) -> Iterator[str]:
    """Lines for the terminal: each job with its counts, then the files and the verdict."""
    for number, (job, found) in enumerate(zip(outcome.plan.jobs, outcome.found, strict=True)):
        yield from _job(outcome, job, found, outcome.made[number] if outcome.made else None)
    if len(outcome.plan.jobs) > 1:
        yield f"In all: {_sum(outcome.total)}"
    directory = outcome.directory
    if directory is None:
        yield f"It would take up to {file_size(to_write(outcome.plan, outcome.found))} of disk."
        return
    for problem in outcome.wrong:
        yield f"✗ {problem}"
    if outcome.wrong:
        yield (
            f"NOT REPAIRED: the new files failed the re-check and keep the suffix .partial in {directory}; "
            "remove it to start afresh"
        )
        return
    yield from _listed(
        f"{directory / one.name}: {count(one.records, 'read')}, {base_count(one.bases)}, "
        f"{file_size(one.bytes)}"
        for one in outcome.files
    )
    if outcome.set_aside:
        yield f"! {count(outcome.set_aside, 'record')} set aside: {_quarantine(outcome, directory)}"
    yield f"REPAIRED and read again: every record and base is accounted for ({directory / 'manifest.json'})"


def _quarantine(outcome: Outcome, directory: Path) -> str:
    return ", ".join(str(directory / name) for name in outcome.quarantine)


def _job(outcome: Outcome, job: Job, found: Found, made: list[Written] | None) -> Iterator[str]:
    lines = []
    for each in job.inputs:
        amount = found.balances[str(each.path)].read
        lines.append(
            f"{each.path} ({each.form}): {count(amount.records, 'record')}, {base_count(amount.bases)}"
        )
    yield from _listed(lines)
    for repair in ORDER:
        if repair in outcome.plan:
            yield f"  {repair:<13} {_counts(found, repair)}"
    total = sum(found.balances.values(), Balance())
    yield f"  = {_sum(total)} → {_named(job.outputs)}"
    if len({each.role for each in job.inputs}) > 1:
        for role, side in SIDES.items():
            paths = [str(each.path) for each in job.inputs if each.role == role]
            yield f"    {side}: {_sum(sum((found.balances[path] for path in paths), Balance()))}"
    if made is not None and job.apart:
        gone = [each.path for each, one in zip(job.inputs, made, strict=True) if not one.records]
        yield from _listed(f"! nothing of {path} is left: no file was made of it" for path in gone)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more files"


def _listed(lines: Iterable[str]) -> Iterator[str]:
    """The lines, or the first ones of very many; the manifest and --json have all."""
    every = list(lines)
    yield from every[:MOST_LINES]
    if len(every) > MOST_LINES:
        yield f"... and {len(every) - MOST_LINES} more files (--json lists all)"


def _sum(total: Balance) -> str:
    read, aside, copies = total.read.records, total.set_aside.records, total.copies.records
    parts = [f"{total.written.records:,} kept"]
    if aside:
        parts.append(f"{aside:,} set aside ({percent(aside / read)})")
    if copies:
        parts.append(f"{copies:,} copies left out ({percent(copies / read)})")
    return f"{', '.join(parts)} of {count(read, 'record')}"


def _counts(found: Found, repair: str) -> str:
    counts = found.tally.get(repair)
    if not counts:
        return "all records in random order" if repair == "shuffle" else "nothing to do"
    return "; ".join(f"{what}: {number:,}" for what, number in counts.most_common())
