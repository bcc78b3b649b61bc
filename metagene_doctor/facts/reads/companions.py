"""Index files that other tools have left beside a reads file, and whether they still belong to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from metagene_doctor.finding import Frozen

LARGEST_FAI = 200_000_000
"""Bytes up to which a samtools index is counted; above, only its age is looked at."""

COPY_SECONDS = 2.0
"""An index may be that much older than its reads: copies and file systems round times."""


class Companion(Frozen):
    path: str
    tool: Literal["pyfastx", "samtools"]
    older: bool = False
    """Than the reads file."""
    records: int | None = None
    """Reads the index knows; None where it does not say."""
    bases: int | None = None
    problem: str = ""
    """Why it cannot be used whatever the reads are."""


def find(reads: Path) -> tuple[Companion, ...]:
    """Looks only; opens the databases read-only and leaves no file beside them."""
    found = []
    fxi, fai = (reads.with_name(reads.name + suffix) for suffix in (".fxi", ".fai"))
    journal = fxi.with_name(fxi.name + "-journal")
    if _is_there(fxi):
        found.append(_pyfastx(fxi, reads, unfinished=_is_there(journal)))
    elif _is_there(journal):
        found.append(Companion(path=str(journal), tool="pyfastx", problem="its build was interrupted"))
    if _is_there(fai):
        found.append(_samtools(fai, reads))
    return tuple(found)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name of the reads is so long that none beside it can be longer
        return False


def _older(index: Path, reads: Path) -> bool:
    return index.stat().st_mtime < reads.stat().st_mtime - COPY_SECONDS


def _pyfastx(index: Path, reads: Path, unfinished: bool) -> Companion:
    problem, records, bases = "its build was interrupted" if unfinished else "", None, None
    try:
        with closing(
            sqlite3.connect(
                f"file:{quote(str(index), errors='surrogateescape')}?mode=ro&immutable=1", uri=True
            )
        ) as database:
            row = database.execute("SELECT * FROM stat").fetchone()
        if row is None:
            problem = problem or "its build was interrupted"
        else:
            records, bases = int(row[0]), int(row[1])
    except sqlite3.Error as error:
        problem = problem or f"it is no index that can be read ({error})"
    return Companion(
        path=str(index),
        tool="pyfastx",
        older=_older(index, reads),
        records=records,
        bases=bases,
        problem=problem,
    )


def _samtools(index: Path, reads: Path) -> Companion:
    """One line per read: name, length, offset and line widths, separated by tabs."""
    older = _older(index, reads)
    if index.stat().st_size > LARGEST_FAI:
        return Companion(path=str(index), tool="samtools", older=older)
    records = bases = 0
    try:
        with index.open("rb") as lines:
            for line in lines:
                bases += int(line.split(b"\t")[1])
                records += 1
    except (ValueError, IndexError):
        problem = f"its line {records + 1:,} is not that of an index"
        return Companion(path=str(index), tool="samtools", older=older, problem=problem)
    return Companion(path=str(index), tool="samtools", older=older, records=records, bases=bases)
