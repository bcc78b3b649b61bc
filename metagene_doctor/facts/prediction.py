"""The GPU a run is judged for, and the memory the dry run predicts on it."""

from __future__ import annotations

import importlib.util
from typing import Literal

from metagene_doctor.facts.gpu import GpuFacts
from metagene_doctor.finding import Frozen
from metagene_train.config import RunConfig

GIB = 2**30


class TargetGpu(Frozen):
    """The card a run is meant for: named on the command line, or the one in this machine."""

    title: str
    origin: Literal["--gpu", "--gpu-mem", "this machine"]
    option: str = ""
    """The option and its value, to pass on to other commands."""
    usable_bytes: int
    """What one process may use, CUDA context included, when nothing else is on the card."""
    compute_capability: tuple[int, int] | None = None
    note: str = ""
    """How a size became a card, in a sentence."""


class MemoryFacts(Frozen):
    """Predicted peak of the configured run on one GPU, in GiB (2^30 bytes)."""

    live_gib: float
    """Tensors alive at the peak."""
    reserved_gib: float
    """What torch's allocator holds then."""
    device_gib: float
    """What nvidia-smi shows: reserved plus the CUDA context."""
    margin_gib: float
    """Uncertainty of the prediction, one-sided."""
    phase: str
    breakdown: dict[str, float]
    length: int
    """Tokens per read that the prediction is for."""
    classes: int
    note: str = ""


def target_gpu(gpu: str | None, gpu_mem: float | None, found: GpuFacts | None) -> TargetGpu | None:
    """The card named by ``--gpu`` or sized by ``--gpu-mem``, else the first one of this machine.

    Raises InputError for a card the rule book does not know.
    """
    from metagene_doctor import rulebook

    if gpu is not None or gpu_mem is not None:
        book = rulebook.load()
        card, note = (book.gpu(gpu), "") if gpu is not None else book.smallest_gpu(gpu_mem or 0)
        major, minor = card.compute_capability.split(".")
        return TargetGpu(
            title=card.title,
            origin="--gpu" if gpu is not None else "--gpu-mem",
            option=f"--gpu {card.name}" if gpu is not None else f"--gpu-mem {gpu_mem:g}",
            usable_bytes=int(card.usable_gib * GIB),
            compute_capability=(int(major), int(minor)),
            note=note,
        )
    if found is None or not found.devices:
        return None
    device = found.devices[0]
    return TargetGpu(
        title=device.name,
        origin="this machine",
        usable_bytes=device.total_bytes - (device.reserved_bytes or 0),
        compute_capability=device.compute_capability,
    )


def predict_memory(config: RunConfig, *, classes: int, length: int, target: TargetGpu) -> MemoryFacts:
    """Trace the configured run under fake tensors (seconds; needs torch, no GPU and no weights)."""
    from metagene_doctor.memory.estimate import Workload, trace

    workload = Workload.from_config(config, num_labels=classes, length=length)
    profile = trace(workload, gpu=target.title if target.origin == "--gpu" else None)
    return MemoryFacts(
        live_gib=profile.live_gib,
        reserved_gib=profile.reserved_gib,
        device_gib=profile.device_gib,
        margin_gib=profile.margin_gib,
        phase=profile.phase,
        breakdown=dict(profile.breakdown),
        length=length,
        classes=classes,
    )


def can_predict() -> bool:
    return importlib.util.find_spec("torch") is not None
