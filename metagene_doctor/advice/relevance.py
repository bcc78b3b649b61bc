"""Which fixes the run's own numbers point at, and which they rule out."""

from __future__ import annotations

from dataclasses import dataclass

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.fit_symptoms import still_falling
from metagene_doctor.advice.machine_symptoms import growth
from metagene_doctor.advice.memory_symptoms import is_fragmented
from metagene_doctor.advice.speed_symptoms import DATA_WAIT, PADDING
from metagene_doctor.rulebook.schema import Fix
from metagene_train.config import RunConfig


@dataclass(frozen=True)
class Relevance:
    """``shown_by_run``: the evidence points at this fix, so it goes first; ``excluded``: the evidence
    rules it out; ``only_if_needed``: another fix is what it points at. ``reason`` is the number."""

    shown_by_run: bool = False
    excluded: bool = False
    only_if_needed: bool = False
    reason: str = ""


UNKNOWN = Relevance()


def relevance(symptom: str, fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    """What the evidence says about one fix for one symptom; `UNKNOWN` if it says nothing."""
    judges = {
        "oom": _memory,
        "host-growth": _host_growth,
        "disk": _disk,
        "slow": _speed,
        "instability": _stability,
        "underfitting": _fit,
    }
    judge = judges.get(symptom)
    return judge(fix, config, evidence) if judge else UNKNOWN


def _memory(fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    phase = evidence.device_failures[-1].phase if evidence.device_failures else None
    if fix.key == "training.eval_batch_size":
        if phase == "evaluation":
            return Relevance(shown_by_run=True, reason="the memory ran out during an evaluation")
        if phase is not None:
            return Relevance(excluded=True, reason=f"the memory ran out during {phase}, not an evaluation")
        own = config.training.eval_batch_size
        if own is None or own <= config.training.batch_size:
            return Relevance(excluded=True, reason="evaluation takes no larger batches than training")
        return UNKNOWN
    if phase == "loading" and fix.key not in ("model.quantization", "training.precision"):
        return Relevance(
            excluded=True, reason="the memory ran out while weights were loaded, before any batch"
        )
    if phase == "loading":
        return Relevance(shown_by_run=True, reason="the memory ran out while weights were loaded")
    if fix.key == "memory_optimization.expandable_segments" and evidence.device_failures:
        if is_fragmented(evidence):
            return Relevance(shown_by_run=True, reason="unused reserved memory was in pieces")
        return Relevance(excluded=True, reason="hardly any reserved memory was in unusable pieces")
    return UNKNOWN


def _host_growth(fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    """Both fixes are for worker processes: they help where those are what grows."""
    found = growth(evidence)
    if config.training.num_workers == 0:
        return Relevance(excluded=True, reason="there are no loader workers: the process itself grows")
    if found is not None and found.from_workers < 0.5:
        return Relevance(excluded=True, reason="the training process itself grows, not its loader workers")
    if fix.key == "training.num_workers":
        return Relevance(only_if_needed=True)
    if config.training.max_epochs == 1:
        return Relevance(excluded=True, reason="in a single epoch workers live as long as the run")
    if found is None:
        return UNKNOWN
    return Relevance(
        shown_by_run=True, reason=f"workers hold {100 * found.from_workers:.0f} % of what came to it"
    )


def _disk(fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    """A checkpoint comes with every evaluation, and from the second after ``keep`` on an older one goes."""
    written = len(evidence.evaluations)
    if fix.key == "training.checkpoint.keep" and written > config.training.checkpoint.keep + 1:
        return Relevance(
            excluded=True,
            reason=f"after {written} evaluations older checkpoints were deleted as new ones came, so "
            "something else fills the disk",
        )
    return UNKNOWN


def _speed(fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    wait = evidence.typical("data_wait_fraction")
    padding = evidence.typical("padding_fraction")
    if fix.key == "training.num_workers" and wait is not None:
        if wait > DATA_WAIT:
            return Relevance(
                shown_by_run=True, reason=f"{100 * wait:.0f} % of the time is spent waiting for data"
            )
        return Relevance(
            excluded=True, reason=f"only {100 * wait:.1f} % of the time is spent waiting for data"
        )
    if fix.key in ("tokenizer.padding", "training.group_by_length") and padding is not None:
        if padding > PADDING:
            return Relevance(shown_by_run=True, reason=f"{100 * padding:.0f} % of all tokens are padding")
        return Relevance(excluded=True, reason=f"only {100 * padding:.1f} % of all tokens are padding")
    if fix.key == "training.precision" and config.training.precision != "32":
        return Relevance(excluded=True, reason=f"{config.training.precision} uses the same arithmetic units")
    return UNKNOWN


def _stability(fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    if fix.key == "training.precision" and fix.value == "bf16-mixed":
        if config.training.precision == "fp16-mixed":
            return Relevance(shown_by_run=True, reason="fp16 overflows at 65,504")
        return Relevance(excluded=True, reason=f"{config.training.precision} does not overflow as fp16 does")
    return UNKNOWN


def _fit(fix: Fix, config: RunConfig, evidence: Evidence) -> Relevance:
    if fix.key == "training.max_epochs" and still_falling(evidence) is not None:
        return Relevance(shown_by_run=True, reason="validation loss was still falling at the end")
    if fix.key == "tokenizer.max_length" and evidence.longest_read_tokens is not None:
        longest = evidence.longest_read_tokens
        if longest <= config.tokenizer.max_length:
            return Relevance(excluded=True, reason=f"no read is cut: the longest has {longest} tokens")
        return Relevance(shown_by_run=True, reason=f"reads of up to {longest} tokens are cut")
    return UNKNOWN
