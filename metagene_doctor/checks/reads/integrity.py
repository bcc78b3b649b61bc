"""Are the reads files what they claim to be, and whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.reads.unseen import not_judged, unseen
from metagene_doctor.checks.remedies import run
from metagene_doctor.checks.repairs import Purpose, fix, mend
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import Damage, ReadsFacts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, verb

integrity_finding = partial(Finding, scope="data")

PHRED_64 = 64
"""Lowest quality character of Illumina 1.3 and later in the Phred+64 encoding; Phred+33 starts at 33,
and machines that write it show characters below 64 among the first reads."""
HIGHEST_SHORT_READ_PHRED_33 = ord("K")
"""Highest character (quality 42) that Illumina's machines write in Phred+33."""


TEST_COMMANDS = {"gzip": "gzip -tv", "zstd": "zstd -tv", "xz": "xz -tv", "bzip2": "bzip2 -tv"}
"""Compression, with which the kinds of its damage start, and the command that shows the same damage."""

OTHER_DAMAGE = {
    "nul": (
        "Part of the file was overwritten or never written (a full disk?); training refuses it.",
        "Fetch the file again, or set the damaged records aside",
    ),
    "mixed": (
        "Files of two formats were joined: all reads that follow are taken for one. Training refuses it.",
        "Give the FASTA and the FASTQ part as two files (--fasta twice); this shows where they meet",
    ),
    "changed": (
        "Another program is still writing it: counts are of no one state, and training refuses it.",
        "Wait until it is written, then run doctor again. This shows who writes",
    ),
    "record_too_long": (
        "Reads are not that long: it holds something else, or lost its line ends. Training refuses it.",
        "Give a file of reads; this shows how this one starts",
    ),
}
"""Kind of damage that is neither compression nor FASTQ structure -> what it means, and what to do."""

UNREADABLE = (
    "The disk or the network gave no data there; training refuses the file.",
    "Copy or fetch the file again. The kernel's log may name the disk",
)


def file_type(facts: Facts) -> Iterator[Finding]:
    """A reads file is FASTA or FASTQ, plain or compressed, by its content; names and suffixes do not
    count."""
    for file in facts.files:
        if file.refused is not None:
            yield integrity_finding(
                id="F01",
                severity=Severity.ERROR,
                title=file.refused,
                examples=(Example(file=file.path),),
                why="Training cannot read it.",
                remedy=Remedy(
                    text="Give FASTA or FASTQ, plain or compressed (gzip, zstd, xz, bzip2). This shows its "
                    "start:",
                    commands=(f"head -c 300 {quote(file.path)}",),
                ),
            )


def compression_whole(facts: Facts) -> Iterator[Finding]:
    """Compressed data is whole: every gzip member, zstd frame, xz or bzip2 stream ends, and its
    checksum agrees with its data.

    Common readers stop without an error where a truncated file ends.
    """
    for reads in facts.reads:
        damages = _damage(reads, *TEST_COMMANDS)
        for damage in damages:
            yield _compression_finding("F02", facts, reads, damage)
        if reads.partial and reads.compression != "none" and not damages:
            if reads.places:
                yield from unseen(integrity_finding, "F02", reads, "damaged block")
            else:
                yield not_judged(integrity_finding, "F02", reads, "Compressed files are whole")


def blocks_whole(facts: Facts) -> Iterator[Finding]:
    """A BGZF file ends with its 28-byte end block; one cut between two blocks passes ``gzip -t``."""
    for reads in facts.reads:
        for damage in _damage(reads, "bgzf"):
            yield _compression_finding("F03", facts, reads, damage)


def _damage(reads: ReadsFacts, *kinds: str) -> list[Damage]:
    return [damage for damage in reads.damage if damage.kind.startswith(kinds)]


def _compression_finding(check: str, facts: Facts, reads: ReadsFacts, damage: Damage) -> Finding:
    return integrity_finding(
        id=check,
        severity=Severity.ERROR,
        title=f"{reads.name} is damaged: {damage.message}",
        measured=damage.byte_offset,
        threshold=reads.bytes,
        unit="bytes",
        examples=(Example(file=reads.path, line=damage.line, record=damage.record),),
        why=("" if reads.places else f"Only the {count(reads.records, 'read')} before it are counted. ")
        + "Training refuses the file; most readers just stop there.",
        remedy=mend(
            "Fetch the file again, or keep what can be read of it",
            fix(facts, reads, "drop-damaged", options="--salvage"),
        ),
    )


def text_encoding(facts: Facts) -> Iterator[Finding]:
    """Bytes that do not belong in a reads file: NUL bytes are damage; CRLF line ends and header
    letters outside ASCII are read correctly here, and break other tools."""
    for reads in facts.reads:
        for damage in reads.damage:
            if not damage.kind.startswith((*TEST_COMMANDS, "bgzf", "fastq")):
                why, what_to_do = OTHER_DAMAGE.get(damage.kind, UNREADABLE)
                yield integrity_finding(
                    id="F05",
                    severity=Severity.ERROR,
                    title=f"{reads.name} is damaged: {damage.message}",
                    count=damage.count,
                    examples=(Example(file=reads.path, line=damage.line, record=damage.record),),
                    why=why,
                    remedy=_first_step(facts, reads, damage, what_to_do),
                )
        if reads.crlf_lines:
            yield integrity_finding(
                id="F05",
                severity=Severity.INFO,
                title=f"{reads.name}: {count(reads.crlf_lines, 'line')} of {reads.lines:,} "
                f"{verb(reads.crlf_lines, 'ends', 'end')} with CRLF",
                count=reads.crlf_lines,
                measured=reads.crlf_lines,
                why="Windows line ends. They are read correctly here; some tools take the CR for a base.",
                remedy=mend(
                    "For other tools, write a copy",
                    fix(facts, reads, "line-ends", purpose=Purpose.COPY),
                ),
                confidence=reads.confidence,
            )
        if reads.non_ascii_headers:
            yield integrity_finding(
                id="F05",
                severity=Severity.INFO,
                title=f"{reads.name}: {count(reads.non_ascii_headers, 'header')} with letters outside ASCII",
                count=reads.non_ascii_headers,
                why="Read as UTF-8, else as Latin-1; other readers may stop there.",
                confidence=reads.confidence,
            )
        if not (reads.damage or reads.crlf_lines or reads.non_ascii_headers):
            what = "NUL byte, CRLF line end or header letter outside ASCII"
            yield from unseen(integrity_finding, "F05", reads, what)


def _first_step(facts: Facts, reads: ReadsFacts, damage: Damage, advice: str) -> Remedy:
    name = quote(reads.path)
    steps = {
        "mixed": (f"sed -n {max(1, (damage.line or 1) - 2)},{(damage.line or 1) + 2}p {name}",),
        "changed": (f"lsof {name}",),
        "record_too_long": (f"head -c 300 {name}",),
    }
    if damage.kind == "nul":
        return mend(advice, fix(facts, reads, "drop-damaged"))
    return run(advice, steps.get(damage.kind, ("sudo dmesg | tail",)))


def fastq_structure(facts: Facts) -> Iterator[Finding]:
    """Every FASTQ record has a header, a sequence, a + line and as many qualities as bases.

    Qualities themselves are not used; ones that start at @ are in the Phred+64 encoding of old
    Illumina machines, which other tools have to be told.
    """
    for reads in facts.reads:
        lowest, highest = reads.quality_range or (0, 0)
        if lowest >= PHRED_64 and highest > HIGHEST_SHORT_READ_PHRED_33:
            yield integrity_finding(
                id="F06",
                severity=Severity.INFO,
                title=f"{reads.name}: qualities from {chr(lowest)} to {chr(highest)} look like Phred+64",
                measured=lowest,
                threshold=PHRED_64,
                unit="lowest quality character",
                why="Training does not use qualities; trimming tools must be told of this encoding.",
                confidence="sampled",
            )
        for rejected in reads.rejected:
            if rejected.kind == "fastq":
                first = rejected.examples[0]
                yield integrity_finding(
                    id="F06",
                    severity=Severity.ERROR,
                    title=f"{reads.name}: {count(rejected.count, 'broken record')}: {rejected.reason}"
                    + (
                        f" (first: line {first.line:,}, record {first.record:,})"
                        if first.line and first.record
                        else f" (first: {first.text})"
                    ),
                    count=rejected.count,
                    examples=rejected.examples,
                    why="Training refuses the file; common readers return nothing, or wrong reads, without "
                    "an error.",
                    remedy=mend(
                        "Fetch the file again, or leave such records out",
                        fix(facts, reads, "drop-damaged"),
                    ),
                )
        if reads.kind == "fastq" and not any(rejected.kind == "fastq" for rejected in reads.rejected):
            if not reads.damage:
                yield from unseen(integrity_finding, "F06", reads, "broken record")
            for damage in _damage(reads, "fastq"):
                yield integrity_finding(
                    id="F06",
                    severity=Severity.ERROR,
                    title=f"{reads.name}: {damage.message}",
                    examples=(Example(file=reads.path, line=damage.line, record=damage.record),),
                    why="Training refuses the file.",
                    remedy=mend(
                        "Fetch the file again, or leave such records out",
                        fix(facts, reads, "drop-damaged"),
                    ),
                )
