"""What a run is tuned for: a named card, the card found, or this machine's processor and memory."""

from __future__ import annotations

import os
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
BUSY = 1.5
"""Strain of a processor (`HostRates.strain`) from which other work on it is told of."""


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
    """This machine without a GPU: its free memory, and rates measured in a second or two."""
    from metagene_doctor.facts.machine import host as host_facts
    from metagene_doctor.memory.measured.host_rates import measure

    facts = host_facts.collect()
    rates = measure(f"CPU ({facts.cpus_usable} cores)", facts.memory_ceiling_bytes // 2**20)
    free = facts.memory_free_bytes / GIB
    busy = f"; other work made it {rates.strain:.1f} times slower" if rates.strain > BUSY else ""
    return Device(
        kind="cpu",
        rates=rates,
        usable_gib=free,
        origin=f"no GPU: this machine's processor and {free:.1f} GiB of free host memory "
        f"({rates.fp32_tflops * 1000:.0f} GFLOP/s in fp32, {rates.launch_s * 1e6:.0f} µs to start an "
        f"operation, measured{busy})",
    )
