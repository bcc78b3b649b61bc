"""Collectors: what they read from a driver, /proc, a cgroup tree, a mount table and model files."""

import json
import struct
from types import SimpleNamespace

import pytest
from doctor_fixtures import GIB, NVMLError, NVMLLibraryMismatchError, fake_driver, in_slices

from metagene_doctor.facts import mapping
from metagene_doctor.facts.machine import disk, environment, gpu, host
from metagene_doctor.facts.model import encoder
from metagene_doctor.forecast import target_gpu
from metagene_train.config import DatasetConfig
from metagene_train.errors import InputError

# GPU


def test_driver_facts(monkeypatch, tmp_path):
    fake_driver(monkeypatch)
    facts = gpu.collect(tmp_path)
    assert (facts.state, facts.driver_version, facts.cuda_driver) == ("ok", "550.54", (12, 4))
    (device,) = facts.devices
    assert device.name == "NVIDIA GeForce RTX 4090"
    assert device.compute_capability == (8, 9)
    assert device.reserved_bytes == 400 * 2**20
    assert [(process.pid, process.used_bytes) for process in device.processes] == [(4242, 2 * GIB)]
    assert device.compute_mode == "default"


def test_what_a_driver_does_not_support_is_unknown(monkeypatch, tmp_path):
    unsupported = NVMLError(3)
    fake_driver(
        monkeypatch,
        nvmlDeviceGetComputeRunningProcesses=unsupported,
        nvmlDeviceGetGraphicsRunningProcesses=unsupported,
        nvmlDeviceGetEnforcedPowerLimit=unsupported,
    )
    (device,) = gpu.collect(tmp_path).devices
    assert device.processes is None
    assert device.power_limit_w is None
    assert device.mig is None and device.uncorrected_ecc_errors is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (12, "no library"),
        (9, "driver not loaded"),
        (18, "version mismatch"),
        (15, "gpu lost"),
        (999, "failed"),
    ],
)
def test_a_driver_that_does_not_start_is_a_state(monkeypatch, tmp_path, error, state):
    fake_driver(monkeypatch, init_error=error)
    (tmp_path / "nvidia0").touch()
    facts = gpu.collect(tmp_path)
    assert facts.state == state
    assert str(error) in facts.message
    assert facts.device_nodes == (str(tmp_path / "nvidia0"),)


def test_target_is_the_device_cuda_shows_first(monkeypatch, tmp_path):
    fake_driver(monkeypatch, nvmlDeviceGetCount=2)
    devices = gpu.collect(tmp_path).devices
    assert gpu.first_visible(devices, None).index == 0
    assert gpu.first_visible(devices, "1,0").index == 1
    assert gpu.first_visible(devices, "GPU-12").index == 0
    assert gpu.first_visible(devices, "") is None


def test_a_process_gets_a_slice_of_a_card_in_slices(monkeypatch, tmp_path):
    fake_driver(monkeypatch, **in_slices())
    devices = gpu.collect(tmp_path).devices
    assert [part.uuid for part in devices[0].slices] == ["MIG-b0", "MIG-b2"]
    assert devices[0].mig and not any(part.mig for part in devices[0].slices)
    for visible, name in ((None, "3g.20gb"), ("0", "3g.20gb"), ("GPU-aa", "3g.20gb"), ("MIG-b2", "1g.5gb")):
        assert gpu.first_visible(devices, visible).name.endswith(name)
    assert gpu.first_visible(devices, "MIG-zz") is None
    here, card = target_gpu(None, None, gpu.collect(tmp_path), "MIG-b2")
    assert (here.usable_bytes, here.index) == (5 * GIB, 0)
    assert (card.compute_capability, card.bf16, card.visible_mib) == ("8.0", True, 5 * 1024)


def test_slices_that_may_not_be_seen_leave_the_card(monkeypatch, tmp_path):
    fake_driver(monkeypatch, **in_slices(nvmlDeviceGetMaxMigDeviceCount=NVMLError(4)))
    (device,) = gpu.collect(tmp_path).devices
    assert device.mig and device.slices == ()
    assert gpu.first_visible([device], None) == device


def test_an_old_driver_lists_processes_by_the_older_query(monkeypatch, tmp_path):
    """nvidia-ml-py then raises an error of its own."""
    import pynvml

    assert not issubclass(pynvml.NVMLLibraryMismatchError, pynvml.NVMLError)
    lacking = NVMLLibraryMismatchError("Unversioned function called")
    older = [SimpleNamespace(pid=7, usedGpuMemory=None)]
    without = {f"nvmlDeviceGet{kind}RunningProcesses": lacking for kind in ("Compute", "Graphics")}
    fake_driver(monkeypatch, **without)
    (device,) = gpu.collect(tmp_path).devices
    assert device.processes is None
    fake_driver(monkeypatch, **without, nvmlDeviceGetComputeRunningProcesses_v2=older)
    (device,) = gpu.collect(tmp_path).devices
    assert [process.pid for process in device.processes] == [7]


def test_target_by_name_by_size_and_found(monkeypatch, tmp_path):
    fake_driver(monkeypatch)
    found = gpu.collect(tmp_path)
    here, _ = target_gpu(None, None, found)
    assert (here.origin, here.usable_bytes) == ("this machine", (24564 - 400) * 2**20)
    named, card = target_gpu("a100-80gb", None, found)
    assert named.origin == "--gpu" and card.marketed_gb == 80
    sized, _ = target_gpu(None, 24, found)
    assert sized.option == "--gpu-mem 24" and "24 GB" in sized.note
    assert target_gpu(None, None, None) is None
    with pytest.raises(InputError, match="rtx4090"):
        target_gpu("rtx4091", None, None)


# Host


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_tightest_limit_of_all_parents_counts(tmp_path):
    tree(
        tmp_path,
        {
            "proc": "0::/slurm/job_7\n",
            "fs/cgroup.controllers": "cpu memory\n",
            "fs/slurm/memory.max": "8589934592\n",
            "fs/slurm/memory.current": "4294967296\n",
            "fs/slurm/memory.stat": "anon 1\ninactive_file 1073741824\n",
            "fs/slurm/memory.events": "oom 3\noom_kill 2\n",
            "fs/slurm/job_7/memory.max": "max\n",
            "fs/slurm/job_7/cpu.max": "250000 100000\n",
        },
    )
    group = host.read_cgroup(tmp_path / "proc", tmp_path / "fs")
    assert group.version == 2
    assert group.memory_limit_bytes == 8 * GIB
    assert (group.memory_used_bytes, group.memory_reclaimable_bytes) == (4 * GIB, GIB)
    assert group.out_of_memory_kills == 2
    assert group.cpu_quota == 2.5


def test_a_container_sees_its_group_at_the_root(tmp_path):
    tree(
        tmp_path,
        {
            "proc": "0::/system.slice/docker-abc.scope\n",
            "fs/cgroup.controllers": "memory\n",
            "fs/memory.max": "1073741824\n",
            "fs/memory.current": "1000\n",
        },
    )
    assert host.read_cgroup(tmp_path / "proc", tmp_path / "fs").memory_limit_bytes == GIB


def test_version_1_limits(tmp_path):
    tree(
        tmp_path,
        {
            "proc": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
            "fs/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
            "fs/memory/docker/abc/memory.stat": "hierarchical_memory_limit 2147483648\n",
            "fs/memory/docker/abc/memory.usage_in_bytes": "4096\n",
            "fs/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            "fs/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
        },
    )
    group = host.read_cgroup(tmp_path / "proc", tmp_path / "fs")
    assert (group.version, group.memory_limit_bytes, group.cpu_quota) == (1, 2 * GIB, None)


def test_no_limit_is_no_limit(tmp_path):
    tree(tmp_path, {"proc": "0::/\n", "fs/cgroup.controllers": "\n", "fs/memory.max": "max\n"})
    assert host.read_cgroup(tmp_path / "proc", tmp_path / "fs").memory_limit_bytes is None
    assert host.read_cgroup(tmp_path / "absent", tmp_path / "fs") is None


def test_this_machine_can_be_described():
    facts = host.collect()
    assert 0 < facts.memory_free_bytes <= facts.memory_ceiling_bytes <= facts.memory_total_bytes
    assert 1 <= facts.cpus_usable <= facts.cpus_of_machine


# Disk


def test_a_place_is_measured_where_it_would_be_created(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    odd = tmp_path / "my data"
    odd.mkdir()
    escaped = str(odd).replace(" ", "\\040")
    mountinfo.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {escaped} rw shared:1 - nfs4 server:/x rw\n"
    )
    facts = disk.collect({"output directory": odd / "runs" / "one", "hub cache": tmp_path}, mountinfo)
    output = facts.place("output directory")
    assert (output.checked, output.filesystem, output.mount_point) == (str(odd), "nfs4", str(odd))
    assert output.writable and output.free_bytes > 0
    assert facts.place("hub cache").filesystem == "ext4"


def test_hub_cache_follows_the_hub_clients_variables(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert disk.hub_cache() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    assert str(disk.hub_cache()) == "/elsewhere/hub"
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    assert str(disk.hub_cache()) == "/cache"


# Encoder

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}


def shard(path, tensors):
    """A safetensors file of zeros; ``tensors`` is name -> (dtype, shape, bytes)."""
    header, position = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(position))


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    for number in (1, 2):
        shard(directory / f"model-{number}-of-2.safetensors", {f"w{number}": ("F32", [4, 4], 64)})
    weight_map = {"w1": "model-1-of-2.safetensors", "w2": "model-2-of-2.safetensors"}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def test_a_whole_encoder(model):
    facts = encoder.collect(str(model))
    assert [file.state for file in facts.weights] == ["complete", "complete"]
    assert facts.weight_bytes_by_dtype == {"F32": 128}
    assert facts.architecture.num_key_value_heads == 2
    assert facts.problems == () and not facts.is_metagene_1


def test_each_kind_of_damage_is_told_apart(model):
    first, second = sorted(model.glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-10])
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 64\n")
    assert [file.state for file in encoder.collect(str(model)).weights] == ["truncated", "pointer"]
    first.unlink()
    second.write_bytes(b"\xff" * 100)
    assert [file.state for file in encoder.collect(str(model)).weights] == ["missing", "unreadable"]


def test_missing_index_and_config_are_problems(model):
    (model / "model.safetensors.index.json").unlink()
    (model / "config.json").write_text("{}")
    problems = encoder.collect(str(model)).problems
    assert len(problems) == 2
    assert "config.json" in problems[0] and "index.json" in problems[1]


def test_the_hub_cache_is_looked_into_without_network(tmp_path):
    cache = tmp_path / "hub"
    facts = encoder.collect("metagene-ai/METAGENE-1", cache=cache)
    assert facts.location is None and facts.is_metagene_1
    repository = cache / "models--metagene-ai--METAGENE-1"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "abc.incomplete").write_bytes(b"12345")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "config.json").write_text(json.dumps(CONFIG))
    facts = encoder.collect("metagene-ai/METAGENE-1", cache=cache)
    assert facts.location == str(repository / "snapshots" / "c0ffee")
    assert facts.incomplete_bytes == 5


def test_a_path_that_is_no_hub_id_has_to_exist():
    with pytest.raises(InputError, match="/no/such/model"):
        encoder.collect("/no/such/model")


# Environment


def test_the_cuda_version_is_read_without_importing_torch(monkeypatch, tmp_path):
    (tmp_path / "version.py").write_text(
        "__version__ = '2.9.0+cu128'\ncuda: str | None = '12.8'\nhip: str | None = None\n"
    )
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert environment.torch_build() == {"cuda": "12.8"}


def test_a_crash_or_a_hang_of_a_module_is_a_fact(monkeypatch, tmp_path):
    (tmp_path / "crashing.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "hanging.py").write_text("import time; time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert environment.try_import("json").error is None
    assert "signal 11" in environment.try_import("crashing").error
    assert "no answer" in environment.try_import("hanging", timeout_s=1).error
    assert "ModuleNotFoundError" in environment.try_import("not_there_at_all").error


def test_a_gpu_that_cannot_be_used_is_a_fact(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    probe = environment.try_compute()
    assert probe.error is not None and probe.relative_error is None


@pytest.mark.gpu
def test_a_sound_gpu_agrees_with_the_cpu():
    if not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert environment.try_compute().relative_error < 0.01


def test_only_watched_variables_are_recorded(monkeypatch):
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    facts = environment.collect(ask_torch=False, try_imports=False)
    assert facts.variables["CUDA_LAUNCH_BLOCKING"] == "1"
    assert "secret" not in facts.model_dump_json()


# Reads and mapping


def test_mapping_problems_are_all_kept(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("class_id\tlabel_name\n0\ta\nx\tb\n0\tc\n")
    facts, classes = mapping.collect(str(path), DatasetConfig())
    assert len(facts.problems) == 2 and classes == ()
