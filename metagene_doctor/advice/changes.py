"""One fix of the rule book, applied to one configuration: which keys change from what to what.

A fix that would change nothing, or only something without effect in this configuration, is not a
change but a reason why not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metagene_doctor.rulebook.schema import Band, Fix, OneOf
from metagene_train.config import ATTENTION_PROJECTIONS, MLP_PROJECTIONS, RunConfig
from metagene_train.config_file import flatten

AUTHORS_WARMUP = 50
"""Optimizer steps of warm-up in METAGENE-1's own fine-tuning (arXiv:2501.02045, table 6)."""
AUTHORS_LOWEST_LR, AUTHORS_HIGHEST_LR = 1e-4, 1e-3
"""The learning rates that METAGENE-1's authors search for LoRA (table 7)."""
LARGEST_USEFUL_BATCH = 32
"""Reads per optimizer step: METAGENE-1's authors use 16-32, and LoRA loses at larger batches."""
QUANTIZATIONS = ("none", "int8", "nf4")
"""From the mildest to the smallest."""
EVERY_LINEAR = {*ATTENTION_PROJECTIONS, *MLP_PROJECTIONS}


@dataclass(frozen=True)
class ConfigChange:
    """One dotted key, from ``old`` to ``new``."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} {shown(self.old)} → {shown(self.new)}"


@dataclass(frozen=True)
class Impossible:
    """Why a fix is not advised. ``already``: the configuration has it, so there is nothing to say."""

    reason: str
    already: bool = False


Proposal = tuple[ConfigChange, ...] | Impossible


def propose(fix: Fix, config: RunConfig) -> Proposal:
    """The changes that ``fix`` makes to ``config``, or why it makes none."""
    if reason := without_effect(fix, config):
        return Impossible(reason)
    special = SPECIAL.get(fix.key)
    proposal = special(fix, config) if special else _plain(fix, config)
    if isinstance(proposal, Impossible):
        return proposal
    real = tuple(change for change in proposal if change.old != change.new)
    return real or Impossible(f"{fix.key} is {shown(value_of(config, fix.key))} already", already=True)


def value_of(config: RunConfig, dotted: str) -> Any:
    """The value of a dotted key, as YAML would hold it."""
    return flatten(config)[dotted]


def with_changes(config: RunConfig, changes: Iterable[ConfigChange]) -> RunConfig:
    """A checked copy of ``config`` with the changes made."""
    tree = config.model_dump(mode="json")
    for change in changes:
        *parents, leaf = change.key.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[leaf] = change.new
    return RunConfig.model_validate(tree)


def merged(changes: Iterable[ConfigChange]) -> tuple[ConfigChange, ...]:
    """Successive changes of the same key as one, from the first old to the last new value."""
    by_key: dict[str, ConfigChange] = {}
    for change in changes:
        first = by_key.get(change.key, change)
        by_key[change.key] = ConfigChange(change.key, first.old, change.new)
    return tuple(change for change in by_key.values() if change.old != change.new)


def shown(value: Any) -> str:
    """A value as it stands in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, (list, tuple)) else str(value)


def with_micro_batch(config: RunConfig, batch_size: int) -> tuple[ConfigChange, ...]:
    """Another micro-batch at the same effective batch, which it must divide."""
    training = config.training
    return (
        ConfigChange("training.batch_size", training.batch_size, batch_size),
        ConfigChange(
            "training.grad_accum_steps", training.grad_accum_steps, training.effective_batch // batch_size
        ),
    )


def micro_batches(config: RunConfig) -> list[int]:
    """All micro-batches that keep the effective batch, ascending."""
    effective = config.training.effective_batch
    return [size for size in range(1, effective + 1) if effective % size == 0]


def without_effect(fix: Fix, config: RunConfig) -> str:
    """Why changing this key would do nothing in this configuration; empty if it would do something."""
    if fix.key.startswith("model.lora.") and not config.model.lora.enabled:
        return "adapters are off (model.lora.enabled: false)"
    if fix.key == "training.group_by_length" and config.tokenizer.padding == "max_length":
        return "batches are padded to max_length, so grouping saves nothing (tokenizer.padding comes first)"
    if fix.key == "training.group_by_length" and config.training.batch_size == 1:
        return "a micro-batch of one read has no padding"
    if fix.key == "model.quantization" and config.device == "cpu":
        return "quantised weights need a CUDA device"
    if fix.key == "memory_optimization.expandable_segments" and config.device == "cpu":
        return "it is a setting of the CUDA allocator"
    return ""


def _plain(fix: Fix, config: RunConfig) -> Proposal:
    """Set, raise or lower one key as the rule says."""
    old = value_of(config, fix.key)
    if fix.action == "set":
        return (ConfigChange(fix.key, old, _as_yaml(_chosen(fix.value, old))),)
    if old is None:
        return Impossible(f"{fix.key} is not set")
    new = _towards(fix, float(old))
    if new is None:
        return Impossible(f"{fix.key} is {shown(old)} already", already=True)
    return (ConfigChange(fix.key, old, round(new) if isinstance(old, int) else new),)


def _towards(fix: Fix, old: float) -> float | None:
    """Where ``raise`` or ``lower`` leads, never against its direction and never past the limit."""
    up = fix.action == "raise"
    if fix.value is not None:
        target = _chosen(fix.value, old)
        new = float(target) if isinstance(target, (int, float)) else old
    else:
        new = old * (fix.factor or 1.0)
    if fix.limit is not None:
        new = min(new, fix.limit) if up else max(new, fix.limit)
    return new if (new > old if up else new < old) else None


def _chosen(value: Any, old: Any) -> Any:
    """The value itself, or the nearest one of a band or of alternatives."""
    if isinstance(value, Band):
        return value.clamp(float(old))
    if isinstance(value, OneOf):
        return old if old in value.one_of else value.one_of[0]
    return value


def _as_yaml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _micro_batch(fix: Fix, config: RunConfig) -> Proposal:
    """The next smaller or larger micro-batch by about the factor that keeps the effective batch."""
    old = config.training.batch_size
    factor = fix.factor or 2.0
    if fix.keeps != "effective_batch":
        return _plain(fix, config)
    if fix.action == "lower":
        sizes = [size for size in micro_batches(config) if size <= max(1.0, old * factor) and size < old]
        if not sizes:
            return Impossible("the micro-batch is 1 already", already=True)
        return with_micro_batch(config, sizes[-1])
    if config.training.grad_accum_steps == 1:
        return Impossible(
            "the whole effective batch is one micro-batch already; more would change the training"
        )
    limit = fix.limit or math.inf
    sizes = [size for size in micro_batches(config) if old * factor <= size <= limit]
    return with_micro_batch(config, sizes[0]) if sizes else Impossible(f"the limit is {limit:g}")


def _rank(fix: Fix, config: RunConfig) -> Proposal:
    """alpha moves along with r, so that the scale alpha/r that the learning rate was chosen for stays."""
    changes = _plain(fix, config)
    if isinstance(changes, Impossible):
        return changes
    lora = config.model.lora
    ratio = changes[0].new / changes[0].old
    return (*changes, ConfigChange("model.lora.alpha", lora.alpha, lora.alpha * ratio))


def _targets(fix: Fix, config: RunConfig) -> Proposal:
    old = config.model.lora.target_modules
    everything = old == "all-linear" or set(old) >= EVERY_LINEAR
    if fix.value == "all-linear" and everything:
        return Impossible("all linear layers are adapted already", already=True)
    if isinstance(fix.value, tuple) and not everything and set(old) <= set(map(str, fix.value)):
        return Impossible(f"only {shown(old)} are adapted already", already=True)
    return _plain(fix, config)


def _at_most(fix: Fix, config: RunConfig) -> Proposal:
    """Setting a bound: a tighter one stays; null and 0 mean that there is none."""
    old = value_of(config, fix.key)
    if old and isinstance(fix.value, (int, float)) and old <= fix.value:
        return Impossible(f"{fix.key} is {shown(old)} already", already=True)
    return _plain(fix, config)


def _quantization(fix: Fix, config: RunConfig) -> Proposal:
    smaller = smaller_weights(config)
    return smaller[0] if smaller else Impossible("the encoder is held in 4 bits already", already=True)


def smaller_weights(config: RunConfig) -> list[tuple[ConfigChange, ...]]:
    """Every quantisation that holds the encoder in fewer bits than now, the mildest first."""
    old = config.model.quantization
    kinds = QUANTIZATIONS[QUANTIZATIONS.index(old) + 1 :]
    return [(ConfigChange("model.quantization", old, kind),) for kind in kinds]


def _length_of_run(fix: Fix, config: RunConfig) -> Proposal:
    """max_steps, where given, is what decides: change that one."""
    steps = config.training.max_steps
    if steps is None:
        return _plain(fix, config)
    if fix.factor is None:
        return Impossible("training.max_steps decides the length of the run, not max_epochs")
    return (ConfigChange("training.max_steps", steps, round(steps * fix.factor)),)


def _warmup(fix: Fix, config: RunConfig) -> Proposal:
    scheduler, factor = config.scheduler, fix.factor or 2.0
    if scheduler.warmup_ratio is not None:
        if not scheduler.warmup_ratio:
            return (
                ConfigChange("scheduler.warmup_ratio", scheduler.warmup_ratio, None),
                ConfigChange("scheduler.warmup_steps", None, AUTHORS_WARMUP),
            )
        new = min(0.2, scheduler.warmup_ratio * factor)
        if new <= scheduler.warmup_ratio:
            return Impossible(
                f"warm-up is {100 * scheduler.warmup_ratio:.0f} % of the run already", already=True
            )
        return (ConfigChange("scheduler.warmup_ratio", scheduler.warmup_ratio, new),)
    steps = scheduler.warmup(0)
    new_steps = min(fix.limit or math.inf, steps * factor if steps else AUTHORS_WARMUP)
    if new_steps <= steps:
        return Impossible(f"warm-up is {steps:,} steps already", already=True)
    return (ConfigChange(fix.key, scheduler.warmup_steps, round(new_steps)),)


def _learning_rate(fix: Fix, config: RunConfig) -> Proposal:
    """From outside LoRA's range (2e-5 is for full fine-tuning) straight to its nearer end."""
    changes = _plain(fix, config)
    if isinstance(changes, Impossible):
        side = "lower" if fix.action == "lower" else "upper"
        return Impossible(
            f"{config.optimizer.lr:g} is at or beyond the {side} end of LoRA's range ({fix.limit:g})"
        )
    if fix.action == "lower":
        new = min(changes[0].new, AUTHORS_HIGHEST_LR)
    else:
        new = max(changes[0].new, AUTHORS_LOWEST_LR)
    return (ConfigChange(fix.key, config.optimizer.lr, new),)


def _accumulation(fix: Fix, config: RunConfig) -> Proposal:
    """Towards an effective batch of 32 reads, from either side, never past it."""
    training = config.training
    effective = training.effective_batch
    if fix.action == "raise":
        steps = min(
            round(training.grad_accum_steps * (fix.factor or 2)), LARGEST_USEFUL_BATCH // training.batch_size
        )
        if steps <= training.grad_accum_steps:
            return Impossible(f"the effective batch is {effective} already, and LoRA loses at larger ones")
        return (ConfigChange(fix.key, training.grad_accum_steps, steps),)
    if effective <= LARGEST_USEFUL_BATCH:
        return Impossible(f"the effective batch is {effective} already", already=True)
    if training.grad_accum_steps == 1:
        half = max(LARGEST_USEFUL_BATCH, training.batch_size // 2)
        return (ConfigChange("training.batch_size", training.batch_size, half),)
    steps = max(
        round(training.grad_accum_steps * (fix.factor or 0.5)),
        math.ceil(LARGEST_USEFUL_BATCH / training.batch_size),
        1,
    )
    return (ConfigChange(fix.key, training.grad_accum_steps, steps),)


def _evaluation_batch(fix: Fix, config: RunConfig) -> Proposal:
    """null is the micro-batch, so that is what is halved."""
    training = config.training
    now = training.eval_batch_size or training.batch_size
    if now == 1:
        return Impossible("the evaluation batch is 1 already", already=True)
    return (ConfigChange(fix.key, training.eval_batch_size, max(1, round(now * (fix.factor or 0.5)))),)


def _precision(fix: Fix, config: RunConfig) -> Proposal:
    now = config.training.precision
    if fix.value == "bf16-mixed" and now == "bf16-true":
        return Impossible("precision is bf16-true already", already=True)
    return _plain(fix, config)


SPECIAL: Mapping[str, Callable[[Fix, RunConfig], Proposal]] = {
    "training.batch_size": _micro_batch,
    "model.lora.r": _rank,
    "model.lora.target_modules": _targets,
    "optimizer.max_grad_norm": _at_most,
    "training.early_stopping.patience": _at_most,
    "model.quantization": _quantization,
    "training.max_epochs": _length_of_run,
    "scheduler.warmup_steps": _warmup,
    "optimizer.lr": _learning_rate,
    "training.grad_accum_steps": _accumulation,
    "training.eval_batch_size": _evaluation_batch,
    "training.precision": _precision,
}
"""Keys whose change has to look at more than its own value."""
