"""What a repair would do or has done, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from metagene_doctor.repair.plan import ORDER, Job
from metagene_doctor.repair.run import Outcome
from metagene_doctor.repair.survey import Found
from metagene_doctor.report.quantities import base_count, count, file_size, percent


def describe(outcome: Outcome) -> Iterator[str]:
    """Lines for the terminal: each job with its counts, then the files and the verdict."""
    for number, (job, found) in enumerate(zip(outcome.plan.jobs, outcome.found, strict=True)):
        yield from _job(outcome, job, found, number)
    directory = outcome.directory
    if directory is None:
        return
    for problem in outcome.wrong:
        yield f"✗ {problem}"
    if outcome.wrong:
        yield f"NOT REPAIRED: the new files failed the re-check and keep the suffix .partial in {directory}"
        return
    for one in (one for made in outcome.made for one in made):
        yield (
            f"{directory / one.name}: {count(one.records, 'read')}, {base_count(one.bases)}, "
            f"{file_size(one.bytes)}"
        )
    if outcome.set_aside:
        yield f"! {count(outcome.set_aside, 'record')} set aside: {_quarantine(outcome, directory)}"
    yield f"REPAIRED and read again: every record and base is accounted for ({directory / 'manifest.json'})"


def _quarantine(outcome: Outcome, directory: Path) -> str:
    return ", ".join(str(directory / name) for name in outcome.quarantine)


def _job(outcome: Outcome, job: Job, found: Found, number: int) -> Iterator[str]:
    for each in job.inputs:
        amount = found.balances[str(each.path)].read
        yield f"{each.path} ({each.form}): {count(amount.records, 'record')}, {base_count(amount.bases)}"
    for repair in ORDER:
        if repair in outcome.plan:
            yield f"  {repair:<13} {_counts(found, repair)}"
    balances = list(found.balances.values())
    read = sum(balance.read.records for balance in balances)
    aside = sum(balance.set_aside.records for balance in balances)
    # Until files are written, what is left out as a copy still counts as kept.
    copies = found.tally["deduplicate"]["copies left out"] if "deduplicate" in found.tally else 0
    kept = read - aside - copies
    parts = [f"{kept:,} kept"]
    if aside:
        parts.append(f"{aside:,} set aside ({percent(aside / read)})")
    if copies:
        parts.append(f"{copies:,} copies left out ({percent(copies / read)})")
    yield f"  = {', '.join(parts)} of {count(read, 'record')} → {', '.join(job.outputs)}"


def _counts(found: Found, repair: str) -> str:
    counts = found.tally.get(repair)
    if not counts:
        return "all records in random order" if repair == "shuffle" else "nothing to do"
    return "; ".join(f"{what}: {number:,}" for what, number in counts.most_common())
