"""What fits: the memory of the device, and the settings that need no more of it. All in GiB = 2^30."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from metagene_doctor.advice.changes import (
    ConfigChange,
    micro_batches,
    with_changes,
    with_micro_batch,
)
from metagene_doctor.advice.dry_run import padded_length
from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.memory_symptoms import FOREIGN_GIB, needed_gib
from metagene_doctor.rulebook.schema import Fix
from metagene_train.config import RunConfig


@dataclass(frozen=True)
class Budget:
    """The device memory there is (None: no card is known), and what a configuration would need, in GiB.

    ``predict`` gives device memory with its margin, or None where it cannot tell. ``bias_gib`` is what
    this run was seen to need beyond the prediction of its own configuration. ``busy_tokens`` is how
    many tokens one pass must bring for the card to be limited by arithmetic, not by reading weights.
    """

    usable_gib: float | None
    predict: Callable[[RunConfig], float | None]
    bias_gib: float = 0.0
    busy_tokens: float = 0.0

    def need(self, config: RunConfig) -> float | None:
        predicted = self.predict(config)
        return None if predicted is None else predicted + self.bias_gib

    def fits(self, config: RunConfig) -> bool | None:
        need = self.need(config)
        return None if need is None or self.usable_gib is None else need <= self.usable_gib


def bias(evidence: Evidence, predicted_gib: float | None) -> float:
    """GiB that a run which ran out of memory needed beyond its prediction, at least: what it held plus
    what it asked for in vain, less the prediction."""
    if not evidence.device_failures or predicted_gib is None:
        return 0.0
    needed = needed_gib(evidence)
    return max(0.0, needed - predicted_gib) if needed is not None else 0.0


def usable_after_failure(evidence: Evidence, usable_gib: float | None) -> float | None:
    """GiB this run may count on, by its failure message: not what others hold, nor above a set limit."""
    if not evidence.device_failures:
        return usable_gib
    failure = evidence.device_failures[-1]
    if failure.capacity_gib is None:
        return usable_gib
    if usable_gib is not None and usable_gib > failure.capacity_gib:
        return usable_gib  # a larger card than the one that failed
    foreign = failure.foreign_gib or 0.0
    seen = failure.capacity_gib - (foreign if foreign > FOREIGN_GIB else 0.0)
    return min(value for value in (seen, usable_gib, failure.limit_gib) if value is not None)


def least_need(config: RunConfig, budget: Budget) -> float | None:
    """GiB of one read at a time with checkpointing (and 16-bit weights), if even that does not fit."""
    least = _least(config)
    need = budget.need(least)
    return need if need is not None and budget.usable_gib is not None and need > budget.usable_gib else None


def _least(config: RunConfig) -> RunConfig:
    precision = "bf16-mixed" if config.training.precision == "32" else config.training.precision
    return with_changes(
        config,
        (
            *with_micro_batch(config, 1),
            ConfigChange("training.eval_batch_size", config.training.eval_batch_size, None),
            ConfigChange("model.gradient_checkpointing", config.model.gradient_checkpointing, True),
            ConfigChange("training.precision", config.training.precision, precision),
        ),
    )


def fitting_quantization(
    config: RunConfig, budget: Budget, proposals: list[tuple[ConfigChange, ...]]
) -> tuple[ConfigChange, ...]:
    """The first of the proposals with which one read at a time fits, else the last."""
    fitting = (change for change in proposals if budget.fits(_least(with_changes(config, change))))
    return next(fitting, proposals[-1])


def fitting_micro_batch(
    fix: Fix, config: RunConfig, budget: Budget, longest_read: int | None
) -> tuple[ConfigChange, ...] | None:
    """The largest micro-batch that fits (below the present one to save memory, above it for speed).

    While checkpointing is still to come, none so small that the card would mostly read weights.
    """
    now = config.training.batch_size
    limit = fix.limit or math.inf
    if fix.action == "raise":
        best = _largest_fitting(
            [size for size in micro_batches(config) if now < size <= limit], config, budget
        )
        return with_micro_batch(config, best) if best is not None else None
    sizes = [size for size in micro_batches(config) if size < now]
    if not config.model.gradient_checkpointing:
        tokens = padded_length(config, longest_read)
        sizes = [size for size in sizes if size * tokens >= budget.busy_tokens] or sizes[-1:]
    if not sizes:
        return None
    # Where not even the smallest fits it still saves most, and the remedies after it have to do the rest.
    best = _largest_fitting(sizes, config, budget)
    return with_micro_batch(config, sizes[0] if best is None else best)


def _largest_fitting(sizes: list[int], config: RunConfig, budget: Budget) -> int | None:
    """By bisection: what fits at one micro-batch fits at every smaller one."""
    low, high, best = 0, len(sizes) - 1, None
    while low <= high:
        middle = (low + high) // 2
        if budget.fits(with_changes(config, with_micro_batch(config, sizes[middle]))):
            best, low = sizes[middle], middle + 1
        else:
            high = middle - 1
    return best
