"""Out-of-memory messages and logs of any trainer, read as evidence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from advise_fixtures import MESSAGES

from metagene_doctor.advice.evidence import Evaluation, TrainingPoint, read_metrics
from metagene_doctor.advice.logs import read_log
from metagene_doctor.advice.memory_failures import HostMemoryFailure, OutOfMemory, find_failures
from metagene_doctor.advice.symptoms import detect
from metagene_doctor.finding import Severity
from metagene_train.errors import DataError


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
