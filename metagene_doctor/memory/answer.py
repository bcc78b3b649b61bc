"""Memory of workloads of this project: the model and the step that training runs, traced and replayed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from metagene_doctor.memory.calibration import calibration
from metagene_doctor.memory.profiling import MemoryProfile, capability, resolve, summarise, usable
from metagene_doctor.memory.templates import template_of, templates
from metagene_doctor.memory.unseen import NOT_MEASURED, outside_the_allocator
from metagene_doctor.memory.workload import Workload

if TYPE_CHECKING:
    from metagene_doctor.rulebook import Gpu

PARALLEL_FROM = 24
"""Workloads, a twentieth of a second each, from which a second process pays for its start."""
MOST_PROCESSES = 4


def trace(workload: Workload, *, gpu: str | Gpu | None = None) -> MemoryProfile:
    """Peak memory of one workload; the first one of a structure takes a second, others milliseconds.

    On a machine where the card was measured (`metagene_doctor.memory.measure`) the answer is calibrated.

    Raises InputError (unknown card or encoder) and ConfigError (target modules that do not exist).
    """
    card = resolve(gpu)
    template = template_of(workload.structure(), capability(card))
    known = None if card is None else calibration(card.title)
    return summarise(
        template.stream,
        template.storage_sizes(workload.dimensions),
        template.categories,
        expandable=workload.expandable_segments,
        usable_gib=usable(card),
        outside=known.terms if known else outside_the_allocator(workload.quantization != "none"),
        worst_ratio=known.worst_ratio if known else 1.0,
        note=known.note if known else NOT_MEASURED,
    )


def profile_many(
    workloads: Sequence[Workload], *, gpu: str | Gpu | None = None, processes: int | None = None
) -> list[MemoryProfile]:
    """Peak memory of many workloads, in order, each as exact as `trace` gives it.

    ``processes`` None takes as many as there are processors, `MOST_PROCESSES` at most.
    """
    card = resolve(gpu)
    if processes is None:
        processes = min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    templates([workload.structure() for workload in workloads], capability(card), processes)
    if processes <= 1 or len(workloads) < PARALLEL_FROM:
        return [trace(workload, gpu=card) for workload in workloads]
    # The templates are there, so the forks only do sums; every so-manyth workload evens out the parts.
    parts = [range(start, len(workloads), processes) for start in range(processes)]
    found: dict[int, MemoryProfile] = {}
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        answers = pool.map(_trace_part, [([workloads[i] for i in part], card) for part in parts])
        for part, profiles in zip(parts, answers, strict=True):
            found.update(zip(part, profiles, strict=True))
    return [found[index] for index in range(len(workloads))]


def _trace_part(job: tuple[list[Workload], Gpu | None]) -> list[MemoryProfile]:
    workloads, card = job
    return [trace(workload, gpu=card) for workload in workloads]
