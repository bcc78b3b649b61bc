"""Rules into values: what the rule book says for these reads, this card and this goal.

A plan holds what is decided before the search: everything but micro-batch, accumulation,
checkpointing, precision, quantisation and optimizer, which have to fit the device. Two keys are not
configuration keys: ``effective_batch`` (reads per optimizer step on all devices) and
``max_truncation`` (share of reads that may be cut).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metagene_doctor.memory.costs.read_lengths import ReadStatistics
from metagene_doctor.report.quantities import percent
from metagene_doctor.rulebook import Rulebook
from metagene_doctor.rulebook.schema import Band, Change, Multiple, OneOf, Policy, Recommended, Rule
from metagene_train.config import RunConfig
from metagene_train.config_file import flatten

EFFECTIVE_BATCH = "effective_batch"
MAX_TRUNCATION = "max_truncation"
METAGENE_1_WIDTH = 4096
"""Hidden size of the encoder for which the rules name learning rates."""
HIGHEST_RATE = 5e-3
"""No learning rate is scaled beyond this one, which the rule's own check (EV-LR-WIDTH) covers."""
FEW_READS = 0.01
"""Share of the reads that should not decide alone how long a batch can be; a judgement."""
WARMUP_KEYS = {
    "scheduler.warmup_steps": "scheduler.warmup_ratio",
    "scheduler.warmup_ratio": "scheduler.warmup_steps",
}
"""Of these two only one can be set."""


@dataclass(frozen=True)
class Setting:
    """A value and where it comes from: a reason in words, the rule's id, and its source."""

    value: Any
    why: str
    rule: str = ""
    source: str = ""

    def comment(self, doubt: str = "") -> str:
        """``why [rule, doubt; source]``, for the line of the configuration; ``doubt`` is the rule's verdict
        where the evidence does not support it."""
        rule = ", ".join(part for part in (self.rule, doubt) if part)
        origin = "; ".join(part for part in (rule, self.source) if part)
        return f"{self.why} [{origin}]" if origin else self.why


@dataclass(frozen=True)
class Plan:
    """Key -> setting, later rules having replaced earlier ones; ``notes`` are for the user."""

    settings: Mapping[str, Setting] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def value(self, key: str) -> Any:
        return self.settings[key].value

    def with_setting(self, key: str, setting: Setting) -> Plan:
        cleared = {WARMUP_KEYS[key]} if key in WARMUP_KEYS else set()
        kept = {name: value for name, value in self.settings.items() if name not in cleared}
        blank = {name: Setting(None, f"{key} is used instead", setting.rule) for name in cleared}
        return replace(self, settings={**kept, **blank, key: setting})


def make(
    policy: Policy,
    book: Rulebook,
    base: RunConfig,
    reads: ReadStatistics,
    *,
    goal: str,
    gpu_gb: int | None,
    context: int,
    hidden: int,
    max_truncation: float | None = None,
    epochs: float | None = None,
) -> Plan:
    """The plan of a policy. ``max_truncation`` and ``epochs`` are the user's and beat the rules;
    ``context`` is the longest read the encoder takes, in tokens, and ``hidden`` its width."""
    start = flatten(base)
    values = {key: Setting(value, "as given") for key, value in start.items()}
    values[EFFECTIVE_BATCH] = Setting(base.training.effective_batch, "as given")
    values[MAX_TRUNCATION] = Setting(0.001, "default")
    plan = Plan(values)
    if policy == "guide":
        plan = _guide(plan, book, reads, gpu_gb)
    else:
        plan = _own_rate(_rules(plan, book, "evidence", reads, gpu_gb), book, hidden)
    target = book.goal(goal, policy)
    for change in target.changes:
        plan = _change(plan, change, f"{target.title.lower()}: {target.why}", target.id, target.source)
    if max_truncation is not None:
        plan = plan.with_setting(MAX_TRUNCATION, Setting(max_truncation, "asked for (--max-truncation)"))
    if epochs is not None:
        plan = plan.with_setting("training.max_epochs", Setting(epochs, "asked for (--epochs)"))
        if plan.value("training.max_steps") is not None:
            plan = plan.with_setting("training.max_steps", Setting(None, "--epochs is used instead"))
    if policy == "evidence":
        plan = _own_length(plan, book, reads, context, asked=max_truncation is not None)
    elif plan.value("tokenizer.max_length") > context:
        row = plan.settings["tokenizer.max_length"]
        plan = plan.with_setting(
            "tokenizer.max_length",
            replace(
                row, value=context, why=f"the guide's {row.value} exceed the encoder's context of {context}"
            ),
        )
    return _scaled(plan, book, policy)


def _rules(plan: Plan, book: Rulebook, policy: Policy, reads: ReadStatistics, gpu_gb: int | None) -> Plan:
    """Every rule of the policy that applies, in the order of the rule book."""
    for rule in book.rules:
        if rule.policy != policy or not rule.where.holds(gpu_gb=gpu_gb, reads=reads.reads, bases=reads.bases):
            continue
        for key, recommended in rule.recommends.items():
            if isinstance(recommended, Multiple):
                continue
            value = _nearest(recommended, plan.value(key))
            plan = plan.with_setting(key, Setting(value, rule.why or rule.title, rule.id, rule.source))
    return plan


def _own_rate(plan: Plan, book: Rulebook, hidden: int) -> Plan:
    """The learning rate for an encoder narrower than the one that the rules' rate was tuned with."""
    if hidden >= METAGENE_1_WIDTH:
        return plan
    setting, rule = plan.settings["optimizer.lr"], book.rule("EV-LR-WIDTH")
    rate = float(f"{min(HIGHEST_RATE, setting.value * METAGENE_1_WIDTH / hidden):.2g}")
    why = (
        f"{setting.value:g} [{setting.rule}] x {METAGENE_1_WIDTH} / {hidden}, the width of METAGENE-1 over "
        f"that of this encoder, at most {HIGHEST_RATE:g}: {rule.why}"
    )
    return plan.with_setting("optimizer.lr", Setting(rate, why, rule.id, rule.source))


def _guide(plan: Plan, book: Rulebook, reads: ReadStatistics, gpu_gb: int | None) -> Plan:
    """The guide's defaults, what it says beside its tables, its row for the card and its row for the data
    set; a later one wins."""
    small_card = gpu_gb is not None and gpu_gb <= 24
    for rule in book.hyperparameters:
        default = rule.rtx4090 if small_card else rule.standard
        if rule.key == EFFECTIVE_BATCH or isinstance(default, Band | OneOf | Multiple):
            continue
        profile = "RTX 4090" if small_card else "standard"
        plan = plan.with_setting(
            rule.key, Setting(_plain(default), f"the guide's {profile} profile", rule.id, rule.source)
        )
    plan = _rules(plan, book, "guide", reads, gpu_gb)
    size = gpu_gb or 0
    rows = [row for row in book.memory_tiers if row.gpu_gb <= size] or [book.memory_tiers[0]]
    tiers: list[Rule] = [max(rows, key=lambda row: row.gpu_gb)]
    tiers += [row for row in book.dataset_tiers if reads.reads is not None and row.where.reads(reads.reads)]
    for tier in tiers:
        for key, recommended in tier.recommends.items():
            value = _nearest(recommended, _advised(book, key, reads, gpu_gb, plan.value(key)))
            plan = plan.with_setting(
                key, Setting(value, f"the guide's {_decapitalised(tier.title)}", tier.id, tier.source)
            )
    effective = plan.value("training.batch_size") * plan.value("training.grad_accum_steps")
    return plan.with_setting(
        EFFECTIVE_BATCH, Setting(effective, "the guide's row for this card", tiers[0].id)
    )


def _advised(book: Rulebook, key: str, reads: ReadStatistics, gpu_gb: int | None, otherwise: Any) -> Any:
    """What the guide advises for one key by read length, number of reads or card."""
    rule = next((rule for rule in book.hyperparameters if rule.key == key), None)
    for advice in rule.advice if rule else ():
        conditional = advice.where != advice.where.model_copy(
            update={"gpu_gb": (), "reads_from": 0, "reads_below": None, "bases_from": 0, "bases_below": None}
        )
        if conditional and advice.where.holds(gpu_gb=gpu_gb, reads=reads.reads, bases=reads.bases):
            return advice.value.low if isinstance(advice.value, Band) else _nearest(advice.value, otherwise)
    return otherwise


def _own_length(plan: Plan, book: Rulebook, reads: ReadStatistics, context: int, *, asked: bool) -> Plan:
    """The length that the reads decide. ``asked``: the user has said how many of them may be cut."""
    allowed = plan.value(MAX_TRUNCATION)
    length = reads.shortest_length(allowed, context)
    rule = book.rule("EV-LENGTH")
    cut = reads.cut(length)
    why, source = (
        f"smallest multiple of 8 tokens that cuts at most {percent(allowed)} of the reads",
        rule.source,
    )
    if reads.reads is None:
        why += f" assumed: {reads.mean_tokens:.0f} tokens, room for {reads.longest}; --fasta takes your own"
        source = "METAGENE-1's tokenizer on wastewater reads"
    elif cut > allowed:
        why = f"the encoder's context; {percent(cut)} of the reads are longer and will be cut"
    else:
        why += f" ({percent(cut)} are cut)"
    plan = plan.with_setting("tokenizer.max_length", Setting(length, why, rule.id, source))
    notes = list(plan.notes)
    if cut > allowed:
        notes.append(
            f"{percent(cut)} of the reads exceed the encoder's context of {context} tokens: they are cut"
        )
    elif cut > 0 and reads.reads is not None:
        notes.append(
            f"{percent(cut)} of the reads have more than {length} tokens: they are cut"
            + ("; --max-truncation 0 keeps them whole" if reads.longest <= context else "")
        )
    shorter = reads.shortest_length(FEW_READS, context)
    if not asked and 2 * shorter <= length:
        notes.append(
            f"{percent(reads.cut(shorter))} of the reads are why max_length is {length} and not {shorter}; "
            f"--max-truncation {FEW_READS:g} would cut them, which leaves memory for speed"
        )
    return replace(plan, notes=tuple(notes))


def _scaled(plan: Plan, book: Rulebook, policy: Policy) -> Plan:
    """Settings that are a multiple of another one, once that one is decided."""
    if policy == "guide":
        rule: Any = book.hyperparameter("model.lora.alpha")
        multiples = [(rule.key, advice.value) for advice in rule.advice if isinstance(advice.value, Multiple)]
        return _multiplied(plan, rule, multiples)
    for rule in book.rules:
        if rule.policy == "evidence":
            multiples = [
                (key, value) for key, value in rule.recommends.items() if isinstance(value, Multiple)
            ]
            plan = _multiplied(plan, rule, multiples)
    return plan


def _multiplied(plan: Plan, rule: Any, multiples: list[tuple[str, Multiple]]) -> Plan:
    for key, multiple in multiples:
        value = multiple.times * plan.value(multiple.of)
        value = int(value) if float(value).is_integer() else value
        why = f"{multiple.times:g} x {multiple.of}: {rule.why}"
        plan = plan.with_setting(key, Setting(value, why, rule.id, rule.source))
    return plan


def _change(plan: Plan, change: Change, why: str, rule: str, source: str) -> Plan:
    """One change of a goal; a value that is already past it stays."""
    setting = plan.settings[change.key]
    now = setting.value
    if change.action == "set":
        value = _nearest(change.value, now)
    else:
        if now is None:
            return plan
        raising = change.action == "raise"
        value = _plain(change.value) if change.value is not None else now * (change.factor or 1)
        if (value <= now) if raising else (value >= now):
            return plan
        if change.limit is not None:
            value = min(value, max(change.limit, now)) if raising else max(value, min(change.limit, now))
        if isinstance(now, int) and not isinstance(now, bool):
            value = max(1, round(value))
    return plan if value == now else plan.with_setting(change.key, Setting(value, why, rule, source))


def _nearest(recommended: Recommended, now: Any) -> Any:
    """The recommended value; within a span or a set of alternatives, the one nearest to what is there."""
    if isinstance(recommended, OneOf):
        return now if now in recommended.one_of else recommended.one_of[0]
    if isinstance(recommended, Band):
        value = recommended.clamp(now if isinstance(now, int | float) else recommended.low)
        return int(value) if float(value).is_integer() else value
    return _plain(recommended)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _decapitalised(title: str) -> str:
    return title[:1].lower() + title[1:]
