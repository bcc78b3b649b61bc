"""What happened to the machine under a run: memory that grows, a disk that fills, a card held back or shared.

Judged from what the run wrote down at its logged points; a run that wrote nothing of it shows nothing.
The thresholds are judgements.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from shlex import quote

from metagene_doctor.advice.evidence import Evidence, TrainingPoint
from metagene_doctor.advice.memory_symptoms import FOREIGN_GIB
from metagene_doctor.advice.symptom import Symptom, gib
from metagene_doctor.facts.machine.gpu_load import REASONS
from metagene_doctor.finding import Severity
from metagene_doctor.report.quantities import duration

FEWEST_POINTS = 10
"""Points of a session's second half from which a trend is concluded."""
SMALLEST_PART = 0.25
"""Share of a rise that each half of its time has to bring: one jump, or a rise that ends, is no slope."""
LARGEST_SCATTER = 0.10
"""Share of a rise by which half of the points may miss the straight line. A staircase of n steps misses it by
1/(4n), so one or two jumps are no slope, and a sawtooth is none."""
SMALLEST_RISE_GIB = 1 / 16
"""Allocators and garbage collection move memory by tens of MiB without any leak."""
NEARLY_FULL_GIB = 0.5
"""Room for two checkpoints of METAGENE-1 with adapters of rank 8 on all linear layers (0.23 GiB each, the
next one is written before the oldest is deleted)."""
HELD_BACK = 0.10
"""Share of logged points with a slowed clock from which it shows in the length of a run."""
FEWEST_HELD_BACK = 3
"""Points: less can be one hot moment."""
SLOWING = {bit: REASONS[bit] for bit in (0x20, 0x40, 0x80)}
"""Heat and the power supply. The power limit holds back every busy card, as it should, and NVIDIA says of the
bit for slowdowns in general (0x08) that a mere change of the clock can set it."""
PAIRS_OF = 200
"""Points of which all pairs are compared for a slope: 19,900 pairs."""


@dataclass(frozen=True)
class Trend:
    """A steady rise: GiB per step (the median slope of all pairs of points), and its two ends."""

    per_step: float
    first_step: int
    last_step: int
    first: float
    last: float


@dataclass(frozen=True)
class Growth:
    """Host memory that grows. ``lasts``: steps until what is available is used up; ``from_workers``: the
    share of the rise that loader workers hold; ``planned``: steps in which that would matter."""

    trend: Trend
    available_gib: float
    lasts: int
    planned: int
    from_workers: float
    seconds_per_step: float


def machine(evidence: Evidence) -> list[Symptom]:
    return [
        *host_growth(evidence),
        *disk(evidence),
        *memory_errors(evidence),
        *held_back(evidence),
        *neighbours(evidence),
    ]


def sessions(evidence: Evidence) -> list[list[TrainingPoint]]:
    """The points that say when they were logged, divided where a resumed run began anew."""
    found: list[list[TrainingPoint]] = []
    last = 0.0
    for point in evidence.training:
        if point.elapsed_s is None:
            continue
        if not found or point.elapsed_s < last:
            found.append([])
        found[-1].append(point)
        last = point.elapsed_s
    return found


def trend(points: Sequence[TrainingPoint], read: Callable[[TrainingPoint], float | None]) -> Trend | None:
    """The steady rise in the second half of a session, None if there is none.

    The first half is left out: caches fill, libraries load and checkpoints come up to their number.
    """
    later = points[len(points) // 2 :]
    values = [(point.step, value) for point in later if (value := read(point)) is not None]
    if len(values) < FEWEST_POINTS:
        return None
    third = len(values) // 3
    early, middle, late = (
        statistics.median(value for _, value in part)
        for part in (values[:third], values[third:-third], values[-third:])
    )
    if late <= early or min(middle - early, late - middle) < SMALLEST_PART * (late - early):
        return None
    some = values[:: -(-len(values) // PAIRS_OF)]
    slope = statistics.median((b - a) / (t - s) for (s, a), (t, b) in combinations(some, 2))
    level = statistics.median(value - slope * step for step, value in some)
    missed = statistics.median(abs(value - slope * step - level) for step, value in some)
    (begin, _), (end, _) = values[0], values[-1]
    if slope <= 0 or missed > LARGEST_SCATTER * slope * (end - begin):
        return None
    return Trend(slope, begin, end, level + slope * begin, level + slope * end)


def growth(evidence: Evidence) -> Growth | None:
    """Memory of the process and its workers that rises so that the host's is used up: before the end of a run
    that has not finished, or within a second run of that length."""
    points = sessions(evidence)[-1:]
    if not points or points[0][-1].host_available_gib is None:
        return None
    session = points[0]
    rise = trend(session, _memory)
    if rise is None or rise.last - rise.first < SMALLEST_RISE_GIB:
        return None
    last = session[-1]
    available = last.host_available_gib or 0.0
    lasts = round(available / rise.per_step)
    planned = last.step - session[0].step
    if evidence.status != "finished" and (end := planned_steps(evidence)) is not None:
        planned = end - last.step
    if lasts >= planned:
        return None
    of_workers = trend(session, lambda point: point.workers_memory_gib)
    return Growth(
        rise,
        available,
        lasts,
        planned,
        min(of_workers.per_step / rise.per_step, 1.0) if of_workers else 0.0,
        _seconds_per_step(session),
    )


def host_growth(evidence: Evidence) -> list[Symptom]:
    found = growth(evidence)
    if found is None:
        return []
    rise, ended = found.trend, evidence.status == "finished"
    whose = "loader workers" if found.from_workers >= 0.5 else "training process"
    why = (
        f"Memory of the {whose} rose steadily, {_gib_from_to(rise)} from step {rise.first_step:,} to "
        f"{rise.last_step:,}, mapped files not counted. What the host had left, "
        f"{gib(found.available_gib)}, is used up {found.lasts:,} steps later at the latest (about "
        f"{duration(found.lasts * found.seconds_per_step)}); the kernel then kills the run"
    )
    fix = command = ""
    if evidence.status not in (None, "finished") and found.from_workers < 0.5:
        fix = (
            "Stop it with Ctrl-C before that and go on from its checkpoint: a new process starts small; "
            "process_memory_gib in metrics.jsonl then shows whether it grows again"
        )
        command = f"metagene train --config {quote(f'{evidence.source}/config.yaml')} --resume"
    return [
        Symptom(
            "A09", "host-growth",
            "Host memory grows: a longer run would use it up" if ended
            else f"Host memory grows: used up at about step {rise.last_step + found.lasts:,}",
            Severity.WARN, _per_thousand(rise.per_step),
            _per_thousand(found.available_gib / found.planned), "MiB per 1,000 steps", why, fix, command,
        )
    ]  # fmt: skip


def disk(evidence: Evidence) -> list[Symptom]:
    """A disk that will be full before the run ends, or has no room for its next checkpoints."""
    points = sessions(evidence)[-1:]
    if evidence.status == "finished" or not points or points[0][-1].disk_free_gib is None:
        return []
    session, last = points[0], points[0][-1]
    free = last.disk_free_gib or 0.0
    fall = trend(session, lambda point: None if point.disk_free_gib is None else -point.disk_free_gib)
    end = planned_steps(evidence)
    if fall is not None and end is not None and (full := last.step + round(free / fall.per_step)) < end:
        seconds = (full - last.step) * _seconds_per_step(session)
        return [
            Symptom(
                "A10", "disk", "The disk will be full before the run ends", Severity.WARN,
                full, end, "steps",
                f"{gib(free)} was left at step {last.step:,}, {gib(1000 * fall.per_step)} less "
                f"every 1,000 steps: full at about step {full:,} of {end:,}, {duration(seconds)} later. The "
                "next checkpoint or log line then ends the run; the last whole checkpoint stays",
                "Make room, then see that disk_free_gib in metrics.jsonl no longer falls", "",
            )
        ]  # fmt: skip
    if free < NEARLY_FULL_GIB:
        return [
            Symptom(
                "A10", "disk", "The disk is nearly full", Severity.WARN,
                round(free, 3), NEARLY_FULL_GIB, "GiB",
                f"{gib(free)} was left at step {last.step:,}, and a checkpoint is written before an older "
                "one is deleted: when it does not fit, the run fails",
                "Make room, then see that disk_free_gib in metrics.jsonl has risen", "",
            )
        ]  # fmt: skip
    return []


def memory_errors(evidence: Evidence) -> list[Symptom]:
    """The driver counted uncorrected errors of the card's memory while the run went on."""
    found, since = 0, None
    for session in sessions(evidence):
        counted = [
            (p.step, p.gpu_uncorrected_errors) for p in session if p.gpu_uncorrected_errors is not None
        ]
        for (_, before), (step, after) in pairwise(counted):
            if after > before:
                found += int(after - before)
                since = since or step
    if since is None:
        return []
    return [
        Symptom(
            "A08", "card", f"The card's memory had uncorrectable errors, first by step {since:,}",
            Severity.ERROR, found, 0, "errors",
            "A wrong bit can be anywhere, in weights and moments too: what was trained after that step, and "
            "the checkpoints from then on, cannot be trusted",
            "Look at the counters and reset the card, or use another, and train again; "
            "gpu_uncorrected_errors in metrics.jsonl has to stay",
            "nvidia-smi -q -d ECC",
        )
    ]  # fmt: skip


def held_back(evidence: Evidence) -> list[Symptom]:
    """The card's clock was slowed for heat or by its power supply."""
    points = [p for session in sessions(evidence) for p in session if p.gpu_clock_reasons is not None]
    slowed = [point for point in points if _reasons(point)]
    if len(slowed) < max(FEWEST_HELD_BACK, HELD_BACK * len(points)):
        return []
    told = Counter(reason for point in slowed for reason in _reasons(point))
    named = " and ".join(reason for reason, _ in told.most_common(2))
    return [
        Symptom(
            "A08", "card", "The card was slowed down while it trained", Severity.WARN,
            round(len(slowed) / len(points), 3), HELD_BACK, "fraction of logged points",
            f"At {len(slowed):,} of {len(points):,} logged points its clock was held back: {named}"
            + _speeds(slowed, [point for point in points if not _reasons(point)], "otherwise"),
            "Look for the cause (air flow, fans, the power supply); in gpu_clock_reasons of metrics.jsonl "
            f"the bits {', '.join(map(str, SLOWING))} have to stay away",
            "metagene doctor --level deep --only environment",
        )
    ]  # fmt: skip


def neighbours(evidence: Evidence) -> list[Symptom]:
    """Another process came onto the card after the run began."""
    for session in sessions(evidence):
        if found := _neighbour(session):
            return [found]
    return []


def _neighbour(session: list[TrainingPoint]) -> Symptom | None:
    processes = [(p.step, int(p.gpu_processes)) for p in session if p.gpu_processes is not None]
    others = [(p.step, p.gpu_other_gib) for p in session if p.gpu_other_gib is not None]
    joined = [(step, number) for step, number in processes if number > processes[0][1]]
    took = [(step, size) for step, size in others if size - others[0][1] >= FOREIGN_GIB]
    if not joined and not took:
        return None
    since = min(step for step, _ in (*joined[:1], *took[:1]))
    most = max((size - others[0][1] for _, size in others), default=0.0)
    shared = {step for step, _ in (*joined, *took)}
    why = f"From step {since:,} on the card had "
    why += f"{max(n for _, n in joined)} processes instead of {processes[0][1]}" if joined else "a neighbour"
    if most > 0:
        why += f", with up to {gib(most)} outside this run"
    why += _speeds(
        [p for p in session if p.step in shared],
        [p for p in session if p.step not in shared],
        "alone",
    )
    numbers = (round(most, 2), FOREIGN_GIB, "GiB")
    if joined:
        numbers = (max(number for _, number in joined), processes[0][1], "processes")
    return Symptom(
        "A08", "card", "Another process came onto the card", Severity.WARN, *numbers,
        why + ". It takes memory and time of this run",
        "Find it and let it end, or use another card; gpu_processes and gpu_other_gib in metrics.jsonl then "
        "fall again",
        "nvidia-smi --query-compute-apps=pid,process_name,used_memory --format=csv",
    )  # fmt: skip


def planned_steps(evidence: Evidence) -> int | None:
    """Steps of the whole run: as the run says, or from its configuration and the epochs so far."""
    if evidence.total_steps:
        return evidence.total_steps
    if evidence.config is None or not evidence.training:
        return None
    training, last = evidence.config.training, evidence.training[-1]
    if training.max_steps is not None:
        return training.max_steps
    return round(training.max_epochs * last.step / last.epoch) if last.epoch else None


def _memory(point: TrainingPoint) -> float | None:
    own, workers = point.process_memory_gib, point.workers_memory_gib
    return None if own is None else own + (workers or 0.0)


def _seconds_per_step(session: list[TrainingPoint]) -> float:
    first, last = session[0], session[-1]
    return ((last.elapsed_s or 0.0) - (first.elapsed_s or 0.0)) / max(last.step - first.step, 1)


def _reasons(point: TrainingPoint) -> list[str]:
    bits = int(point.gpu_clock_reasons or 0)
    return [reason for bit, reason in SLOWING.items() if bits & bit]


def _speeds(these: list[TrainingPoint], those: list[TrainingPoint], name: str) -> str:
    """Median speeds of two kinds of points, where both are known."""
    ours, theirs = (
        [point.reads_per_s for point in points if point.reads_per_s is not None] for points in (these, those)
    )
    if not ours or not theirs:
        return ""
    return f"; {statistics.median(ours):,.3g} reads/s there, {statistics.median(theirs):,.3g} {name}"


def _per_thousand(gib_per_step: float) -> float:
    """MiB per 1,000 steps, three digits."""
    return float(f"{gib_per_step * 1024 * 1000:.3g}")


def _gib_from_to(rise: Trend) -> str:
    return f"from {gib(rise.first)} to {gib(rise.last)}"
