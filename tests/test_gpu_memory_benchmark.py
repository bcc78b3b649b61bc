"""``benchmarks/gpu_memory.py`` and the probe that it starts, with stand-ins for the card."""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from doctor_fixtures import fake_driver, in_slices
from memory_fixtures import run_config, tiny_llama

from metagene_doctor import rulebook
from metagene_doctor.memory.costs import measure as measuring
from metagene_doctor.memory.measured import calibration, probe
from metagene_doctor.memory.measured.measurement import Measurement
from metagene_train.errors import RunError

ROOT = Path(__file__).parents[1]
GIB = 2**30


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = ROOT / "benchmarks" / "gpu_memory.py"
    spec = importlib.util.spec_from_file_location("gpu_memory", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_memory"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))


# The probe


class StandIn:
    """A card of which a context takes 0.4 GiB and each look at the statistics is 1 GiB higher."""

    device, name, driver = "cpu", "NVIDIA Stand-in", "580.1"

    def __init__(self, failing: Exception | None = None, after: int = 99):
        self.failing, self.after, self.looks = failing, after, 0
        self.opened = False
        self.limited: float | None = None

    def used(self) -> int:
        return int((1.0 + (0.4 if self.opened else 0) + 2 + 0.1 * (self.looks > 2)) * GIB)

    def open(self) -> None:
        self.opened = True

    def limit(self, gib: float) -> None:
        self.limited = gib

    def stats(self) -> dict[str, int]:
        self.looks += 1
        return {
            **dict.fromkeys(probe.PEAKS.values(), self.looks * GIB),
            "reserved_bytes.all.current": 0,
            "num_alloc_retries": 3,
        }

    def forget_peaks(self) -> None:
        if self.looks == self.after and self.failing:
            raise self.failing

    def settle(self) -> None: ...


def job(tmp_path: Path, **changes: object) -> probe.Job:
    tiny_llama().save_pretrained(tmp_path / "tiny")
    config = run_config(model__encoder_path=str(tmp_path / "tiny"), training__batch_size=2)
    return probe.Job(config.model_dump(mode="json"), num_labels=5, length=12, **changes)


def test_a_probe_reads_the_peaks_of_loading_each_step_and_the_evaluation(tmp_path):
    card = StandIn()
    found = probe.run(job(tmp_path, cap_gib=20.0), card)
    assert [moment["after"] for moment in found["moments"]] == [
        "loading",
        *(f"step {number}" for number in range(1, probe.STEPS + 1)),
        "evaluation",
    ]
    peaks = [moment["live_gib"] for moment in found["moments"]]
    assert peaks == sorted(peaks) and found["live_gib"] == found["reserved_gib"] == peaks[-1]
    assert found["context_gib"] == pytest.approx(0.4)
    assert found["outside_gib"] == pytest.approx(0.5)
    assert found["in_use_before_gib"] == pytest.approx(3.0)
    assert card.limited == 20.0
    assert found["seconds_per_step"] > 0 and found["out_of_memory"] is None
    # All that a Measurement holds, and nothing that JSON does not.
    known = {name for name in Measurement.__dataclass_fields__ if name != "cap_gib"}
    assert known <= json.loads(json.dumps(found)).keys()


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_running_out_of_memory_in_torch_or_in_a_library_is_a_result(tmp_path, error):
    card = StandIn(error, after=4)
    found = probe.run(job(tmp_path), card)
    assert found["out_of_memory"] == str(error).splitlines()[0]
    assert found["seconds_per_step"] is None
    assert [moment["after"] for moment in found["moments"]][-1] == "running out of memory"


def test_any_other_failure_of_the_probe_is_not_taken_for_a_lack_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match="illegal"):
        probe.run(job(tmp_path), StandIn(RuntimeError("CUDA error: an illegal memory access"), after=4))


def test_what_the_probe_asks_torch_for_exists():
    """No card here can tell, but torch's own names can."""
    source = inspect.getsource(probe)
    names = {part.split("(")[0].split(")")[0].split("`")[0] for part in source.split("torch.cuda.")[1:]}
    names = {name.strip(" .,:\n").split(" ")[0].split("\n")[0] for name in names}
    assert len(names) >= 8
    for name in names:
        assert hasattr(torch.cuda, name), name
    documented = inspect.getdoc(torch.cuda.memory_stats) or ""
    for key in probe.PEAKS.values():
        assert f'"{key.split(".")[0]}.' in documented, key
    assert '"num_alloc_retries"' in documented
    import pynvml

    assert hasattr(pynvml, "nvmlDeviceGetHandleByIndex") and hasattr(pynvml, "nvmlDeviceGetMemoryInfo")


def test_the_card_is_the_one_that_torch_counts_first(monkeypatch):
    handles = []
    fake_driver(
        monkeypatch,
        nvmlDeviceGetCount=2,
        nvmlDeviceGetHandleByIndex=lambda index: handles.append(index) or index,
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA GeForce RTX 4090")
    card = probe.CudaCard()
    assert handles[-1] == 1
    assert card.used() > 0 and card.driver


def test_of_a_card_in_slices_the_use_is_that_of_the_slice(monkeypatch):
    fake_driver(monkeypatch, **in_slices())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b2")
    card = probe.CudaCard()
    assert card._handle == "slice 2"
    assert card.name.endswith("1g.5gb")


def test_without_nvml_the_use_is_taken_from_cuda(monkeypatch):
    import pynvml

    def absent():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (70 * GIB, 80 * GIB))
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    card = probe.CudaCard()
    assert card.used() == 0
    card.open()
    assert card.used() == 10 * GIB
    assert "NVML" in card.driver


def test_a_probe_that_fails_or_hangs_is_one_message():
    with pytest.raises(RunError, match="the probe failed: RuntimeError: no such kernel"):
        measuring.run_probe([sys.executable, "-c", "raise RuntimeError('no such kernel')"], "", 60)
    with pytest.raises(RunError, match="ended after 1 s"):
        measuring.run_probe([sys.executable, "-c", "import time; time.sleep(60)"], "", 1)
    with pytest.raises(RunError, match="exit code -9"):
        measuring.run_probe(
            [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], "", 60
        )


# The grid and the tables


def test_the_grid_covers_what_the_prediction_is_for(bench, monkeypatch):
    monkeypatch.setattr(bench, "recommended", lambda: iter(()))
    cases = list(bench.grid())
    quantised = [case for case in cases if case.config.model.quantization != "none"]
    assert len(cases) - len(quantised) + len(bench.GOALS) == 36  # as docs/memory.md says
    assert len({case.name for case in cases}) == len(cases)
    configs = [case.config for case in cases]
    assert {64, 128, 256, 512} <= {config.tokenizer.max_length for config in configs}
    assert {1, 4, 8, 16, 32, 64} <= {config.training.batch_size for config in configs}
    assert {4, 8, 16, 64} <= {config.model.lora.r for config in configs}
    assert {config.model.gradient_checkpointing for config in configs} == {True, False}
    assert len({str(config.model.lora.target_modules) for config in configs}) == 3
    assert any(config.training.eval_batch_size for config in configs)
    caps = {case.cap for case in cases}
    assert {rulebook.load().gpu(cap).marketed_gb for cap in caps if cap} == {24, 40}


def test_quantised_encoders_are_in_the_grid_where_they_can_be_packed(bench, monkeypatch):
    monkeypatch.setattr(bench, "recommended", lambda: iter(()))
    for installed, kinds in ((True, ["nf4", "nf4", "int8", "int8"]), (False, [])):
        monkeypatch.setattr(bench, "_is_there", lambda module, installed=installed: installed)
        cases = [case for case in bench.grid() if case.config.model.quantization != "none"]
        assert [case.config.model.quantization for case in cases] == kinds
        assert all(case.config.model.quantization in case.name for case in cases)


def fake_run(calls: list[str], *, fails: str = "", off: float = 1.0, out_of_memory: str = ""):
    """In place of a probe: the prediction, ``off`` by a factor."""

    def run(case, predicted):
        calls.append(case.name)
        if case.name == fails:
            raise RunError("--measure: the probe failed: no kernel image")
        outside = predicted.device_gib - predicted.reserved_gib
        return Measurement(
            gpu="NVIDIA GeForce RTX 4090",
            torch=torch.__version__,
            driver="580.1",
            live_gib=predicted.live_gib,
            allocated_gib=predicted.allocated_gib,
            reserved_gib=predicted.reserved_gib * off,
            context_gib=0.4,
            outside_gib=outside,
            retries=0,
            seconds_per_step=None if case.name == out_of_memory else 0.25,
            out_of_memory="CUDA out of memory." if case.name == out_of_memory else None,
            cap_gib=None,
        )

    return run


@pytest.fixture
def machine(bench, monkeypatch):
    """A machine with an RTX 4090, and a grid of three workloads that share a structure."""
    fake_driver(monkeypatch)
    # The stand-in for the driver's binding has no place of its own on the disk.
    monkeypatch.delitem(bench.PACKAGES, "pynvml")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def grid():
        for batch in (1, 2, 4):
            config = bench.configuration(batch, 64, 8, ("q_proj", "v_proj"), True)
            yield bench.Case(f"case {batch}", config, 64, "rtx4090" if batch == 4 else None)

    monkeypatch.setattr(bench, "grid", grid)
    return monkeypatch


def results_in(directory: Path) -> list[dict]:
    (path,) = directory.glob("gpu_memory_*.json")
    return json.loads(path.read_text())


def test_a_run_writes_what_it_measured_and_a_table(bench, machine, tmp_path, capsys):
    calls: list[str] = []
    machine.setattr(bench, "run", fake_run(calls))
    assert bench.main(["--results", str(tmp_path)]) == 0
    assert calls == ["case 1", "case 2", "case 4"]
    results = results_in(tmp_path)
    assert [result["case"] for result in results] == calls
    for result in results:
        assert result["problems"] == []
        assert {"live_gib", "reserved_gib", "device_gib", "margin_gib", "timeline"} <= result[
            "predicted"
        ].keys()
        assert {"device_gib", "context_gib", "outside_gib", "seconds_per_step"} <= result["measured"].keys()
    shown = capsys.readouterr()
    assert shown.out.count("| case ") == 3 and "0.250 s" in shown.out and "| 0.0% |" in shown.out
    (markdown,) = tmp_path.glob("gpu_memory_geforce_rtx_4090.md")
    assert markdown.read_text() == shown.out
    assert shown.err.endswith("3 workloads, 0 with problems\n")


def test_a_run_that_was_interrupted_goes_on_and_loses_nothing(bench, machine, tmp_path):
    def interrupted(case, predicted):
        if case.name == "case 2":
            raise KeyboardInterrupt
        return fake_run([])(case, predicted)

    machine.setattr(bench, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--results", str(tmp_path)])
    assert [result["case"] for result in results_in(tmp_path)] == ["case 1"]

    calls: list[str] = []
    machine.setattr(bench, "run", fake_run(calls))
    assert bench.main(["--results", str(tmp_path)]) == 0
    assert calls == ["case 2", "case 4"]
    assert [result["case"] for result in results_in(tmp_path)] == ["case 1", "case 2", "case 4"]
    calls.clear()
    assert bench.main(["--results", str(tmp_path), "--again", "--limit", "1"]) == 0
    assert calls == ["case 1"]


def test_one_that_fails_is_recorded_does_not_stop_the_others_and_is_tried_again(
    bench, machine, tmp_path, capsys
):
    calls: list[str] = []
    machine.setattr(bench, "run", fake_run(calls, fails="case 1"))
    assert bench.main(["--results", str(tmp_path)]) == 1
    assert len(calls) == 3
    assert results_in(tmp_path)[0]["problems"] == [
        "could not be measured: --measure: the probe failed: no kernel image"
    ]
    assert "failed: --measure" in capsys.readouterr().out

    # Interrupted while the failed one is measured again: what was measured after it stays.
    def interrupted(case, predicted):
        raise KeyboardInterrupt

    machine.setattr(bench, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--results", str(tmp_path)])
    assert {"case 2", "case 4"} <= {result["case"] for result in results_in(tmp_path)}
    calls.clear()
    machine.setattr(bench, "run", fake_run(calls))
    assert bench.main(["--results", str(tmp_path)]) == 0
    assert calls == ["case 1"] and len(results_in(tmp_path)) == 3


def test_bars_that_are_missed_are_told(bench, machine, tmp_path, capsys):
    machine.setattr(bench, "run", fake_run([], off=1.05, out_of_memory="case 4"))
    assert bench.main(["--results", str(tmp_path)]) == 1
    first, _, last = results_in(tmp_path)
    assert "reserved is off by -4.8%" in first["problems"]
    assert "takes more than prediction and margin" in first["problems"]
    assert last["problems"] == ["ran out of memory, although it was said to fit"]
    assert "out of memory |" in capsys.readouterr().out


def test_time_that_is_short_ends_the_run_with_what_is_left(bench, machine, tmp_path, capsys):
    machine.setattr(bench, "run", fake_run([]))
    clock = iter(range(0, 100_000, 50))
    machine.setattr(bench.time, "monotonic", lambda: next(clock))
    assert bench.main(["--results", str(tmp_path), "--minutes", "3"]) == 3
    assert "left: start it again" in capsys.readouterr().err
    assert 1 <= len(results_in(tmp_path)) < 3


def test_predictions_that_earlier_measurements_have_calibrated_are_told(bench, machine, tmp_path, capsys):
    machine.setattr(bench, "run", fake_run([]))
    case = next(bench.grid())
    predicted = bench.predict(case, rulebook.load().gpu("rtx4090"))
    calibration.remember(fake_run([])(case, predicted), predicted)
    assert bench.main(["--results", str(tmp_path), "--limit", "1"]) == 0
    assert "calibrated by 1 measured runs" in capsys.readouterr().err


def test_a_cap_limits_the_allocator_to_what_the_smaller_card_leaves_it(bench, machine):
    from metagene_doctor.memory.costs.request import choose_card

    case = list(bench.grid())[-1]
    here, _ = choose_card(None, None)
    predicted = bench.predict(case, bench.judged_as(case, here))
    asked = []

    def probed(config, **options):
        asked.append(options)
        return fake_run([])(case, predicted)

    machine.setattr(measuring, "measure", probed)
    bench.run(case, predicted)
    outside = predicted.device_gib - predicted.reserved_gib
    assert asked[0]["cap_gib"] == pytest.approx(rulebook.load().gpu("rtx4090").usable_gib - outside)
    assert asked[0]["longest_s"] == bench.LONGEST_S


def test_without_a_gpu_or_a_package_it_says_so(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main(["--results", str(tmp_path)]) == 2
    assert "no CUDA GPU" in capsys.readouterr().err
    monkeypatch.setattr(
        bench, "PACKAGES", {"torch": "torch", "no_such.thing": "thing", "nothing": "no-thing"}
    )
    assert bench.main(["--results", str(tmp_path)]) == 2
    assert "needs thing, no-thing: python -m pip install thing no-thing" in capsys.readouterr().err


def test_it_runs_from_a_checkout_with_few_packages(tmp_path):
    """Readers, tables and pictures are not needed where memory is measured."""
    unneeded = [
        "pyfastx",
        "isal",
        "zstandard",
        "pandas",
        "sklearn",
        "pyarrow",
        "matplotlib",
        "rich",
        "click",
        "scipy",
    ]
    code = f"""
import sys
for name in {unneeded}:
    sys.modules[name] = None  # as if it were not installed
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import gpu_memory
from metagene_doctor import rulebook
from metagene_doctor.memory.measured import probe
assert not gpu_memory.missing_packages()
case = next(gpu_memory.grid())
print(gpu_memory.predict(case, rulebook.load().gpu("h100")).reserved_gib)
case = list(gpu_memory.recommended())[0]
import metagene_train.training.step, metagene_train.model
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 12


@pytest.mark.parametrize(
    ("error", "shown"),
    [(0.0, "0.0%"), (-0.0, "0.0%"), (0.0004, "0.0%"), (-0.0004, "0.0%"), (0.0006, "+0.1%"), (-0.1, "-10.0%")],
)
def test_an_error_that_rounds_to_zero_has_no_sign(bench, error, shown):
    assert bench.signed(error) == shown
