"""How a run fails: what it says, and what it leaves."""

from __future__ import annotations

import errno
import json
import resource
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from run_fixtures import checkpoints
from train_fixtures import change, tiny_config, write_mapping

from metagene_train import run_directory
from metagene_train.errors import ConfigError, DataError, RunError
from metagene_train.labels import LabelMap
from metagene_train.training import training_loop
from metagene_train.training.trainer import train

pytestmark = pytest.mark.usefixtures("allocator_setting_kept")


def test_labels_and_config_are_there_when_the_first_step_fails(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RunError("broken")

    monkeypatch.setattr(training_loop, "forward_loss", fail)
    with pytest.raises(RunError, match="broken"):
        train(tiny_config(tmp_path), quiet=True)
    assert len(LabelMap.load(tmp_path / "run" / "labels.json")) == 3
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (document["status"], document["error"], document["steps"]) == ("failed", "broken", 0)


def test_a_loss_that_is_not_finite_names_the_step_and_the_learning_rate(tmp_path):
    config = tiny_config(
        tmp_path,
        optimizer__lr=1e37,
        optimizer__max_grad_norm=None,
        scheduler__warmup_steps=0,
        logging__log_interval=5,
    )
    with pytest.raises(RunError, match=r"NaN or infinite at step 2 with a learning rate of 9\.17e\+36"):
        train(config, quiet=True)
    assert "learning rate" in json.loads((tmp_path / "run" / "run.json").read_text())["error"]
    assert not (tmp_path / "run" / "checkpoints").exists() or not checkpoints(tmp_path / "run")


def test_running_out_of_memory_names_the_keys_that_help(tmp_path, monkeypatch):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(training_loop, "forward_loss", fail)
    monkeypatch.setattr(
        "metagene_train.training.trainer._cuda_memory", lambda device: "A card: allocated 1 GiB"
    )
    expected = (
        r"at step 1 \(micro-batch of 8 reads, \d+ tokens wide\), A card.*"
        r"batch_size=4 training\.grad_accum_steps=2 .*gradient_checkpointing=true"
    )
    with pytest.raises(RunError, match=expected):
        train(tiny_config(tmp_path), quiet=True)


def test_configurations_that_cannot_train_are_refused_before_anything_is_written(tmp_path):
    config = tiny_config(tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.train_fasta: is not set"):
        train(change(config, dataset__train_fasta=None), quiet=True)
    with pytest.raises(ConfigError, match=r"num_classes: is 7, .* has 3 classes"):
        train(change(config, model__num_classes=7), quiet=True)
    if find_spec("wandb") is None:
        with pytest.raises(ConfigError, match="wandb is not installed"):
            train(change(config, logging__use_wandb=True), quiet=True)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            train(change(config, device="cuda"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_reads_of_a_class_outside_the_mapping_stop_the_run(tmp_path):
    config = tiny_config(tmp_path)
    write_mapping(Path(config.dataset.mapping_tsv), classes=2)
    with pytest.raises(DataError, match="not in the mapping: 12"):
        train(config, quiet=True)
    lenient = change(
        config,
        dataset__strict_classes=False,
        training__output_dir=str(tmp_path / "lenient"),
        training__max_steps=1,
    )
    summary = train(lenient, quiet=True)
    assert (summary.train_reads, summary.excluded_reads, summary.classes) == (32, 16 + 5, 2)


def test_a_checkpoint_without_room_is_told_leaves_nothing_and_is_taken_again(tmp_path):
    config = tiny_config(tmp_path, training__max_steps=4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, hard))  # a disk that is full as far as files of more go
    try:
        with pytest.raises(RunError, match=r"checkpoint-\d+ could not be written: .*--resume"):
            train(config, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run = tmp_path / "run"
    assert not list(run.rglob("*.partial")) and not checkpoints(run)
    document = json.loads((run / "run.json").read_text())
    assert document["status"] == "failed" and "could not be written" in document["error"]
    assert train(config, resume=True, quiet=True).status == "finished"


def test_a_checkpoint_whose_directory_cannot_even_be_made_is_told(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "checkpoint-5"
    failure = run_directory.not_written(path, OSError(errno.ENOSPC, "No space left on device"))
    assert f"{path} could not be written: No space left on device (" in str(failure)


def test_a_file_that_a_full_disk_refuses_is_named(tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "metrics.jsonl").write_text("x" * 5_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"metrics\.jsonl"):
            run_directory.append_metrics(tmp_path, {"step": 1})
        with pytest.raises(OSError, match=r"run\.json"):
            run_directory.write_json(tmp_path / "run.json", {"error": "x" * 5_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.glob("run.json*"))
