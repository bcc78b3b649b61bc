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
    merged,
    propose,
    with_changes,
)
from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.relevance import Relevance, relevance
from metagene_doctor.advice.speed_symptoms import SPARE_MEMORY
from metagene_doctor.advice.symptom import gib
from metagene_doctor.rule_schema import Fix
from metagene_doctor.rulebook import Rulebook
from metagene_train.config import RunConfig

TAKES_MEMORY = ("slow", "underfitting")
"""Symptoms whose fixes may need more memory, so that it is predicted before they are advised."""

UNSEEN_BY_PREDICTION = ("training.group_by_length", "memory_optimization.expandable_segments")
"""Keys that change how the allocator fares, not what one step of the longest batch needs."""
NEGLIGIBLE_GIB = 0.01
"""Predicted differences below this are rounding."""


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


def plan(
    symptoms: list[str],
    config: RunConfig,
    evidence: Evidence,
    rulebook: Rulebook,
    budget: Budget | None = None,
    processors: int | None = None,
) -> Plan:
    """Remedies for the named symptoms, on one configuration that they change in turn.

    A key that an earlier remedy changed is not changed again for another symptom: out of memory comes
    first, stability before fit, fit before speed. ``processors`` bounds the number of workers.
    """
    advised: list[Advised] = []
    set_aside: list[SetAside] = []
    current = config
    for name in symptoms:
        taken = {change.key for item in advised for change in item.changes}
        usable_fixes: list[Advised] = []
        for fix, weight in _in_order(name, config, evidence, rulebook, budget):
            outcome = _one(name, fix, weight, current, evidence, budget, processors)
            if isinstance(outcome, Advised) and (clash := taken & {c.key for c in outcome.changes}):
                outcome = SetAside(name, fix, f"{min(clash)} is changed for a graver symptom already")
            if isinstance(outcome, SetAside):
                if fix.id not in {i.fix.id for i in usable_fixes} | {i.fix.id for i in set_aside}:
                    set_aside.append(outcome)
                continue
            usable_fixes.append(outcome)
            if outcome.at_once:
                current = with_changes(current, outcome.changes)
        if usable_fixes and not any(item.at_once for item in usable_fixes):
            usable_fixes[0] = dataclasses.replace(usable_fixes[0], at_once=True)
            current = with_changes(current, usable_fixes[0].changes)
        advised += sorted(usable_fixes, key=lambda item: not item.at_once)
    need = budget.need(current) if budget else None
    return Plan(current, tuple(advised), tuple(set_aside), budget.usable_gib if budget else None, need)


def _in_order(
    symptom: str, config: RunConfig, evidence: Evidence, rulebook: Rulebook, budget: Budget | None
) -> Iterator[tuple[Fix, Relevance]]:
    """The rule book's order, with what the evidence points at first."""
    fixes = list(rulebook.symptom(symptom).fixes)
    if symptom == "oom":
        fixes = list(_micro_batch_again(fixes))
    if symptom == "oom" and config.training.precision == "32":
        # Holding the weights in 16 bits is a remedy for speed in the rule book; with fp32 weights it
        # is also the largest saving of memory there is.
        fixes = [fix for fix in rulebook.symptom("slow").fixes if fix.key == "training.precision"] + fixes
    weighed = [(fix, relevance(symptom, fix, config, evidence)) for fix in fixes]
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


def _one(
    symptom: str,
    fix: Fix,
    weight: Relevance,
    config: RunConfig,
    evidence: Evidence,
    budget: Budget | None,
    processors: int | None,
) -> Advised | SetAside:
    before = budget.need(config) if budget and symptom in ("oom", *TAKES_MEMORY) else None
    usable = budget.usable_gib if budget else None
    if symptom == "oom" and before is not None and usable is not None and before <= usable:
        return SetAside(
            symptom, fix, f"not needed: {gib(before)} of {gib(usable)} predicted without it", True
        )
    if weight.shown_by_run and fix.key == "training.max_epochs":
        fix = fix.model_copy(update={"limit": None})  # the run itself shows that more steps help
    proposal = propose(fix, config)
    if isinstance(proposal, Impossible):
        return SetAside(symptom, fix, proposal.reason, proposal.already)
    if fix.verdict == "contradicted" and not weight.shown_by_run:
        saving = _saving(proposal, config, budget, before)
        return SetAside(symptom, fix, f"contradicted: {saving or fix.evidence}; {fix.why}")
    if weight.excluded:
        return SetAside(symptom, fix, weight.reason)
    if fix.key == "training.batch_size" and budget and before is not None and usable is not None:
        proposal = fitting_micro_batch(fix, config, budget, evidence.longest_read_tokens) or proposal
    if fix.key == "model.quantization" and budget and usable is not None:
        proposal = fitting_quantization(config, budget)
    if fix.key == "training.num_workers" and processors is not None:
        proposal = _bounded_workers(proposal, processors)
        if not proposal:
            return SetAside(symptom, fix, f"{processors} processors have no room for more workers")
    if fix.key == "tokenizer.max_length" and evidence.longest_read_tokens:
        proposal = _whole_reads(proposal, evidence.longest_read_tokens)
        if not proposal:
            return SetAside(
                symptom,
                fix,
                f"the longest read has {evidence.longest_read_tokens} tokens: shorter cuts reads",
            )
    if fix.key == "training.max_epochs" and fix.action == "lower":
        proposal = _until_best(proposal, evidence)
    after_config = with_changes(config, proposal)
    after = budget.need(after_config) if budget and before is not None else None
    if fix.key in UNSEEN_BY_PREDICTION or (
        fix.key == "tokenizer.padding" and evidence.longest_read_tokens is None
    ):
        after = None
    if symptom in TAKES_MEMORY and _grows(fix, before, after):
        if after is not None and usable is not None and after > usable:
            return SetAside(symptom, fix, f"would need {gib(after)} of the {gib(usable)} that are usable")
        if (after is None or usable is None) and not _has_room(evidence, budget):
            return SetAside(symptom, fix, "takes more memory, and how much is free is not known (give --gpu)")
    if symptom == "oom" and before is not None and after is not None and after >= before - NEGLIGIBLE_GIB:
        return SetAside(symptom, fix, f"saves nothing here: {gib(before)} before, {gib(after)} after")
    at_once = weight.shown_by_run or (fix.verdict == "holds" and not weight.only_if_needed)
    if fix.key == "model.quantization" and before is None and not weight.shown_by_run:
        at_once = False  # slower and less exact: only when it is known that nothing milder is enough
    return Advised(symptom, fix, proposal, weight.reason, before, after, at_once)


def _saving(
    proposal: tuple[ConfigChange, ...], config: RunConfig, budget: Budget | None, before: float | None
) -> str:
    if budget is None or before is None:
        return ""
    after = budget.need(with_changes(config, proposal))
    if after is None:
        return ""
    changes = ", ".join(str(change) for change in proposal)
    return f"{changes} would change {gib(before)} to {gib(after)} (predicted)"


def _bounded_workers(proposal: tuple[ConfigChange, ...], processors: int) -> tuple[ConfigChange, ...]:
    bounded = (dataclasses.replace(change, new=min(change.new, processors)) for change in proposal)
    return tuple(change for change in bounded if change.new > change.old)


def _whole_reads(proposal: tuple[ConfigChange, ...], longest: int) -> tuple[ConfigChange, ...]:
    """A length between the longest read and the present one: never one that cuts reads."""
    kept = (dataclasses.replace(change, new=max(change.new, longest)) for change in proposal)
    return tuple(change for change in kept if change.new != change.old)


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


def _has_room(evidence: Evidence, budget: Budget | None) -> bool:
    """Without a prediction: the run itself left much of the card unused."""
    reserved = evidence.peak_reserved_gib
    usable = budget.usable_gib if budget else None
    return usable is not None and reserved is not None and reserved < SPARE_MEMORY * usable
