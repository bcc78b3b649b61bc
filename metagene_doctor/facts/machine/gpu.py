"""What the NVIDIA driver says about the GPUs of this machine, through NVML, without a CUDA context."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from metagene_doctor.finding import Frozen

DriverState = Literal[
    "ok",
    "no library",
    "driver not loaded",
    "version mismatch",
    "gpu lost",
    "no permission",
    "binding not installed",
    "failed",
]


ComputeMode = Literal["default", "exclusive thread", "prohibited", "exclusive process"]

COMPUTE_MODES: tuple[ComputeMode, ...] = ("default", "exclusive thread", "prohibited", "exclusive process")
"""By NVML's numbers 0 to 3."""


class GpuProcess(Frozen):
    """A process that holds memory of a GPU; in a container the pid may be the host's, or hidden."""

    pid: int
    used_bytes: int | None = None
    mine: bool = False


class GpuDevice(Frozen):
    """One GPU. A value is None where the driver does not report it (consumer cards, MIG, old drivers)."""

    index: int
    name: str
    uuid: str = ""
    total_bytes: int
    """What the driver reports as total, with its own reserve (the sticker says more)."""
    reserved_bytes: int | None = None
    used_bytes: int
    free_bytes: int
    compute_capability: tuple[int, int] | None = None
    processes: tuple[GpuProcess, ...] | None = None
    mig: bool | None = None
    """MIG mode is on: a process can use one slice only."""
    compute_mode: ComputeMode | None = None
    uncorrected_ecc_errors: int | None = None
    """Uncorrected memory errors since the driver was loaded."""
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    display_active: bool | None = None
    """A screen is driven by it."""
    pcie_width: int | None = None
    pcie_max_width: int | None = None
    """Lanes of the slot and of the card, whichever has fewer."""
    slices: tuple[GpuDevice, ...] = ()
    """With MIG, the parts it is divided into, each with the index of the card and a UUID, a name and
    memory of its own."""


class GpuFacts(Frozen):
    state: DriverState
    message: str = ""
    driver_version: str | None = None
    cuda_driver: tuple[int, int] | None = None
    """Newest CUDA version this driver can run."""
    devices: tuple[GpuDevice, ...] = ()
    device_nodes: tuple[str, ...] = ()
    """``/dev/nvidia*`` that exist: hardware is there even when NVML is not."""
    peers: tuple[tuple[int, int, bool], ...] = ()
    """Pairs of devices, and whether they can read each other's memory."""


def collect(dev: Path = Path("/dev")) -> GpuFacts:
    """Query NVML. Whatever goes wrong is a state with the driver's own message, never an exception."""
    nodes = tuple(sorted(str(node) for node in dev.glob("nvidia[0-9]*")))
    try:
        import pynvml
    except ImportError:
        return GpuFacts(
            state="binding not installed", message="nvidia-ml-py is not installed", device_nodes=nodes
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuFacts(state=_state(pynvml, error), message=str(error), device_nodes=nodes)
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return GpuFacts(
            state="ok",
            driver_version=driver if isinstance(driver, str) else driver.decode(),
            cuda_driver=(cuda // 1000, cuda % 1000 // 10),
            devices=tuple(_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())),
            device_nodes=nodes,
            peers=_peers(pynvml),
        )
    except pynvml.NVMLError as error:
        return GpuFacts(state=_state(pynvml, error), message=str(error), device_nodes=nodes)
    finally:
        pynvml.nvmlShutdown()


def first_visible(devices: Sequence[GpuDevice], visible: str | None) -> GpuDevice | None:
    """The device that CUDA shows as number 0: the first that CUDA_VISIBLE_DEVICES names.

    Of a card in slices (MIG) a process gets one: the slice that is named, or the card's first.
    """
    first = "" if visible is None else visible.split(",")[0].strip()
    if visible is None:
        found = devices[0] if devices else None
    elif first.isdigit():
        found = next((device for device in devices if device.index == int(first)), None)
    else:
        parts = [part for device in devices for part in (device, *device.slices)]
        found = next((part for part in parts if first and part.uuid.startswith(first)), None)
    return found.slices[0] if found is not None and found.slices else found


def _state(pynvml: ModuleType, error: Exception) -> DriverState:
    states: dict[int, DriverState] = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no library",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver not loaded",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "version mismatch",
        pynvml.NVML_ERROR_GPU_IS_LOST: "gpu lost",
        pynvml.NVML_ERROR_NO_PERMISSION: "no permission",
    }
    return states.get(getattr(error, "value", -1), "failed")


def _device(pynvml: ModuleType, index: int) -> GpuDevice:
    return _described(pynvml, index, pynvml.nvmlDeviceGetHandleByIndex(index))


def _slices(pynvml: ModuleType, index: int, card: Any) -> tuple[GpuDevice, ...]:
    """Those this process may see; numbers of slices have gaps."""
    found = []
    try:
        numbers = range(pynvml.nvmlDeviceGetMaxMigDeviceCount(card))
    except (pynvml.NVMLError, AttributeError):
        return ()
    for number in numbers:
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)
            found.append(_described(pynvml, index, handle))
        except pynvml.NVMLError:
            continue
    return tuple(found)


def _described(pynvml: ModuleType, index: int, handle: Any) -> GpuDevice:
    # Of a driver that lacks a query, raised by some queries and no NVMLError.
    lacking = getattr(pynvml, "NVMLLibraryMismatchError", AttributeError)

    def ask(name: str, *arguments: Any) -> Any:
        """The driver's answer, or None where this card or driver does not give one."""
        try:
            function: Callable[..., Any] = getattr(pynvml, name)
            return function(handle, *arguments)
        except (pynvml.NVMLError, AttributeError, lacking):
            return None

    memory = ask("nvmlDeviceGetMemoryInfo", getattr(pynvml, "nvmlMemory_v2", None))
    reserved = getattr(memory, "reserved", None)
    if memory is None:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    uuid = ask("nvmlDeviceGetUUID") or ""
    uuid = uuid if isinstance(uuid, str) else uuid.decode()
    slice_of_card = uuid.startswith("MIG-")
    mig_modes = None if slice_of_card else ask("nvmlDeviceGetMigMode")
    mig = None if mig_modes is None else bool(mig_modes[0])
    mode = ask("nvmlDeviceGetComputeMode")
    remapped = ask("nvmlDeviceGetRemappedRows")
    power = ask("nvmlDeviceGetEnforcedPowerLimit")
    display = ask("nvmlDeviceGetDisplayActive")
    default_power = ask("nvmlDeviceGetPowerManagementDefaultLimit")
    return GpuDevice(
        index=index,
        name=name if isinstance(name, str) else name.decode(),
        uuid=uuid,
        total_bytes=memory.total,
        reserved_bytes=reserved,
        used_bytes=memory.used,
        free_bytes=memory.free,
        compute_capability=ask("nvmlDeviceGetCudaComputeCapability"),
        processes=_processes(ask),
        mig=mig,
        compute_mode=None if mode is None else COMPUTE_MODES[mode],
        uncorrected_ecc_errors=ask(
            "nvmlDeviceGetTotalEccErrors",
            getattr(pynvml, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", 1),
            getattr(pynvml, "NVML_VOLATILE_ECC", 0),
        ),
        remap_pending=None if remapped is None else bool(remapped[2]),
        remap_failed=None if remapped is None else bool(remapped[3]),
        power_limit_w=None if power is None else power / 1000,
        default_power_limit_w=None if default_power is None else default_power / 1000,
        display_active=None if display is None else bool(display),
        pcie_width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_max_width=ask("nvmlDeviceGetMaxPcieLinkWidth"),
        slices=_slices(pynvml, index, handle) if mig else (),
    )


def _peers(pynvml: ModuleType) -> tuple[tuple[int, int, bool], ...]:
    """Every pair of devices of which the driver says whether it has peer-to-peer reads."""
    found = []
    for first, second in combinations(range(pynvml.nvmlDeviceGetCount()), 2):
        handles = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in (first, second))
        try:
            status = pynvml.nvmlDeviceGetP2PStatus(*handles, pynvml.NVML_P2P_CAPS_INDEX_READ)
        except (pynvml.NVMLError, AttributeError):
            continue
        found.append((first, second, status == pynvml.NVML_P2P_STATUS_OK))
    return tuple(found)


def _processes(ask: Callable[..., Any]) -> tuple[GpuProcess, ...] | None:
    """Compute and graphics processes by pid; None when the driver lists neither kind."""
    kinds = []
    for kind in ("Compute", "Graphics"):
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        listed = ask(name)
        # Drivers before 510 have the older form only.
        kinds.append(ask(f"{name}_v2") if listed is None else listed)
    if all(kind is None for kind in kinds):
        return None
    found = {process.pid: process for kind in kinds for process in kind or ()}
    return tuple(
        GpuProcess(pid=pid, used_bytes=getattr(process, "usedGpuMemory", None), mine=pid == os.getpid())
        for pid, process in sorted(found.items())
    )
