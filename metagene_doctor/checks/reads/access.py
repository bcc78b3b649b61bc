"""How single reads of a file are reached: its compression, indexes beside it, names cut at blanks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shlex import quote

from metagene_doctor.checks.repairs import Purpose, fix, mend
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.companions import Companion
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, file_size, percent, verb

data_finding = partial(Finding, scope="data")

LARGE_GZIP = 1_000_000_000


def seekable_compression(facts: Facts) -> Iterator[Finding]:
    """Large compressed files are in blocks (BGZF), so that a read can be reached without all before it.

    Training reaches reads at random, so it unpacks compressed files once into the index directory.
    Tools that seek in plain gzip itself are about 85 times slower a read than in a plain file
    (pyfastx, measured).
    """
    for reads in facts.reads:
        if reads.compression in ("none", "bgzf") or reads.bytes < LARGE_GZIP:
            continue
        unpacked = "" if reads.partial else f" ({file_size(reads.bytes_unpacked)} there)"
        yield data_finding(
            id="F04",
            severity=Severity.WARN,
            title=f"{reads.name} is {file_size(reads.bytes)} of plain {reads.compression}: no read in it "
            "can be reached without unpacking all before it",
            measured=reads.bytes,
            threshold=LARGE_GZIP,
            unit="bytes",
            why=f"Training first unpacks it into the index directory{unpacked} on one processor.",
            remedy=Remedy(
                text="Give it unpacked (or compressed by bgzip, which all processors can read):",
                commands=(f"{reads.compression} -dc {quote(reads.path)} > {quote(_unpacked_name(reads))}",),
            ),
        )


def _unpacked_name(reads: ReadsFacts) -> str:
    name = Path(reads.name)
    return name.stem if name.suffix in (".gz", ".zst", ".xz", ".bz2") else f"{name}.unpacked"


def first_words_differ(facts: Facts) -> Iterator[Finding]:
    """Headers stay different when they are cut at the first blank, as most tools cut them.

    ``name 1:N:0`` and ``name 2:N:0`` are both ``name`` then: mates, and often all reads of a class, can
    no longer be told apart.
    """
    audit = facts.audit
    assert audit
    for reads in facts.sides:
        words = audit.first_words.get(reads.role)
        if words is None:
            yield data_finding(
                id="F08",
                severity=Severity.SKIP,
                title="Headers differ in their first word",
                why=f"the headers of {reads.name} are compared together with its sequences (V02)",
            )
            continue
        if not words.lost_share:
            continue
        lost = round(words.lost_share * words.with_blank)
        yield data_finding(
            id="F08",
            severity=Severity.WARN,
            title=f"{reads.name}: {count(lost, 'read')} ({percent(lost / reads.records)}) "
            f"{verb(lost, 'loses its name', 'lose their names')} to another read "
            "when headers are cut at the first blank",
            count=lost,
            measured=lost / reads.records,
            threshold=0,
            unit="fraction of reads",
            examples=(Example(file=reads.path, text=words.example),),
            why="Here headers are kept whole; pyfastx, samtools and most other tools cut them and confuse "
            "mates.",
            remedy=_whole_words(facts, reads, words.example),
            confidence="exact" if words.kept_one_in == 1 else "sampled",
        )


def _whole_words(facts: Facts, reads: ReadsFacts, example: str) -> Remedy:
    from metagene_doctor.repair.whole_words import without_blanks
    from metagene_train.reads.headers.pattern import HeaderPattern

    if without_blanks(HeaderPattern(facts.config.dataset.header_regex), example) is None:
        return Remedy(
            text="For other tools, write names first and without blanks (dataset.header_regex needs these)."
        )
    advice = "For other tools, write a copy with _ for blanks in the headers"
    return mend(advice, fix(facts, reads, "whole-words", purpose=Purpose.COPY))


def indexes_belong(facts: Facts) -> Iterator[Finding]:
    """Index files beside the reads (``.fxi`` of pyfastx, ``.fai`` of samtools) are whole and of these reads.

    Training here has an index of its own, which is never used for a file that changed. Tools that
    trust an old ``.fxi`` return wrong sequences without an error.
    """
    for file in facts.files:
        reads = next((reads for reads in facts.reads if reads.path == file.path), None)
        for index in file.companions:
            reason = _misfit(index, reads)
            if reason is None and not index.older:
                continue
            name = Path(index.path).name
            yield data_finding(
                id="F16",
                severity=Severity.WARN if reason else Severity.INFO,
                title=f"{name} does not belong to {Path(file.path).name}: {reason}"
                if reason
                else f"{name} is older than {Path(file.path).name}",
                measured=index.records,
                threshold=reads.records if reads else None,
                unit="reads",
                examples=(Example(file=index.path),),
                why="It is not used here; "
                + (
                    f"{index.tool}, and programs built on it, would return wrong reads or fail."
                    if reason
                    else "it holds as many reads and bases, so it may still fit."
                ),
                remedy=Remedy(
                    text="Delete it; it is built anew when it is needed:",
                    commands=(f"rm {quote(index.path)}",),
                ),
            )


def _misfit(index: Companion, reads: ReadsFacts | None) -> str | None:
    """What shows that an index is not one of these reads; None when nothing does."""
    if index.problem:
        return index.problem
    if reads is None or not reads.whole or index.records is None:
        return None
    if index.records != reads.records:
        return f"it has {count(index.records, 'read')}, the file {reads.records:,}"
    if index.bases is not None and index.bases != reads.bases.total:
        return f"it has {count(index.bases, 'base')}, the file {reads.bases.total:,}"
    return None
