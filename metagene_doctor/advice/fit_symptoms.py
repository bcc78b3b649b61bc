"""How well a run fits: overfitting, underfitting, nothing learned, other reads than were examined.

The thresholds are judgements; each symptom carries the one it was judged by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from metagene_doctor.advice.changes import AUTHORS_HIGHEST_LR
from metagene_doctor.advice.evidence import Evaluation, Evidence, TrainingPoint, finite
from metagene_doctor.advice.stability_symptoms import divergence
from metagene_doctor.advice.symptom import Symptom
from metagene_doctor.finding import Severity

VALIDATION_RISE = 0.02
"""Relative rise of validation loss above its minimum that is more than noise."""
EVALUATIONS_AFTER_BEST = 2
"""Evaluations in a row above the minimum before a rise counts."""
STILL_FALLING = 0.03
"""Relative fall of validation loss over the last third of the evaluations that says: stopped early."""
HIGH_LOSS = 0.5
"""Share of ln K above which a loss is high when the run has levelled off."""
EXCLUDED = 0.01
"""Share of reads left out above which to warn."""
NOT_LEARNING = 0.97
"""Share of ln K, the loss of guessing, above which nothing was learned."""
NOT_LEARNING_STEPS = 500


def overfitting(evidence: Evidence) -> list[Symptom]:
    """Validation loss has risen since its minimum while training loss went on falling."""
    evaluations = [e for e in evidence.evaluations if e.loss is not None and math.isfinite(e.loss)]
    if len(evaluations) <= EVALUATIONS_AFTER_BEST or divergence(evidence) is not None:
        return []
    best = min(range(len(evaluations)), key=lambda i: evaluations[i].loss or 0.0)
    lowest, last = evaluations[best].loss or 0.0, evaluations[-1].loss or 0.0
    after = len(evaluations) - 1 - best
    if after < EVALUATIONS_AFTER_BEST or lowest <= 0 or last / lowest - 1 <= VALIDATION_RISE:
        return []
    train_then = _train_loss_near(evidence.training, evaluations, best)
    train_now = _train_loss_near(evidence.training, evaluations, len(evaluations) - 1)
    story = (
        f"Validation loss was lowest at step {evaluations[best].step:,} ({lowest:.4g}) and is {last:.4g} "
        f"{after} evaluations later ({100 * (last / lowest - 1):+.0f} %)"
    )
    if train_then is not None and train_now is not None:
        if train_now > train_then:
            return []
        story += (
            f", while training loss fell from {train_then:.4g} to {train_now:.4g}: "
            f"the gap is {last - train_now:.4g}"
        )
    better = [e for e in evaluations[best + 1 :] if _above(e.macro_f1, evaluations[best].macro_f1)]
    if better and better[-1] is evaluations[-1]:
        story += (
            f". Macro-F1 still rose ({evaluations[best].macro_f1:.4g} to {evaluations[-1].macro_f1:.4g}): "
            "the model grows over-confident more than it forgets"
        )
    if exported := (evidence.summary or {}).get("exported_step"):
        story += f". The run's model is that of step {exported:,}, so what is lost is the time after it"
    return [
        Symptom(
            "A07", "overfitting", "Overfitting", Severity.WARN, round(last, 4), round(lowest, 4),
            "validation loss", story,
        )
    ]  # fmt: skip


def underfitting(evidence: Evidence) -> list[Symptom]:
    """The run ended while still improving, or levelled off with both losses high."""
    losses = finite(evidence.evaluations, lambda evaluation: evaluation.loss)
    if len(losses) < 3 or not_learning(evidence) or divergence(evidence) is not None:
        return []
    last = losses[-1][1]
    train = _level(evidence.training)
    if (fall := still_falling(evidence)) is not None and evidence.status != "interrupted":
        train_text = f", training loss is {train:.4g}" if train is not None else ""
        return [
            Symptom(
                "A14", "underfitting", "Stopped while still improving", Severity.WARN,
                round(fall, 4), STILL_FALLING, "relative fall of validation loss",
                f"Validation loss fell by {100 * fall:.1f} % over the last third of the evaluations, to "
                f"{last:.4g}{train_text}: more steps would lower it further",
            )
        ]  # fmt: skip
    guess = _guessing_loss(evidence)
    if guess is None or train is None or train <= HIGH_LOSS * guess or last <= HIGH_LOSS * guess:
        return []
    return [
        Symptom(
            "A14", "underfitting", "Underfitting: both losses levelled off high", Severity.WARN,
            round(last, 4), round(HIGH_LOSS * guess, 4), "validation loss",
            f"Guessing costs ln {evidence.num_labels:,} = {guess:.4g}; validation loss is "
            f"{100 * (last / guess):.0f} % and training loss {100 * (train / guess):.0f} % of it. If "
            "classes share reads (doctor's L09), part of this cannot be learned",
        )
    ]  # fmt: skip


def still_falling(evidence: Evidence) -> float | None:
    """Relative fall of validation loss over the last third of the evaluations, when the last is the
    lowest and the fall is more than `STILL_FALLING`."""
    values = [value for _, value in finite(evidence.evaluations, lambda evaluation: evaluation.loss)]
    if len(values) < 3 or values[-1] > min(values):
        return None
    earlier = values[-1 - max(1, len(values) // 3)]
    fall = 1 - values[-1] / earlier if earlier > 0 else 0.0
    return fall if fall > STILL_FALLING else None


def not_learning(evidence: Evidence) -> list[Symptom]:
    """Loss still at ln K, the loss of guessing among K classes, or gradients that are exactly zero."""
    norms = finite(evidence.training, lambda point: point.grad_norm)
    zero = [step for step, value in norms if value == 0.0]
    if zero and len(zero) > 1 and zero[-1] - zero[0] >= 50 and len(zero) == len(norms):
        return [
            Symptom(
                "A06", "ending", "No gradient reaches the trained weights", Severity.ERROR,
                0.0, 0.0, "gradient norm",
                f"The gradient norm is exactly 0 at all {len(zero)} logged points. With checkpointing and "
                "adapters that happens when the encoder's inputs need no gradient "
                "(enable_input_require_grads, which this project's own trainer calls)",
            )
        ]  # fmt: skip
    guess, level = _guessing_loss(evidence), _level(evidence.training)
    if guess is None or level is None or level < NOT_LEARNING * guess:
        return []
    last_step = evidence.training[-1].step
    lowest = min(value for _, value in finite(evidence.training, lambda point: point.loss))
    if last_step < NOT_LEARNING_STEPS or lowest < 0.8 * guess:
        return []
    too_fast = evidence.config is not None and evidence.config.optimizer.lr > AUTHORS_HIGHEST_LR
    return [
        Symptom(
            "A06", "instability" if too_fast else "underfitting", "Nothing was learned", Severity.WARN,
            round(level, 4),
            round(NOT_LEARNING * guess, 4), "training loss",
            f"After {last_step:,} steps the loss is {level:.4g}, that of guessing (ln "
            f"{evidence.num_labels:,} = {guess:.4g})",
            "Have doctor look at the data before the settings: unknown tokens (T01), tax ids that are not "
            "the mapping's (L04), sequences of several classes (L09)",
        )
    ]  # fmt: skip


def drift(evidence: Evidence) -> list[Symptom]:
    """Reads that the run left out, and reads that doctor counted in the same files but the run did not."""
    summary = evidence.summary or {}
    excluded = summary.get("excluded_reads") or 0
    used = (summary.get("train_reads") or 0) + (summary.get("validation_reads") or 0)
    found: list[Symptom] = []
    if used and excluded > EXCLUDED * (used + excluded):
        share = excluded / (used + excluded)
        found.append(
            Symptom(
                "A11", "drift", f"Reads left out: {excluded:,}", Severity.WARN, round(share, 4),
                EXCLUDED, "fraction of reads",
                f"{100 * share:.1f} % of the reads belong to classes that the mapping does not have "
                "(dataset.strict_classes: false)",
                "Add the classes to the mapping, which doctor's L02 lists, if they are meant to be learnt",
            )
        )  # fmt: skip
    doctor = evidence.doctor or {}
    argv = doctor.get("argv") or []
    whole = doctor.get("complete") and "quick" not in argv and {"--val", "--config"} & set(argv)
    counted = (doctor.get("examined") or {}).get("records") if whole else None
    if counted and used and counted != used + excluded:
        missing = counted - used - excluded
        found.append(
            Symptom(
                "A11", "drift", "The run saw other reads than doctor examined", Severity.WARN,
                used + excluded, counted, "reads",
                f"Doctor examined {counted:,} reads, the run had {used + excluded:,}: {abs(missing):,} "
                f"{'fewer' if missing > 0 else 'more'}. Files or header pattern have changed since",
                "Run doctor again with the run's config",
            )
        )  # fmt: skip
    return found


def _train_loss_near(
    training: Sequence[TrainingPoint], evaluations: Sequence[Evaluation], index: int
) -> float | None:
    """Mean training loss between the evaluation before ``index`` and that one."""
    low = evaluations[index - 1].step if index else 0
    high = evaluations[index].step
    values = [value for step, value in finite(training, lambda p: p.loss) if low < step <= high]
    return statistics.fmean(values) if values else None


def _level(training: Sequence[TrainingPoint]) -> float | None:
    """Median training loss of the last tenth of the logged points, three at least."""
    values = [value for _, value in finite(training, lambda point: point.loss)]
    return statistics.median(values[-max(3, len(values) // 10) :]) if len(values) >= 3 else None


def _guessing_loss(evidence: Evidence) -> float | None:
    return math.log(evidence.num_labels) if evidence.num_labels and evidence.num_labels > 1 else None


def _above(value: float | None, than: float | None) -> bool:
    return value is not None and than is not None and value > than
