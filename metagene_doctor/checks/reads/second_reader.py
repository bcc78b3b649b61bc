"""Does a reader that shares no code with ours agree with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, verb

data_finding = partial(Finding, scope="data")

TITLE = "A second reader agrees"


def readers_agree(facts: Facts) -> Iterator[Finding]:
    """pyfastx reads the same records as ours: as many, with the same names, sequences and qualities (level
    deep).

    Compared record by record, after the file was found whole. Of headers the first word is compared,
    which is all that pyfastx keeps. A difference means that one of the two is wrong about the file.
    """
    for reads in facts.reads:
        second = facts.second_reader.get(reads.path)
        if second is None:
            why = (
                f"{reads.name} is damaged, so there is nothing to compare"
                if reads.damage
                else f"{reads.name} was not read in full"
                if reads.partial
                else f"pyfastx cannot read {reads.name} ({'a stream' if reads.stream else reads.compression})"
            )
            yield data_finding(id="F19", severity=Severity.SKIP, title=TITLE, why=why)
        elif second.difference is not None:
            found = second.difference
            yield data_finding(
                id="F19",
                severity=Severity.ERROR,
                title=f"{reads.name}: pyfastx {second.version} reads record {found.record:,} differently"
                + (f" (line {found.line:,})" if found.line else ""),
                measured=found.record,
                unit="first differing record",
                examples=(
                    Example(file=reads.path, line=found.line or None, record=found.record, text=found.what),
                ),
                why=f"{found.what[0].upper()}{found.what[1:]}. "
                f"{count(second.records, 'record')} before it {verb(second.records, 'agrees', 'agree')}.",
                remedy=Remedy(
                    text="Look at that record, about which programs disagree:",
                    commands=(f"sed -n {found.line},{found.line + 4}p {quote(reads.path)}",)
                    if reads.compression == "none" and found.line
                    else (f"seqkit range -r {found.record}:{found.record} {quote(reads.path)}",),
                ),
            )
        elif second.stopped is not None:
            yield data_finding(
                id="F19",
                severity=Severity.SKIP,
                title=TITLE,
                why=f"pyfastx stops in {reads.name} after {count(second.records, 'record')}, which "
                f"{verb(second.records, 'agrees', 'agree')} "
                f"({second.stopped})",
            )
        elif (second.records, second.bases) != (reads.records, reads.bases.total - reads.bases.whitespace):
            yield data_finding(
                id="F19",
                severity=Severity.ERROR,
                title=f"{reads.name}: pyfastx {second.version} finds {count(second.records, 'record')} with "
                f"{count(second.bases, 'base')}, the scan {reads.records:,} with "
                f"{reads.bases.total - reads.bases.whitespace:,}",
                measured=second.records,
                threshold=reads.records,
                unit="records",
                why="One of the two counts is wrong, so reads may be missing from training.",
                remedy=Remedy(
                    text="Count them with a third reader, and report the file:",
                    commands=(f"seqkit stats {quote(reads.path)}",),
                ),
            )
        else:
            yield data_finding(
                id="F19",
                severity=Severity.PASS,
                title=f"{reads.name}: pyfastx {second.version} reads the same "
                f"{count(second.records, 'record')} and {count(second.bases, 'base')}",
                count=0,
            )
