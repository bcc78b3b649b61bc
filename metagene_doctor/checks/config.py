"""Does the configuration fit the GPU and the data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.commands import autotune_command
from metagene_doctor.checks.reads.labels import STEEP_IMBALANCE
from metagene_doctor.checks.reads.unseen import not_judged
from metagene_doctor.checks.remedies import edit
from metagene_doctor.checks.repairs import fix, mend
from metagene_doctor.checks.sizes import reads_seen, steps_per_epoch, total_steps
from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import GIB, count, duration, rate

config_finding = partial(Finding, scope="config")

LONG_WARMUP = 0.2
"""Share of all steps: the authors of METAGENE-1 warm up for 50 steps, common practice is 1-5 %."""

USUAL_WARMUP = 0.03

LARGE_BATCH = 128
"""Effective batch from which LoRA is known to learn less per read: the authors' own tasks used
16-32 reads, where 8 beat 32 (run_GUE.sh of metagene-serve); LoRA Without Regret finds the same."""

SHARE_OF_READS = ("accuracy", "micro_f1")
"""Metrics in which a class counts as much as it has reads."""


def config_read(facts: Facts) -> Iterator[Finding]:
    """The config file is valid (else doctor stops with exit code 2), and every key in it is used."""
    if facts.run.warnings:
        yield config_finding(
            id="C01",
            severity=Severity.WARN,
            title=f"{facts.run.path}: {count(len(facts.run.warnings), 'key')} without effect, or "
            f"written in an old way",
            count=len(facts.run.warnings),
            examples=tuple(_example(warning) for warning in facts.run.warnings),
            why=re.sub(r"^.*?:(?=[0-9]+:)", "Line ", facts.run.warnings[0]) + ".",
            remedy=Remedy(
                text="See them all:",
                commands=(f"metagene config check {quote(facts.run.path or '')}",),
            ),
        )


def _example(warning: str) -> Example:
    """``path:line: text`` taken apart."""
    match = re.match(r"(.*?):(\d+): (.*)", warning)
    return (
        Example(file=match[1], line=int(match[2]) or None, text=match[3]) if match else Example(text=warning)
    )


def fits_gpu(facts: Facts) -> Iterator[Finding]:
    """The dry run's peak (device memory, as nvidia-smi shows it) plus its margin fits the card.

    Without a config the defaults are judged, and that they do not fit is no error yet.
    """
    memory, target = facts.memory, facts.target
    assert memory and target
    usable = target.usable_bytes / GIB
    needed = memory.device_gib + memory.margin_gib
    fits = needed <= usable
    part, size = max(memory.breakdown.items(), key=lambda item: item[1])
    largest = f" ({part} {size:.1f})" if fits else ""
    subject = "Predicted peak" if facts.run.path is not None else "With default settings the peak is"
    yield config_finding(
        id="C02",
        severity=Severity.ERROR if not fits and facts.run.path is not None else Severity.INFO,
        title=f"{subject} {memory.device_gib:.1f} GiB (+{memory.margin_gib:.1f} margin), "
        f"{target.title} has {usable:.1f} GiB usable",
        measured=round(needed, 2),
        threshold=round(usable, 2),
        unit="GiB",
        examples=(Example(text=target.note),) if target.note else (),
        why=f"{'Peak' if fits else 'It would run out of memory'} in the {memory.phase} phase at "
        f"{memory.length} tokens per read: live {memory.live_gib:.1f}{largest}, reserved "
        f"{memory.reserved_gib:.1f} GiB",
        remedy=None if fits else Remedy(text="Find settings that fit:", commands=(autotune_command(facts),)),
        confidence="estimated",
    )


def schedule(facts: Facts) -> Iterator[Finding]:
    """Warm-up, evaluations and effective batch against the number of optimizer steps of this data."""
    train, config = facts.train, facts.config
    assert train
    if train.partial and not train.places:
        yield not_judged(config_finding, "C03", train, "Schedule fits the data")
        return
    reads = train.expected_reads
    if not reads:
        return
    steps, per_epoch = total_steps(reads, config), steps_per_epoch(reads, config)
    warmup, usual = config.scheduler.warmup(steps), max(1, round(USUAL_WARMUP * steps))
    if warmup > LONG_WARMUP * steps:
        yield config_finding(
            id="C03",
            severity=Severity.ERROR if warmup >= steps else Severity.WARN,
            title=f"Warm-up takes {count(warmup, 'optimizer step')}, the whole run {steps:,}",
            measured=warmup / steps,
            threshold=LONG_WARMUP,
            unit="fraction of steps",
            why="The learning rate never reaches optimizer.lr, and little is learnt."
            if warmup >= steps
            else "For much of the run the learning rate is below optimizer.lr.",
            remedy=edit(
                facts,
                "Warm up for a few percent",
                "scheduler.warmup_steps",
                usual,
            )
            if config.scheduler.warmup_ratio is None
            else edit(facts, "Warm up for a few percent", "scheduler.warmup_ratio", USUAL_WARMUP),
        )
    if config.training.eval_steps is not None and config.training.eval_steps > steps:
        yield config_finding(
            id="C03",
            severity=Severity.WARN,
            title=f"An evaluation every {count(config.training.eval_steps, 'optimizer step')}, the whole "
            f"run has {steps:,}",
            measured=config.training.eval_steps,
            threshold=steps,
            unit="steps",
            why="There would be no evaluation before the end, and early stopping never acts.",
            remedy=edit(facts, "Evaluate more often", "training.eval_steps", max(1, steps // 10)),
        )
    elif config.training.eval_steps is None and config.training.evals_per_epoch > per_epoch:
        yield config_finding(
            id="C03",
            severity=Severity.WARN,
            title=f"{config.training.evals_per_epoch:,} evaluations per epoch of "
            f"{count(per_epoch, 'optimizer step')}",
            measured=config.training.evals_per_epoch,
            threshold=per_epoch,
            unit="per epoch",
            why=f"There can be one after each step at most, so there will be {per_epoch:,}.",
            remedy=edit(facts, "Evaluate once per epoch", "training.evals_per_epoch", 1),
        )
    if config.training.effective_batch > reads:
        yield config_finding(
            id="C03",
            severity=Severity.WARN,
            title=f"The effective batch ({config.training.effective_batch:,}) is larger than the "
            f"training set "
            f"({count(reads, 'read')})",
            measured=config.training.effective_batch,
            threshold=reads,
            unit="reads",
            why=f"An epoch is one optimizer step, the whole run has {steps:,}: too few to learn much.",
            remedy=edit(facts, "Use a smaller one", "training.grad_accum_steps", 1)
            if config.training.batch_size <= reads
            else edit(facts, "Use a smaller one", "training.batch_size", max(1, reads // 10)),
        )
    elif config.training.effective_batch > LARGE_BATCH:
        yield config_finding(
            id="C03",
            severity=Severity.INFO,
            title=f"Effective batch {config.training.effective_batch:,} is large for LoRA",
            measured=config.training.effective_batch,
            threshold=LARGE_BATCH,
            unit="reads",
            why="LoRA learns less from each read then; the authors of METAGENE-1 used 16-32.",
        )


def training_time(facts: Facts) -> Iterator[Finding]:
    """How long training will take, estimated from the card's rates and the tokens of the reads.

    A range, because it assumes how much of those rates a real run reaches; ``metagene rules`` and the
    documentation of autotune say what it rests on. Evaluations are not included.
    """
    speed, train, target = facts.speed, facts.train, facts.target
    assert speed and train and target
    reads = train.expected_reads
    if not reads:
        return
    seen = reads_seen(reads, facts.config)
    seconds, best, worst = (
        seen / per_second for per_second in (speed.reads_per_s, speed.fastest, speed.slowest)
    )
    epoch = duration(reads / speed.reads_per_s)
    yield config_finding(
        id="C07",
        severity=Severity.INFO,
        title=f"Training takes about {duration(seconds)} on {target.title} "
        f"({duration(best)} to {duration(worst)}); one epoch {epoch}",
        measured=round(speed.reads_per_s, 1),
        unit="reads per second",
        why=f"About {rate(speed.reads_per_s)} reads per second, limited by {speed.limit}. "
        "Early stopping may end it sooner, evaluations come on top.",
        confidence="estimated",
    )


def held_out(facts: Facts) -> Iterator[Finding]:
    """Early stopping and the choice of the best checkpoint need validation reads, and a metric in which
    rare classes count."""
    if facts.train is None:
        return
    train, dataset = facts.train, facts.config.dataset
    if dataset.val_fasta is None and not train.accepted:
        yield config_finding(
            id="C05",
            severity=Severity.SKIP,
            title="No validation reads, and none can be held out",
            why=train.classes_unknown_because or "",
        )
        return
    if dataset.val_fasta is None:
        yield config_finding(
            id="C05",
            severity=Severity.WARN,
            title="No validation reads",
            why="Nothing will show when it starts to memorise; early stopping and the best checkpoint need "
            "them.",
            remedy=mend("Hold some reads out, and give them with --val", fix(facts, train, "split")),
        )
        return
    key, metric = "training.early_stopping.metric", facts.config.training.early_stopping.metric
    counts = [number for number in train.class_counts.values() if number]
    ratio = max(counts) / min(counts) if counts else 1.0
    if metric in SHARE_OF_READS and ratio >= STEEP_IMBALANCE:
        yield config_finding(
            id="C05",
            severity=Severity.WARN,
            title=f"{key} is {metric}, where the largest class has {ratio:,.3g} times the reads of the "
            "smallest",
            measured=ratio,
            threshold=STEEP_IMBALANCE,
            unit="largest / smallest class",
            why="It counts reads: the best checkpoint may be one that knows only the large classes.",
            remedy=edit(facts, "Stop on the metric in which all classes weigh the same", key, "macro_f1"),
            confidence=train.confidence,
        )
