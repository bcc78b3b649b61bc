"""Memory of workloads of this project: the model and the step that training runs, traced and replayed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from metagene_doctor.memory.measured.calibration import calibration
from metagene_doctor.memory.profiling import GIB, MemoryProfile, capability, resolve, summarise, usable
from metagene_doctor.memory.tracing.recording import Category
from metagene_doctor.memory.tracing.templates import template_of, templates
from metagene_doctor.memory.unseen import NOT_MEASURED, of_data_parallelism, outside_the_allocator
from metagene_doctor.memory.workload import Workload

if TYPE_CHECKING:
    from metagene_doctor.rulebook import Gpu

PARALLEL_FROM = 24
"""Workloads, a sixtieth of a second each, from which a second process pays for its start."""
MOST_PROCESSES = 4


def trace(workload: Workload, *, gpu: str | Gpu | None = None, devices: int = 1) -> MemoryProfile:
    """Peak memory of one workload; the first one of a structure takes a second, others milliseconds.

    On a machine where the card was measured (`metagene_doctor.memory.measured`) the answer is calibrated.
    ``devices`` above 1 is one process for each, whose gradients PyTorch's DistributedDataParallel copies
    into buckets of the same size, kept from the start, and exchanges by NCCL.

    Raises InputError (unknown card or encoder) and ConfigError (target modules that do not exist).
    """
    card = resolve(gpu)
    template = template_of(workload.structure(), capability(card))
    known = None if card is None else calibration(card.title)
    buckets = 0.0
    if devices > 1:
        buckets = template.kept(Category.ADAPTERS, workload.dimensions) / GIB
    limit = usable(card)
    outside = known.terms if known else outside_the_allocator(workload.quantization != "none")
    profile = summarise(
        template.stream,
        template.storage_sizes(workload.dimensions),
        template.categories,
        expandable=workload.expandable_segments,
        usable_gib=None if limit is None else limit - buckets,
        outside=(*outside, *of_data_parallelism(devices)),
        worst_ratio=known.worst_ratio if known else 1.0,
        note=known.note if known else NOT_MEASURED,
    )
    return _with_buckets(profile, buckets, limit) if buckets else profile


def _with_buckets(profile: MemoryProfile, gib: float, limit: float | None) -> MemoryProfile:
    """The profile of a process that also holds its gradient buckets from loading on."""
    return replace(
        profile,
        live_gib=profile.live_gib + gib,
        allocated_gib=profile.allocated_gib + gib,
        reserved_gib=profile.reserved_gib + gib,
        device_gib=profile.device_gib + gib,
        breakdown={**profile.breakdown, "gradients": profile.breakdown["gradients"] + gib},
        timeline=tuple(
            moment._replace(live_gib=moment.live_gib + gib) if moment.live_gib else moment
            for moment in profile.timeline
        ),
        usable_gib=limit,
    )


def profile_many(
    workloads: Sequence[Workload],
    *,
    gpu: str | Gpu | None = None,
    devices: int = 1,
    processes: int | None = None,
) -> list[MemoryProfile]:
    """Peak memory of many workloads, in order, each as exact as `trace` gives it.

    ``processes`` None takes as many as there are processors, `MOST_PROCESSES` at most.
    """
    card = resolve(gpu)
    if processes is None:
        processes = min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    templates([workload.structure() for workload in workloads], capability(card), processes)
    if processes <= 1 or len(workloads) < PARALLEL_FROM:
        return [trace(workload, gpu=card, devices=devices) for workload in workloads]
    # The templates are there, so the forks only do sums; every so-manyth workload evens out the parts.
    parts = [range(start, len(workloads), processes) for start in range(processes)]
    found: dict[int, MemoryProfile] = {}
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        answers = pool.map(_trace_part, [([workloads[i] for i in part], card, devices) for part in parts])
        for part, profiles in zip(parts, answers, strict=True):
            found.update(zip(part, profiles, strict=True))
    return [found[index] for index in range(len(workloads))]


def _trace_part(job: tuple[list[Workload], Gpu | None, int]) -> list[MemoryProfile]:
    workloads, card, devices = job
    return [trace(workload, gpu=card, devices=devices) for workload in workloads]
