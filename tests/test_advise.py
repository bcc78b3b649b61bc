"""`metagene advise`: logs and run directories in, symptoms with numbers and applicable fixes out."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_doctor import rulebook
from metagene_doctor.advice.advise import advise, collect
from metagene_doctor.advice.budget import Budget
from metagene_doctor.advice.changes import value_of, with_changes
from metagene_doctor.advice.evidence import Evaluation, Evidence, TrainingPoint, read_metrics
from metagene_doctor.advice.logs import read_log
from metagene_doctor.advice.memory_failures import HostMemoryFailure, OutOfMemory, find_failures
from metagene_doctor.advice.remedies import Situation, plan
from metagene_doctor.advice.symptoms import detect
from metagene_doctor.cli.main import main
from metagene_doctor.finding import Severity
from metagene_train.config import RunConfig
from metagene_train.config_file import dump_config, load_config
from metagene_train.errors import DataError

CLASSES = 20
GUESSING = math.log(CLASSES)


def predicted_gib(config: RunConfig) -> float:
    """A made-up dry run with the right signs: weights + activations of a micro-batch."""
    weights = {"none": 12.1, "int8": 6.5, "nf4": 3.4}[config.model.quantization]
    weights *= 2 if config.training.precision == "32" else 1
    per_token = 0.0004 if config.model.gradient_checkpointing else 0.006
    adapters = 0.01 * config.model.lora.r
    return weights + config.training.batch_size * config.tokenizer.max_length * per_token + adapters


def write_run(
    directory: Path, training: list[dict], evaluations: list[dict], config: RunConfig | None = None, **summary
) -> Path:
    """A run directory as `metagene train` leaves it."""
    directory.mkdir()
    lines = [{"phase": "train", **entry} for entry in training]
    lines += [{"phase": "eval", **entry} for entry in evaluations]
    lines.sort(key=lambda entry: (entry["step"], entry["phase"] == "eval"))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "config.yaml").write_text(dump_config(config or RunConfig()))
    rows = [{"label": i, "class_id": i, "name": f"class {i}", "tax_id": None} for i in range(CLASSES)]
    (directory / "labels.json").write_text(json.dumps({"format_version": 1, "labels": rows}))
    (directory / "run.json").write_text(json.dumps({"status": "finished", **summary}))
    return directory


def losses(values: list[float], every: int = 10, **more: float) -> list[dict]:
    return [
        {"step": every * (i + 1), "epoch": (i + 1) / len(values), "loss": v, "grad_norm": 1.0, **more}
        for i, v in enumerate(values)
    ]


def falling(start: float, end: float, count: int = 100, noise: float = 0.02) -> list[float]:
    generator = random.Random(7)
    return [
        (end + (start - end) * math.exp(-5 * i / count)) * (1 + noise * generator.uniform(-1, 1))
        for i in range(count)
    ]


def evaluated(values: list[float], every: int = 100, **more: float) -> list[dict]:
    return [
        {"step": every * (i + 1), "epoch": float(i + 1), "loss": v, "macro_f1": 0.6, "mcc": 0.5, **more}
        for i, v in enumerate(values)
    ]


def found(capsys, *argv: str) -> tuple[int, dict]:
    """Exit code and the JSON report of one `metagene advise`."""
    code = main(["advise", *map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def titles(report: dict, *severities: str) -> list[str]:
    return [f["title"] for f in report["findings"] if f["severity"] in severities]


# ---------------------------------------------------------------- out-of-memory messages

MESSAGES = {
    "1.0": (
        "RuntimeError: CUDA out of memory. Tried to allocate 16.00 GiB (GPU 0; 11.93 GiB total capacity; "
        "4.00 GiB already allocated; 7.33 GiB free; 179.00 KiB cached)",
        {"tried_gib": 16.0, "capacity_gib": 11.93, "allocated_gib": 4.0, "free_gib": 7.33, "unallocated_gib": 179 / 2**20},
    ),
    "1.13 and 2.0": (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 1; 23.65 GiB total "
        "capacity; 22.10 GiB already allocated; 5.81 MiB free; 22.50 GiB reserved in total by PyTorch) If "
        "reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation.",
        {
            "device": "GPU 1", "tried_gib": 20 / 1024, "capacity_gib": 23.65, "allocated_gib": 22.1,
            "free_gib": 5.81 / 1024, "unallocated_gib": 0.4, "process_gib": None,
        },
    ),
    "2.1, other process": (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 138.00 MiB. GPU 0 has a total capacty "
        "of 15.90 GiB of which 8.44 MiB is free. Process 1246069 has 577.00 MiB memory in use. Including "
        "non-PyTorch memory, this process has 15.32 GiB memory in use. Of the allocated memory 14.12 GiB is "
        "allocated by PyTorch, and 410.41 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
        "memory is large try setting max_split_size_mb to avoid fragmentation.",
        {
            "tried_gib": 138 / 1024, "capacity_gib": 15.9, "free_gib": 8.44 / 1024, "process_gib": 15.32,
            "others_gib": 577 / 1024, "allocated_gib": 14.12, "unallocated_gib": 410.41 / 1024,
        },
    ),
    "2.2 in a container: own process under its host number": (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 1 has a total capacty "
        "of 79.10 GiB of which 364.31 MiB is free. Process 175080 has 1.46 GiB memory in use. Process 175356 has "
        "77.26 GiB memory in use. Of the allocated memory 72.12 GiB is allocated by PyTorch, and 3.78 GiB is "
        "reserved by PyTorch but unallocated.",
        {"process_gib": 77.26, "others_gib": 1.46, "capacity_gib": 79.10, "allocated_gib": 72.12},
    ),
    "2.5 and later": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 226.00 MiB. GPU 0 has a total capacity of "
        "15.70 GiB of which 210.38 MiB is free. Including non-PyTorch memory, this process has 15.48 GiB memory in "
        "use. Of the allocated memory 14.81 GiB is allocated by PyTorch, and 336.73 MiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
        {"tried_gib": 226 / 1024, "capacity_gib": 15.70, "process_gib": 15.48, "others_gib": None, "limit_gib": None},
    ),
    "set fraction and private pools": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        "79.15 GiB of which 60.00 GiB is free. Including non-PyTorch memory, this process has 19.50 GiB memory in "
        "use. 20.00 GiB allowed; Of the allocated memory 18.00 GiB is allocated by PyTorch, with 24.00 MiB "
        "allocated in private pools (e.g., CUDA Graphs), and 1.00 GiB is reserved by PyTorch but unallocated.",
        {"limit_gib": 20.0, "allocated_gib": 18.0, "unallocated_gib": 1.0, "free_gib": 60.0},
    ),
    "WSL: no process is listed, nothing free": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 730.00 MiB. GPU 0 has a total capacity of "
        "8.00 GiB of which 0 bytes is free. Of the allocated memory 6.52 GiB is allocated by PyTorch, and 666.27 "
        "MiB is reserved by PyTorch but unallocated.",
        {"free_gib": 0.0, "process_gib": None, "allocated_gib": 6.52, "unallocated_gib": 666.27 / 1024},
    ),
    "AMD": (
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 15.98 "
        "GiB of which 512.00 MiB is free. Of the allocated memory 14.00 GiB is allocated by PyTorch, and 1.00 GiB "
        "is reserved by PyTorch but unallocated.",
        {"tried_gib": 1.5, "capacity_gib": 15.98, "allocated_gib": 14.0},
    ),
    "outside the allocator": (
        "RuntimeError: CUDA error: out of memory",
        {"tried_gib": None, "capacity_gib": None, "allocated_gib": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", MESSAGES)
def test_every_generation_of_the_message_is_understood(version: str) -> None:
    text, expected = MESSAGES[version]
    (failure,) = find_failures(["step 12", text, "and so on"])
    assert isinstance(failure, OutOfMemory)
    assert failure.line == 2
    for name, value in expected.items():
        assert getattr(failure, name) == (pytest.approx(value) if isinstance(value, float) else value), name


def test_a_message_that_a_terminal_wrapped_is_one_message() -> None:
    words = MESSAGES["2.1, other process"][0].split(" ")
    wrapped = [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]
    (failure,) = find_failures(["", *wrapped])
    assert isinstance(failure, OutOfMemory)
    assert (failure.allocated_gib, failure.process_gib) == (14.12, 15.32)


def test_memory_held_by_others_is_told_from_the_runs_own() -> None:
    held, own = (find_failures([MESSAGES[v][0]]) for v in ("2.2 in a container: own process under its host number", "2.5 and later"))  # fmt: skip
    (shared,), (alone,) = held, own
    assert isinstance(shared, OutOfMemory) and isinstance(alone, OutOfMemory)
    assert shared.foreign_gib == pytest.approx(1.48, abs=0.03)
    assert alone.foreign_gib == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(
    ("line", "kind", "gib"),
    [
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
         "you tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)", "allocation", 4.0),
        ("RuntimeError: DataLoader worker (pid 99) is killed by signal: Bus error. It is possible that "
         "dataloader's workers are out of shared memory.", "shared memory", None),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=77.batch", "killed", None),
        ("train.sh: line 3: 12345 Killed                  metagene train --config c.yaml", "killed", None),
    ],
)  # fmt: skip
def test_the_machines_own_memory_is_told_from_the_gpus(line: str, kind: str, gib: float | None) -> None:
    (failure,) = find_failures([line])
    assert isinstance(failure, HostMemoryFailure)
    assert (failure.kind, failure.tried_gib) == (kind, gib)


def test_the_traceback_says_what_the_run_was_doing() -> None:
    frames = [
        "Traceback (most recent call last):",
        '  File "trainer.py", line 9, in evaluate',
        "    output = self.evaluation_loop(loader)",
    ]
    (failure,) = find_failures([*frames, MESSAGES["2.5 and later"][0]])
    assert isinstance(failure, OutOfMemory)
    assert failure.phase == "evaluation"


# ---------------------------------------------------------------- logs


def test_a_trainer_log_with_text_numbers_nan_and_bars(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "  1%|          | 10/1000 [00:05<08:15,  2.00it/s]\r  2%|▏         | 20/1000 [00:15<16:20,  1.02s/it]\n"
        "{'loss': '2.9', 'grad_norm': '1.5', 'learning_rate': '2e-04', 'epoch': '0.1'}\n"
        "{'loss': 2.5, 'grad_norm': 3, 'learning_rate': 0.0001, 'epoch': 0.2}\n"
        "{'eval_loss': 2.4, 'eval_f1': 0.3, 'eval_runtime': 5.5, 'epoch': 0.2}\n"
        "{'loss': nan, 'grad_norm': inf, 'learning_rate': 0.0, 'epoch': 0.3}\n"
        "{'train_runtime': 99.0, 'train_loss': 2.7, 'epoch': 1.0}\n"
    )
    evidence = read_log(log)
    assert [point.loss for point in evidence.training[:2]] == [2.9, 2.5]
    assert len(evidence.training) == 3 and math.isnan(evidence.training[2].loss or 0)
    assert (evidence.training[0].step, evidence.total_steps) == (20, 1000)
    assert (evidence.evaluations[0].loss, evidence.evaluations[0].macro_f1) == (2.4, 0.3)
    assert evidence.iterations_per_s == pytest.approx((2.0 + 1 / 1.02) / 2)


def test_a_log_of_assignments(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("step=5 train_loss=2.0 lr=1e-4\nstep=10 val_loss=1.9 macro_f1=0.4\nEpoch 1: loss: nan\n")
    evidence = read_log(log)
    assert evidence.training[0] == TrainingPoint(step=5, loss=2.0, lr=1e-4)
    assert (evidence.evaluations[0].step, evidence.evaluations[0].loss) == (10, 1.9)
    assert detect(evidence)[0].severity is Severity.ERROR


def test_the_lines_of_metagene_train_itself(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "step 20/60  loss 1.1000  val loss 1.0500  val macro_f1 0.4000\n"
        "step 40/60  loss 0.9000  val loss 0.9500  val macro_f1 0.5000  val mcc 0.3000\n"
        "metagene: error: the loss became NaN or infinite at step 47 with a learning rate of 0.01; the ...\n"
    )
    evidence = read_log(log)
    assert [(point.step, point.loss) for point in evidence.training] == [(20, 1.1), (40, 0.9)]
    assert evidence.evaluations[1] == Evaluation(step=40, loss=0.95, macro_f1=0.5, mcc=0.3)
    assert detect(evidence)[0].title == "The training loss is not a number from step 47 on"


def test_metrics_after_a_resume_count_once_and_damage_is_named(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    entries = [(10, 3.0), (20, 2.5), (30, 2.2), (20, 2.6), (30, 2.1)]
    metrics.write_text(
        "".join(json.dumps({"phase": "train", "step": s, "loss": v}) + "\n" for s, v in entries)
        + '{"phase": "tr'
    )
    training, _ = read_metrics(metrics)
    assert [(point.step, point.loss) for point in training] == [(10, 3.0), (20, 2.6), (30, 2.1)]
    metrics.write_text('{"step": 1, "phase": "train"}\nnot json\n{"step": 2, "phase": "train"}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: "):
        read_metrics(metrics)


# ---------------------------------------------------------------- symptoms of a run directory


def test_a_healthy_run_says_so_with_its_numbers(tmp_path: Path, capsys) -> None:
    fast = {"reads_per_s": 500.0, "padding_fraction": 0.02, "data_wait_fraction": 0.01}
    run = write_run(
        tmp_path / "run",
        losses(falling(3.0, 0.5), **fast),
        evaluated([1.2, 0.9, 0.8, 0.79, 0.785, 0.784, 0.784]),
    )
    code, report = found(capsys, "--run", run)
    assert code == 0
    (finding,) = report["findings"]
    assert finding["title"] == "No symptom found"
    assert "validation loss 0.784" in finding["why"] and "500 reads/s" in finding["why"]


def test_overfitting_is_found_with_gap_and_evaluations(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 0.1)), evaluated([1.2, 0.9, 1.0, 1.1, 1.25]))
    code, report = found(capsys, "--run", run)
    assert code == 0
    finding = report["findings"][0]
    assert (finding["id"], finding["severity"]) == ("A07", "warn")
    assert (finding["measured"], finding["threshold"]) == (1.25, 0.9)
    assert "3 evaluations later (+39%)" in finding["why"] and "step 200" in finding["why"]
    assert found(capsys, "--run", run, "--fail-on", "warn")[0] == 1


def test_epochs_are_lowered_to_the_best_evaluation(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 0.1)), evaluated([1.2, 0.9, 1.0, 1.1, 1.25]))
    _, report = found(capsys, "--run", run)
    assert any("training.max_epochs 10 → 2" in title for title in titles(report, "info"))


def test_a_rise_of_both_losses_is_divergence_not_overfitting(tmp_path: Path, capsys) -> None:
    values = [*falling(3.0, 0.8, 60), *(0.8 + 0.03 * i for i in range(40))]
    run = write_run(tmp_path / "run", losses(values), evaluated([1.2, 0.9, 1.0, 1.5, 1.9]))
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn", "error") == ["Training loss rises again: the run diverged"]


def test_a_run_that_ended_while_improving(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 1.0)), evaluated([2.5, 2.2, 1.9, 1.7, 1.5, 1.3]))
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["Stopped while still improving"]
    fix = next(f for f in report["findings"] if f["id"] == "GM-UNDER-3")
    assert "training.max_epochs 10 → 20" in fix["title"], "the run shows it, whatever the rule's limit"


def test_both_losses_high_and_flat(tmp_path: Path, capsys) -> None:
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 2.3)), evaluated([2.6, 2.36, 2.35, 2.35, 2.35, 2.35])
    )
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["Underfitting: both losses levelled off high"]
    assert f"{GUESSING:.4g}" in report["findings"][0]["why"]


def test_nothing_learned_is_a_loss_of_ln_k(tmp_path: Path, capsys) -> None:
    flat = [GUESSING * (1 + 0.005 * (-1) ** i) for i in range(60)]
    run = write_run(tmp_path / "run", losses(flat), evaluated([GUESSING] * 4, macro_f1=0.05, mcc=0.01))
    _, report = found(capsys, "--run", run)
    assert "Nothing was learned" in titles(report, "warn")
    assert "T01" in report["findings"][0]["remedy"]["text"]


def test_not_a_number_is_an_error_with_the_step(tmp_path: Path, capsys) -> None:
    values = [*falling(3.0, 1.5, 50), math.nan, math.nan]
    run = write_run(tmp_path / "run", losses(values), [], status="failed")
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["title"] == "The training loss is not a number from step 510 on"


def test_spikes_and_exploding_gradients(tmp_path: Path, capsys) -> None:
    entries = losses(falling(3.0, 1.0))
    for i in (40, 70):
        entries[i]["loss"] = 9.0
    entries[70]["grad_norm"] = 4321.0
    run = write_run(tmp_path / "run", entries, evaluated([1.5, 1.3, 1.2, 1.19, 1.19]))
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["Gradients explode", "Training loss spikes"]
    assert report["findings"][0]["measured"] == 4321.0
    assert "2 spikes in 100 logged points" in report["findings"][1]["why"]


def test_a_loss_that_oscillates(tmp_path: Path, capsys) -> None:
    values = [1.0 + 0.4 * (-1) ** i for i in range(80)]
    run = write_run(tmp_path / "run", losses(values), evaluated([1.0] * 5))
    _, report = found(capsys, "--run", run)
    assert "Training loss oscillates" in titles(report, "warn")


def test_one_answer_for_all_reads(tmp_path: Path, capsys) -> None:
    share = 0.4
    one_class = 2 * share / (1 + share) / CLASSES
    run = write_run(
        tmp_path / "run",
        losses(falling(3.0, 2.0)),
        evaluated([2.0] * 4, accuracy=share, macro_f1=one_class, mcc=0.0),
    )
    _, report = found(capsys, "--run", run)
    assert "Every read is given the same class" in titles(report, "warn")


def test_waiting_and_padding_are_what_makes_a_run_slow(tmp_path: Path, capsys) -> None:
    config = RunConfig()
    config.tokenizer.padding = "max_length"
    lossy = {"reads_per_s": 80.0, "padding_fraction": 0.72, "data_wait_fraction": 0.4}
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 0.5), **lossy), evaluated([1.0, 0.8, 0.8, 0.8]), config
    )
    evidence = collect(run, None, None)
    advice = advise(evidence, rulebook.load(), predict=predicted_gib)
    warned = [f for f in advice.findings if f.severity is Severity.WARN]
    assert [f.id for f in warned] == ["A01", "A13"]
    assert "1.67 times as fast" in warned[0].why and "3.6 times as fast" in warned[1].why
    assert advice.plan is not None
    assert {change.key: change.new for change in advice.plan.changes}["tokenizer.padding"] == "longest"


def test_unused_memory_is_offered_for_speed_only_as_far_as_it_fits() -> None:
    config = RunConfig()
    config.model.gradient_checkpointing = True
    config.training.batch_size, config.training.grad_accum_steps = 1, 32
    config.tokenizer.max_length = 64
    points = tuple(
        TrainingPoint(step=10 * i, loss=1.0, peak_reserved_gib=12.6, reads_per_s=7.0) for i in range(1, 20)
    )
    advice = advise(
        Evidence(source="run", training=points, config=config),
        rulebook.load(),
        gpu=rulebook.load().gpu("rtx4090"),
        predict=predicted_gib,
    )
    assert [f.id for f in advice.findings if f.severity is Severity.WARN] == ["A02"]
    assert advice.plan is not None
    new = advice.plan.config
    assert new.training.effective_batch == 32
    assert new.training.batch_size > 1
    assert predicted_gib(new) <= rulebook.load().gpu("rtx4090").usable_gib


# ---------------------------------------------------------------- remedies

OUT_OF_MEMORY = MESSAGES["2.5 and later"][0].replace("15.70", "23.64").replace("15.48", "23.40")


def test_out_of_memory_is_fixed_in_order_until_it_fits_and_no_further() -> None:
    config = RunConfig()
    config.training.batch_size, config.training.grad_accum_steps = 64, 1
    config.tokenizer.max_length = 128
    advice = advise(Evidence(source="", config=config), rulebook.load(), symptom="oom",
                    gpu=rulebook.load().gpu("rtx4090"), predict=predicted_gib)  # fmt: skip
    assert advice.plan is not None
    usable = rulebook.load().gpu("rtx4090").usable_gib
    assert [item.fix.key for item in advice.plan.advised] == ["training.batch_size"]
    new = advice.plan.config
    assert new.training.effective_batch == 64
    assert predicted_gib(new) <= usable
    twice = new.model_copy(deep=True)
    twice.training.batch_size *= 2
    assert predicted_gib(twice) > usable, "the micro-batch is the largest that fits"


def test_a_card_too_small_for_the_weights_gets_quantised_ones() -> None:
    config = RunConfig()
    config.model.gradient_checkpointing = True
    config.training.batch_size, config.training.grad_accum_steps = 1, 32
    config.tokenizer.max_length = 128
    book = rulebook.load()
    card, _ = book.smallest_gpu(8)
    advice = advise(Evidence(source="", config=config), book, symptom="oom", gpu=card, predict=predicted_gib)
    assert advice.plan is not None
    assert [(c.key, c.new) for c in advice.plan.changes] == [("model.quantization", "int8")]
    assert "6.6" in next(f for f in advice.findings if f.id == "EV-OOM-QUANTIZATION").why


def test_weights_that_do_not_fit_are_quantised_before_the_micro_batch_is_cut_down() -> None:
    config = RunConfig()
    config.training.batch_size, config.tokenizer.max_length = 128, 64
    book = rulebook.load()
    gpu = book.gpu("rtx4090")
    budget = Budget(8.0, predicted_gib, busy_tokens=gpu.bf16_tflops * 1e3 / gpu.bandwidth_gbs)
    made = plan(["oom"], config, Situation(Evidence(source=""), book, budget))
    assert [item.fix.key for item in made.advised][:2] == ["model.quantization", "training.batch_size"]
    assert "one read at a time with checkpointing still needs 12.2" in made.advised[0].reason
    assert made.config.training.effective_batch == 128
    assert made.config.training.batch_size * 64 >= budget.busy_tokens
    assert predicted_gib(made.config) <= 8.0


def test_checkpointing_comes_before_a_micro_batch_that_would_leave_the_card_idle() -> None:
    config = RunConfig()
    config.training.batch_size, config.tokenizer.max_length = 128, 64
    budget = Budget(13.0, predicted_gib, busy_tokens=164)
    made = plan(["oom"], config, Situation(Evidence(source=""), rulebook.load(), budget))
    assert [item.fix.key for item in made.advised] == ["training.batch_size", "model.gradient_checkpointing"]
    assert made.config.training.batch_size == 4
    assert predicted_gib(made.config) <= 13.0


def test_fp32_weights_are_the_first_thing_to_go() -> None:
    config = RunConfig()
    config.training.precision = "32"
    made = plan(["oom"], config, Situation(Evidence(source=""), rulebook.load(), Budget(45.0, predicted_gib)))
    assert [(c.key, c.new) for c in made.advised[0].changes] == [("training.precision", "bf16-mixed")]


@pytest.mark.parametrize(("situation", "new"), [({"bf16": False}, "fp16-mixed"), ({"on_cpu": True}, None)])
def test_a_device_without_bf16_is_not_told_to_use_it(situation: dict, new: str | None) -> None:
    config = RunConfig()
    config.training.precision = "32"
    made = plan(["slow"], config, Situation(Evidence(source=""), rulebook.load(), **situation))
    changes = [c.new for item in made.advised for c in item.changes if c.key == "training.precision"]
    assert changes == ([new] if new else [])


def test_speed_waits_while_a_run_does_not_converge() -> None:
    config = RunConfig()
    config.optimizer.max_grad_norm, config.tokenizer.padding = None, "max_length"
    made = plan(["instability", "slow"], config, Situation(Evidence(source=""), rulebook.load()))
    assert "optimizer.max_grad_norm" in {change.key for change in made.changes}
    assert "tokenizer.padding" not in {change.key for change in made.changes}
    assert any(item.fix.key == "tokenizer.padding" for item in made.advised)


def test_a_failure_during_evaluation_lowers_the_evaluation_batch(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        f"Traceback (most recent call last):\n    metrics = self.evaluation_loop(loader)\n{OUT_OF_MEMORY}\n"
    )
    config = RunConfig()
    config.training.batch_size, config.training.eval_batch_size = 4, 512
    made = plan(["oom"], config, Situation(read_log(log), rulebook.load()))
    assert [(c.key, c.old, c.new) for c in made.advised[0].changes] == [
        ("training.eval_batch_size", 512, 256)
    ]


def test_what_others_hold_is_not_counted_on(tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.txt"
    log.write_text(MESSAGES["2.2 in a container: own process under its host number"][0])
    code, report = found(capsys, "--log", log)
    assert code == 1
    finding = report["findings"][0]
    assert finding["measured"] == pytest.approx(77.26 + 448 / 1024, abs=0.01)
    assert "1.48 GiB of the device belonged to something else" in finding["why"]


def test_a_larger_card_than_the_one_that_failed_is_judged_by_its_own_memory(tmp_path: Path) -> None:
    config = RunConfig()
    config.training.batch_size, config.tokenizer.max_length = 16, 128
    (failure,) = find_failures([OUT_OF_MEMORY])
    evidence = Evidence(source="log", device_failures=(failure,), config=config)
    book = rulebook.load()
    larger = advise(evidence, book, gpu=book.smallest_gpu(80)[0], predict=predicted_gib)
    same = advise(evidence, book, gpu=book.gpu("rtx4090"), predict=predicted_gib)
    assert larger.plan is not None and same.plan is not None
    assert not larger.plan.changes and same.plan.changes
    assert (same.plan.usable_gib or 0) < 23.64 < (larger.plan.usable_gib or 0)


def test_a_prediction_that_was_short_is_corrected_by_what_was_seen(tmp_path: Path) -> None:
    config = RunConfig()
    config.training.batch_size, config.training.grad_accum_steps = 12, 1
    config.tokenizer.max_length = 128
    (failure,) = find_failures([OUT_OF_MEMORY])
    evidence = Evidence(
        source="run",
        device_failures=(failure,),
        config=config,
        predicted={"device_gib": predicted_gib(config)},
    )
    advice = advise(evidence, rulebook.load(), predict=predicted_gib)
    short = 23.40 + 226 / 1024 - predicted_gib(config)
    explained = next(f for f in advice.findings if f.id == "A03.prediction")
    assert f"the prediction was {short:.2f} GiB short" in explained.why
    assert advice.plan is not None and advice.plan.need_gib is not None
    assert advice.plan.need_gib == pytest.approx(predicted_gib(advice.plan.config) + short)
    assert advice.plan.need_gib <= 23.64


def test_memory_that_was_predicted_is_held_against_what_was_measured(tmp_path: Path, capsys) -> None:
    entries = losses(falling(3.0, 0.5), peak_reserved_gib=14.0)
    run = write_run(tmp_path / "run", entries, evaluated([1.0, 0.8, 0.8, 0.8]))
    for document, title in (
        ({"memory": {"reserved_gib": 13.8, "device_gib": 14.5}}, "Memory as predicted"),
        ({"memory": {"reserved_gib": 10.0, "device_gib": 11.0}}, "Memory differs from the prediction"),
    ):
        (run / "predicted.json").write_text(json.dumps(document))
        _, report = found(capsys, "--run", run)
        assert report["findings"][1]["title"] == title
    assert "+40.0% from the 10.00 GiB predicted" in report["findings"][1]["why"]


def test_contradicted_claims_of_the_guide_are_named_and_not_made(capsys) -> None:
    _, report = found(capsys, "oom")
    assert [t for t in titles(report, "info") if t.startswith("Not advised")] == [
        "Not advised for out of memory: lower tokenizer.max_length",
        "Not advised for out of memory: lower model.lora.r",
        "Not advised for out of memory: set model.lora.target_modules",
    ]


def test_the_trainers_own_out_of_memory_message_is_read_from_run_json(tmp_path: Path) -> None:
    error = (
        "CUDA ran out of memory at step 3 (micro-batch of 64 reads, 41 tokens wide) on NVIDIA GeForce RTX 4090: "
        f"allocated 22.10 GiB and reserved 23.00 GiB at the peak, of 23.64 GiB. ({OUT_OF_MEMORY})"
    )
    run = write_run(
        tmp_path / "run", losses([3.0]), [], status="failed", error=error, device="NVIDIA GeForce RTX 4090"
    )
    evidence = collect(run, None, None)
    assert evidence.device_failures[0].capacity_gib == 23.64
    assert evidence.longest_read_tokens == 41
    advice = advise(evidence, rulebook.load(), predict=predicted_gib)
    assert advice.findings[0].id == "A03"
    assert advice.plan is not None and advice.plan.usable_gib is not None
    assert advice.plan.usable_gib <= rulebook.load().gpu("rtx4090").usable_gib


def test_a_run_that_stopped_itself_at_nan_is_found_by_its_own_words(tmp_path: Path, capsys) -> None:
    error = "the loss became NaN or infinite at step 37 with a learning rate of 0.01; the checkpoints ..."
    run = write_run(tmp_path / "run", losses(falling(3.0, 2.0, 3)), [], status="failed", error=error)
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["title"] == "The training loss is not a number from step 37 on"


def test_a_run_that_failed_otherwise_is_not_called_healthy(tmp_path: Path, capsys) -> None:
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 2.0)), [], status="failed", error="train.fa: line 9: cut off"
    )
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["why"] == "train.fa: line 9: cut off."
    log = tmp_path / "log.txt"
    log.write_text("Traceback (most recent call last):\n  File ...\nKeyError: 'class_id'\n")
    code, report = found(capsys, "--log", log)
    assert code == 1 and "KeyError: 'class_id'" in report["findings"][0]["why"]


def test_a_run_that_never_ended_is_said_to_be_so(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 2.0)), [], status="running")
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["The run has not ended"]
    assert "1,000" in report["findings"][0]["why"]


def test_zero_gradients_are_an_error_that_no_setting_mends(tmp_path: Path, capsys) -> None:
    entries = losses([GUESSING] * 20)
    for entry in entries:
        entry["grad_norm"] = 0.0
    run = write_run(tmp_path / "run", entries, [])
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["title"] == "No gradient reaches the trained weights"
    assert not any(f["title"].startswith("Fix") for f in report["findings"])


@pytest.mark.parametrize(("lr", "direction"), [(5e-3, "0.005 → 0.001"), (2e-5, "2e-05 → 0.0001")])
def test_nothing_learned_moves_the_learning_rate_into_loras_range(
    lr: float, direction: str, tmp_path: Path, capsys
) -> None:
    config = RunConfig()
    config.optimizer.lr = lr
    run = write_run(tmp_path / "run", losses([GUESSING] * 60), [], config)
    _, report = found(capsys, "--run", run)
    assert any(f"optimizer.lr {direction}" in title for title in titles(report, "info"))


def test_lengths_that_doctor_measured_decide_about_max_length(tmp_path: Path) -> None:
    config = RunConfig()
    config.tokenizer.max_length = 64
    run = write_run(tmp_path / "run", losses([3.0]), [], config)
    why = "Median 36, 99.9 % up to 44, longest 45 tokens (4.29 bases per token; 10,000 sampled reads)."
    (run / "doctor.json").write_text(json.dumps({"findings": [{"id": "T02", "why": why, "unit": "tokens"}]}))
    evidence = collect(run, None, None)
    assert evidence.longest_read_tokens == 45
    advice = advise(evidence, rulebook.load(), symptom="underfitting")
    aside = next(f for f in advice.findings + advice.set_aside if f.id == "GM-UNDER-2")
    assert aside.title.startswith("Not advised")


def test_reads_left_out_are_never_silent(tmp_path: Path, capsys) -> None:
    run = write_run(
        tmp_path / "run",
        losses(falling(3.0, 0.5)),
        [],
        train_reads=900,
        validation_reads=50,
        excluded_reads=50,
    )
    (run / "doctor.json").write_text(
        json.dumps(
            {"complete": True, "argv": ["metagene", "doctor", "--val", "v.fa"], "examined": {"records": 1200}}
        )
    )
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == [
        "Reads left out: 50",
        "The run saw other reads than doctor examined",
    ]
    assert "200 fewer" in report["findings"][1]["why"]


def configs() -> st.SearchStrategy[RunConfig]:
    def build(**values) -> RunConfig:
        return RunConfig.model_validate(
            {
                "tokenizer": {"max_length": values["max_length"], "padding": values["padding"]},
                "model": {
                    "gradient_checkpointing": values["checkpointing"],
                    "quantization": values["quantization"],
                    "dropout": values["dropout"],
                    "lora": {
                        "enabled": values["lora"],
                        "r": values["r"],
                        "target_modules": values["targets"],
                    },
                },
                "training": {
                    "batch_size": values["batch"],
                    "grad_accum_steps": values["accumulation"],
                    "eval_batch_size": values["eval_batch"],
                    "max_epochs": values["epochs"],
                    "max_steps": values["steps"],
                    "precision": values["precision"],
                    "num_workers": values["workers"],
                    "early_stopping": {"patience": values["patience"]},
                },
                "optimizer": {"lr": values["lr"], "max_grad_norm": values["clip"]},
                "scheduler": values["warmup"],
                "loss": {"label_smoothing": values["smoothing"]},
            }
        )

    return st.builds(
        build,
        max_length=st.sampled_from([2, 48, 64, 128, 512, 1024]),
        padding=st.sampled_from(["longest", "max_length"]),
        checkpointing=st.booleans(),
        quantization=st.sampled_from(["none", "int8", "nf4"]),
        dropout=st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5]),
        lora=st.booleans(),
        r=st.sampled_from([1, 2, 8, 63, 64, 256]),
        targets=st.sampled_from(["all-linear", ["q_proj"], ["v_proj", "q_proj"], ["gate_proj", "q_proj"]]),
        batch=st.integers(1, 130),
        accumulation=st.integers(1, 40),
        eval_batch=st.sampled_from([None, 1, 7, 512]),
        epochs=st.sampled_from([0.5, 1, 3, 5, 10, 100]),
        steps=st.sampled_from([None, 1, 1000]),
        precision=st.sampled_from(["bf16-mixed", "fp16-mixed", "bf16-true", "32"]),
        workers=st.integers(0, 10),
        patience=st.sampled_from([0, 1, 3, 10]),
        lr=st.sampled_from([1e-6, 2e-5, 1e-4, 2e-4, 7e-4, 1e-3, 5e-3]),
        clip=st.sampled_from([None, 0.3, 1.0, 5.0]),
        warmup=st.sampled_from(
            [{}, {"warmup_steps": 0}, {"warmup_steps": 900}, {"warmup_steps": 1000}, {"warmup_ratio": 0.0},
             {"warmup_ratio": 0.03}, {"warmup_ratio": 0.5}]
        ),
        smoothing=st.sampled_from([0.0, 0.1, 0.3]),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    config=configs(),
    symptom=st.sampled_from(["oom", "slow", "overfitting", "underfitting", "instability"]),
    usable=st.sampled_from([None, 7.0, 11.0, 23.0, 80.0]),
)
def test_advice_never_repeats_the_current_value_and_is_always_a_valid_config(
    config: RunConfig, symptom: str, usable: float | None
) -> None:
    budget = Budget(usable, predicted_gib)
    made = plan([symptom], config, Situation(Evidence(source=""), rulebook.load(), budget, processors=4))
    current = config
    for item in made.advised:
        assert item.changes
        for change in item.changes:
            assert change.old != change.new, item.fix.id
            assert change.old == value_of(current, change.key), item.fix.id
        changed = with_changes(current, item.changes)  # raises if a value is out of range
        if symptom in ("oom", "slow"):
            assert changed.training.effective_batch == config.training.effective_batch
        if symptom == "oom" and item.after_gib is not None:
            assert item.after_gib < (item.before_gib or 0)
        if item.at_once:
            current = changed
    assert current == made.config
    if usable is not None and symptom == "slow" and predicted_gib(config) <= usable:
        assert predicted_gib(made.config) <= usable, "speed is never bought with memory that is not there"
    assert value_of(made.config, "training.num_workers") <= max(4, config.training.num_workers)


@settings(max_examples=40, deadline=None)
@given(config=configs())
def test_following_the_advice_for_memory_comes_to_an_end(config: RunConfig) -> None:
    for _ in range(40):
        made = plan(
            ["oom"], config, Situation(Evidence(source=""), rulebook.load(), Budget(1.0, predicted_gib))
        )
        if not made.changes:
            return
        config = made.config
    pytest.fail("the same advice over and over")


# ---------------------------------------------------------------- the command


def test_the_changed_config_keeps_comments_and_loads(tmp_path: Path, capsys) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "# our run\nlora:\n  r: 16  # asked for by Ana\noptimizer:\n  lr: 4e-4\n  max_grad_norm: null\n"
    )
    fixed = tmp_path / "fixed.yaml"
    assert main(["advise", "instability", "--config", str(mine), "-o", str(fixed)]) == 0
    text = fixed.read_text()
    assert "# our run" in text and "# asked for by Ana" in text
    config = load_config(fixed).config
    assert (config.optimizer.lr, config.optimizer.max_grad_norm) == (2e-4, 1.0)
    assert "was null" in text
    assert mine.read_text().startswith("# our run\nlora:\n  r: 16"), "the input is not written to"
    assert main(["advise", "instability", "--config", str(mine), "-o", str(fixed)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_real_dry_run_gives_a_config_that_fits(tmp_path: Path, capsys) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("model:\n  encoder_layers: 4\ntraining:\n  batch_size: 128\n")
    fixed = tmp_path / "fixed.yaml"
    code, report = found(capsys, "oom", "--config", mine, "--gpu-mem", 8, "-o", fixed)
    assert code == 0
    (fix,) = [f for f in report["findings"] if f["title"].startswith("Fix")]
    assert fix["measured"] <= fix["threshold"]
    config = load_config(fixed).config
    assert config.training.batch_size < 128 == config.training.effective_batch
    _, report = found(capsys, "oom", "--config", fixed, "--gpu-mem", 8)
    assert report["verdict"].startswith("oom: nothing to change; predicted need")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name a SYMPTOM"),
        (["oom", "--gpu", "rtx4090", "--gpu-mem", "24"], "not both"),
        (["oom", "--gpu", "rtx9999"], "no card called"),
        (["--run", "nowhere"], "no such run directory"),
        (["--log", "nowhere.txt"], "cannot be read"),
        (["oom", "--config", "nowhere.yaml"], "no such config file"),
        (["oom", "-o", "out.yaml"], "-o writes a changed config, so it needs one"),
    ],
)
def test_usage_errors_are_one_message_and_exit_2(
    argv: list[str], message: str, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["advise", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_exit_codes_agree_between_text_json_and_quiet(tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.txt"
    log.write_text(OUT_OF_MEMORY)
    codes = {main(["advise", "--log", str(log), *flag]) for flag in ([], ["--json"], ["--quiet"], ["-v"])}
    assert codes == {1}
    capsys.readouterr()
    main(["advise", "--log", str(log), "--quiet"])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_an_empty_log_is_not_called_healthy(tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.txt"
    log.write_text("hello\n")
    assert main(["advise", "--log", str(log)]) == 0
    assert "nothing to judge" in capsys.readouterr().out


def test_an_evaluation_alone_is_evidence_too() -> None:
    values = [1.0, 0.8, 0.9, 1.0, 1.1]
    evidence = Evidence(
        source="log", evaluations=tuple(Evaluation(step=i, loss=v) for i, v in enumerate(values, 1))
    )
    assert [symptom.symptom for symptom in detect(evidence)] == ["overfitting"]


# ---------------------------------------------------------------- the baseline, and the predicted speed


def judged(run: Path, gain: list[float], model: float, kmer: float) -> None:
    """`metagene evaluate`'s record in a run directory."""
    (run / "evaluation").mkdir()
    record = {
        "fasta": "val.fa",
        "reads": 600,
        "model": {"macro_f1": model},
        "baseline": {"k": 4, "kmer": {"macro_f1": kmer}},
        "accuracy_gain": gain,
    }
    (run / "evaluation" / "metrics.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("validation", "gain", "kind"),
    [
        ([2.0, 1.5, 1.2, 1.19], [-0.47, -0.38], "underfitting"),
        ([2.0, 1.5, 1.6, 1.8], [-0.10, -0.02], "overfitting"),
        ([2.0, 1.5, 1.2, 1.19], [-0.02, 0.03], None),
        ([2.0, 1.5, 1.2, 1.19], [0.05, 0.10], None),
    ],
)
def test_a_model_that_the_regression_beats_is_not_healthy(tmp_path, capsys, validation, gain, kind):
    run = write_run(tmp_path / "run", losses(falling(3.0, 1.0)), evaluated(validation))
    judged(run, gain, 0.144, 0.626)
    code, report = found(capsys, "--run", run)
    mine = [finding for finding in report["findings"] if finding["id"] == "A20"]
    assert code == 0 and bool(mine) == (kind is not None)
    if kind:
        assert (mine[0]["severity"], mine[0]["measured"], mine[0]["threshold"]) == ("warn", 0.144, 0.626)
        assert report["verdict"].startswith(kind)


@pytest.mark.parametrize(
    ("measured", "symptom"), [(20.0, True), (60.0, False), (130.0, False), (500.0, False)]
)
def test_measured_speed_is_held_against_the_predicted_one(tmp_path, capsys, measured, symptom):
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 1.0), reads_per_s=measured), evaluated([2.0, 1.5, 1.2, 1.19])
    )
    predicted = {"time": {"reads_per_s": {"expected": 140.0, "low": 100.0, "high": 180.0}}}
    (run / "predicted.json").write_text(json.dumps(predicted))
    _, report = found(capsys, "--run", run)
    found_titles = [finding["title"] for finding in report["findings"] if finding["id"].startswith("A21")]
    expected = (
        "Far slower than predicted"
        if symptom
        else "Speed as predicted"
        if 100 <= measured <= 180
        else "Speed differs from the prediction"
    )
    assert found_titles == [expected]
    assert ("slow" in report["verdict"]) == symptom
