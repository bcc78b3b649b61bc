"""What the validation score will measure: groups on both sides, drift between them, and its cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.remedies import edit, run
from metagene_doctor.checks.repairs import Purpose, mend, split_anew
from metagene_doctor.checks.sizes import evaluations, reads_seen
from metagene_doctor.checks.split.leakage import one_file
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.facts.split.drift import Drift
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, percent, plural, verb
from metagene_train.config import RunConfig

split_finding = partial(Finding, scope="split")

GROUPS_WARN = 0.5
"""Share of validation reads from groups that training has, from which the split is one of reads."""

DRIFT_WARN = 0.15
"""Cramér's V: Cohen's limit between a small and a medium difference is 0.1 to 0.3."""

EVALUATION_WARN = 0.3
"""Share of the run's time from which evaluations cost more than they tell; a choice."""

GROUP_NOUNS = {"accession": "genome", "flow cell": "flow cell", "name prefix": "name prefix"}

SHOWN = 2
"""Differences that a title names, the largest ones."""

PHRED_33 = 33
"""Character of quality 0 in today's FASTQ."""


def groups_apart(facts: Facts) -> Iterator[Finding]:
    """Reads of one genome, sample or flow cell, as their names tell it, are on one side of the split.

    From samples of about 50,000 reads of each side. Groups that the training sample missed count as
    absent, so what is shared is a lower limit. Without groups in the names nothing is found, and V04
    (shared stretches of sequence) is what tells.
    """
    audit, split = facts.audit, facts.split
    assert audit and split
    if split.same_file:
        yield one_file("V05", "Genomes are on one side of the split")
        return
    groups = audit.groups
    if groups is None or not groups.shared_groups:
        return
    share = groups.shared_val_reads / groups.val_reads
    noun = GROUP_NOUNS[groups.kind]
    # With one group per class a name may just say the class, and then it has to be on both sides.
    telling = groups.kind == "accession" or groups.groups_per_class >= 2
    yield split_finding(
        id="V05",
        severity=Severity.WARN if share >= GROUPS_WARN and telling else Severity.INFO,
        title=f"At least {groups.shared_groups:,} of {count(groups.val_groups, noun)} in validation names "
        f"{verb(groups.shared_groups, 'is', 'are')} in training too ({percent(share)} of the reads)",
        count=groups.shared_val_reads,
        measured=share,
        threshold=GROUPS_WARN,
        unit="fraction of validation reads",
        examples=tuple(Example(text=group) for group in groups.examples),
        why=f"The score is that of new reads from known {plural(noun)}"
        + (", not of new strains or species." if groups.kind == "accession" else "."),
        remedy=mend(
            f"To know how new ones fare, put all reads of a {noun} on one side"
            + (" (give each its own file)" if groups.kind == "flow cell" else ""),
            None
            if groups.kind == "flow cell"
            else split_anew(facts, "--split-by genome", purpose=Purpose.CHOICE),
        )
        if telling
        else None,
        confidence="sampled",
    )


def no_drift(facts: Facts) -> Iterator[Finding]:
    """Validation reads are like training reads in length, composition, quality and class shares.

    One effect size for all: Cramér's V between the side and the trait (in 20 bins), both sides
    weighed equally, less what samples of this size show by chance. Class shares are of all reads, the
    others of samples of about 50,000.
    """
    train, val, audit, split = facts.train, facts.val, facts.audit, facts.split
    assert train and val and audit and split
    if split.same_file:
        yield one_file("V08", "Validation reads are like training reads")
        return
    drifted = sorted(
        (drift for drift in audit.drift if drift.effect > DRIFT_WARN), key=lambda drift: -drift.effect
    )
    if not drifted:
        return
    yield split_finding(
        id="V08",
        severity=Severity.WARN,
        title=f"{val.name} differs from {train.name} in "
        + ", ".join(map(_described, drifted[:SHOWN]))
        + (f" and {len(drifted) - SHOWN} more" if len(drifted) > SHOWN else ""),
        count=len(drifted),
        measured=round(drifted[0].effect, 3),
        threshold=DRIFT_WARN,
        unit="Cramér's V",
        examples=tuple(
            Example(text=f"{drift.trait}: Cramér's V {drift.effect:.2f}") for drift in audit.drift
        ),
        why=f"The score is that of reads like these, not of training reads (largest effect "
        f"{drifted[0].effect:.2f} of 1).",
        remedy=Remedy(text="Trim both alike, or draw both from the same reads (--fix split)."),
        confidence="exact" if drifted[0].trait == "class shares" else "sampled",
    )


def _described(drift: Drift) -> str:
    if drift.train is None or drift.val is None:
        return drift.trait
    if drift.trait in ("GC content", "N content"):
        values = f"{percent(drift.val)} against {percent(drift.train)}"
    elif drift.trait == "quality":
        values = f"{drift.val - PHRED_33:.0f} against {drift.train - PHRED_33:.0f}"
    else:
        values = f"{drift.val:.0f} against {drift.train:.0f} bases"
    return f"{drift.trait} ({values})"


def evaluation_share(facts: Facts) -> Iterator[Finding]:
    """Evaluations take a small part of the run's time.

    A read costs one forward pass in an evaluation; in training with LoRA it costs about two (the
    backward pass computes few weight gradients), with checkpointing three.
    """
    train, val, config = facts.train, facts.val, facts.config
    assert train and val
    trained = reads_seen(train.expected_reads, config)
    number = evaluations(train.expected_reads, config)
    if not trained or not number:
        return
    passes = 3 if config.model.gradient_checkpointing else 2
    evaluated = number * val.expected_reads
    share = evaluated / (evaluated + passes * trained)
    if share < EVALUATION_WARN:
        return
    fitting = int(val.expected_reads * EVALUATION_WARN / (1 - EVALUATION_WARN) * (1 - share) / share)
    yield split_finding(
        id="V09",
        severity=Severity.WARN,
        title=f"{count(number, 'evaluation')} of {count(val.expected_reads, 'validation read')} "
        f"{verb(number, 'takes', 'take')} about "
        f"{percent(share)} of the run's time",
        measured=round(share, 3),
        threshold=EVALUATION_WARN,
        unit="fraction of the run's time",
        why=f"Training takes {count(round(trained), 'read')} through the encoder {passes} times, the "
        f"evaluations {evaluated:,} once.",
        remedy=run(
            f"Evaluate less often, or on about {count(max(1, fitting), 'read')} drawn at random",
            _sample(val, fitting),
        )
        if config.training.eval_steps is None and config.training.evals_per_epoch <= 1
        else edit(facts, "Evaluate less often", *_rarer(config, share)),
        confidence="estimated",
    )


def _sample(val: ReadsFacts, reads: int) -> tuple[str, ...]:
    if val.stream or val.parts:
        return ()
    share = max(1, reads) / val.expected_reads
    return (f"seqkit sample --proportion {share:.2g} {quote(val.path)} > fewer.{val.kind}",)


def _rarer(config: RunConfig, share: float) -> tuple[str, int]:
    """The key that says how often, with a value at which evaluations take no more than the usual share."""
    if config.training.eval_steps is None:
        return "training.evals_per_epoch", 1
    times = share / (1 - share) * (1 - EVALUATION_WARN) / EVALUATION_WARN
    return "training.eval_steps", math.ceil(config.training.eval_steps * times)
