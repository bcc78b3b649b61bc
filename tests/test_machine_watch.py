"""What a run writes down about its machine: memory of the host, room on the disk, state of the card."""

from __future__ import annotations

import mmap
import multiprocessing
import shutil
import time
from types import SimpleNamespace

import pytest
import torch
from advise_fixtures import found
from doctor_fixtures import NVMLError, fake_driver
from run_fixtures import metrics
from train_fixtures import tiny_config

from metagene_train import memory_limits
from metagene_train.training import machine_watch
from metagene_train.training.machine_watch import CARD_FIELDS, MachineWatch
from metagene_train.training.trainer import train

GIB = 2**30
MIB = 1 / 1024
CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)


def test_a_run_writes_down_what_its_machine_has_left(tmp_path, capsys):
    train(tiny_config(tmp_path, training__max_epochs=2, training__num_workers=2), quiet=True)
    lines = metrics(tmp_path / "run", "train")
    seconds = [line["elapsed_s"] for line in lines]
    assert seconds == sorted(seconds) and 0 < seconds[0] < seconds[-1]
    free = shutil.disk_usage(tmp_path).free / GIB
    for line in lines:
        assert 0.05 < line["process_memory_gib"] < 8
        assert line["host_available_gib"] > 0
        assert line["disk_free_gib"] == pytest.approx(free, abs=2)
        assert all(line[name] is None for name in CARD_FIELDS)
    assert max(line["workers_memory_gib"] for line in lines) > 0.02
    _, report = found(capsys, "--run", tmp_path / "run")
    assert not {finding["id"] for finding in report["findings"]} & {"A08", "A09", "A10"}


def test_memory_of_its_own_is_told_from_mapped_files(tmp_path):
    watch = MachineWatch(tmp_path, CPU)
    before = watch.sample()["process_memory_gib"]
    file = tmp_path / "reads"
    file.write_bytes(bytes(64 * 2**20))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[place] for place in range(0, len(mapped), 4096)) == 0
        assert watch.sample()["process_memory_gib"] == pytest.approx(before, abs=16 * MIB)
    kept = bytearray(b"1" * 64 * 2**20)
    assert watch.sample()["process_memory_gib"] == pytest.approx(before + len(kept) / GIB, abs=16 * MIB)


def _hold(ready, done):
    kept = bytearray(b"1" * 64 * 2**20)
    ready.set()
    done.wait(60)
    assert kept


def _watch_a_worker(directory, answer):
    context = multiprocessing.get_context("fork")
    watch = MachineWatch(directory, CPU)
    before = watch.sample()["workers_memory_gib"]
    ready, done = context.Event(), context.Event()
    worker = context.Process(target=_hold, args=(ready, done))
    worker.start()
    assert ready.wait(60)
    meanwhile = watch.sample()["workers_memory_gib"]
    done.set()
    worker.join()
    answer.send((before, meanwhile, watch.sample()["workers_memory_gib"]))


def test_workers_are_counted_while_they_live(tmp_path):
    # In a process of its own, because this one may still have workers of other tests.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    watching = context.Process(target=_watch_a_worker, args=(tmp_path, sender))
    watching.start()
    assert receiver.poll(120)
    before, meanwhile, after = receiver.recv()
    watching.join()
    assert (before, after) == (0, 0)
    assert meanwhile > 60 * MIB


def test_a_limit_of_the_control_group_counts_where_it_is_nearer(tmp_path, monkeypatch):
    group = tmp_path / "groups" / "job"
    group.mkdir(parents=True)
    (tmp_path / "groups" / "cgroup.controllers").touch()
    (tmp_path / "membership").write_text("0::/job\n")
    (group / "memory.max").write_text(f"{200 * 2**20}\n")
    (group / "memory.current").write_text(f"{180 * 2**20}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {30 * 2**20}\n")
    monkeypatch.setattr(machine_watch, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(machine_watch, "_GROUPS", tmp_path / "groups")
    watch = MachineWatch(tmp_path, CPU)
    assert watch.sample()["host_available_gib"] == pytest.approx(50 * MIB)
    (group / "memory.current").write_text(f"{230 * 2**20}\n")
    assert watch.sample()["host_available_gib"] == 0
    assert memory_limits.group_memory(tmp_path / "none", tmp_path / "groups") is None


@pytest.fixture
def card(monkeypatch):
    """A card of 24 GiB on which this run has reserved 4; ``answers`` replaces what its driver says."""

    def install(**answers):
        known = {
            "nvmlDeviceGetHandleByUUID": lambda uuid: {"GPU-0a-1b": "handle"}[uuid],
            "nvmlDeviceGetCurrentClocksEventReasons": 0x24,
            "nvmlDeviceGetTotalEccErrors": 0,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=24 * GIB, used=5 * GIB, free=19 * GIB),
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=1, usedGpuMemory=None)],
        }
        fake_driver(monkeypatch, **(known | answers))

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0a-1b"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4 * GIB)
    return install


def told(tmp_path):
    sample = MachineWatch(tmp_path, CARD).sample()
    return tuple(sample[name] for name in CARD_FIELDS)


def test_a_card_tells_clock_errors_and_neighbours(tmp_path, card):
    card()
    assert told(tmp_path) == (0x24, 0, 1.0, 1)


def test_an_older_driver_has_older_names_and_a_card_may_know_less(tmp_path, card):
    card(
        nvmlDeviceGetCurrentClocksEventReasons=NVMLError(13),
        nvmlDeviceGetCurrentClocksThrottleReasons=0x8,
        nvmlDeviceGetTotalEccErrors=NVMLError(3),
    )
    assert told(tmp_path) == (0x8, None, 1.0, 1)


def test_a_slice_of_a_card_is_found_by_its_own_name(tmp_path, card):
    def handle(uuid):
        if not uuid.startswith("MIG-"):
            raise NVMLError(6)
        return "slice"

    card(nvmlDeviceGetHandleByUUID=handle)
    assert told(tmp_path)[3] == 1


@pytest.mark.parametrize("trouble", ["no binding", "no driver", "unknown card"])
def test_a_card_that_cannot_be_asked_ends_no_run(tmp_path, card, monkeypatch, trouble):
    card(nvmlDeviceGetHandleByUUID=NVMLError(6))
    if trouble == "no driver":
        fake_driver(monkeypatch, init_error=12)
    elif trouble == "no binding":
        monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert told(tmp_path) == (None,) * 4


def test_a_sample_costs_far_less_than_a_step(tmp_path):
    watch = MachineWatch(tmp_path, CPU)
    began = time.process_time()
    for _ in range(50):
        watch.sample()
    assert (time.process_time() - began) / 50 < 0.01
