"""Desktop, kernel log, clocks under load, lanes, several GPUs, quantisation, temporary and slow disks, LoRA."""

import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
from doctor_fixtures import (
    GIB,
    PACKAGES,
    NVMLError,
    device,
    encoder,
    environment,
    facts,
    fake_driver,
    gpu,
    host,
    table,
    write_reads,
)

from metagene_doctor.checks.machine import disk as disk_checks
from metagene_doctor.checks.machine import hardware, packages
from metagene_doctor.checks.model import encoder as model
from metagene_doctor.checks.model import tokens
from metagene_doctor.facts.machine import disk, disk_speed, gpu_load, kernel_log
from metagene_doctor.facts.machine import gpu as gpu_facts
from metagene_doctor.facts.machine.environment import QuantizedProbe, try_quantized
from metagene_doctor.facts.model.encoder import metagene_1
from metagene_doctor.facts.model.tokens import GOLDEN_IDS, TokenFacts
from metagene_doctor.facts.prediction import SpeedFacts

LOG = """[Thu Nov 26 03:12:44 2026] NVRM: Xid (PCI:0000:41:00): 79, pid=1234, GPU has fallen off the bus.
[Thu Nov 26 03:12:45 2026] usb 1-1: new device
[Thu Nov 26 04:00:00 2026] NVRM: Xid (PCI:0000:01:00): 13, pid=7, name=python, Graphics SM Warp Exception
[Thu Nov 26 04:00:01 2026] NVRM: Xid (PCI:0000:01:00): 13, pid=8, name=python, Graphics SM Warp Exception
"""


def severities(findings):
    return [str(finding.severity) for finding in findings]


# The driver's answers


def test_display_lanes_and_peers_are_collected(monkeypatch):
    fake_driver(
        monkeypatch,
        nvmlDeviceGetCount=3,
        nvmlDeviceGetDisplayActive=1,
        nvmlDeviceGetCurrPcieLinkWidth=4,
        nvmlDeviceGetP2PStatus=2,
    )
    found = gpu_facts.collect()
    assert found.peers == ((0, 1, False), (0, 2, False), (1, 2, False))
    assert (found.devices[0].display_active, found.devices[0].pcie_width) == (True, 4)
    fake_driver(
        monkeypatch, nvmlDeviceGetDisplayActive=NVMLError(3), nvmlDeviceGetMaxPcieLinkWidth=NVMLError(3)
    )
    found = gpu_facts.collect()
    assert found.peers == () and found.devices[0].display_active is None
    assert found.devices[0].pcie_max_width is None


def test_a_desktop_is_a_remark():
    shown = facts(gpu=gpu(device(display_active=True)))
    (finding,) = hardware.no_desktop(shown)
    assert finding.severity == "info" and "--gpu-mem 23" in finding.remedy.commands[0]
    assert not list(hardware.no_desktop(facts(gpu=gpu(device(), device(display_active=False)))))


@pytest.mark.parametrize(("width", "severity"), [(4, ["warn"]), (8, ["info"]), (16, []), (None, [])])
def test_missing_lanes(width, severity):
    known = facts(gpu=gpu(device(pcie_width=width, pcie_max_width=16)))
    assert severities(hardware.full_width(known)) == severity


def test_unequal_gpus_and_missing_peer_access():
    mixed = facts(gpu=gpu(device(), device(index=1, name="NVIDIA A100", total_bytes=80 * GIB)))
    (finding,) = hardware.equal_gpus(mixed)
    assert finding.severity == "warn" and "24" in finding.why
    assert finding.remedy.commands == ("export CUDA_VISIBLE_DEVICES=0",)
    twins = (device(), device(index=1))
    (finding,) = hardware.equal_gpus(facts(gpu=gpu(*twins, peers=((0, 1, False),))))
    assert finding.severity == "info" and "1 of 1 pair" in finding.title
    assert not list(hardware.equal_gpus(facts(gpu=gpu(*twins, peers=((0, 1, True),)))))


# The kernel's log


def test_xids_are_counted_by_card_and_code():
    found = kernel_log.parse(LOG)
    assert [(xid.code, xid.pci, xid.count) for xid in found] == [
        (79, "0000:41:00", 1),
        (13, "0000:01:00", 2),
    ]
    findings = list(hardware.no_kernel_errors(facts(kernel_log=kernel_log.KernelLogFacts(xids=found))))
    assert severities(findings) == ["warn", "info"]
    assert "fell off the bus" in findings[0].title and "2 times" in findings[1].title
    assert not list(hardware.no_kernel_errors(facts(kernel_log=kernel_log.KernelLogFacts())))


def test_a_log_that_may_not_be_read_is_skipped_with_the_reason(tmp_path):
    refusing = (sys.executable, "-c", "import sys; sys.exit('dmesg: Operation not permitted')")
    found = kernel_log.collect([(str(tmp_path / "none"),), refusing])
    assert found.unreadable and "Operation not permitted" in found.unreadable
    (finding,) = hardware.no_kernel_errors(facts(kernel_log=found))
    assert finding.severity == "skip" and "Operation not permitted" in finding.why
    readable = kernel_log.collect([refusing, (sys.executable, "-c", f"print({LOG!r})")])
    assert [xid.code for xid in readable.xids] == [79, 13]


# Load


def test_heat_under_load():
    hot = [(2500, 70, 0), (2500, 75, 0x4), *[(1400, 88, 0x40)] * 4]
    load = gpu_load.summarise(0, "RTX 4090", hot)
    assert load.reasons == {"power limit": 1, "heat (hardware)": 4}
    (finding,) = hardware.clock_held(facts(gpu_load=load))
    assert "heat (hardware) in 66.7 % of the time under load, at 88 °C" in finding.title
    assert "from 2,500 to 1,400 MHz" in finding.why
    capped = gpu_load.summarise(0, "RTX 4090", [(2300, 70, 0x4)] * 9)
    assert not list(hardware.clock_held(facts(gpu_load=capped)))
    failed = gpu_load.GpuLoadFacts(index=0, name="RTX 4090", samples=0, error="out of memory")
    assert severities(hardware.clock_held(facts(gpu_load=failed))) == ["skip"]


def test_a_load_that_cannot_start_says_why(monkeypatch):
    driver = ModuleType("pynvml")
    driver.nvmlInit = driver.nvmlShutdown = lambda: None
    driver.nvmlDeviceGetHandleByIndex = lambda index: index
    driver.nvmlDeviceGetName = lambda handle: b"RTX 4090"
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(gpu_load, "_LOAD", "import sys; sys.exit('no CUDA here')")
    found = gpu_load.collect(0, seconds=1)
    assert (found.name, found.error) == ("RTX 4090", "no CUDA here")


def test_a_load_that_hangs_is_ended(monkeypatch):
    driver = ModuleType("pynvml")
    driver.nvmlInit = driver.nvmlShutdown = lambda: None
    driver.nvmlDeviceGetHandleByIndex = lambda index: index
    driver.nvmlDeviceGetName = lambda handle: "RTX 4090"
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(gpu_load, "_LOAD", "import time; time.sleep(600)")
    monkeypatch.setattr(gpu_load, "STARTUP_SECONDS", 0.5)
    assert "did not answer" in gpu_load.collect(0, seconds=1).error


# Quantisation


def test_quantisation_that_does_not_work():
    config = {"model": {"quantization": "nf4"}}
    broken = environment(
        packages=PACKAGES | {"bitsandbytes": "0.45"}, quantized=QuantizedProbe(error="no binary")
    )
    (finding,) = packages.quantization_works(facts(config, environment=broken))
    assert (
        finding.severity == "error" and "bitsandbytes 0.45" in finding.title and "no binary" in finding.title
    )
    for error, fires in ((0.1, False), (0.9, True), (float("nan"), True)):
        tried = environment(quantized=QuantizedProbe(relative_error=error))
        assert bool(list(packages.quantization_works(facts(config, environment=tried)))) == fires


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize(("kind", "error"), [("nf4", 0.1), ("int8", 0.01)])
def test_quantisation_that_works(kind, error):
    assert 0 < try_quantized(kind, device="cpu").relative_error < 1.5 * error


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "raise RuntimeError('\\n CUDA version mismatch\\nadvice: read on')",
            "RuntimeError: CUDA version mismatch",
        ),
        ("raise SystemExit('no CUDA here')", "no CUDA here"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_probe_that_fails_says_why_in_one_line(monkeypatch, program, said):
    monkeypatch.setattr("metagene_doctor.facts.machine.environment._QUANTIZED", program)
    assert try_quantized("nf4").error == said


def test_a_probe_without_the_package_is_an_error_and_no_crash(monkeypatch):
    monkeypatch.setattr("metagene_doctor.facts.machine.environment._QUANTIZED", "import no_such_library")
    assert "no_such_library" in try_quantized("nf4").error


# Disks


def test_mounts_without_programs(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"2 1 0:5 / {tmp_path} rw,nosuid,noexec - tmpfs tmpfs rw\n"
    )
    found = disk.collect({"temporary directory": tmp_path, "hub cache": tmp_path.parent}, mountinfo)
    assert [place.noexec for place in found.places] == [True, False]
    room = {"free_bytes": 10**11, "writable": True}
    place = found.places[0].model_copy(update=room)
    (finding,) = disk_checks.temporary_space(facts(disk=disk.DiskFacts(places=(place,))))
    assert finding.severity == "info" and "noexec" in finding.title


def test_a_full_temporary_directory():
    place = disk.Place(
        role="temporary directory",
        path="/tmp",
        checked="/tmp",
        total_bytes=10**9,
        free_bytes=10**7,
        writable=True,
    )
    (finding,) = disk_checks.temporary_space(facts(disk=disk.DiskFacts(places=(place,))))
    assert finding.severity == "warn" and "10 MB free" in finding.title
    fine = place.model_copy(update={"free_bytes": 10**10})
    assert not list(disk_checks.temporary_space(facts(disk=disk.DiskFacts(places=(fine,)))))


def test_the_disk_is_timed_on_the_reads_themselves(tmp_path):
    path = write_reads(tmp_path / "r.fa", ["ACGT" * 30] * 2000)
    found = disk_speed.collect(path)
    assert found.file_bytes == path.stat().st_size
    assert found.random_reads_per_s > 0 and found.sequential_bytes_per_s > 0


def test_a_disk_slower_than_the_gpu():
    speed = SpeedFacts(reads_per_s=900, slowest=500, fastest=2000, limit="arithmetic")
    slow = disk_speed.DiskSpeedFacts(
        path="t.fa", file_bytes=100 * 10**9, random_reads_per_s=140, sequential_bytes_per_s=2e8
    )
    (finding,) = disk_checks.fast_enough(facts(disk_speed=slow, speed=speed, host=host()))
    assert finding.severity == "warn" and "140 random reads" in finding.title
    small = slow.model_copy(update={"file_bytes": 10**9})
    assert severities(disk_checks.fast_enough(facts(disk_speed=small, speed=speed, host=host()))) == ["info"]
    quick = slow.model_copy(update={"random_reads_per_s": 20_000.0})
    assert not list(disk_checks.fast_enough(facts(disk_speed=quick, speed=speed, host=host())))


# Encoder and tokenizer


def test_lora_targets_have_to_exist():
    wrong = {"model": {"lora": {"target_modules": ["query", "value"]}}}
    (finding,) = model.adapters_placed(facts(wrong, encoder=encoder()))
    assert finding.severity == "error" and "Nothing of the encoder" in finding.why
    partly = {"model": {"lora": {"target_modules": ["q_proj", "w_pack"]}}}
    (finding,) = model.adapters_placed(facts(partly, encoder=encoder()))
    assert finding.count == 1 and "leaves them out" in finding.why
    assert not list(model.adapters_placed(facts(encoder=encoder())))
    assert not list(model.adapters_placed(facts({"model": {"lora": {"enabled": False}}}, encoder=encoder())))


def test_a_very_large_adapter_is_a_remark():
    large = {"model": {"lora": {"r": 1024, "target_modules": "all-linear"}}}
    (finding,) = model.adapters_placed(facts(large, encoder=encoder(), **table((0, "a", 1), (1, "b", 2))))
    assert finding.severity == "info" and finding.measured > 0.05


def test_an_unpinned_encoder_is_named_with_the_revision_that_is_here():
    here = encoder(location="/cache/models--metagene-ai--METAGENE-1/snapshots/0123abc")
    (finding,) = model.revision_pinned(facts(encoder=here))
    assert finding.remedy.commands == ("model.revision: 0123abc",)
    assert not list(model.revision_pinned(facts(encoder=encoder())))
    assert not list(model.revision_pinned(facts({"model": {"revision": "0123abc"}}, encoder=here)))
    assert not list(model.revision_pinned(facts(encoder=encoder(in_hub_cache=False, location="/my/encoder"))))


def test_padding_needs_an_embedding():
    known = TokenFacts(
        source="t",
        vocab_size=1024,
        is_metagene_1=True,
        golden_ids=GOLDEN_IDS,
        special_tokens=1,
        pad_id=0,
        unknown_id=1,
    )

    def judged(pad_id, named):
        architecture = metagene_1().model_copy(update={"pad_token_id": named})
        return severities(
            tokens.padding_usable(
                facts(
                    tokens=known.model_copy(update={"pad_id": pad_id}),
                    encoder=encoder(architecture=architecture),
                )
            )
        )

    assert judged(0, 0) == []
    assert judged(0, None) == ["info"]
    assert judged(5000, 0) == ["error"]
