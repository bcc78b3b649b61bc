"""The last step before files get their names: the project's own scan reads them again."""

from __future__ import annotations

from pathlib import Path

from metagene_doctor.repair.batches import Progress
from metagene_doctor.repair.outputs import PARTIAL
from metagene_doctor.repair.plan import Plan
from metagene_doctor.repair.write import Written
from metagene_train.errors import DataError, InputError
from metagene_train.reads.counts.report import ReadScan
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan


def recheck(
    made: list[Written],
    plan: Plan,
    directory: Path,
    repeated_headers: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """What is wrong with the files, one sentence each; none if they are what the plan promised.

    So many ``repeated_headers`` could not be mended, and may be in any of the files.
    """
    wrong = []
    for one in made:
        path = directory / f"{one.name}{PARTIAL}"
        if not path.exists():
            path = directory / one.name
        try:
            found = scan(path, header=HeaderPattern(plan.header_regex), progress=progress)
        except (DataError, InputError) as error:
            wrong.append(str(error))
            continue
        wrong += [f"{one.name}: {what}" for what in _wrong(found, one, plan, repeated_headers)]
    return wrong


def _wrong(found: ReadScan, made: Written, plan: Plan, repeated_headers: int) -> list[str]:
    wrong = [problem.message for problem in found.problems]
    for what, number, expected in (
        ("records", found.records, made.records),
        ("bases", found.total_bases, made.bases),
        ("bytes", found.bytes_present, made.bytes),
    ):
        if number != expected:
            wrong.append(f"{number:,} {what} instead of {expected:,}")
    bases = found.bases
    promises = (
        ("line-ends", "lines with CRLF", found.crlf_lines),
        ("line-ends", "blanks in sequences", bases.whitespace),
        ("uppercase", "lower-case bases", bases.lower),
        ("u-to-t", "U", bases.u),
        ("iupac-to-n", "letters besides A, C, G, T and N", bases.iupac + bases.other),
        ("headers", "reads that are not as long as their header says", found.readlen_mismatches),
        ("headers", "repeated headers", max(0, found.duplicate_headers - repeated_headers)),
        ("drop-damaged", "records that training would leave out", found.records - found.accepted),
    )
    return wrong + [
        f"still {number:,} {what}" for repair, what, number in promises if repair in plan and number
    ]
