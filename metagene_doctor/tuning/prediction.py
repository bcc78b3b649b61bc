"""Memory and speed for the search: the dry run, for the request's device, reads and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metagene_doctor.memory.measured.device import CPU_PROCESS_GIB
from metagene_doctor.tuning import speed
from metagene_doctor.tuning.search import Memory, Predict, Prediction, Request
from metagene_doctor.tuning.speed import Speed
from metagene_train.config import RunConfig

if TYPE_CHECKING:
    from metagene_doctor.memory import MemoryProfile, Workload

HOST_SHARE = 0.1
"""Bound on what malloc adds to live tensors on a CPU: freed blocks that it keeps."""


@dataclass(frozen=True)
class HostMemory:
    """Peak of a run on the CPU: live tensors and the process; no CUDA context, no caching allocator."""

    live_gib: float
    margin_gib: float
    phase: str
    breakdown: Mapping[str, float]

    @property
    def reserved_gib(self) -> float:
        return self.live_gib

    @property
    def device_gib(self) -> float:
        return self.live_gib + CPU_PROCESS_GIB


def predictor(request: Request) -> Predict:
    """The dry run of `metagene_doctor.memory`; each distinct workload is asked for once."""
    known: dict[Workload, Memory] = {}

    def predict(configs: Sequence[RunConfig]) -> list[Prediction]:
        from metagene_doctor.memory import Workload, profile_many

        classes = request.reads.classes
        workloads = [Workload.from_config(config, num_labels=classes) for config in configs]
        new = [workload for workload in dict.fromkeys(workloads) if workload not in known]
        profiles = profile_many(new, gpu=request.device.gpu, devices=request.devices)
        for workload, profile in zip(new, profiles, strict=True):
            known[workload] = profile if request.device.gpu else _on_host(profile)
        return [
            Prediction(known[workload], _speed(request, config))
            for workload, config in zip(workloads, configs, strict=True)
        ]

    return predict


def _speed(request: Request, config: RunConfig) -> Speed:
    """With batches padded as the trainer pads them, from the histogram of the reads' lengths."""
    length = config.tokenizer.max_length
    padded = float(length)
    if config.tokenizer.padding == "longest":
        padded = request.reads.padded_tokens(
            length, config.training.batch_size, grouped=config.training.group_by_length
        )
    return speed.estimate(
        config,
        request.device,
        padded,
        classes=request.reads.classes,
        devices=request.devices,
    )


def _on_host(profile: MemoryProfile) -> HostMemory:
    static = sum(profile.breakdown.get(name, 0.0) for name in ("weights", "adapters", "optimizer"))
    return HostMemory(
        live_gib=profile.live_gib,
        margin_gib=HOST_SHARE * max(0.0, profile.live_gib - static),
        phase=profile.phase,
        breakdown=profile.breakdown,
    )
