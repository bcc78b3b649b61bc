"""What may be said of something that was not met among the reads that were looked at (level quick)."""

from __future__ import annotations

from collections.abc import Callable

from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import at_most_percent, count, percent

CHANCE_OF_MISSING = 0.05

MakeFinding = Callable[..., Finding]


def largest_share(places: int) -> float:
    """Largest share of a file that so many places, drawn independently, would all miss in 5 % of cases.

    The upper Clopper-Pearson limit for nothing found: 1 - 0.05^(1/n), about 3/n. Counted by place and
    not by read, because neighbouring reads may be alike.
    """
    return 1 - CHANCE_OF_MISSING ** (1 / places)


def unseen(finding: MakeFinding, check_id: str, reads: ReadsFacts, what: str) -> tuple[Finding, ...]:
    """The finding when ``what`` was not met: a bound, or that nothing is known; none for a whole file."""
    if not reads.partial:
        return ()
    if not reads.places:
        return (not_judged(finding, check_id, reads, f"no {what} was met"),)
    share = largest_share(reads.places)
    return (
        finding(
            id=check_id,
            severity=Severity.PASS,
            title=f"{reads.name}: no {what} among {count(reads.records, 'read')} from "
            f"{count(reads.places, 'place')}: {bound(reads)}",
            count=0,
            measured=share,
            unit=f"upper limit of the fraction of {_whole(reads)}",
            confidence="sampled",
        ),
    )


def bound(reads: ReadsFacts) -> str:
    """In how much of a file that was looked at in places there can be what none of them shows."""
    return f"at most {at_most_percent(largest_share(reads.places))} of the {_whole(reads)} (95 %)"


def _whole(reads: ReadsFacts) -> str:
    """What places are places of: of BGZF they are drawn by the bytes on disk."""
    return "reads" if reads.compression == "none" else "compressed bytes"


def share_seen(reads: ReadsFacts) -> str:
    """How much of a file its first reads are; the rest is unknown."""
    return percent(reads.front_bytes / reads.bytes) if reads.front_bytes else "the start"


def not_judged(finding: MakeFinding, check_id: str, reads: ReadsFacts, title: str) -> Finding:
    """The finding where the reads that were looked at cannot decide."""
    first = f"the first reads ({share_seen(reads)} of the file)" if reads.front_bytes else "the first reads"
    looked_at = "a sample" if reads.places or reads.parts else first
    return finding(
        id=check_id,
        severity=Severity.SKIP,
        title=title,
        why=f"{looked_at} of {reads.name} cannot tell",
        remedy=Remedy(text="use --level standard"),
    )
