"""Symptoms -> remedies: the rule book's fixes that this run can use, in the order to try them.

Each remedy is applied on top of those before it, so that old values and predicted memory are those of
the configuration as it then stands. A fix that the configuration has already, that evidence contradicts
or that the run's own numbers rule out is set aside with the reason.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from metagene_doctor.advice.budget import Budget, fitting_micro_batch, fitting_quantization, least_need
from metagene_doctor.advice.changes import (
    ConfigChange,
    Impossible,
    Proposal,
    merged,
    propose,
    smaller_weights,
    with_changes,
)
from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.relevance import Relevance, relevance
from metagene_doctor.advice.speed_symptoms import SPARE_MEMORY
from metagene_doctor.advice.symptom import gib
from metagene_doctor.rulebook import Rulebook
from metagene_doctor.rulebook.schema import Fix
from metagene_train.config import RunConfig

TAKES_MEMORY = ("slow", "underfitting")
"""Symptoms whose fixes may need more memory, so that it is predicted before they are advised."""

UNSEEN_BY_PREDICTION = ("training.group_by_length", "memory_optimization.expandable_segments")
"""Keys that change how the allocator fares, not what one step of the longest batch needs."""
NEGLIGIBLE_GIB = 0.01
"""Predicted differences below this are rounding."""


@dataclass(frozen=True)
class Situation:
    """What a fix is judged by besides the configuration.

    ``processors`` bounds the number of workers; ``bf16`` says whether the device multiplies it fast,
    ``int8`` whether it multiplies in 8 bits at all.
    """

    evidence: Evidence
    rulebook: Rulebook
    budget: Budget | None = None
    processors: int | None = None
    bf16: bool = True
    int8: bool = True
    on_cpu: bool = False

    @property
    def usable_gib(self) -> float | None:
        return self.budget.usable_gib if self.budget else None

    def need(self, config: RunConfig) -> float | None:
        return self.budget.need(config) if self.budget else None


@dataclass(frozen=True)
class Advised:
    """A fix to make. ``before_gib`` and ``after_gib``: predicted device memory without and with it.

    ``at_once``: borne out by evidence or by the run itself, so it is part of the changed configuration;
    the others are for when that was not enough.
    """

    symptom: str
    fix: Fix
    changes: tuple[ConfigChange, ...]
    reason: str = ""
    before_gib: float | None = None
    after_gib: float | None = None
    at_once: bool = True


@dataclass(frozen=True)
class SetAside:
    """A fix not to make, and why not. ``already``: the configuration has it."""

    symptom: str
    fix: Fix
    reason: str
    already: bool = False


@dataclass(frozen=True)
class Plan:
    """Remedies for all symptoms of a run in order, and the configuration with those to make at once."""

    config: RunConfig
    advised: tuple[Advised, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    usable_gib: float | None = None
    need_gib: float | None = None

    @property
    def changes(self) -> tuple[ConfigChange, ...]:
        return merged(change for item in self.advised if item.at_once for change in item.changes)


def plan(symptoms: list[str], config: RunConfig, situation: Situation) -> Plan:
    """Remedies for the named symptoms, on one configuration that they change in turn.

    A key that an earlier remedy changed is not changed again for another symptom: out of memory comes
    first, stability before fit, fit before speed.
    """
    advised: list[Advised] = []
    set_aside: list[SetAside] = []
    current = config
    for name in symptoms:
        taken = {change.key for item in advised for change in item.changes}
        # A run that does not fit or does not converge is mended before it is made faster.
        can_wait = name == "slow" and bool({"oom", "instability"} & set(symptoms))
        usable_fixes: list[Advised] = []
        for fix, weight in _in_order(name, config, situation):
            outcome = _judged(name, fix, weight, current, situation)
            if isinstance(outcome, Advised) and (clash := taken & {c.key for c in outcome.changes}):
                outcome = SetAside(name, fix, f"{min(clash)} is changed for a graver symptom already")
            if isinstance(outcome, SetAside):
                if fix.id not in {i.fix.id for i in usable_fixes} | {i.fix.id for i in set_aside}:
                    set_aside.append(outcome)
                continue
            outcome = dataclasses.replace(outcome, at_once=outcome.at_once and not can_wait)
            usable_fixes.append(outcome)
            if outcome.at_once:
                current = with_changes(current, outcome.changes)
        if usable_fixes and not can_wait and not any(item.at_once for item in usable_fixes):
            usable_fixes[0] = dataclasses.replace(usable_fixes[0], at_once=True)
            current = with_changes(current, usable_fixes[0].changes)
        advised += sorted(usable_fixes, key=lambda item: not item.at_once)
    return Plan(current, tuple(advised), tuple(set_aside), situation.usable_gib, situation.need(current))


def _in_order(symptom: str, config: RunConfig, situation: Situation) -> Iterator[tuple[Fix, Relevance]]:
    """The rule book's order, with what the evidence points at first."""
    rulebook, budget = situation.rulebook, situation.budget
    fixes = list(rulebook.symptom(symptom).fixes)
    if symptom == "oom":
        fixes = list(_micro_batch_again(fixes))
    if symptom == "oom" and config.training.precision == "32":
        # Holding the weights in 16 bits is a remedy for speed in the rule book; with fp32 weights it
        # is also the largest saving of memory there is.
        fixes = [fix for fix in rulebook.symptom("slow").fixes if fix.key == "training.precision"] + fixes
    weighed = [(fix, relevance(symptom, fix, config, situation.evidence)) for fix in fixes]
    if symptom in ("underfitting", "overfitting") and any(weight.shown_by_run for _, weight in weighed):
        # The run names the cause: change that alone, and see.
        weighed = [(fix, dataclasses.replace(w, only_if_needed=not w.shown_by_run)) for fix, w in weighed]
    if symptom == "oom" and budget and (need := least_need(config, budget)) is not None:
        # Nothing that saves activations can help, and cutting the micro-batch down would only cost speed.
        reason = f"one read at a time with checkpointing still needs {gib(need)}"
        weighed = [
            (fix, Relevance(shown_by_run=True, reason=reason) if fix.key == "model.quantization" else weight)
            for fix, weight in weighed
        ]
    yield from sorted(weighed, key=lambda item: not item[1].shown_by_run)


def _micro_batch_again(fixes: list[Fix]) -> Iterator[Fix]:
    """After checkpointing the micro-batch has its second turn, now without a lower bound."""
    for fix in fixes:
        yield fix
        if fix.key == "model.gradient_checkpointing":
            yield from (again for again in fixes if again.key == "training.batch_size")


def _judged(
    symptom: str, fix: Fix, weight: Relevance, config: RunConfig, situation: Situation
) -> Advised | SetAside:
    """One fix on the configuration as it stands: advised with its changes, or set aside with a reason."""
    usable = situation.usable_gib
    before = situation.need(config) if symptom in ("oom", *TAKES_MEMORY) else None
    if symptom == "oom" and before is not None and usable is not None and before <= usable:
        reason = f"not needed: {gib(before)} of {gib(usable)} predicted without it"
        return SetAside(symptom, fix, reason, already=True)
    if weight.shown_by_run and fix.key == "training.max_epochs":
        fix = fix.model_copy(update={"limit": None})  # the run itself shows that more steps help
    proposal = propose(fix, config)
    if isinstance(proposal, Impossible):
        return SetAside(symptom, fix, proposal.reason, proposal.already)
    if fix.verdict == "contradicted" and not weight.shown_by_run:
        saving = _saving(proposal, config, situation, before)
        return SetAside(symptom, fix, f"contradicted: {saving or fix.evidence}; {fix.why}")
    if weight.excluded:
        return SetAside(symptom, fix, weight.reason)
    proposal = _tailored(proposal, fix, config, situation)
    if isinstance(proposal, Impossible):
        return SetAside(symptom, fix, proposal.reason)
    after = None
    if before is not None and _is_predictable(fix, situation):
        after = situation.need(with_changes(config, proposal))
    if reason := _memory_objection(symptom, fix, before, after, situation):
        return SetAside(symptom, fix, reason)
    at_once = weight.shown_by_run or (fix.verdict == "holds" and not weight.only_if_needed)
    if fix.key == "model.quantization" and before is None and not weight.shown_by_run:
        at_once = False  # slower and less exact: only when it is known that nothing milder is enough
    return Advised(symptom, fix, proposal, weight.reason, before, after, at_once)


def _tailored(
    proposal: tuple[ConfigChange, ...], fix: Fix, config: RunConfig, situation: Situation
) -> Proposal:
    """The rule's step, made as long as this card, this machine and these reads ask for."""
    evidence, budget, processors = situation.evidence, situation.budget, situation.processors
    if budget and budget.usable_gib is not None and fix.key == "training.batch_size":
        return fitting_micro_batch(fix, config, budget, evidence.longest_read_tokens) or proposal
    if fix.key == "model.quantization":
        return _quantization_of_device(config, situation)
    if fix.key == "training.precision":
        return _precision_of_device(proposal, situation)
    if processors is not None and (fix.key, fix.action) == ("training.num_workers", "raise"):
        bounded = (dataclasses.replace(change, new=min(change.new, processors)) for change in proposal)
        more = tuple(change for change in bounded if change.new > change.old)
        return more or Impossible(f"{processors} processors have no room for more workers")
    if evidence.longest_read_tokens and fix.key == "tokenizer.max_length":
        longest = evidence.longest_read_tokens
        whole = (dataclasses.replace(change, new=max(change.new, longest)) for change in proposal)
        kept = tuple(change for change in whole if change.new != change.old)
        return kept or Impossible(f"the longest read has {longest} tokens: shorter cuts reads")
    if fix.key == "training.max_epochs" and fix.action == "lower":
        return _until_best(proposal, evidence)
    return proposal


def _quantization_of_device(config: RunConfig, situation: Situation) -> Proposal:
    """The mildest that the card multiplies in; 4 bits where 8 are known not to fit."""
    smaller = [changes for changes in smaller_weights(config) if situation.int8 or changes[0].new != "int8"]
    budget = situation.budget
    if budget is None or budget.usable_gib is None:
        return smaller[0]
    return fitting_quantization(config, budget, smaller)


def _precision_of_device(proposal: tuple[ConfigChange, ...], situation: Situation) -> Proposal:
    """fp16 instead of bf16 on cards before Ampere, and neither on a processor."""
    if situation.on_cpu:
        return Impossible("the run is on a processor, where 16-bit arithmetic is no faster")
    if situation.bf16:
        return proposal
    if any(change.old == "fp16-mixed" for change in proposal):
        return Impossible("the card has no bf16")
    return tuple(dataclasses.replace(change, new="fp16-mixed") for change in proposal)


def _is_predictable(fix: Fix, situation: Situation) -> bool:
    """Whether the dry run can tell what this fix does: not without the lengths of the reads for padding."""
    if fix.key == "tokenizer.padding":
        return situation.evidence.longest_read_tokens is not None
    return fix.key not in UNSEEN_BY_PREDICTION


def _memory_objection(
    symptom: str, fix: Fix, before: float | None, after: float | None, situation: Situation
) -> str:
    """Why memory speaks against a fix; empty if it does not."""
    if symptom == "oom" and before is not None and after is not None and after >= before - NEGLIGIBLE_GIB:
        return f"saves nothing here: {gib(before)} before, {gib(after)} after"
    if symptom not in TAKES_MEMORY or not _grows(fix, before, after):
        return ""
    usable = situation.usable_gib
    if after is not None and usable is not None:
        return "" if after <= usable else f"would need {gib(after)} of the {gib(usable)} that are usable"
    if _has_room(situation):
        return ""
    return "takes more memory, and how much is free is not known (give --gpu)"


def _saving(
    proposal: tuple[ConfigChange, ...], config: RunConfig, situation: Situation, before: float | None
) -> str:
    after = situation.need(with_changes(config, proposal)) if before is not None else None
    if before is None or after is None:
        return ""
    changes = ", ".join(str(change) for change in proposal)
    return f"{changes} would change {gib(before)} to {gib(after)} (predicted)"


def _until_best(proposal: tuple[ConfigChange, ...], evidence: Evidence) -> tuple[ConfigChange, ...]:
    """Epochs up to the best evaluation, where the run shows it, instead of the rule's number."""
    scored = [e for e in evidence.evaluations if e.loss is not None and e.epoch and math.isfinite(e.loss)]
    if not scored:
        return proposal
    best = math.ceil(min(scored, key=lambda e: e.loss or 0.0).epoch or 1)
    return tuple(
        dataclasses.replace(change, new=best)
        if change.key == "training.max_epochs" and 1 <= best < change.old
        else change
        for change in proposal
    )


def _grows(fix: Fix, before: float | None, after: float | None) -> bool:
    """The change takes more memory: as predicted, or by its nature when nothing is predicted."""
    if before is not None and after is not None:
        return after > before + NEGLIGIBLE_GIB
    return (fix.key, fix.action) == ("training.batch_size", "raise") or (
        fix.key == "model.gradient_checkpointing" and fix.value is False
    )


def _has_room(situation: Situation) -> bool:
    """Without a prediction: the run itself left much of the card unused."""
    reserved, usable = situation.evidence.peak_reserved_gib, situation.usable_gib
    return usable is not None and reserved is not None and reserved < SPARE_MEMORY * usable
