"""Do the reads hold what training expects: headers, letters, lengths, names."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.reads.header_layouts import suggest_header
from metagene_doctor.checks.reads.headers_without_class import write_classes
from metagene_doctor.checks.reads.unseen import bound, not_judged, share_seen, unseen
from metagene_doctor.checks.remedies import edit, run
from metagene_doctor.checks.repairs import Purpose, fix, mend
from metagene_doctor.checks.sizes import INDEX_BYTES_PER_READ, steps_per_epoch
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import (
    base_count,
    count,
    duration,
    file_size,
    percent,
    verb,
)

data_finding = partial(Finding, scope="data")

SHORT_READ = 30
"""Bases below which a read says little: about seven tokens of METAGENE-1."""


ENOUGH_TO_TELL = 100
"""Reads whose declared length is right before a wrong one at the end means a cut; a choice."""

REPEATS_WARN = 0.1
"""Share of repeated reads from which they are worth removing; a choice, not a measured limit."""


def header_matches(facts: Facts) -> Iterator[Finding]:
    """The header of every read matches ``dataset.header_regex``, which gives the read its class."""
    regex = facts.config.dataset.header_regex
    for reads in facts.reads:
        unmatched = [rejected for rejected in reads.rejected if rejected.kind == "header"]
        total = sum(rejected.count for rejected in unmatched)
        if not total:
            yield from unseen(data_finding, "F07", reads, "header that does not match")
            continue
        class_ids = frozenset(row.class_id for row in facts.classes or ())
        suggestion = (
            suggest_header(reads.rejected_headers, regex, class_ids) if total == reads.records else None
        )
        if suggestion:
            remedy = _with_regex(facts, suggestion[0], f"They look like {suggestion[1]}; set this")
        elif total == reads.records and not _mendable(facts, reads):
            remedy = write_classes(reads)
        else:
            remedy = mend(
                "Give a pattern with a group (?P<class_id>...) as --header-regex, or mend the headers",
                fix(
                    facts,
                    reads,
                    "headers",
                    "drop-damaged",
                    purpose=Purpose.CHOICE if total == reads.records else Purpose.NEEDED,
                ),
            )
        share = total / reads.records
        first = unmatched[0].examples[0] if unmatched[0].examples else None
        yield data_finding(
            id="F07",
            severity=Severity.ERROR if share >= 0.001 else Severity.WARN,
            title=f"{reads.name}: {count(total, 'read')} ({percent(share)}) "
            f"{verb(total, 'has a header that does', 'have headers that do')} not match "
            "dataset.header_regex",
            count=total,
            measured=share,
            threshold=0.001,
            unit="fraction of reads",
            examples=tuple(example for rejected in unmatched for example in rejected.examples)[:5],
            why=f"Without a class {verb(total, 'it is', 'they are')} left out of training."
            + (f" First: {_where(first)}." if first else ""),
            remedy=remedy,
            confidence=reads.confidence,
        )


def _mendable(facts: Facts, reads: ReadsFacts) -> bool:
    """Whether the repair would find a class in any of the headers that do not match."""
    from metagene_doctor.repair import headers
    from metagene_train.reads.headers.pattern import HeaderPattern

    pattern = HeaderPattern(facts.config.dataset.header_regex)
    return any(headers.mend(pattern, header, 0) is not None for header in reads.rejected_headers)


def _where(first: Example) -> str:
    return f"line {first.line:,}: {first.text!r}" if first.line else first.text


def _with_regex(facts: Facts, regex: str, text: str) -> Remedy:
    """The pattern as a line of the config, or as an option of the command that was given."""
    if facts.run.path is not None:
        return edit(facts, text, "dataset.header_regex", f"'{regex}'")
    files = [word for side, name in zip(facts.sides, ("--fasta", "--val"), strict=False)
             for file in side.files for word in (name, file.path)]  # fmt: skip
    again = facts.argv or ("metagene", "doctor", *files)
    return Remedy(text=f"{text}:", commands=(shlex.join((*again, "--header-regex", regex)),))


def read_lengths(facts: Facts) -> Iterator[Finding]:
    """Reads have bases, enough of them to say something, and as many as their header declares."""
    for reads in facts.reads:
        empty = any(rejected.kind == "empty" for rejected in reads.rejected)
        if not empty and not reads.readlen_mismatches:
            what = "read without bases, or not as long as its header says,"
            yield from unseen(data_finding, "F13", reads, what)
        for rejected in reads.rejected:
            if rejected.kind == "empty":
                yield data_finding(
                    id="F13",
                    severity=Severity.WARN,
                    title=f"{reads.name}: {count(rejected.count, 'read')} without any bases",
                    count=rejected.count,
                    examples=rejected.examples,
                    confidence=reads.confidence,
                    why=f"Training leaves {verb(rejected.count, 'it', 'them')} out.",
                    remedy=mend(
                        "Find the step that trims reads to nothing, or write a copy without them",
                        fix(facts, reads, "drop-damaged"),
                    ),
                )
        short = sum(number for length, number in reads.lengths.items() if 0 < length < SHORT_READ)
        if short:
            yield data_finding(
                id="F13",
                severity=Severity.WARN if short >= 0.01 * reads.records else Severity.INFO,
                title=f"{reads.name}: {count(short, 'read')} ({percent(short / reads.records)}) "
                f"{verb(short, 'is', 'are')} shorter than {SHORT_READ} bases",
                count=short,
                measured=min(length for length in reads.lengths if length),
                threshold=SHORT_READ,
                unit="bases",
                confidence=reads.confidence,
                why="That is about seven tokens: too little to tell many classes apart.",
                remedy=run("Leave them out", _longer_reads(reads)),
            )
        if _only_the_last_differs(reads):
            yield data_finding(
                id="F13",
                severity=Severity.ERROR,
                title=f"{reads.name}: the last read is not as long as its header says, all others are",
                count=1,
                examples=reads.readlen_examples,
                why="The file was cut inside its last record, and all reads that came after it are missing.",
                remedy=Remedy(
                    text="Compare its size with the source's, and fetch it again:",
                    commands=(f"ls -l {quote(reads.path)}",),
                ),
            )
        elif reads.readlen_mismatches:
            share = reads.readlen_mismatches / reads.accepted
            yield data_finding(
                id="F13",
                severity=Severity.WARN,
                title=f"{reads.name}: {count(reads.readlen_mismatches, 'read')} ({percent(share)}) "
                f"{verb(reads.readlen_mismatches, 'is', 'are')} not as long as "
                f"{verb(reads.readlen_mismatches, 'its header says', 'their headers say')}",
                count=reads.readlen_mismatches,
                measured=share,
                threshold=0,
                unit="fraction of reads",
                examples=reads.readlen_examples,
                confidence=reads.confidence,
                why="The reads were trimmed after they were named, or the file was cut and joined: labels "
                "may belong to other reads.",
                remedy=mend(
                    "Training uses the real lengths. Write them into the headers",
                    fix(facts, reads, "headers"),
                ),
            )


def _longer_reads(reads: ReadsFacts) -> tuple[str, ...]:
    """For one file; several would need a command each."""
    if reads.stream:
        return ()
    return (f"seqkit seq --min-len {SHORT_READ} {quote(reads.path)} > long.{reads.kind}",)


def _only_the_last_differs(reads: ReadsFacts) -> bool:
    """Among enough reads that this is no chance."""
    examples = reads.readlen_examples
    return (
        reads.readlen_mismatches == 1
        and not reads.partial
        and reads.accepted >= ENOUGH_TO_TELL
        and examples[0].record == reads.records
    )


def duplicate_names(facts: Facts) -> Iterator[Finding]:
    """Names that occur twice, in one file or in two, cannot tell mates apart, nor join predictions back
    to reads."""
    for side in facts.sides:
        yield from _repeated_within(facts, side)
        if side.parts and not side.partial:
            yield from _repeated_across(facts, side)


def _repeated_within(facts: Facts, side: ReadsFacts) -> Iterator[Finding]:
    for reads in side.files:
        if reads.partial:
            yield not_judged(data_finding, "F14", reads, "Headers are unique")
        elif reads.duplicate_headers:
            share = reads.duplicate_headers / reads.records
            yield data_finding(
                id="F14",
                severity=Severity.WARN,
                title=f"{reads.name}: {count(reads.duplicate_headers, 'read')} ({percent(share)}) "
                f"{verb(reads.duplicate_headers, 'repeats', 'repeat')} an earlier header",
                count=reads.duplicate_headers,
                measured=share,
                threshold=0,
                unit="fraction of reads",
                why="Predictions are joined to reads by name, and mates are found by name.",
                # Of all files: numbers given to each alone would be the same ones.
                remedy=_numbered(facts, side, "Make names unique, by a running number"),
            )


def _repeated_across(facts: Facts, side: ReadsFacts) -> Iterator[Finding]:
    shared = facts.shared_headers.get(side.role)
    if shared is None:
        gap = facts.gaps.get("shared headers")
        yield data_finding(
            id="F14",
            severity=Severity.SKIP,
            title="Headers are unique",
            why=f"the headers of {side.name} were not compared with each other"
            + (f": {gap.reason}" if gap else ""),
        )
    elif shared.headers:
        examples = []
        for first, again in shared.examples:
            (earlier, record), (later, number) = side.locate(first), side.locate(again)
            text = f"has the header of record {record:,} of {earlier.path}"
            examples.append(Example(file=later.path, record=number, text=text))
        yield data_finding(
            id="F14",
            severity=Severity.WARN,
            title=f"{side.name}: {count(shared.headers, 'header')} of a file "
            f"{verb(shared.headers, 'is', 'are')} also in an earlier file",
            count=shared.headers,
            measured=shared.headers,
            threshold=0,
            unit="headers",
            examples=tuple(examples),
            why="Predictions are joined to reads by name, and mates are found by name, across all files.",
            remedy=_numbered(facts, side, "Make names unique over all files, by a running number"),
        )


def _numbered(facts: Facts, side: ReadsFacts, advice: str) -> Remedy:
    """By the repair, unless the headers of a pattern of one's own have no place for a number."""
    from metagene_doctor.repair.unique_names import can_be_renamed
    from metagene_train.reads.headers.pattern import HeaderPattern

    pattern = HeaderPattern(facts.config.dataset.header_regex)
    if all(can_be_renamed(pattern, file.first_header.encode()) for file in side.files if file.first_header):
        return mend(advice, fix(facts, side, "headers"))
    return Remedy(
        text="Give each read a name of its own, and the pattern a group (?P<name>...) that finds it."
    )


def repeated_reads(facts: Facts) -> Iterator[Finding]:
    """How many training reads repeat another one of their class, as they are or as reverse complement.

    They are what --fix deduplicate takes out. Above four million reads counted on a random choice of
    sequences, all copies of each.
    """
    repeats, train = facts.repeats, facts.train
    assert repeats and train
    if not repeats.repeated:
        return
    share = repeats.repeated / repeats.reads
    yield data_finding(
        id="F15",
        severity=Severity.WARN if share >= REPEATS_WARN else Severity.INFO,
        title=f"{train.name}: {percent(share)} of the reads repeat another one of their class "
        "(on either strand)",
        count=repeats.repeated if repeats.kept_one_in == 1 else None,
        measured=share,
        threshold=REPEATS_WARN,
        unit="fraction of reads",
        why="Every epoch spends time on the copies, and the most copied reads weigh most.",
        remedy=mend(
            "Keep one of each",
            fix(facts, train, "deduplicate"),
        )
        if share >= REPEATS_WARN
        else None,
        confidence="exact" if repeats.kept_one_in == 1 else "sampled",
    )


def plan(facts: Facts) -> Iterator[Finding]:
    """What there is: reads, bases, lengths, classes, steps per epoch, and what the pass over it cost."""
    for reads in facts.sides:
        bases = sum(length * number for length, number in reads.lengths.items())
        filled = [length for length in reads.lengths if length]
        shortest, longest = min(filled, default=0), max(filled, default=0)
        lengths = f"{shortest}-{longest} bases" if shortest < longest else f"{longest} bases"
        expected = reads.expected_reads
        scale = expected / reads.accepted if reads.accepted else 1.0
        start_only = reads.partial and not reads.places
        parts = [
            ("about " if reads.places else "at least " * start_only) + count(expected, "read"),
            lengths,
            "at least " * reads.partial + count(len(reads.class_counts), "class"),
        ]
        if not reads.accepted:  # what training would make of them is not known
            parts = [f"{count(reads.records, 'record')} without a class", lengths]
        elif not start_only:
            index = f"index {file_size(expected * INDEX_BYTES_PER_READ)}" + " written" * reads.indexed
            parts.append(base_count(bases * scale) + " in all")
            parts.append("no index: training needs a file" if reads.stream else index)
        if reads.role == "train" and reads.accepted and not start_only:
            parts.append(f"{count(steps_per_epoch(expected, facts.config), 'optimizer step')} per epoch")
        yield data_finding(
            id="F18",
            severity=Severity.INFO,
            title=f"{reads.name}: " + ", ".join(parts),
            measured=expected,
            unit="reads",
            why=_what_was_read(reads, compared=reads.role == "train" and bool(facts.repeats or facts.split)),
            confidence=reads.confidence,
        )


def _what_was_read(reads: ReadsFacts, compared: bool) -> str:
    if reads.places:
        return (
            f"{count(reads.records, 'read')} from {count(reads.places, 'place')} all over "
            f"{file_size(reads.bytes)} were looked at: what they do not show is in {bound(reads)}; level "
            "standard reads all."
        )
    if reads.partial and reads.parts:
        looked_at = f"{count(reads.records, 'read')} of {file_size(reads.bytes)} were looked at"
        return f"{looked_at}, not as many of each file as its share; level standard reads all."
    if reads.partial:
        first = (
            f"Only the first {count(reads.records, 'read')}, {share_seen(reads)} of {file_size(reads.bytes)},"
        )
        return (
            f"{first} were looked at: it can be read from its start only, and of the rest nothing is known; "
            "level standard reads all."
        )
    speed = file_size(reads.bytes_examined / max(reads.seconds, 1e-9))
    done = "Read and compared" if compared else "Read"
    return f"{done} in {duration(reads.seconds)} ({speed}/s)."
