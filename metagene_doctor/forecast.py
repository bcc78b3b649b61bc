"""The card a run is judged for, and what the dry run foretells of it there, as facts.

Facts know neither memory nor tuning, which look at the machine through them; this module is above both.
"""

from __future__ import annotations

from typing import Literal

from metagene_doctor import rulebook
from metagene_doctor.facts.machine.gpu import GpuFacts, first_visible
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts, TargetGpu
from metagene_doctor.memory import Workload, trace
from metagene_doctor.memory.measured.device import GIB, capability_of, of_gpu
from metagene_doctor.rulebook import Gpu
from metagene_doctor.tuning import speed
from metagene_train.config import RunConfig
from metagene_train.errors import InputError


def target_gpu(
    gpu: str | None, gpu_mem: float | None, found: GpuFacts | None, visible: str | None = None
) -> tuple[TargetGpu, Gpu] | None:
    """The card named by ``--gpu`` or sized by ``--gpu-mem``, else the one of this machine that a run
    would use; ``visible`` is CUDA_VISIBLE_DEVICES. With its entry of the rule book.

    Raises InputError for a card the rule book does not know.
    """
    device = None if found is None else first_visible(found.devices, visible)
    if gpu is None and gpu_mem is None and device is None:
        return None
    book = rulebook.load()
    if gpu is not None:
        card = book.gpu(gpu)
        return _named(card, "--gpu", f"--gpu {card.name}"), card
    if gpu_mem is not None:
        card, note = book.smallest_gpu(gpu_mem)
        return _named(card, "--gpu-mem", f"--gpu-mem {gpu_mem:g}", note), card
    assert device is not None
    try:
        card = book.gpu(device.name)
    except InputError:  # a card the rule book does not know, judged by the driver's numbers
        card, _ = book.smallest_gpu(round(device.total_bytes / 1e9))
    card = card.model_copy(
        update={
            "title": device.name,
            "visible_mib": device.total_bytes // 2**20,
            "visible": "reported",
            "reserve_mib": (device.reserved_bytes or 0) // 2**20,
            **capability_of(device),
        }
    )
    target = TargetGpu(
        title=device.name,
        origin="this machine",
        index=device.index,
        usable_bytes=device.total_bytes - (device.reserved_bytes or 0),
        compute_capability=device.compute_capability,
    )
    return target, card


def _named(card: Gpu, origin: Literal["--gpu", "--gpu-mem"], option: str, note: str = "") -> TargetGpu:
    major, minor = card.compute_capability.split(".")
    return TargetGpu(
        title=card.title,
        origin=origin,
        option=option,
        usable_bytes=int(card.usable_gib * GIB),
        compute_capability=(int(major), int(minor)),
        note=note,
    )


def predict_memory(config: RunConfig, *, classes: int, length: int, card: Gpu) -> MemoryFacts:
    """Trace the configured run under fake tensors (seconds; needs torch, no GPU and no weights)."""
    profile = trace(Workload.from_config(config, num_labels=classes, length=length), gpu=card)
    return MemoryFacts(
        live_gib=profile.live_gib,
        reserved_gib=profile.reserved_gib,
        device_gib=profile.device_gib,
        margin_gib=profile.margin_gib,
        phase=profile.phase,
        breakdown=dict(profile.breakdown),
        length=length,
        classes=classes,
        note=profile.note,
    )


def predict_speed(config: RunConfig, *, classes: int, padded_tokens: float, card: Gpu) -> SpeedFacts:
    """Estimate reads per second; ``padded_tokens`` is the mean length of a read with its padding."""
    found = speed.estimate(config, of_gpu(card, ""), padded_tokens, classes=classes)
    return SpeedFacts(
        reads_per_s=found.reads_per_s, slowest=found.slow, fastest=found.fast, limit=found.limit
    )
