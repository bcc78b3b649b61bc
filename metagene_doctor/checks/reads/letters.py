"""Which letters the reads are made of, and what becomes of those that METAGENE-1 does not know."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.reads.unseen import not_judged, unseen
from metagene_doctor.checks.repairs import Purpose, fix, mend
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, percent

data_finding = partial(Finding, scope="data")

FOR_OTHERS = "For other tools, write a copy"

NOT_DNA = 0.2
"""Share of letters that are no base and no N above which a file does not hold nucleotides."""


def letter_case(facts: Facts) -> Iterator[Finding]:
    """Lower-case (soft-masked) bases are read as upper case. Without that, METAGENE-1's tokenizer
    makes one [UNK] of each of them."""
    for reads in facts.reads:
        if not reads.bases.lower:
            yield from unseen(data_finding, "F09", reads, "lower-case base")
        else:
            share = reads.bases.lower / reads.bases.total
            yield data_finding(
                id="F09",
                severity=Severity.INFO,
                title=f"{reads.name}: {percent(share)} of the bases are lower-case, read as upper-case",
                count=reads.bases.lower,
                measured=share,
                unit="fraction of bases",
                why="Tools that do not do so turn each of them into an unknown token"
                + _unknown_without_normalising(facts, reads)
                + ".",
                remedy=mend(FOR_OTHERS, fix(facts, reads, "uppercase", purpose=Purpose.COPY)),
                confidence=reads.confidence,
            )


def _unknown_without_normalising(facts: Facts, reads: ReadsFacts) -> str:
    tokens = facts.tokens
    if reads.role != "train" or tokens is None or not tokens.raw_unknown_tokens:
        return ""
    return f": {percent(tokens.raw_unknown_tokens / tokens.raw_tokens)} of all tokens here"


def uracil(facts: Facts) -> Iterator[Finding]:
    """U (RNA) is read as T; METAGENE-1's tokenizer does not know U."""
    for reads in facts.reads:
        if not reads.bases.u:
            yield from unseen(data_finding, "F10", reads, "U")
        else:
            share = reads.bases.u / reads.bases.total
            yield data_finding(
                id="F10",
                severity=Severity.INFO,
                title=f"{reads.name}: {percent(share)} of the bases are U, read as T",
                count=reads.bases.u,
                measured=share,
                unit="fraction of bases",
                why="The reads are RNA; METAGENE-1 was trained on T, and its tokenizer does not know U.",
                remedy=mend(FOR_OTHERS, fix(facts, reads, "u-to-t", purpose=Purpose.COPY)),
                confidence=reads.confidence,
            )


def other_letters(facts: Facts) -> Iterator[Finding]:
    """Ambiguity codes, gaps and other letters are read as N; blanks inside a sequence are removed."""
    for reads in facts.reads:
        bases = reads.bases
        replaced = bases.iupac + bases.other
        if not replaced + bases.whitespace:
            yield from unseen(data_finding, "F11", reads, "letter besides A, C, G, T, U and N")
            continue
        share = replaced / bases.total
        kinds = (("ambiguity code", bases.iupac), ("other letter", bases.other), ("blank", bases.whitespace))
        found = ", ".join(count(number, kind) for kind, number in kinds if number)
        if share > NOT_DNA:
            severity, remedy = (
                Severity.ERROR,
                Remedy(
                    text="Give nucleotide reads; these look like protein or text:",
                    commands=() if reads.stream else (f"head -c 300 {quote(reads.path)}",),
                ),
            )
        elif share > 0.001:
            severity, remedy = (
                Severity.WARN,
                mend(
                    "Masked or aligned reads? If that is meant, go on; for other tools, write a copy",
                    fix(facts, reads, "line-ends", "iupac-to-n", purpose=Purpose.COPY),
                ),
            )
        else:
            severity, remedy = Severity.INFO, None
        yield data_finding(
            id="F11",
            severity=severity,
            title=f"{reads.name}: {found} ({percent((replaced + bases.whitespace) / bases.total)} "
            f"of all letters)",
            count=replaced + bases.whitespace,
            measured=share,
            threshold=0.001,
            unit="fraction of letters",
            why="Codes and other letters are read as N, blanks are removed: METAGENE-1 knows A, C, "
            "G, T and N only.",
            remedy=remedy,
            confidence=reads.confidence,
        )


def unknown_bases(facts: Facts) -> Iterator[Finding]:
    """N says nothing about the read, and takes one token each where four bases share one."""
    for reads in facts.reads:
        share = reads.bases.n / reads.bases.total if reads.bases.total else 0.0
        if share >= 0.01:
            yield data_finding(
                id="F12",
                severity=Severity.WARN,
                title=f"{reads.name}: {percent(share)} of the bases are N",
                count=reads.bases.n,
                measured=share,
                threshold=0.01,
                unit="fraction of bases",
                why="Each N is a token of its own: such reads take more time and say less.",
                remedy=mend(
                    "Write a copy without the reads that have many N",
                    fix(facts, reads, "drop-damaged", options="--max-n 0.05"),
                ),
                confidence=reads.confidence,
            )
        elif reads.partial and not reads.places:
            yield not_judged(data_finding, "F12", reads, "Few N")
