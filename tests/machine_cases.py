"""Cases of findings about environment, cards, host and disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from case_facts import (
    SPEED,
    Case,
    large,
    memory,
    with_config,
)
from doctor_fixtures import (
    GIB,
    PACKAGES,
    device,
    encoder,
    environment,
    facts,
    gpu,
    host,
    reads,
    target,
)

from metagene_doctor.facts.machine.disk import DiskFacts, Place
from metagene_doctor.facts.machine.disk_speed import DiskSpeedFacts
from metagene_doctor.facts.machine.environment import (
    ComputeProbe,
    ImportResult,
    QuantizedProbe,
    TorchProbe,
)
from metagene_doctor.facts.machine.gpu import GpuProcess
from metagene_doctor.facts.machine.gpu_load import GpuLoadFacts
from metagene_doctor.facts.machine.host import CgroupFacts
from metagene_doctor.facts.machine.kernel_log import KernelLogFacts, Xid


def cases() -> Iterator[Case]:
    yield from _environment()
    yield from _devices()
    yield from _host()
    yield from _disk()


def places(**changes: Any) -> DiskFacts:
    roles = ("hub cache", "output directory", "index directory", "training reads", "temporary directory")
    values = {"filesystem": "ext4", "total_bytes": 10**12, "free_bytes": 5 * 10**11, "writable": True}
    return DiskFacts(
        places=tuple(
            Place(role=role, path=f"/data/{role}", checked="/data", **(values | changes)) for role in roles
        )
    )


def _environment() -> Iterator[Case]:
    without = {name: version for name, version in PACKAGES.items() if name not in ("torch", "peft")}
    yield "E01", facts(environment=environment(packages=without), gpu=gpu())
    yield "E01", facts(environment=environment(), gpu=gpu(device()))
    yield "E01", facts(environment=environment(), gpu=gpu(state="failed", device_nodes=("/dev/nvidia0",)))
    yield "E02", facts(environment=environment(torch_cuda="13.0"), gpu=gpu(device()))
    for state in ("driver not loaded", "version mismatch", "gpu lost", "no permission", "failed"):
        yield (
            "E03",
            facts(gpu=gpu(state=state, message="Driver/library mismatch", device_nodes=("/dev/nvidia0",))),
        )
    yield "E03", facts(gpu=gpu(state="binding not installed"))
    yield "E03", facts(gpu=gpu(state="no library"))
    yield "E03", facts(gpu=gpu(state="no library"), target=target())
    yield "E03", facts({"device": "cuda"}, gpu=gpu(state="no library"))
    wheel = {"arch_list": ("sm_75", "sm_80", "sm_90"), "available": True}
    for card in (("NVIDIA GeForce RTX 5090", (12, 0)), ("Tesla P100-PCIE-16GB", (6, 0))):
        yield "E04", facts(environment=environment(probe=TorchProbe(**wheel, devices=(card,))))
    broken = "ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory"
    yield "E04", facts(environment=environment(probe=TorchProbe(error=broken)))
    yield "E05", facts(target=target(title="Tesla T4", compute_capability=(7, 5)))
    int8 = {"model": {"quantization": "int8"}, "training": {"precision": "fp16-mixed"}}
    yield "E05", facts(int8, target=target(title="Tesla V100", compute_capability=(7, 0)))
    yield "E06", facts(environment=environment(packages=without))
    for packages in (PACKAGES, PACKAGES | {"bitsandbytes": "0.45.5"}):
        yield "E06", facts({"model": {"quantization": "nf4"}}, environment=environment(packages=packages))
    imports = (ImportResult(module="peft", error="ImportError: cannot import name 'HybridCache'"),)
    yield "E06", facts(environment=environment(imports=imports))
    nf4 = {"model": {"quantization": "nf4"}}
    for tried in (
        QuantizedProbe(error="RuntimeError: no kernel image is available"),
        QuantizedProbe(relative_error=0.9),
    ):
        with_bits = environment(packages=PACKAGES | {"bitsandbytes": "0.48.1"}, quantized=tried)
        yield "E07", facts(nf4, environment=with_bits)
    for compute in (ComputeProbe(error="no answer within 120 s"), ComputeProbe(relative_error=0.5)):
        yield "E08", facts(environment=environment(compute=compute))
    for visible in ("", "0,3"):
        yield (
            "E09",
            facts(environment=environment(variables={"CUDA_VISIBLE_DEVICES": visible}), gpu=gpu(device())),
        )
    for names in (("CUDA_LAUNCH_BLOCKING",), ("CUDA_LAUNCH_BLOCKING", "CUDA_PROFILE", "NCCL_P2P_DISABLE")):
        yield "E10", facts(environment=environment(variables=dict.fromkeys(names, "1")))
    for setting in ("expandable_segments:True,max_split_size_mb:128", "max_split_size_mb:128"):
        yield "E10", facts(environment=environment(variables={"PYTORCH_CUDA_ALLOC_CONF": setting}))


def _devices() -> Iterator[Case]:
    busy = {"free_bytes": 11 * GIB, "used_bytes": 12 * GIB}
    here = target(origin="this machine", index=0)
    for processes in ((GpuProcess(pid=77, used_bytes=12 * GIB),), (), (GpuProcess(pid=1),) * 12):
        card = device(**busy, processes=processes)
        yield "E11", facts(gpu=gpu(card), target=here, memory=memory(18.0))
        yield "E12", facts(gpu=gpu(card))
    yield "E13", facts(gpu=gpu(device(display_active=True)))
    for fault in ({"remap_failed": True}, {"remap_pending": True}, {"uncorrected_ecc_errors": 3}):
        yield "E14", facts(gpu=gpu(device(**fault)))
    yield (
        "E15",
        facts(gpu=gpu(device()), kernel_log=KernelLogFacts(unreadable="dmesg: Operation not permitted")),
    )
    for code, times in ((79, 1), (13, 4), (140, 2)):
        xid = Xid(code=code, pci="0000:41:00", count=times, text=f"NVRM: Xid (PCI:0000:41:00): {code}")
        yield "E15", facts(gpu=gpu(device()), kernel_log=KernelLogFacts(xids=(xid,)))
    loaded = {"index": 0, "name": "NVIDIA GeForce RTX 4090", "samples": 30}
    for reason in ("heat (driver)", "power brake"):
        load = GpuLoadFacts(
            **loaded, reasons={reason: 20}, first_clock=2520, last_clock=1410, highest_temperature=88
        )
        yield "E16", facts(gpu=gpu(device()), gpu_load=load)
    yield "E16", facts(gpu=gpu(device()), gpu_load=GpuLoadFacts(**loaded, error="out of memory"))
    yield "E17", facts(gpu=gpu(device(power_limit_w=250, default_power_limit_w=450)))
    for width in (4, 8):
        yield "E18", facts(gpu=gpu(device(pcie_width=width, pcie_max_width=16)))
    yield "E19", facts(gpu=gpu(device(mig=True, name="NVIDIA A100-SXM4-80GB")))
    yield "E19", facts(gpu=gpu(device(compute_mode="prohibited")))
    yield "E19", facts(gpu=gpu(device(compute_mode="exclusive process", processes=(GpuProcess(pid=77),))))
    mixed = (device(), device(index=1, name="NVIDIA GeForce RTX 3060", total_bytes=12 * GIB))
    yield "E20", facts(gpu=gpu(*mixed))
    yield "E20", facts(gpu=gpu(device(), device(index=1), peers=((0, 1, False),)))


def _host() -> Iterator[Case]:
    for kills in (1, 12):
        limits = CgroupFacts(version=2, memory_limit_bytes=16 * GIB, out_of_memory_kills=kills)
        yield "H01", facts(host=host(cgroup=limits))
    yield "H01", facts(host=host(wsl=True))
    container = CgroupFacts(version=2, memory_limit_bytes=4 * GIB)
    yield "H02", facts(host=host(cgroup=container), train=large(), target=target(), encoder=encoder())
    for available, total, config in ((60, 64, {}), (1, 64, {}), (1, 1, {}), (7, 8, {"device": "cpu"})):
        machine = host(memory_available_bytes=available * GIB, memory_total_bytes=total * GIB)
        card = None if config else target()
        yield "H02", facts(config, host=machine, train=large(), target=card, encoder=encoder())
    yield "H02", facts(host=host(memory_available_bytes=GIB), train=reads(), encoder=encoder())
    workers = {"training": {"num_workers": 8, "batch_size": 512}}
    cramped = host(
        shared_memory_free_bytes=64_000_000, open_files_limit=100, cpus_of_machine=64, cpus_allowed=2
    )
    for check in ("H03", "H05", "H06"):
        yield check, facts(workers, host=cramped)
    yield "H04", facts(host=host(swap_used_bytes=20 * GIB, memory_available_bytes=GIB))
    for config in (facts(), with_config({})):
        late = config.model_copy(
            update={"host": host(job_seconds_left=3600), "train": large(), "speed": SPEED}
        )
        yield "H07", late
    crowded = environment(variables={"TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "1"})
    yield "H08", facts(workers | {"device": "cpu"}, environment=crowded, host=host())


def _disk() -> Iterator[Case]:
    full = places(free_bytes=9_000_000)
    yield "S01", facts(disk=full, encoder=encoder())
    config = {"dataset": {"train_fasta": ["data/*.fa", "more reads.fa"]}}
    yield "S02", facts(config, disk=places(filesystem="nfs4"), train=reads())
    yield "S02", facts(config, disk=places(filesystem="tmpfs"), train=reads())
    for keep in (3, 1):
        yield "S03", facts({"training": {"checkpoint": {"keep": keep}}}, disk=full, encoder=encoder())
    yield "S03", facts(disk=places(writable=False), encoder=encoder())
    yield "S04", facts(disk=full)
    yield "S04", facts(disk=places(writable=False))
    yield "S04", facts(disk=places(noexec=True))
    for size in (10**9, 10**11):
        slow = DiskSpeedFacts(
            path="train.fa", file_bytes=size, random_reads_per_s=120, sequential_bytes_per_s=180_000_000
        )
        yield "S05", facts(config, disk_speed=slow, speed=SPEED, host=host())
    yield "S06", facts(disk=places(writable=False), train=reads())
    yield "S06", facts(disk=full, train=large())
