"""A loss that is not a number, jumps, oscillates or rises again; a classifier with one answer.

The thresholds are judgements unless a source is named.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from metagene_doctor.advice.evidence import Evidence, finite, not_finite
from metagene_doctor.advice.symptom import Symptom
from metagene_doctor.finding import Severity

GRADIENT_EXPLOSION = 100.0
"""Global gradient norm before clipping."""
SPIKE_DEVIATIONS = 6.0
"""A spike: this many robust standard deviations (1.4826 x median absolute deviation) above the median
of the points before it, and half of that median at least."""
SPIKE_WINDOW = 10
ROUGHNESS = 0.20
"""Median change between logged losses, relative to their median, in the second half of the run."""
DIVERGENCE = 0.20
"""Relative rise of training loss above its lowest level."""


def instability(evidence: Evidence) -> list[Symptom]:
    """NaN or infinite values, exploding gradients, spikes, divergence, oscillation."""
    found: list[Symptom] = []
    if broken := not_finite(evidence):
        what, step = broken[0]
        before = [value for at, value in finite(evidence.training, lambda p: p.loss) if at < step]
        before_norms = [value for at, value in finite(evidence.training, lambda p: p.grad_norm) if at < step]
        history = f"; the last finite training loss was {before[-1]:.4g}" if before else ""
        history += f", the last gradient norm {before_norms[-1]:.4g}" if before_norms else ""
        found.append(
            _unstable(
                "A06",
                f"The {what} is not a number from step {step:,} on",
                Severity.ERROR,
                len(broken),
                0,
                "logged values",
                f"Nothing is learned after that step{history}",
            )
        )
    norms = finite(evidence.training, lambda point: point.grad_norm)
    if exploded := [(step, value) for step, value in norms if value > GRADIENT_EXPLOSION]:
        step, worst = max(exploded, key=lambda item: item[1])
        typical = statistics.median(value for _, value in norms)
        found.append(
            _unstable(
                "A06",
                "Gradients explode",
                Severity.WARN,
                round(worst, 1),
                GRADIENT_EXPLOSION,
                "gradient norm",
                f"{len(exploded)} of {len(norms)} logged points are above {GRADIENT_EXPLOSION:g}, the worst "
                f"at step {step:,} is {worst:,.4g}; "
                f"the median is {typical:.3g}",
            )
        )
    losses = finite(evidence.training, lambda point: point.loss)
    if (rise := divergence(evidence)) is not None:
        step, lowest, last = rise
        found.append(
            _unstable(
                "A15",
                "Training loss rises again: the run diverged",
                Severity.WARN,
                round(last, 4),
                round(lowest, 4),
                "training loss",
                f"It was lowest around step {step:,} ({lowest:.4g}) and is {last:.4g} at the end "
                f"({100 * (last / lowest - 1):+.0f} %), "
                "so this is not overfitting (which lowers training loss)",
            )
        )
    elif spikes := loss_spikes(losses):
        step, value, usual = max(spikes, key=lambda item: item[1] / item[2])
        found.append(
            _unstable(
                "A15",
                "Training loss spikes",
                Severity.WARN,
                round(value, 4),
                round(usual, 4),
                "training loss",
                f"{len(spikes)} spikes in {len(losses)} logged points, the worst at step {step:,}: "
                f"{value:.4g}, {value / usual:.1f} times the median before it",
            )
        )
    elif (rough := roughness(losses)) is not None and rough > ROUGHNESS:
        found.append(
            _unstable(
                "A15",
                "Training loss oscillates",
                Severity.WARN,
                round(rough, 3),
                ROUGHNESS,
                "median change between logged points / median loss",
                f"From one logged point to the next it changes by {100 * rough:.0f} % of its size (over "
                f"{100 * ROUGHNESS:.0f} %). Single steps say little; the effective batch is small or lr high",
            )
        )
    return found


def collapse(evidence: Evidence) -> list[Symptom]:
    """All reads are given one class.

    A classifier that always answers with a class of share a has accuracy a, MCC 0 and macro-F1
    (2a / (1 + a)) / K, which the last evaluation is held against.
    """
    if not evidence.evaluations or not evidence.num_labels or evidence.num_labels < 2:
        return []
    last = evidence.evaluations[-1]
    accuracy, macro_f1 = last.accuracy, last.macro_f1
    if accuracy is None or macro_f1 is None or accuracy > 0.95:
        return []
    one_class = 2 * accuracy / (1 + accuracy) / evidence.num_labels
    if last.mcc is not None and abs(last.mcc) > 1e-3:
        return []
    if not 0.9 * one_class <= macro_f1 <= (1.5 if last.mcc is not None else 1.1) * one_class:
        return []
    return [
        Symptom(
            "A16", "instability", "Every read is given the same class", Severity.WARN,
            round(macro_f1, 4), round(one_class, 4), "macro-F1",
            f"Accuracy {accuracy:.4g}, macro-F1 {macro_f1:.4g}"
            + (f" and MCC {last.mcc:.2g}" if last.mcc is not None else "")
            + " are those of one answer for all reads",
        )
    ]  # fmt: skip


def divergence(evidence: Evidence) -> tuple[int, float, float] | None:
    """(step of the lowest level, lowest, last) when smoothed training loss ends well above its minimum.

    Smoothed by running medians, so that a single spike does not count.
    """
    losses = finite(evidence.training, lambda point: point.loss)
    window = max(3, len(losses) // 10)
    if len(losses) < 3 * window:
        return None
    smooth = [
        (losses[i + window // 2][0], statistics.median(value for _, value in losses[i : i + window]))
        for i in range(len(losses) - window + 1)
    ]
    step, lowest = min(smooth, key=lambda item: item[1])
    last = smooth[-1][1]
    # Near zero any wobble is a large ratio, so a rise must also be visible in nats.
    return (step, lowest, last) if last - lowest > max(DIVERGENCE * lowest, 0.1) else None


def loss_spikes(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float, float]]:
    """(step, loss, median before) of every spike; one alone counts only if it is threefold."""
    spikes = []
    for i in range(SPIKE_WINDOW, len(losses)):
        before = [value for _, value in losses[i - SPIKE_WINDOW : i]]
        usual = statistics.median(before)
        spread = 1.4826 * statistics.median(abs(value - usual) for value in before)
        step, value = losses[i]
        if value > usual + max(SPIKE_DEVIATIONS * spread, 0.5 * usual, 0.1):
            spikes.append((step, value, usual))
    return spikes if len(spikes) > 1 or any(value > 3 * usual for _, value, usual in spikes) else []


def roughness(losses: Sequence[tuple[int, float]]) -> float | None:
    """Median absolute change between logged losses over their median, second half of the run."""
    half = [value for _, value in losses[len(losses) // 2 :]]
    if len(half) < SPIKE_WINDOW or (level := statistics.median(half)) < 0.1:
        return None
    return statistics.median(abs(b - a) for a, b in itertools.pairwise(half)) / level


def _unstable(
    finding_id: str, title: str, severity: Severity, measured: float, threshold: float, unit: str, why: str
) -> Symptom:
    return Symptom(finding_id, "instability", title, severity, measured, threshold, unit, why)
