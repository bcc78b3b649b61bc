"""Can classes be told without reading the sequence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median_low

from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.facts.reads.shortcuts import Shortcut
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import percent

label_finding = partial(Finding, scope="labels")

IN_ONE_WAY = Remedy(text="Make the reads of all classes in one way: same simulator settings, same trimming.")

NOTABLE, STRONG = 0.1, 0.3
"""Correlations of one trait with the class: from which on it is told, and from which on it is a fault."""

FEWEST_READS = 200
"""Reads to judge a rule on; below, chance alone reaches a correlation of 0.14."""

NOTABLE_N, STRONG_N, FAR = 0.02, 0.1, 10.0
"""Shares of the letters of a class that are read as N, from which on that is told and is a fault, if they
are so many times that of the median class."""

SEEN_BY_THE_ENCODER = ("read length", "N content")
"""Traits of how reads were made that a model can use. GC content is one of the genomes themselves;
case, qualities and names do not reach it."""


def no_shortcuts(facts: Facts) -> Iterator[Finding]:
    """No trait of how the reads were made (length, N, case, quality, name) tells their class.

    A rule of one trait, learnt on half of a sample of about 50,000 reads, is judged on the other
    half. The correlation counts less two standard errors, so that small samples raise no alarm. What
    the GC content alone can do is a property of the genomes, and a baseline for the classifier. A few
    classes with many N, which no correlation over all classes shows, are found by their exact letters.
    """
    train, audit = facts.train, facts.audit
    assert train and audit
    yield from _classes_with_many_n(train)
    if not audit.shortcuts:
        return
    if audit.shortcuts[0].reads < FEWEST_READS:
        yield label_finding(
            id="L08",
            severity=Severity.SKIP,
            title="Nothing but the sequence tells the class",
            why=f"{train.name} has too few reads to tell a shortcut from chance",
        )
        return
    notable = [shortcut for shortcut in audit.shortcuts if shortcut.surely >= NOTABLE]
    for trait in dict.fromkeys(shortcut.trait for shortcut in notable):
        best = max((shortcut for shortcut in notable if shortcut.trait == trait), key=lambda found: found.mcc)
        yield _finding(train.name, best)


def _finding(name: str, best: Shortcut) -> Finding:
    harmful = best.trait in SEEN_BY_THE_ENCODER and best.surely >= STRONG
    trait = best.trait if best.part is None else f"part {best.part} of the name"
    return label_finding(
        id="L08",
        severity=Severity.WARN if harmful else Severity.INFO,
        title=f"{name}: {trait} alone tells the class of {percent(best.correct)} of the reads "
        f"(always the largest class: {percent(best.baseline)})",
        measured=round(best.mcc, 3),
        threshold=STRONG,
        unit="Matthews correlation",
        why=_meaning(best) + f" Correlation {best.mcc:.2f}.",
        remedy=IN_ONE_WAY if harmful else None,
        confidence="sampled",
    )


def _classes_with_many_n(train: ReadsFacts) -> Iterator[Finding]:
    shares = {
        class_id: (bases.n + bases.iupac + bases.other) / bases.total
        for class_id, bases in train.class_bases.items()
        if train.class_counts[class_id] >= FEWEST_READS
    }
    if not shares:
        return
    usual = median_low(shares.values())
    outliers = {
        class_id: share
        for class_id, share in sorted(shares.items(), key=lambda item: -item[1])
        if share >= NOTABLE_N and share >= FAR * usual
    }
    if not outliers:
        return
    class_id, share = next(iter(outliers.items()))
    harmful = share >= STRONG_N
    yield label_finding(
        id="L08",
        severity=Severity.WARN if harmful else Severity.INFO,
        title=f"{train.name}: {percent(share)} of the letters of class {class_id} are read as N, "
        f"of the median class {percent(usual)}",
        measured=share,
        threshold=STRONG_N,
        unit="fraction of letters",
        count=len(outliers),
        why="A classifier can take N for a sign of the class." + _others(list(outliers.items())[1:]),
        remedy=IN_ONE_WAY if harmful else None,
        confidence="exact",
    )


def _others(shares: list[tuple[int, float]]) -> str:
    named = [f"{class_id} ({percent(share)})" for class_id, share in shares[:3]]
    more = [f"{len(shares) - 3:,} more"] if len(shares) > 3 else []
    return f" Others with many: {', '.join(named + more)}." if shares else ""


def _meaning(best: Shortcut) -> str:
    if best.trait in SEEN_BY_THE_ENCODER:
        return "How the reads were made differs by class: the score counts that."
    if best.trait == "GC content":
        return "Genomes differ in it: no fault, but what a classifier has to beat."
    if best.trait == "name":
        return "Training reads sequences only, so it does no harm."
    return "Training does not see it, so it does no harm."
