"""Do the classes in the reads and the mapping table agree, and what distribution do they have."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.commands import as_yaml
from metagene_doctor.checks.reads.unseen import not_judged, unseen
from metagene_doctor.checks.remedies import edit
from metagene_doctor.checks.repairs import Purpose, fix, mend
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, percent, verb
from metagene_train.config import HEADER_REGEX

label_finding = partial(Finding, scope="labels")

FEW_READS = 50
"""Training reads below which a class is hardly learnt; a choice, not a measured limit."""

STEEP_IMBALANCE = 100
"""Largest class over smallest class from which on class weights are advised; a choice likewise."""

SHARED_WARN = 0.01
"""Share of reads whose sequence has several classes from which to think about the classes."""

SORTED = 0.5
"""Value of the class-order measure from which on a file counts as sorted by class."""

LISTED = 5


def mapping_usable(facts: Facts) -> Iterator[Finding]:
    """The mapping table has its columns, whole numbers as class ids, and no class or name twice."""
    mapping = facts.mapping
    assert mapping
    if not mapping.problems:
        return
    more = len(mapping.problems) - 1
    yield label_finding(
        id="L01",
        severity=Severity.ERROR,
        title=mapping.problems[0] + (f" (and {count(more, 'more problem')})" if more else ""),
        count=len(mapping.problems),
        examples=tuple(_example(mapping.path, problem) for problem in mapping.problems[:LISTED]),
        why="Reads get their labels from this table; training refuses it.",
        remedy=_columns_in_a_config(facts, mapping.likely_columns)
        if mapping.likely_columns and facts.run.path is None
        else Remedy(
            text="Mend it (one row per class, with class_id and label_name), then see what is left:",
            commands=(f"metagene doctor --mapping {quote(mapping.path)} --only L01 -v",),
        ),
    )


def _columns_in_a_config(facts: Facts, columns: tuple[str, str]) -> Remedy:
    """A new config with all that was named on the command line, which doctor and autotune then take."""
    dataset = facts.config.dataset
    values = {
        "dataset.train_fasta": dataset.train_fasta,
        "dataset.val_fasta": dataset.val_fasta,
        "dataset.mapping_tsv": dataset.mapping_tsv,
        "dataset.header_regex": dataset.header_regex if dataset.header_regex != HEADER_REGEX else None,
        "dataset.class_column": columns[0],
        "dataset.label_column": columns[1],
    }
    words = [f"{key}={as_yaml(value)}" for key, value in values.items() if value is not None]
    return Remedy(
        text="Rename its columns, or say in a config which they are, and go on with --config run.yaml:",
        commands=(shlex.join(["metagene", "config", "init", "-o", "run.yaml", *words]),),
    )


def _example(path: str, problem: str) -> Example:
    """``path:line: text`` taken apart."""
    place, _, text = problem.removeprefix(f"{path}:").partition(":")
    if place.strip().isdigit():
        return Example(file=path, line=int(place), text=text.strip())
    return Example(file=path, text=problem.removeprefix(f"{path}: "))


def classes_known(facts: Facts) -> Iterator[Finding]:
    """Every class of the reads has a row in the mapping table."""
    assert facts.mapping
    known = {row.class_id for row in facts.classes}
    strict = facts.config.dataset.strict_classes
    for reads in facts.sides:
        unknown = {class_id: n for class_id, n in reads.class_counts.items() if class_id not in known}
        if not unknown:
            yield from unseen(label_finding, "L02", reads, "class that the mapping lacks")
            continue
        affected = sum(unknown.values())
        yield label_finding(
            id="L02",
            severity=Severity.ERROR if strict else Severity.WARN,
            title=f"{reads.name}: {count(len(unknown), 'class')} ({count(affected, 'read')}, "
            f"{percent(affected / reads.accepted)}) {verb(len(unknown), 'is', 'are')} not in the mapping: "
            + _listed(unknown),
            count=affected,
            measured=len(unknown),
            threshold=0,
            unit="classes",
            why="Training refuses them (dataset.strict_classes)."
            if strict
            else "Training leaves these reads out.",
            remedy=_unknown_classes_left_out(facts, reads)
            if strict
            else Remedy(text=f"Add the classes to {facts.mapping.path}, if they are meant to be learnt."),
            confidence=reads.confidence,
        )


def _unknown_classes_left_out(facts: Facts, reads: ReadsFacts) -> Remedy:
    """By the config where there is one, else by a copy without these reads."""
    assert facts.mapping
    text = f"Add the classes to {facts.mapping.path}, or leave their reads out"
    repair = fix(facts, reads, "drop-damaged", purpose=Purpose.CHOICE)
    if facts.run.path is None and repair:
        return mend(text, repair)
    return edit(facts, text, "dataset.strict_classes", "false")


def classes_have_reads(facts: Facts) -> Iterator[Finding]:
    """Every class of the mapping has training reads, and enough of them."""
    train = facts.train
    assert train and facts.mapping
    if train.classes_unknown_because:
        yield label_finding(
            id="L03",
            severity=Severity.SKIP,
            title="Classes have reads",
            why=train.classes_unknown_because,
        )
        return
    counts = {row.class_id: train.class_counts.get(row.class_id, 0) for row in facts.classes}
    empty = [class_id for class_id, number in counts.items() if number == 0]
    few = [class_id for class_id, number in counts.items() if 0 < number < FEW_READS]
    if empty:
        yield label_finding(
            id="L03",
            severity=Severity.WARN,
            title=f"{count(len(empty), 'class')} of the mapping "
            f"{verb(len(empty), 'has', 'have')} no training "
            f"read: {_listed(empty)}",
            count=len(empty),
            measured=len(empty),
            threshold=0,
            unit="classes",
            examples=tuple(
                Example(file=facts.mapping.path, line=row.line, text=f"{row.class_id} {row.label_name}")
                for row in facts.classes
                if row.class_id in set(empty[:LISTED])
            ),
            why="The classifier gets an output for each that it can never learn.",
            remedy=Remedy(
                text=f"Remove {verb(len(empty), 'its row', 'their rows')} from {facts.mapping.path} (see "
                "-v), or add reads."
            ),
        )
    if few:
        yield label_finding(
            id="L03",
            severity=Severity.INFO,
            title=f"{count(len(few), 'class')} {verb(len(few), 'has', 'have')} fewer than {FEW_READS} "
            f"training reads: {_listed(few)}",
            count=len(few),
            measured=min(counts[class_id] for class_id in few),
            threshold=FEW_READS,
            unit="reads",
            why="Such scores are noisy, and macro-F1 weighs them like those of every other class.",
        )


def tax_ids_agree(facts: Facts) -> Iterator[Finding]:
    """The tax id in the headers of a class is the one of its row, and belongs to one class only."""
    assert facts.mapping
    for reads in facts.sides:
        conflicts = [
            (row, found)
            for row in facts.classes
            if row.tax_id is not None
            and (
                found := {
                    tax: n for tax, n in reads.tax_ids.get(row.class_id, {}).items() if tax != row.tax_id
                }
            )
        ]
        if conflicts:
            row, found = conflicts[0]
            affected = sum(sum(taxa.values()) for _, taxa in conflicts)
            yield label_finding(
                id="L04",
                severity=Severity.ERROR,
                title=f"{reads.name}: {count(affected, 'read')} of {count(len(conflicts), 'class')} "
                f"{verb(affected, 'carries', 'carry')} a tax id that is not the mapping's (class "
                f"{row.class_id}: {_listed(found)}, not {row.tax_id})",
                count=affected,
                measured=len(conflicts),
                threshold=0,
                unit="classes",
                examples=tuple(
                    Example(
                        file=facts.mapping.path,
                        line=row.line,
                        text=f"class {row.class_id}: headers say {_listed(taxa)}",
                    )
                    for row, taxa in conflicts[:LISTED]
                ),
                why="Reads or mapping were renumbered: the names of classes may belong to other reads.",
                remedy=Remedy(
                    text=f"Compare {facts.mapping.path} with the source of the reads, from this row on:",
                    commands=(f"sed -n {row.line}p {quote(facts.mapping.path)}",),
                ),
                confidence=reads.confidence,
            )
        else:
            yield from unseen(label_finding, "L04", reads, "tax id other than the mapping's")
    shared = [
        tax for tax, number in Counter(row.tax_id for row in facts.classes).items() if tax and number > 1
    ]
    if shared:
        yield label_finding(
            id="L04",
            severity=Severity.WARN,
            title=f"{count(len(shared), 'tax id')} in more than one class: {_listed(shared)}",
            count=len(shared),
            why="Reads of one taxon would have to be told apart, and its abundance is split.",
            remedy=Remedy(
                text=f"Give the taxon one class in {facts.mapping.path}, unless the classes differ otherwise."
            ),
        )


def ids_contiguous(facts: Facts) -> Iterator[Finding]:
    """Class ids need not run from 0 to K-1: they are mapped to outputs, and the map is saved."""
    ids = sorted(row.class_id for row in facts.classes)
    if ids != list(range(len(ids))):
        yield label_finding(
            id="L05",
            severity=Severity.INFO,
            title=f"Class ids run from {ids[0]} to {ids[-1]} for {count(len(ids), 'class')}; they "
            f"become labels 0 to "
            f"{len(ids) - 1}",
            why="The map is saved with the run (labels.json); predictions name the class, not the label.",
        )


def balance(facts: Facts) -> Iterator[Finding]:
    """How uneven the classes are, and what a classifier without any knowledge would score.

    Effective number of classes: exponential of the entropy of the class distribution.
    """
    train = facts.train
    assert train
    known = {row.class_id for row in facts.classes}
    counts = [n for class_id, n in train.class_counts.items() if n and (not known or class_id in known)]
    if not counts:
        return
    if train.parts and train.partial:
        # Of a large file less is looked at than of a small one.
        yield not_judged(label_finding, "L06", train, "Classes are balanced")
        return
    if len(counts) == 1:
        yield label_finding(
            id="L06",
            severity=Severity.ERROR,
            title=f"{train.name}: all reads are of one class",
            measured=1,
            threshold=2,
            unit="classes",
            why="There is nothing to tell apart: every answer would be that class.",
            remedy=Remedy(text="Add reads of other classes, or check that dataset.header_regex finds them."),
        )
        return
    total, ratio = sum(counts), max(counts) / min(counts)
    majority = max(counts) / total
    effective = math.exp(-math.fsum(n / total * math.log(n / total) for n in counts))
    steep = ratio >= STEEP_IMBALANCE and facts.config.loss.class_weights == "none"
    yield label_finding(
        id="L06",
        severity=Severity.WARN if steep else Severity.INFO,
        title=f"{len(counts):,} classes, largest to smallest {ratio:,.3g} : 1; always guessing the "
        f"largest class "
        f"scores {percent(majority)} accuracy",
        measured=ratio,
        threshold=STEEP_IMBALANCE,
        unit="largest / smallest class",
        why=f"Worth {effective:,.3g} classes of equal size. Judge by macro-F1, where all classes weigh the "
        "same, not by accuracy.",
        remedy=edit(facts, "Weigh rare classes more, and see whether it helps", "loss.class_weights", "sqrt")
        if steep
        else None,
        confidence=train.confidence,
    )


def classes_distinguishable(facts: Facts) -> Iterator[Finding]:
    """No sequence (nor its reverse complement) is in more than one class.

    Reads from regions that genomes share can be of any of their classes: giving each sequence its
    most frequent class is then the best any classifier can do, and its share is a ceiling of accuracy.
    """
    repeats, train = facts.repeats, facts.train
    assert repeats and train
    if not repeats.shared_reads:
        return
    share, ceiling = repeats.shared_reads / repeats.reads, repeats.best_correct / repeats.reads
    yield label_finding(
        id="L09",
        severity=Severity.WARN if share >= SHARED_WARN else Severity.INFO,
        title=f"{train.name}: {percent(share)} of the reads have a sequence that is also in another class",
        count=repeats.shared_reads if repeats.kept_one_in == 1 else None,
        measured=share,
        threshold=SHARED_WARN,
        unit="fraction of reads",
        why=f"No classifier can be right on more than {percent(ceiling)}. These genomes share a region, or "
        "labels are wrong.",
        remedy=Remedy(text="Merge classes that cannot be told apart (genus for species?), or mend labels.")
        if share >= SHARED_WARN
        else None,
        confidence="exact" if repeats.kept_one_in == 1 else "sampled",
    )


def order(facts: Facts) -> Iterator[Finding]:
    """Whether the file is sorted by class: 0 is random order, 1 is sorted.

    Measured as the share of reads with the class of the read eight before, scaled between what
    random order gives and 1. Training here draws reads in random order at any file size.
    """
    train = facts.train
    assert train
    if train.partial and not train.places:
        yield not_judged(label_finding, "L07", train, "Classes are in random order")
    elif train.class_order is not None and train.class_order >= SORTED:
        yield label_finding(
            id="L07",
            severity=Severity.INFO,
            title=f"{train.name} is sorted by class (order {train.class_order:.2f} of 1)",
            measured=train.class_order,
            threshold=SORTED,
            why="Training shuffles the whole file, so it does no harm here; others may see one class at a "
            "time.",
            remedy=mend(
                "For such a program, write a copy", fix(facts, train, "shuffle", purpose=Purpose.COPY)
            ),
            confidence=train.confidence,
        )


def _listed(values: Iterable[object]) -> str:
    items = [str(value) for value in values]
    return ", ".join(items[:LISTED]) + (", ..." if len(items) > LISTED else "")
