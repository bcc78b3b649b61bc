"""Facts, files and a driver to try the doctor on."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from metagene_doctor.facts.facts import Facts, RunFacts
from metagene_doctor.facts.machine.environment import EnvironmentFacts
from metagene_doctor.facts.machine.gpu import GpuDevice, GpuFacts
from metagene_doctor.facts.machine.host import HostFacts
from metagene_doctor.facts.mapping import ClassRow, MappingFacts
from metagene_doctor.facts.model.encoder import EncoderFacts, metagene_1
from metagene_doctor.facts.prediction import TargetGpu
from metagene_doctor.facts.reads.facts import Bases, ReadsFacts
from metagene_train.config import RunConfig

GIB = 2**30

PACKAGES = {
    "torch": "2.9.0",
    "transformers": "5.0.0",
    "peft": "0.18.0",
    "accelerate": "1.12.0",
    "tokenizers": "0.22.0",
    "safetensors": "0.7.0",
}


def facts(config: dict[str, Any] | None = None, **sections: Any) -> Facts:
    run = RunFacts(config=RunConfig.model_validate(config or {}))
    return Facts(tool_version="0", run=sections.pop("run", run), **sections)


def environment(**changes: Any) -> EnvironmentFacts:
    values = {"python": "3.12", "platform": "Linux x86_64", "packages": PACKAGES, "variables": {}}
    return EnvironmentFacts.model_validate(values | changes)


def device(**changes: Any) -> GpuDevice:
    values = {
        "index": 0,
        "name": "NVIDIA GeForce RTX 4090",
        "uuid": "GPU-1234",
        "total_bytes": 24 * GIB,
        "used_bytes": GIB // 2,
        "free_bytes": 23 * GIB,
        "reserved_bytes": GIB // 2,
        "compute_capability": (8, 9),
        "processes": (),
    }
    return GpuDevice.model_validate(values | changes)


def gpu(*devices: GpuDevice, **changes: Any) -> GpuFacts:
    values = {"state": "ok", "driver_version": "550.54", "cuda_driver": (12, 4), "devices": devices}
    return GpuFacts.model_validate(values | changes)


def target(**changes: Any) -> TargetGpu:
    values = {
        "title": "GeForce RTX 4090",
        "origin": "--gpu",
        "option": "--gpu rtx4090",
        "usable_bytes": 23 * GIB,
        "compute_capability": (8, 9),
    }
    return TargetGpu.model_validate(values | changes)


def host(**changes: Any) -> HostFacts:
    values = {
        "memory_total_bytes": 64 * GIB,
        "memory_available_bytes": 60 * GIB,
        "swap_total_bytes": 0,
        "swap_used_bytes": 0,
        "cpus_of_machine": 8,
        "cpus_allowed": 8,
        "shared_memory_total_bytes": 32 * GIB,
        "shared_memory_free_bytes": 32 * GIB,
        "open_files_limit": 65536,
    }
    return HostFacts.model_validate(values | changes)


def encoder(**changes: Any) -> EncoderFacts:
    values = {"name": "metagene-ai/METAGENE-1", "in_hub_cache": True, "architecture": metagene_1()}
    return EncoderFacts.model_validate(values | changes)


def reads(role: str = "train", **changes: Any) -> ReadsFacts:
    """A whole, ordinary file of 1,000 reads of 150 bases in two classes."""
    values = {
        "role": role,
        "path": f"{role}.fa",
        "kind": "fasta",
        "compression": "none",
        "bytes": 180_000,
        "bytes_examined": 180_000,
        "records": 1000,
        "accepted": 1000,
        "lengths": {150: 1000},
        "bases": Bases(acgt=150_000),
        "lines": 2000,
        "class_counts": {0: 500, 1: 500},
        "class_order": 0.0,
        "seconds": 0.1,
    }
    return ReadsFacts.model_validate(values | changes)


def table(*rows: tuple[int, str, int | None]) -> dict[str, Any]:
    """The mapping and its classes, as sections."""
    classes = tuple(
        ClassRow(class_id=class_id, label_name=name, tax_id=tax, line=number)
        for number, (class_id, name, tax) in enumerate(rows, start=2)
    )
    return {"mapping": MappingFacts(path="labels.tsv"), "classes": classes}


def sequences(count: int, length: int = 120, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices("ACGT", k=length)) for _ in range(count)]


def opposite(sequence: str) -> str:
    return sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def write_reads(
    path: Path, sequences: list[str], *, classes: int = 4, name: str = "r", mate: int | None = 1
) -> Path:
    """A FASTA file with the guide's headers; classes take turns."""
    suffix = "" if mate is None else f"/{mate}"
    path.write_text(
        "".join(
            f">lbl|{number % classes}|{100 + number % classes}|{len(sequence)}|{name}{number}{suffix}\n{sequence}\n"
            for number, sequence in enumerate(sequences)
        )
    )
    return path


def write_mapping(path: Path, classes: int = 4) -> Path:
    rows = "".join(f"{number}\tspecies {number}\t{100 + number}\n" for number in range(classes))
    path.write_text("class_id\tlabel_name\ttax_id\n" + rows)
    return path


class NVMLError(Exception):
    def __init__(self, value: int):
        self.value = value
        super().__init__(f"NVML error {value}")


class NVMLLibraryMismatchError(Exception):
    """What nvidia-ml-py raises of queries that an old driver lacks; no NVMLError."""


def in_slices(**answers: Any) -> dict[str, Any]:
    """Answers of a driver with one A100 in two slices (MIG), numbers 0 and 2 of up to 7."""
    names = {
        "card": ("NVIDIA A100-SXM4-40GB", "GPU-aa", 40),
        "slice 0": ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-b0", 20),
        "slice 2": ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG-b2", 5),
    }

    def slice_of(card: str, number: int) -> str:
        if number not in (0, 2):
            raise NVMLError(6)
        return f"slice {number}"

    def memory(handle: str, *_: Any) -> SimpleNamespace:
        total = names[handle][2] * GIB
        return SimpleNamespace(total=total, reserved=0, used=GIB, free=total - GIB)

    return {
        "nvmlDeviceGetHandleByIndex": "card",
        "nvmlDeviceGetHandleByUUID": lambda uuid: next(
            key for key, value in names.items() if value[1] == uuid
        ),
        "nvmlDeviceGetName": lambda handle: names[handle][0],
        "nvmlDeviceGetUUID": lambda handle: names[handle][1],
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetCudaComputeCapability": (8, 0),
        "nvmlDeviceGetMigMode": lambda handle: [1, 1] if handle == "card" else [0, 0],
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": slice_of,
        **answers,
    }


def fake_driver(monkeypatch: Any, *, init_error: int | None = None, **answers: Any) -> None:
    """Put a driver with one RTX 4090 in place of pynvml; ``answers`` replaces what a query returns;
    an exception there is raised, a function there is called."""
    module = ModuleType("pynvml")
    defaults = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlSystemGetDriverVersion": "550.54",
        "nvmlSystemGetCudaDriverVersion_v2": 12040,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetUUID": "GPU-1234",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(
            total=24564 * 2**20, reserved=400 * 2**20, used=500 * 2**20, free=23664 * 2**20
        ),
        "nvmlDeviceGetCudaComputeCapability": (8, 9),
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=4242, usedGpuMemory=2 * GIB)],
        "nvmlDeviceGetGraphicsRunningProcesses": [],
        "nvmlDeviceGetMigMode": NVMLError(3),
        "nvmlDeviceGetComputeMode": 0,
        "nvmlDeviceGetRemappedRows": NVMLError(3),
        "nvmlDeviceGetEnforcedPowerLimit": 450_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 450_000,
        "nvmlDeviceGetTotalEccErrors": NVMLError(3),
        "nvmlDeviceGetDisplayActive": 0,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetP2PStatus": 0,
    }
    if init_error is not None:
        defaults["nvmlInit"] = NVMLError(init_error)
    for name, answer in (defaults | answers).items():
        setattr(module, name, _answering(answer))
    constants = {
        "NVMLError": NVMLError,
        "NVMLLibraryMismatchError": NVMLLibraryMismatchError,
        "nvmlMemory_v2": 2,
        "NVML_ERROR_LIBRARY_NOT_FOUND": 12,
        "NVML_ERROR_DRIVER_NOT_LOADED": 9,
        "NVML_ERROR_LIB_RM_VERSION_MISMATCH": 18,
        "NVML_ERROR_GPU_IS_LOST": 15,
        "NVML_ERROR_NO_PERMISSION": 4,
        "NVML_P2P_CAPS_INDEX_READ": 0,
        "NVML_P2P_STATUS_OK": 0,
    }
    for name, value in constants.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", module)


def _answering(answer: Any) -> Any:
    def query(*arguments: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(*arguments)
        return answer

    return query
