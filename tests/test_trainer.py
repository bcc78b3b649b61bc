"""What a run does and leaves: steps, evaluations, early stopping, checkpoints, schedule."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from run_fixtures import adapter, assert_same_weights, checkpoints, metrics
from train_fixtures import change, tiny_config, write_reads
from transformers import set_seed

from metagene_train.allocator import configure_allocator
from metagene_train.config import MemoryConfig, RunConfig
from metagene_train.config_file import dump_config, load_config
from metagene_train.labels import LabelMap, read_mapping
from metagene_train.model import build_model, load_model
from metagene_train.training import callbacks, training_loop
from metagene_train.training.batching import BatchOrder, collate
from metagene_train.training.step import build_optimizer, evaluation_step, training_step
from metagene_train.training.trainer import class_weights, train

pytestmark = pytest.mark.usefixtures("allocator_setting_kept")


def open_dataset(config: RunConfig, path: str):
    from metagene_train.reads.access.read_index import ReadIndex
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.tokenizer import load_tokenizer
    from metagene_train.training.dataset import ReadDataset

    header = HeaderPattern(config.dataset.header_regex)
    index = ReadIndex.open_or_build(path, header=header, index_dir=config.dataset.index_dir)
    labels = LabelMap.from_mapping(read_mapping(config.dataset.mapping_tsv))
    return ReadDataset(index, labels, load_tokenizer(config.tokenizer), config)


def test_the_plan_is_written_before_the_first_step(tmp_path, monkeypatch):
    original, seen = training_loop.forward_loss, []

    def forward_loss(*arguments):
        seen.append(json.loads((tmp_path / "run" / "run.json").read_text()))
        return original(*arguments)

    monkeypatch.setattr(training_loop, "forward_loss", forward_loss)
    config = tiny_config(tmp_path, training__max_epochs=2, training__grad_accum_steps=2)
    train(config, quiet=True)
    assert {(run["status"], run["steps"], run["planned_steps"]) for run in seen} == {("running", 0, 6)}
    assert seen[0]["train_reads"] == 48 and seen[0]["trained_parameters"] > 0
    seen.clear()
    train(change(config, training__max_epochs=3), quiet=True, resume=True)
    assert {(run["status"], run["steps"], run["planned_steps"]) for run in seen} == {("running", 6, 9)}
    assert seen[0]["resumed_from_step"] == 6


def test_a_run_learns_and_leaves_its_files(tmp_path):
    config = tiny_config(tmp_path, training__max_epochs=5, training__grad_accum_steps=2)
    summary = train(config, quiet=True)
    run = tmp_path / "run"
    assert (summary.status, summary.steps, summary.planned_steps) == ("finished", 15, 15)
    losses = [line["loss"] for line in metrics(run, "train")]
    assert len(losses) == 15
    assert losses[-1] < losses[0] - 0.1
    assert load_config(run / "config.yaml").config == config
    assert LabelMap.load(run / "labels.json").names == ("taxon 0", "taxon 1", "taxon 2")
    document = json.loads((run / "run.json").read_text())
    assert document["status"] == "finished"
    assert (document["train_reads"], document["validation_reads"], document["classes"]) == (48, 15, 3)
    line = metrics(run, "train")[3]
    assert line["reads_per_s"] > 0
    assert line["tokens_per_s"] > line["reads_per_s"]
    assert 0 <= line["padding_fraction"] < 0.5
    assert 0 <= line["data_wait_fraction"] <= 1
    assert line["peak_reserved_gib"] is None
    assert {"step", "epoch", "loss", "macro_f1", "micro_f1", "mcc", "accuracy", "seconds"} < set(
        metrics(run, "eval")[0]
    )


def test_the_exported_model_is_the_best_one_that_was_evaluated(tmp_path):
    config = tiny_config(tmp_path, training__max_epochs=4, optimizer__lr=3e-3)
    config = change(config, training__early_stopping__metric="loss")
    summary = train(config, quiet=True)
    evaluations = {line["step"]: line for line in metrics(tmp_path / "run", "eval")}
    assert summary.best_value == min(line["loss"] for line in evaluations.values())
    assert summary.exported_step == summary.best_step
    loaded = load_model(tmp_path / "run" / "model")
    data = open_dataset(config, config.dataset.val_fasta)
    batch = collate([data[number] for number in range(len(data))], 0, "longest", 64)
    loss = torch.nn.functional.cross_entropy(evaluation_step(loaded.model, batch), batch["labels"])
    assert float(loss) == pytest.approx(evaluations[summary.best_step]["loss"], rel=1e-4)


def test_a_step_of_the_trainer_is_the_step_that_is_traced(tmp_path):
    """12 reads in micro-batches of 8: the last of the accumulation is smaller."""
    write_reads(tmp_path / "twelve.fa", 12, seed=5)
    config = change(
        tiny_config(tmp_path),
        dataset__train_fasta=str(tmp_path / "twelve.fa"),
        training__grad_accum_steps=2,
        training__max_steps=1,
        scheduler__warmup_steps=0,
        model__dropout=0.0,
        model__lora__dropout=0.0,
        optimizer__max_grad_norm=0.1,
    )
    train(config, quiet=True)

    data = open_dataset(config, config.dataset.train_fasta)
    set_seed(config.seed)
    model = build_model(config, 3)
    order = list(BatchOrder(12, 8, seed=config.seed, lengths=data.lengths))
    assert sorted(len(batch) for batch in order) == [4, 8]
    batches = [collate(data.__getitems__(batch), 0, "longest", 64) for batch in order]
    training_step(model, build_optimizer(model, config), batches, config)
    expected = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = dict(load_model(tmp_path / "run" / "model").model.named_parameters())
    for name, parameter in expected.items():
        torch.testing.assert_close(found[name], parameter, rtol=0, atol=1e-6)


def test_early_stopping_counts_evaluations_without_improvement(tmp_path):
    config = tiny_config(
        tmp_path, optimizer__lr=1e-12, training__max_epochs=10, training__early_stopping__patience=2
    )
    summary = train(config, quiet=True)
    assert summary.status == "finished"
    # 6 steps an epoch, evaluated at 3 and 6: the first is the best, two more without improvement.
    assert [line["step"] for line in metrics(tmp_path / "run", "eval")] == [3, 6, 9]
    assert (summary.steps, summary.best_step) == (9, 3)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"training__evals_per_epoch": 3}, [2, 4, 6, 8, 10, 12]),
        ({"training__evals_per_epoch": 4, "training__max_epochs": 1}, [2, 3, 4, 6]),
        ({"training__eval_steps": 5}, [5, 10, 12]),
        ({"training__max_steps": 4}, [3, 4]),
    ],
)
def test_evaluations_come_within_epochs_and_after_the_last_step(tmp_path, changes, steps):
    train(tiny_config(tmp_path, **changes), quiet=True)
    assert [line["step"] for line in metrics(tmp_path / "run", "eval")] == steps


def test_only_the_newest_checkpoints_and_the_best_are_kept_and_they_are_small(tmp_path):
    config = tiny_config(tmp_path, optimizer__lr=1e-12, training__eval_steps=1, training__max_steps=6)
    train(config, quiet=True)
    assert checkpoints(tmp_path / "run") == [1, 5, 6]
    files = list((tmp_path / "run" / "checkpoints" / "checkpoint-6").iterdir())
    assert not any(file.name == "model.safetensors" for file in files)
    # Adapters and head in fp32, and two optimizer moments of each.
    trained = sum(tensor.nbytes for tensor in adapter(tmp_path / "run" / "model").values())
    assert trained < sum(f.stat().st_size for f in files if "safetensors" in f.name) < 2 * trained


def test_without_saving_the_last_only_improvements_are_kept(tmp_path):
    config = change(
        tiny_config(tmp_path, optimizer__lr=1e-12, training__eval_steps=1, training__max_steps=4),
        training__checkpoint__save_last=False,
    )
    train(config, quiet=True)
    assert checkpoints(tmp_path / "run") == [1]


def test_without_validation_reads_the_last_weights_are_exported(tmp_path):
    config = tiny_config(tmp_path, dataset__val_fasta=None)
    summary = train(config, quiet=True)
    assert (summary.exported_step, summary.best_metric) == (12, None)
    assert metrics(tmp_path / "run", "eval") == []
    assert_same_weights(tmp_path / "run" / "model", tmp_path / "run" / "checkpoints" / "checkpoint-12")


@pytest.mark.parametrize("name", ["linear", "constant", "cosine"])
def test_the_schedule_is_counted_in_optimizer_steps(tmp_path, name):
    # 48 reads, micro-batches of 8, four per step: an epoch has two steps, of 4 and 2 micro-batches.
    config = tiny_config(tmp_path, training__grad_accum_steps=4, training__max_epochs=5, scheduler__name=name)
    train(config, quiet=True)
    rates = [line["lr"] / config.optimizer.lr for line in metrics(tmp_path / "run", "train")]
    after = np.arange(8) / 8
    decay = {"linear": 1 - after, "constant": np.ones(8), "cosine": (1 + np.cos(np.pi * after)) / 2}
    assert rates == pytest.approx([0, 0.5, *decay[name]])


@pytest.mark.parametrize(
    "changes",
    [
        {"training__precision": "bf16-mixed", "model__gradient_checkpointing": True},
        {"training__precision": "fp16-mixed"},
        {"training__precision": "bf16-true", "model__pooling": "cls"},
        {"model__lora__enabled": False, "loss__class_weights": "balanced", "loss__label_smoothing": 0.1},
        {"dataset__reverse_complement": True, "training__group_by_length": False},
        {"memory_optimization__empty_cache_steps": 1, "tokenizer__padding": "max_length"},
        {"training__num_workers": 2, "training__max_steps": 8, "training__max_epochs": 10},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_settings_train(tmp_path, changes):
    config = tiny_config(tmp_path, **{"training__max_steps": 4} | changes)
    summary = train(config, quiet=True)
    assert summary.status == "finished"
    assert all(line["loss"] > 0 for line in metrics(tmp_path / "run", "train"))
    load_model(tmp_path / "run" / "model")


def test_worker_processes_change_nothing(tmp_path):
    config = tiny_config(tmp_path, training__max_steps=4, dataset__reverse_complement=True)
    train(config, quiet=True)
    train(change(config, training__num_workers=1, training__output_dir=str(tmp_path / "two")), quiet=True)
    assert [line["loss"] for line in metrics(tmp_path / "two", "train")] == [
        line["loss"] for line in metrics(tmp_path / "run", "train")
    ]


def test_each_of_two_processes_logs_the_speed_of_both(monkeypatch):
    batch = {"labels": torch.zeros(6), "attention_mask": torch.ones(6, 10)}
    batch["attention_mask"][:, 5:] = 0
    clock = iter([0.0, 2.0, 2.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    counted = callbacks.Throughput(processes=2)
    counted.count(batch)
    taken = counted.take()
    assert (taken["reads_per_s"], taken["tokens_per_s"], taken["padding_fraction"]) == (6.0, 30.0, 0.5)


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_micro_batch(tmp_path):
    config = tiny_config(tmp_path, model__dropout=0.0, model__lora__dropout=0.0)
    train(change(config, training__output_dir=str(tmp_path / "one")), quiet=True)
    (tmp_path / "config.yaml").write_text(dump_config(change(config, training__batch_size=4)))
    (tmp_path / "metagene.py").write_text("from metagene_doctor.cli.main import entry_point\nentry_point()\n")
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        str(tmp_path / "metagene.py"),
    ]
    subprocess.run(
        [*launch, "train", "--config", str(tmp_path / "config.yaml"), "-q"], check=True, timeout=300
    )
    for phase in ("train", "eval"):
        assert [line["loss"] for line in metrics(tmp_path / "run", phase)] == pytest.approx(
            [line["loss"] for line in metrics(tmp_path / "one", phase)], rel=1e-4
        )
    assert_same_weights(tmp_path / "run" / "model", tmp_path / "one" / "model")


def test_class_weights_have_mean_one_over_the_reads():
    labels = np.array([0] * 90 + [1] * 9 + [2])
    for kind, ratio in {"sqrt": 10**0.5, "balanced": 10.0}.items():
        weights = class_weights(np.bincount(labels, minlength=4), kind)
        assert weights[labels].mean() == pytest.approx(1.0)
        assert weights[1] / weights[0] == pytest.approx(ratio)
    assert class_weights(np.bincount(labels, minlength=4), "none") is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"max_split_size_mb": 128}, "expandable_segments:True"),
        ({"expandable_segments": False, "max_split_size_mb": 128}, "max_split_size_mb:128"),
        ({"expandable_segments": False}, None),
    ],
)
def test_the_allocator_is_configured_unless_the_environment_is(monkeypatch, settings, expected):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    configure_allocator(MemoryConfig(**settings))
    found = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF")
    assert found == expected
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "mine")
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    configure_allocator(MemoryConfig(**settings))
    assert "PYTORCH_ALLOC_CONF" not in os.environ
