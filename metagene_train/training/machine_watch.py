"""What a run takes from its machine: memory of the host, room on the disk, and how its card fares."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch

from metagene_train.memory_limits import group_memory

GIB = 2**30

_MEMBERSHIP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class MachineWatch:
    """Sampled whenever a line of metrics is written, and never in between.

    A number that the system does not give is None: a run does not end because it could not be measured.
    """

    def __init__(self, directory: Path, device: torch.device) -> None:
        self._began = time.monotonic()
        self._directory = directory
        self._process = psutil.Process()
        self._group = group_memory(_MEMBERSHIP, _GROUPS)
        self._card = _Card.of(device) if device.type == "cuda" else None

    def sample(self) -> dict[str, float | int | None]:
        """Seconds since the run (or its resumption) began; GiB of the process, of its loader workers, what
        the host and the disk still have; and of the card what `_Card.sample` tells."""
        workers = [_own_bytes(child.pid) for child in multiprocessing.active_children()]
        return {
            "elapsed_s": time.monotonic() - self._began,
            "process_memory_gib": _gib(_own_bytes(self._process.pid)),
            "workers_memory_gib": _gib(sum(size for size in workers if size is not None)),
            "host_available_gib": _gib(self._available()),
            "disk_free_gib": _gib(_free_disk(self._directory)),
            **(self._card.sample() if self._card else dict.fromkeys(CARD_FIELDS)),
        }

    def _available(self) -> int:
        """Bytes that the run can still take: of the machine, or of its control group where that has less."""
        available = psutil.virtual_memory().available
        free = self._group.free_bytes if self._group else None
        return available if free is None else min(available, free)


def _own_bytes(pid: int | None) -> int | None:
    """Resident memory of a process without the pages that it shares: mapped reads and indexes are page
    cache, which the kernel takes back. Where the system does not tell them apart (macOS), all of it."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:  # a worker that has just ended
        return None
    return memory.rss - getattr(memory, "shared", 0)


def _free_disk(directory: Path) -> int | None:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def _gib(size: int | None) -> float | None:
    return None if size is None else size / GIB


CARD_FIELDS = ("gpu_clock_reasons", "gpu_uncorrected_errors", "gpu_other_gib", "gpu_processes")


class _Card:
    """One CUDA device as its driver sees it."""

    def __init__(self, nvml: ModuleType, handle: Any, device: torch.device) -> None:
        self._nvml = nvml
        self._handle = handle
        self._device = device
        # Of a driver that lacks a query, raised by some queries and no NVMLError.
        lacking = getattr(nvml, "NVMLLibraryMismatchError", AttributeError)
        self._refusals = (nvml.NVMLError, AttributeError, lacking)

    @classmethod
    def of(cls, device: torch.device) -> _Card | None:
        """None where there is no driver to ask, or it does not know the device."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, _handle(pynvml, device), device)
        except (pynvml.NVMLError, AttributeError):
            return None

    def sample(self) -> dict[str, float | int | None]:
        """NVML's bits for what holds the clock back now; uncorrected memory errors since the driver was
        loaded; device memory outside PyTorch's allocator (the CUDA context of this process, and other
        processes), GiB; processes that compute on the card."""
        nvml = self._nvml
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # its name before CUDA 12.2
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        reserved = torch.cuda.memory_reserved(self._device)
        values = (
            reasons,
            self._ask(
                "nvmlDeviceGetTotalEccErrors",
                getattr(nvml, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", 1),
                getattr(nvml, "NVML_VOLATILE_ECC", 0),
            ),
            None if memory is None else (memory.used - reserved) / GIB,
            None if processes is None else len(processes),
        )
        return dict(zip(CARD_FIELDS, values, strict=True))

    def _ask(self, name: str, *arguments: int) -> Any:
        try:
            return getattr(self._nvml, name)(self._handle, *arguments)
        except self._refusals:
            return None


def _handle(nvml: ModuleType, device: torch.device) -> Any:
    """The driver's handle of a device of PyTorch, which may number devices otherwise. Raises NVMLError."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
