"""What a run is tuned for: a named card, the card found, or this machine's processor and memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metagene_doctor.rulebook import Gpu, Rulebook
from metagene_train.errors import InputError

if TYPE_CHECKING:
    from metagene_doctor.facts.machine.gpu import GpuDevice

GIB = 2**30
CPU_PROCESS_GIB = 1.0
"""Resident memory of Python with torch, transformers and PEFT imported, before any tensor: 0.7-0.9
GiB measured on Linux with torch 2.13 (CPU build), rounded up."""
MEASURED = "measured"
"""Source of the rates of this machine's processor, which no vendor publishes."""


@dataclass(frozen=True)
class Device:
    """``usable_gib`` is what one process may use."""

    kind: Literal["cuda", "cpu"]
    rates: Gpu
    """Its arithmetic and bandwidth; on a CPU those measured, in the form of a card."""
    usable_gib: float
    origin: str
    """How the device was chosen, in a sentence."""

    @property
    def title(self) -> str:
        return self.rates.title

    @property
    def gpu(self) -> Gpu | None:
        """The card; None on a CPU."""
        return self.rates if self.kind == "cuda" else None

    @property
    def bf16(self) -> bool:
        return self.rates.bf16


def of_gpu(card: Gpu, origin: str) -> Device:
    return Device(kind="cuda", rates=card, usable_gib=card.usable_gib, origin=origin)


def choose(
    book: Rulebook, *, gpu: str | None = None, gpu_mem: float | None = None, cpu: bool = False
) -> Device:
    """The named card, the smallest card of a size, the card of this machine, or its processor.

    Raises InputError for an unknown card.
    """
    if gpu is not None:
        card = book.gpu(gpu)
        return of_gpu(
            card,
            f"{card.title}: {card.visible_mib:,} MiB visible ({card.visible}), "
            f"{card.usable_gib:.2f} GiB usable when nothing else runs on it",
        )
    if gpu_mem is not None:
        return of_gpu(*book.smallest_gpu(gpu_mem))
    return host() if cpu else found(book) or host()


def found(book: Rulebook) -> Device | None:
    """The GPU that torch would use as ``cuda:0``, as the driver reports it: the first one, or the first
    that CUDA_VISIBLE_DEVICES names. None without one."""
    from metagene_doctor.facts.machine import gpu as gpu_facts

    devices, visible = gpu_facts.collect().devices, os.environ.get("CUDA_VISIBLE_DEVICES")
    first = gpu_facts.first_visible(devices, visible)
    if first is None:
        return None
    total_mib, free_mib = first.total_bytes // 2**20, first.free_bytes // 2**20
    try:
        card = book.gpu(first.name)
        known = ""
    except InputError:
        card, _ = book.smallest_gpu(round(first.total_bytes / 1e9))
        known = f"; the rule book does not know it, its speed is taken from {card.title}"
    if len({device.name for device in devices}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        known += (
            "; the cards here differ and CUDA may number another one first, "
            "export CUDA_DEVICE_ORDER=PCI_BUS_ID to have it count as the driver does"
        )
    reserve_mib = total_mib - min(free_mib, total_mib - book.reserve.of(total_mib))
    card = card.model_copy(
        update={
            "title": first.name,
            "visible_mib": total_mib,
            "visible": "reported",
            "reserve_mib": reserve_mib,
            **capability_of(first),
        }
    )
    return of_gpu(
        card,
        f"{first.name} (GPU {first.index} of this machine): {total_mib:,} MiB, {free_mib:,} MiB free now, "
        f"{card.usable_gib:.2f} GiB usable{known}",
    )


def capability_of(device: GpuDevice) -> dict[str, Any]:
    """What the driver says of a card's generation, as keys of the rule book: the entry that stands in for
    a card unknown there may be of another one."""
    found = device.compute_capability
    if found is None:
        return {}
    return {"compute_capability": f"{found[0]}.{found[1]}", "bf16": found >= (8, 0)}


def host() -> Device:
    """This machine without a GPU: its free memory, and rates measured in half a second."""
    from metagene_doctor.facts.machine import host as host_facts

    facts = host_facts.collect()
    tflops, bandwidth_gbs = _measured_rates()
    free = facts.memory_free_bytes / GIB
    rates = Gpu(
        name="cpu",
        title=f"CPU ({facts.cpus_usable} cores)",
        marketed_gb=0,
        visible_mib=facts.memory_ceiling_bytes // 2**20,
        visible="reported",
        bf16_tflops=tflops,
        fp32_tflops=tflops,
        bandwidth_gbs=bandwidth_gbs,
        compute_capability="0.0",
        bf16=False,
        source=MEASURED,
    )
    return Device(
        kind="cpu",
        rates=rates,
        usable_gib=free,
        origin=f"no GPU: this machine's processor and {free:.1f} GiB of free host memory "
        f"({tflops * 1000:.0f} GFLOP/s in fp32, measured)",
    )


def _measured_rates() -> tuple[float, float]:
    """fp32 matrix products per second (10^12) and memory copied per second (10^9 bytes)."""
    import torch

    left = torch.ones(512, 512)
    product = left @ left
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.25:
        torch.matmul(left, left, out=product)
        rounds += 1
    flops = 2 * 512**3 * rounds / (time.perf_counter() - start)
    block = torch.ones(32 * 2**20 // 4)
    copy = block.clone()
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.25:
        copy.copy_(block)
        rounds += 1
    moved = 2 * block.numel() * 4 * rounds / (time.perf_counter() - start)
    return flops / 1e12, moved / 1e9
