"""Runs that are interrupted, resumed, or started where another run lies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from run_fixtures import assert_same_weights, checkpoints, metrics, stop_after
from train_fixtures import change, tiny_config, write_mapping

from metagene_train.errors import DataError, InputError
from metagene_train.labels import LabelMap
from metagene_train.model import load_model
from metagene_train.training import training_loop
from metagene_train.training.trainer import train

pytestmark = pytest.mark.usefixtures("allocator_setting_kept")


@pytest.mark.parametrize("forward_passes", [3, 8, 12])
def test_an_interrupted_run_resumed_equals_one_that_was_not(tmp_path, monkeypatch, forward_passes):
    """6 micro-batches of 2 an epoch: stopped in the middle of one, and at its end; with dropout."""
    config = tiny_config(tmp_path, training__grad_accum_steps=2, training__max_epochs=3)
    whole = change(config, training__output_dir=str(tmp_path / "whole"))
    train(whole, quiet=True)

    with monkeypatch.context() as patch:
        stop_after(patch, forward_passes)
        stopped = train(config, quiet=True)
    assert stopped.status == "interrupted"
    assert 0 < stopped.steps < 9
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "run" / "model").exists()

    resumed = train(config, resume=True, quiet=True)
    assert (resumed.status, resumed.steps, resumed.resumed_from_step) == ("finished", 9, stopped.steps)
    for name in ("loss", "lr", "step"):
        assert [line[name] for line in metrics(tmp_path / "run", "train")] == pytest.approx(
            [line[name] for line in metrics(tmp_path / "whole", "train")], rel=1e-5
        )
    for name in ("loss", "macro_f1", "step"):
        assert [line[name] for line in metrics(tmp_path / "run", "eval")] == pytest.approx(
            [line[name] for line in metrics(tmp_path / "whole", "eval")], rel=1e-5
        )
    assert_same_weights(tmp_path / "run" / "model", tmp_path / "whole" / "model")


def test_a_signal_during_evaluation_saves_and_stops(tmp_path, monkeypatch):
    config = tiny_config(tmp_path)
    original = training_loop.evaluation_step

    def evaluation_step_with_signal(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(training_loop, "evaluation_step", evaluation_step_with_signal)
    summary = train(config, quiet=True)
    assert summary.status == "interrupted"
    assert checkpoints(tmp_path / "run") == [summary.steps]


def test_lines_of_steps_that_are_taken_again_are_dropped(tmp_path, monkeypatch):
    config = tiny_config(tmp_path)
    stop_after(monkeypatch, 5)
    train(config, quiet=True)
    monkeypatch.undo()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "phase": "train", "loss": 1}\n{"step": 10')
    train(config, resume=True, quiet=True)
    assert [line["step"] for line in metrics(tmp_path / "run", "train")] == list(range(1, 13))


def test_a_directory_of_another_run_is_left_alone(tmp_path):
    config = tiny_config(tmp_path, training__max_steps=1)
    train(config, quiet=True)
    with pytest.raises(InputError, match="--resume"):
        train(config, quiet=True)
    with pytest.raises(InputError, match=r"different run \(optimizer\.lr was 0\.001, is 0\.5\)"):
        train(change(config, optimizer__lr=0.5), resume=True, quiet=True)
    write_mapping(Path(config.dataset.mapping_tsv), classes=4)
    with pytest.raises(InputError, match="other labels"):
        train(config, resume=True, quiet=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no run"):
        train(change(config, training__output_dir=str(tmp_path / "notes")), resume=True, quiet=True)
    assert [entry.name for entry in (tmp_path / "notes").iterdir()] == ["diary.txt"]


def test_files_written_before_a_run_do_not_make_its_directory_taken(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "doctor.json").write_text("{}")
    assert train(tiny_config(tmp_path, training__max_steps=1), quiet=True).status == "finished"
    assert (tmp_path / "run" / "doctor.json").read_text() == "{}"


def test_a_run_that_never_took_a_step_can_be_started_again(tmp_path):
    config = tiny_config(tmp_path, training__max_steps=1)
    mapping = Path(config.dataset.mapping_tsv)
    write_mapping(mapping, classes=2)
    with pytest.raises(DataError, match="not in the mapping"):
        train(config, quiet=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    write_mapping(mapping, classes=3)
    assert train(config, quiet=True).status == "finished"
    assert len(LabelMap.load(tmp_path / "run" / "labels.json")) == 3


def test_a_finished_run_can_be_continued_with_more_steps(tmp_path):
    config = tiny_config(tmp_path, training__max_steps=3)
    train(config, quiet=True)
    summary = train(change(config, training__max_steps=5), resume=True, quiet=True)
    assert (summary.steps, summary.resumed_from_step) == (5, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed", "bf16-true", "32"])
def test_a_gpu_run_resumes_and_measures_its_memory(tmp_path, monkeypatch, precision):
    config = tiny_config(
        tmp_path,
        device="cuda",
        training__precision=precision,
        training__pin_memory=True,
        model__gradient_checkpointing=True,
    )
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(config, quiet=True).status == "interrupted"
    summary = train(config, resume=True, quiet=True)
    assert (summary.status, summary.steps) == ("finished", 12)
    assert 0 < summary.peak_allocated_gib <= summary.peak_reserved_gib
    assert all(line["peak_allocated_gib"] > 0 for line in metrics(tmp_path / "run", "train"))
    load_model(tmp_path / "run" / "model", device="cuda")
