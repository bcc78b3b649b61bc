"""Is the validation set independent of the training set, and does it cover the same classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from metagene_doctor.checks.repairs import Purpose, mend, split_anew
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.facts.split.leakage import Overlap
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, percent, verb
from metagene_train.reads.access.data_set import title_of

split_finding = partial(Finding, scope="split")

COPIES_ERROR, COPIES_WARN = 0.05, 0.005
"""Shares of copied validation reads: at 5 % scores measure memory, at 0.5 % they begin to."""

PAIRS_ERROR = 0.01

OVERLAPS_WARN, OVERLAPS_MOST = 0.05, 0.25
"""Genomes share a few conserved regions (rRNA), so a few percent are usual even across genomes."""

MEMORY = "The score would tell how well training reads are remembered."
HOLD_OUT = "Hold a tenth of the reads out (or of the genomes: --split-by genome)"

MORE_THAN_ONE = 1.5
"""Genomes per class, in the mean, from which a class has some to hold out; a choice."""

FEW_VALIDATION_READS = 20
"""Per class: below it one read moves the class's recall by more than 5 points."""


def separate_files(facts: Facts) -> Iterator[Finding]:
    """Training and validation reads are not one file under two names, nor the same reads in another order,
    nor other reads under the same names."""
    assert facts.split and facts.train and facts.val
    if facts.split.same_file:
        shared = title_of(facts.split.shared_files)
        yield split_finding(
            id="V01",
            severity=Severity.ERROR,
            title=f"{facts.train.path} and {facts.val.path} are the same file"
            if not (facts.train.parts or facts.val.parts or facts.train.path == facts.val.path)
            else f"{shared} is among both the training and the validation reads",
            why=MEMORY,
            remedy=mend(HOLD_OUT, split_anew(facts, without=facts.split.shared_files)),
        )
        return
    same_names = _same_names(facts.train, facts.val)
    if facts.split.same_reads and not same_names:
        yield split_finding(
            id="V01",
            severity=Severity.ERROR,
            title=f"{facts.train.name} and {facts.val.name} hold the same reads under other names",
            count=facts.split.val_reads,
            why=MEMORY,
            remedy=mend(HOLD_OUT, split_anew(facts, without=[file.path for file in facts.val.files])),
        )
    copied = facts.split.same_strand + facts.split.other_strand
    for ours, theirs in same_names:
        if copied < theirs.accepted:
            # No copies: none of them may be left out, and names tie what belongs together.
            yield split_finding(
                id="V01",
                severity=Severity.WARN,
                title=f"{ours.name} and {theirs.name} hold other reads under the same names",
                count=theirs.records,
                why="Perhaps mates, or one file edited; names that are only numbered alike do no harm.",
                remedy=mend("Split anew, reads of one name on the same side", split_anew(facts)),
            )
            continue
        yield split_finding(
            id="V01",
            severity=Severity.ERROR,
            title=f"{ours.name} and {theirs.name} hold reads with the same names",
            count=theirs.records,
            why=f"Copies of one file, perhaps in another order. {MEMORY}",
            remedy=mend(
                HOLD_OUT,
                split_anew(facts, without=[theirs.path]),
            ),
        )


def _same_names(train: ReadsFacts, val: ReadsFacts) -> list[tuple[ReadsFacts, ReadsFacts]]:
    """Training and validation reads, or else files of them, with the same headers in any order."""
    if train.headers_digest and train.headers_digest == val.headers_digest:
        return [(train, val)]
    ours = {file.headers_digest: file for file in train.files if file.headers_digest}
    return [(ours[file.headers_digest], file) for file in val.files if file.headers_digest in ours]


def one_file(check_id: str, title: str) -> Finding:
    """That a comparison was not made because there is nothing to compare."""
    return split_finding(
        id=check_id,
        severity=Severity.SKIP,
        title=title,
        why="training and validation reads are one file (V01)",
    )


def copies(facts: Facts) -> Iterator[Finding]:
    """No validation read, nor its reverse complement, is also a training read.

    All training reads are compared, none sampled, after the normalisation that training applies.
    """
    split = facts.split
    assert split and facts.val
    copied = split.same_strand + split.other_strand
    if split.same_file:
        yield one_file("V02", "No copies across the split")
        return
    if not copied:
        return
    share = copied / split.val_reads
    severity = (
        Severity.ERROR if share >= COPIES_ERROR else Severity.WARN if share >= COPIES_WARN else Severity.INFO
    )
    yield split_finding(
        id="V02",
        severity=severity,
        title=f"{count(copied, 'validation read')} ({percent(share)}) "
        f"{verb(copied, 'is also a training read', 'are also training reads')}"
        + (f" ({split.other_strand:,} as reverse complement)" if split.other_strand else ""),
        count=copied,
        measured=share,
        threshold=COPIES_WARN,
        unit="fraction of validation reads",
        examples=_examples(facts, split.sequence_examples),
        why="The validation score is partly the memory of these reads.",
        remedy=mend("Split anew, identical reads on the same side", split_anew(facts)),
    )


def pairs_together(facts: Facts) -> Iterator[Finding]:
    """Both mates of a pair are on the same side: they come from one fragment, often overlapping."""
    split = facts.split
    assert split and facts.val
    if split.same_file:
        yield one_file("V03", "Mates are on the same side")
        return
    if not split.paired_val_reads:
        return
    if not split.names_identify:
        yield split_finding(
            id="V03",
            severity=Severity.SKIP,
            title="Mates are on the same side",
            why="many validation reads share a name (F14), so names do not tell which reads are a pair",
        )
        return
    if split.split_pairs:
        share = split.split_pairs / split.val_reads
        yield split_finding(
            id="V03",
            severity=Severity.ERROR if share >= PAIRS_ERROR else Severity.WARN,
            title=f"{count(split.split_pairs, 'validation read')} ({percent(share)}) "
            f"{verb(split.split_pairs, 'has its mate', 'have their mates')} among the training reads",
            count=split.split_pairs,
            measured=share,
            threshold=PAIRS_ERROR,
            unit="fraction of validation reads",
            examples=_examples(facts, split.pair_examples),
            why="Mates come from one piece of DNA: the score is that of nearly known reads.",
            remedy=mend("Split anew, both mates of a pair on the same side", split_anew(facts)),
        )


def _examples(facts: Facts, overlaps: tuple[Overlap, ...]) -> tuple[Example, ...]:
    assert facts.train and facts.val
    examples = []
    for overlap in overlaps:
        theirs, val_record = facts.val.locate(overlap.val_record)
        ours, train_record = facts.train.locate(overlap.train_record)
        text = f"record {train_record:,} of {ours.name}"
        examples.append(Example(file=theirs.path, record=val_record, text=text))
    return tuple(examples)


def overlaps(facts: Facts) -> Iterator[Finding]:
    """How many validation reads overlap a training read by 46 bases or more, on either strand.

    All 31-base segments of about 10,000 validation reads are looked for among every sixteenth
    segment of all training reads: each shared stretch of 31 + 16 - 1 bases holds one. Reads that
    overlap come from one genome, so the score is that of genomes seen in training. Training sets
    above 20 million reads are compared at level deep.
    """
    split = facts.split
    assert split and facts.val
    if split.same_file:
        yield one_file("V04", "Reads do not overlap across the split")
        return
    if not split.segment_val_reads:
        yield split_finding(
            id="V04",
            severity=Severity.SKIP,
            title="Reads do not overlap across the split",
            why="overlaps take long at this size",
            remedy=Remedy(text="use --level deep"),
        )
        return
    share = split.sharing_val_reads / split.segment_val_reads
    every = split.segment_val_reads == split.val_reads
    low, high = interval(split.sharing_val_reads, split.segment_val_reads)
    if share:
        yield split_finding(
            id="V04",
            severity=Severity.WARN if share >= OVERLAPS_WARN else Severity.INFO,
            title=f"{percent(share)} of {count(split.segment_val_reads, 'validation read')} "
            f"{verb(split.segment_val_reads, 'overlaps', 'overlap')} a training read by 46 bases or more",
            count=split.sharing_val_reads,
            measured=share,
            threshold=OVERLAPS_WARN,
            unit="fraction of validation reads",
            why=(
                "They are from genomes seen in training: the score says little of others."
                if share >= OVERLAPS_MOST
                else "They are from genomes seen in training, or from regions that genomes share."
            )
            + ("" if every else f" (95 %: {percent(low)} to {percent(high)})"),
            remedy=_genomes_held_out(facts) if share >= OVERLAPS_WARN else None,
            confidence="exact" if every else "sampled",
        )


def _genomes_held_out(facts: Facts) -> Remedy:
    """By the repair where names may tell genomes: not where doctor looked and found that they do not."""
    groups = facts.audit.groups if facts.audit else None
    if facts.audit and (groups is None or groups.kind == "flow cell"):
        return Remedy(
            text="To know how other genomes fare, hold out genomes: --fix split --split-by genome, with "
            "--genome-regex to say where names hold them (here they do not seem to)."
        )
    if groups is not None and groups.groups_per_class < MORE_THAN_ONE:
        return Remedy(text="To know how other genomes fare, validate on reads of other genomes.")
    return mend(
        "To know how other genomes fare, hold out genomes, not reads",
        split_anew(facts, "--split-by genome", purpose=Purpose.CHOICE),
    )


def interval(found: int, among: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of which a sample has shown ``found`` cases ``among`` so many."""
    share, z = found / among, 1.96
    middle = (share + z**2 / (2 * among)) / (1 + z**2 / among)
    half = z / (1 + z**2 / among) * math.sqrt(share * (1 - share) / among + z**2 / (4 * among**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def classes_trained(facts: Facts) -> Iterator[Finding]:
    """Every class of the validation reads is among the training reads."""
    train, val = facts.train, facts.val
    assert train and val
    missing = {class_id: n for class_id, n in val.class_counts.items() if class_id not in train.class_counts}
    if not missing and val.classes_unknown_because:
        yield split_finding(
            id="V06",
            severity=Severity.SKIP,
            title="Validation classes are trained",
            why=val.classes_unknown_because,
        )
    elif missing and train.classes_unknown_because:
        yield split_finding(
            id="V06",
            severity=Severity.SKIP,
            title="Validation classes are trained",
            why=train.classes_unknown_because,
        )
    elif missing:
        affected = sum(missing.values())
        yield split_finding(
            id="V06",
            severity=Severity.ERROR,
            title=f"{count(len(missing), 'class')} of the validation reads ({count(affected, 'read')}, "
            f"{percent(affected / val.accepted)}) {verb(len(missing), 'has', 'have')} no training read: "
            + ", ".join(map(str, sorted(missing)[:5]))
            + (", ..." if len(missing) > 5 else ""),
            count=affected,
            measured=len(missing),
            threshold=0,
            unit="classes",
            why="They can never be predicted, and lower every score.",
            remedy=mend("Split anew, each class on both sides", split_anew(facts)),
        )


def classes_validated(facts: Facts) -> Iterator[Finding]:
    """Every training class has validation reads, enough of them for its score to mean something.

    A class of one fragment (a read, a pair, copies of them) cannot be split: what is needed are reads.
    """
    train, val = facts.train, facts.val
    assert train and val
    if val.classes_unknown_because:
        yield split_finding(
            id="V07",
            severity=Severity.SKIP,
            title="Training classes are validated",
            why=val.classes_unknown_because,
        )
        return
    missing = sorted(set(train.class_counts) - set(val.class_counts))
    lone = [class_id for class_id in missing if _is_lone(facts, class_id)]
    few = [
        class_id
        for class_id in train.class_counts
        if 0 < val.class_counts.get(class_id, 0) < FEW_VALIDATION_READS
    ]
    if missing:
        yield split_finding(
            id="V07",
            severity=Severity.WARN,
            title=f"{count(len(missing), 'training class')} without validation reads: "
            + ", ".join(map(str, missing[:5]))
            + (", ..." if len(missing) > 5 else ""),
            count=len(missing),
            measured=len(missing),
            threshold=0,
            unit="classes",
            why=f"How well {verb(len(missing), 'it is', 'they are')} recognised is not seen."
            + _cannot_be_split(len(lone), len(missing)),
            remedy=mend("Split anew, each class on both sides", split_anew(facts))
            if len(lone) < len(missing)
            else Remedy(text="Add reads of them to both sides, or leave these classes out."),
        )
    if few:
        yield split_finding(
            id="V07",
            severity=Severity.INFO,
            title=f"{count(len(few), 'class')} with fewer than {FEW_VALIDATION_READS} validation reads",
            count=len(few),
            measured=min(val.class_counts[class_id] for class_id in few),
            threshold=FEW_VALIDATION_READS,
            unit="reads",
            why="One read moves the recall of such a class by more than 5 points, so macro-F1 will be noisy.",
        )


def _is_lone(facts: Facts, class_id: int) -> bool:
    assert facts.train
    lone = facts.split.lone_classes if facts.split else ()
    return class_id in lone or (facts.train.class_counts[class_id] == 1 and not facts.train.partial)


def _cannot_be_split(lone: int, missing: int) -> str:
    """What a split will not mend, as a further sentence."""
    if not lone:
        return ""
    which = "All" if lone == missing > 1 else f"{lone:,} of them" if missing > 1 else "It"
    return f" {which} {verb(lone, 'has', 'have')} one fragment (read or pair) only, which no split divides."
