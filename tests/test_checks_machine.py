"""Checks of environment, GPU, host and disk: each fires on its fault and is quiet without it."""

import pytest
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
    table,
    target,
)

from metagene_doctor.checks.machine import disk, packages
from metagene_doctor.checks.machine import environment as checks
from metagene_doctor.checks.machine import gpu as gpu_checks
from metagene_doctor.checks.machine import host as host_checks
from metagene_doctor.checks.model import encoder as model
from metagene_doctor.facts.machine.disk import DiskFacts, Place
from metagene_doctor.facts.machine.environment import ComputeProbe, ImportResult, TorchProbe
from metagene_doctor.facts.machine.gpu import GpuProcess
from metagene_doctor.facts.machine.host import CgroupFacts
from metagene_doctor.facts.model.encoder import METAGENE_1_DOWNLOAD_BYTES, WeightFile
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts


def severities(findings):
    return [str(finding.severity) for finding in findings]


# Software and driver


def test_cpu_build_beside_a_gpu():
    with_gpu = facts(environment=environment(), gpu=gpu(device()))
    (finding,) = checks.torch_sees_gpu(with_gpu)
    assert finding.severity == "error" and "CPU-only" in finding.title and "RTX 4090" in finding.title
    hidden = facts(
        environment=environment(), gpu=gpu(state="version mismatch", device_nodes=("/dev/nvidia0",))
    )
    assert severities(checks.torch_sees_gpu(hidden)) == ["error"]
    assert not list(checks.torch_sees_gpu(facts(environment=environment(), gpu=gpu())))
    assert not list(
        checks.torch_sees_gpu(facts(environment=environment(torch_cuda="12.6"), gpu=gpu(device())))
    )


def test_missing_torch():
    packages = {name: version for name, version in PACKAGES.items() if name != "torch"}
    (finding,) = checks.torch_sees_gpu(facts(environment=environment(packages=packages), gpu=gpu()))
    assert "not installed" in finding.title


@pytest.mark.parametrize(
    ("built_for", "driver", "fires"),
    [("13.0", (12, 4), True), ("12.8", (12, 4), False), ("12.6", (13, 0), False)],
)
def test_driver_and_build(built_for, driver, fires):
    known = facts(environment=environment(torch_cuda=built_for), gpu=gpu(device(), cuda_driver=driver))
    assert bool(list(checks.driver_supports_build(known))) == fires


def test_driver_mismatch_is_an_error_and_no_gpu_only_when_one_is_asked_for():
    mismatch = facts(gpu=gpu(state="version mismatch", message="Driver/library version mismatch"))
    (finding,) = checks.driver_answers(mismatch)
    assert finding.severity == "error" and "reboot" in finding.remedy.commands[0]
    absent = gpu(state="no library")
    assert severities(checks.driver_answers(facts(gpu=absent))) == ["info"]
    assert severities(checks.driver_answers(facts({"device": "cuda"}, gpu=absent))) == ["error"]
    assert not list(checks.driver_answers(facts(gpu=gpu(device()))))


@pytest.mark.parametrize(
    ("kernels", "capability", "runs"),
    [
        (("sm_80", "sm_86", "sm_90"), (8, 9), True),
        (("sm_75", "sm_80", "sm_90a"), (12, 0), False),
        (("sm_80", "compute_90"), (12, 0), True),
        (("sm_86",), (8, 0), False),
        (("sm_50", "sm_60"), (6, 1), True),
        (("sm_100", "sm_120"), (12, 0), True),
    ],
)
def test_kernels_run_on_newer_minor_versions_and_through_portable_code(kernels, capability, runs):
    assert checks.runs_on(kernels, capability) == runs


def test_a_build_without_kernels_or_that_crashes():
    probe = TorchProbe(arch_list=("sm_80",), available=True, devices=(("RTX 5090", (12, 0)),))
    (finding,) = checks.kernels_for_gpu(facts(environment=environment(probe=probe)))
    assert "12.0" in finding.title and "12.8" in finding.remedy.text
    crashed = TorchProbe(error="killed by signal 11")
    (finding,) = checks.kernels_for_gpu(facts(environment=environment(probe=crashed)))
    assert "signal 11" in finding.title


def test_bf16_needs_ampere():
    turing = target(title="T4", compute_capability=(7, 5))
    (finding,) = checks.precision_supported(facts(target=turing))
    assert finding.remedy.commands == ("training.precision: fp16-mixed",)
    assert not list(
        checks.precision_supported(facts({"training": {"precision": "fp16-mixed"}}, target=turing))
    )
    assert not list(checks.precision_supported(facts(target=target())))


def test_8_bit_products_need_turing():
    int8 = {"model": {"quantization": "int8"}, "training": {"precision": "fp16-mixed"}}
    volta = target(title="Tesla V100", compute_capability=(7, 0))
    (finding,) = checks.precision_supported(facts(int8, target=volta))
    assert "8-bit products" in finding.title
    assert finding.remedy.commands == ("model.quantization: nf4",)
    turing = target(title="T4", compute_capability=(7, 5))
    assert not list(checks.precision_supported(facts(int8, target=turing)))


@pytest.mark.parametrize(
    ("probe", "fires"),
    [
        ({"relative_error": 0.004}, False),
        ({"relative_error": 0.5}, True),
        ({"relative_error": float("nan")}, True),
        ({"error": "no answer within 120 s"}, True),
    ],
)
def test_a_gpu_that_computes_wrongly_or_not_at_all(probe, fires):
    known = facts(environment=environment(compute=ComputeProbe(**probe)))
    assert bool(list(checks.gpu_computes(known))) == fires


def test_packages():
    imports = (ImportResult(module="torch"), ImportResult(module="peft", error="ImportError: no name X"))
    (finding,) = packages.packages_import(facts(environment=environment(imports=imports)))
    assert "peft 0.18.0 does not import: ImportError: no name X" in finding.title
    (finding,) = packages.packages_import(
        facts({"model": {"quantization": "nf4"}}, environment=environment())
    )
    assert "bitsandbytes" in finding.title
    assert not list(packages.packages_import(facts(environment=environment())))


@pytest.mark.parametrize(
    ("value", "fires"),
    [
        ("", True),
        ("-1", True),
        ("0", False),
        ("0,3", True),
        ("GPU-12", False),
        ("GPU-99", True),
        ("MIG-1", False),
    ],
)
def test_visible_devices(value, fires):
    known = facts(environment=environment(variables={"CUDA_VISIBLE_DEVICES": value}), gpu=gpu(device()))
    assert bool(list(checks.gpu_visible(known))) == fires


def test_debugging_variables():
    on = environment(variables={"CUDA_LAUNCH_BLOCKING": "1", "NCCL_P2P_DISABLE": "0"})
    (finding,) = checks.debugging_left_on(facts(environment=on))
    assert finding.count == 1 and finding.remedy.commands == ("unset CUDA_LAUNCH_BLOCKING",)


@pytest.mark.parametrize(
    ("name", "setting", "severity", "command"),
    [
        (  # the guide's own setting
            "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:128", "warn",
            "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        ),
        (
            "PYTORCH_ALLOC_CONF", "garbage_collection_threshold:0.8, expandable_segments:True", "warn",
            "export PYTORCH_ALLOC_CONF=expandable_segments:True",
        ),
        ("PYTORCH_ALLOC_CONF", "max_split_size_mb:128", "info", "unset PYTORCH_ALLOC_CONF"),
        ("PYTORCH_ALLOC_CONF", "expandable_segments:False", "info", "unset PYTORCH_ALLOC_CONF"),
    ],
)  # fmt: skip
def test_the_allocators_variable(name, setting, severity, command):
    known = environment(variables={name: setting})
    (finding,) = checks.debugging_left_on(facts(environment=known))
    assert finding.severity == severity and finding.remedy.commands == (command,)
    own = {"memory_optimization": {"expandable_segments": False}}
    assert bool(list(checks.debugging_left_on(facts(own, environment=known)))) is (severity == "warn")


def test_expandable_segments_alone_are_as_configured():
    known = environment(variables={"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
    assert not list(checks.debugging_left_on(facts(environment=known)))


# GPU


def memory(device_gib, margin_gib=1.0):
    return MemoryFacts(
        live_gib=device_gib - 2, reserved_gib=device_gib - 1, device_gib=device_gib, margin_gib=margin_gib,
        phase="backward", breakdown={"weights": 12.0}, length=44, classes=2,
    )  # fmt: skip


@pytest.mark.parametrize(("free", "needed", "fires"), [(23, 18, False), (11, 18, True), (11, 40, False)])
def test_free_memory(free, needed, fires):
    busy = device(
        free_bytes=free * GIB, used_bytes=12 * GIB, processes=(GpuProcess(pid=77, used_bytes=12 * GIB),)
    )
    here = target(origin="this machine", index=0)
    found = list(gpu_checks.enough_free_memory(facts(gpu=gpu(busy), target=here, memory=memory(needed))))
    assert bool(found) == fires
    if found:
        assert "pid 77 (12.0 GiB)" in found[0].why
        (command,) = found[0].remedy.commands
        assert command == f"metagene autotune --gpu-mem {free} -o recommended.yaml"


def test_other_processes_visible_and_hidden():
    other = device(processes=(GpuProcess(pid=77, used_bytes=GIB), GpuProcess(pid=1, mine=True)))
    (finding,) = gpu_checks.other_processes(facts(gpu=gpu(other)))
    assert finding.count == 1
    (finding,) = gpu_checks.other_processes(facts(gpu=gpu(device(used_bytes=9 * GIB))))
    assert "cannot be seen" in finding.title
    assert not list(gpu_checks.other_processes(facts(gpu=gpu(device()))))


@pytest.mark.parametrize(
    "fault", [{"remap_failed": True}, {"remap_pending": True}, {"uncorrected_ecc_errors": 3}]
)
def test_memory_faults(fault):
    assert severities(gpu_checks.memory_faults(facts(gpu=gpu(device(**fault))))) == ["error"]
    assert not list(gpu_checks.memory_faults(facts(gpu=gpu(device()))))


def test_power_and_sharing():
    capped = device(power_limit_w=250, default_power_limit_w=450)
    assert severities(gpu_checks.power_capped(facts(gpu=gpu(capped)))) == ["info"]
    assert severities(gpu_checks.sharing_mode(facts(gpu=gpu(device(mig=True))))) == ["warn"]
    assert severities(gpu_checks.sharing_mode(facts(gpu=gpu(device(compute_mode="prohibited"))))) == ["error"]
    assert not list(gpu_checks.sharing_mode(facts(gpu=gpu(device(compute_mode="default", mig=False)))))


# Host


def test_the_limit_of_a_container_and_its_kills():
    limited = host(cgroup=CgroupFacts(version=2, memory_limit_bytes=16 * GIB, out_of_memory_kills=2))
    assert severities(host_checks.memory_ceiling(facts(host=limited))) == ["info", "warn"]
    assert not list(host_checks.memory_ceiling(facts(host=host())))


@pytest.mark.parametrize(
    ("available", "ceiling", "severity"), [(60, 64, "pass"), (1, 64, "warn"), (1, 1, "error")]
)
def test_host_memory(available, ceiling, severity):
    machine = host(memory_available_bytes=available * GIB, memory_total_bytes=ceiling * GIB)
    many = reads(records=200_000_000, accepted=200_000_000)
    (finding,) = host_checks.host_memory(facts(host=machine, train=many, target=target()))
    assert finding.severity == severity
    assert finding.measured == pytest.approx(200_000_000 * 16 / GIB + 380 / 1024, abs=0.01)


def test_a_full_encoder_on_the_cpu_counts_only_when_the_cpu_is_chosen():
    small = host(memory_total_bytes=8 * GIB, memory_available_bytes=7 * GIB)
    assert severities(host_checks.host_memory(facts(host=small, encoder=encoder()))) == ["info"]
    chosen = facts({"device": "cpu"}, host=small, encoder=encoder())
    (finding,) = host_checks.host_memory(chosen)
    assert finding.severity == "error" and "encoder on the CPU" in finding.why


def test_swapping():
    crawling = host(swap_used_bytes=20 * GIB, memory_available_bytes=GIB)
    assert severities(host_checks.swapping(facts(host=crawling))) == ["warn"]
    assert not list(host_checks.swapping(facts(host=host(swap_used_bytes=20 * GIB))))


def test_time_left():
    known = {
        "train": reads(accepted=3600),
        "speed": SpeedFacts(reads_per_s=1, slowest=1, fastest=1, limit="x"),
    }
    config = {"training": {"max_epochs": 2}}
    (finding,) = host_checks.time_left(facts(config, host=host(job_seconds_left=3600), **known))
    assert finding.severity == "warn" and "ends in 1 h" in finding.title and "about 2 h" in finding.title
    assert not list(host_checks.time_left(facts(config, host=host(job_seconds_left=7201), **known)))
    assert not list(host_checks.time_left(facts(config, host=host(), **known)))


def test_windows_sets_the_memory_of_wsl():
    (finding,) = host_checks.memory_ceiling(facts(host=host(wsl=True)))
    assert "WSL" in finding.title


def test_shared_memory_and_open_files():
    busy = {"training": {"num_workers": 8, "batch_size": 512}}
    needed = 2 * 8 * 2 * 512 * 512 * 16
    docker = host(shared_memory_free_bytes=64 * 10**6, open_files_limit=100)
    (finding,) = host_checks.shared_memory(facts(busy, host=docker))
    assert (finding.measured, finding.threshold) == (64 * 10**6, needed)
    assert severities(host_checks.open_files(facts(busy, host=docker))) == ["warn"]
    assert not list(host_checks.shared_memory(facts(host=docker)))
    assert not list(host_checks.open_files(facts(busy, host=host())))


def test_workers_are_counted_against_usable_processors():
    quota = host(cgroup=CgroupFacts(version=2, cpu_quota=2.5))
    (finding,) = host_checks.workers_fit(facts({"training": {"num_workers": 8}}, host=quota))
    assert finding.remedy.commands == ("training.num_workers: 2",)
    assert not list(host_checks.workers_fit(facts({"training": {"num_workers": 2}}, host=quota)))


# Disk


def place(role, **changes):
    values = {
        "role": role, "path": f"/data/{role}", "checked": "/data", "filesystem": "ext4",
        "total_bytes": 10**12, "free_bytes": 10**11, "writable": True,
    }  # fmt: skip
    return Place.model_validate(values | changes)


def places(**changes):
    roles = ("hub cache", "output directory", "index directory", "training reads")
    return DiskFacts(places=tuple(place(role, **changes) for role in roles))


def test_room_for_the_download():
    full = facts(disk=places(free_bytes=9 * 10**9), encoder=encoder())
    (finding,) = disk.room_for_encoder(full)
    assert finding.threshold == METAGENE_1_DOWNLOAD_BYTES
    resumed = encoder(incomplete_downloads=("x",), incomplete_bytes=20 * 10**9)
    assert not list(disk.room_for_encoder(facts(disk=places(free_bytes=9 * 10**9), encoder=resumed)))
    assert not list(disk.room_for_encoder(facts(disk=places(free_bytes=10), encoder=encoder(location="/m"))))


def test_room_for_checkpoints_counts_what_is_trained():
    (finding,) = disk.room_for_checkpoints(
        facts(disk=places(), encoder=encoder(), **table((0, "a", None), (1, "b", None)))
    )
    adapters = 8 * (4096 + 4096) * 4 * 32
    head = 2 * 4097
    assert finding.threshold == (adapters + head) * (12 * 4 + 4)
    assert finding.severity == "pass"
    (finding,) = disk.room_for_checkpoints(facts(disk=places(free_bytes=10**8), encoder=encoder()))
    assert finding.severity == "error" and finding.remedy.commands == ("training.checkpoint.keep: 1",)
    (finding,) = disk.room_for_checkpoints(facts(disk=places(writable=False), encoder=encoder()))
    assert "cannot be written" in finding.title


def test_file_systems():
    (first, second) = disk.network_filesystems(facts(disk=places(filesystem="nfs4")))
    assert {first.severity, second.severity} == {"warn"}
    in_memory = list(disk.network_filesystems(facts(disk=places(filesystem="tmpfs"))))
    assert len(in_memory) == 2 and all("memory" in finding.title for finding in in_memory)
    assert not list(disk.network_filesystems(facts(disk=places())))


def test_room_for_the_index():
    many = reads(records=10**10, accepted=10**10)
    assert severities(disk.room_for_index(facts(disk=places(), train=many))) == ["error"]
    assert not list(
        disk.room_for_index(facts(disk=places(), train=many.model_copy(update={"indexed": True})))
    )


# Encoder files


def test_an_absent_encoder_matters_offline():
    online = facts(encoder=encoder(), environment=environment())
    assert severities(model.encoder_present(online)) == ["info"]
    offline = facts(encoder=encoder(), environment=environment(variables={"HF_HUB_OFFLINE": "1"}))
    assert severities(model.encoder_present(offline)) == ["error"]
    assert not list(model.encoder_present(facts(encoder=encoder(location="/m"), environment=environment())))


def test_bad_weight_files_are_named():
    weights = (
        WeightFile(name="a", state="complete", bytes=5),
        WeightFile(name="b", state="truncated", bytes=2_100_000_000, expected_bytes=4_900_000_000),
        WeightFile(name="c", state="pointer", bytes=130),
        WeightFile(name="d", state="missing"),
    )
    (finding,) = model.weights_complete(facts(encoder=encoder(location="/m", weights=weights)))
    assert finding.count == 3
    assert "b has 2.1 GB of 4.9 GB" in finding.title
    assert "git-lfs pointer" in finding.examples[1].text and "d is missing" in finding.examples[2].text


def test_interrupted_download():
    partial = encoder(incomplete_downloads=("blobs/x.incomplete",), incomplete_bytes=4_100_000_000)
    (finding,) = model.download_finished(facts(encoder=partial))
    assert "4.1 GB" in finding.title


def test_fp32_weights():
    stored = encoder(
        location="/m", weights=(WeightFile(name="a", state="complete", parameters={"F32": 6_484_660_224}),)
    )
    (finding,) = model.stored_precision(facts(encoder=stored))
    assert finding.severity == "info" and finding.threshold == 6_480_465_920 * 2
    (finding,) = model.stored_precision(
        facts({"training": {"precision": "32"}}, encoder=stored, target=target())
    )
    assert finding.severity == "error"
