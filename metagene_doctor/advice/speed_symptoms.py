"""Time that a run loses to something that can be changed: waiting, padding, idle memory, evaluation.

The thresholds are judgements unless a source is named.
"""

from __future__ import annotations

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.symptom import Symptom, gib
from metagene_doctor.finding import Severity
from metagene_train.config import RunConfig

DATA_WAIT = 0.05
"""Share of wall time waiting for data above which the loader is the brake (PyTorch profiler's rule)."""
PADDING = 0.30
"""Share of padding tokens worth removing: the cost of a step is about proportional to all tokens."""
SPARE_MEMORY = 0.60
"""Reserved memory below this share of the card leaves room for larger or faster settings."""
EVALUATION_SHARE = 0.25
"""Share of the run spent evaluating above which fewer evaluations pay."""
EVALUATION_SECONDS = 60.0
"""Below this no share of time is worth changing."""
FAR_BELOW_PREDICTION = 0.5
"""Share of the slow end of the predicted speed below which something else holds the run back."""
ITERATIONS_PER_S = 1.0
"""The guide (section 5) calls training slower than this too slow."""


def slow(evidence: Evidence, capacity_gib: float | None = None) -> list[Symptom]:
    """Time that the run loses to something that can be changed, not slowness as such."""
    found: list[Symptom] = []
    speed = evidence.typical("reads_per_s")
    pace = f"{speed:,.3g} reads/s" if speed is not None else "the measured speed"
    wait = evidence.typical("data_wait_fraction")
    if wait is not None and wait > DATA_WAIT:
        found.append(
            _slow(
                "A01", "The run waits for data", round(wait, 3), DATA_WAIT, "fraction of wall time",
                f"At {pace}, {100 * wait:.0f} % of the time is spent waiting for the next batch: without it "
                f"up to {1 / (1 - min(wait, 0.99)):.2f} times as fast",
            )
        )  # fmt: skip
    padding = evidence.typical("padding_fraction")
    if padding is not None and padding > PADDING:
        found.append(
            _slow(
                "A13", "Most of the work is padding" if padding > 0.5 else "Much of the work is padding",
                round(padding, 3), PADDING, "fraction of tokens",
                f"{100 * padding:.0f} % of the tokens computed are padding: without them up to "
                f"{1 / (1 - min(padding, 0.99)):.1f} times as fast",
            )
        )  # fmt: skip
    reserved = evidence.peak_reserved_gib
    config = evidence.config
    if capacity_gib and reserved is not None and reserved < SPARE_MEMORY * capacity_gib and config:
        what = _spare_use(config)
        if what:
            found.append(
                _slow(
                    "A02", "Memory that could buy speed lies unused", round(reserved, 2),
                    round(SPARE_MEMORY * capacity_gib, 2), "GiB reserved",
                    f"The peak is {gib(reserved)} of {gib(capacity_gib)} usable at {pace}, while {what}",
                )
            )  # fmt: skip
    slowest = predicted_reads_per_s(evidence)
    if slowest and speed is not None and speed < FAR_BELOW_PREDICTION * slowest[1]:
        found.append(
            _slow(
                "A21", "Far slower than predicted", round(speed, 2), round(slowest[1], 2), "reads/s",
                f"{speed:,.3g} reads/s, where {slowest[0]:,.3g} ({slowest[1]:,.3g} to {slowest[2]:,.3g}) "
                "were predicted for this device: other processes on it, a limit on power or processors, or "
                "heat",
                "Look for the cause on this machine", "metagene doctor --level deep --only environment",
            )
        )  # fmt: skip
    evaluating = sum(e.seconds or 0.0 for e in evidence.evaluations)
    if evidence.seconds and evaluating > max(EVALUATION_SHARE * evidence.seconds, EVALUATION_SECONDS):
        found.append(
            _slow(
                "A18", "Evaluation takes much of the run", round(evaluating / evidence.seconds, 3),
                EVALUATION_SHARE, "fraction of wall time",
                f"{len(evidence.evaluations)} evaluations took {evaluating:,.0f} of "
                f"{evidence.seconds:,.0f} s",
                "Validate on fewer reads, or less often", "training.evals_per_epoch: 1",
            )
        )  # fmt: skip
    rate = evidence.iterations_per_s
    if not found and rate is not None and rate < ITERATIONS_PER_S:
        found.append(
            _slow(
                "A04", "Slower than one step per second", round(rate, 3), ITERATIONS_PER_S, "steps/s",
                "The guide calls this too slow; whether it is depends on the reads per step, which this "
                "source does not give",
            )
        )  # fmt: skip
    return found


def predicted_reads_per_s(evidence: Evidence) -> tuple[float, float, float] | None:
    """Expected, low and high reads per second that ``predicted.json`` has for the device of the run."""
    speed = ((evidence.predicted or {}).get("time") or {}).get("reads_per_s")
    return (speed["expected"], speed["low"], speed["high"]) if speed else None


def _spare_use(config: RunConfig) -> str:
    """What this configuration does to save memory, in words; nothing if it saves none."""
    saving = []
    if config.model.gradient_checkpointing:
        saving.append("checkpointing recomputes every forward pass")
    if config.training.grad_accum_steps > 1:
        saving.append(
            f"the effective batch of {config.training.effective_batch} is computed "
            f"{config.training.batch_size} reads at a time"
        )
    if config.model.quantization != "none":
        saving.append(f"{config.model.quantization} weights are expanded in every layer")
    return " and ".join(saving)


def _slow(
    finding_id: str,
    title: str,
    measured: float,
    threshold: float,
    unit: str,
    why: str,
    fix: str = "",
    command: str = "",
) -> Symptom:
    return Symptom(finding_id, "slow", title, Severity.WARN, measured, threshold, unit, why, fix, command)
