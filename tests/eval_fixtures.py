"""A run directory with a tiny random model, as training leaves it, without training."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from train_fixtures import tiny_config, write_mapping

from metagene_train.config import RunConfig
from metagene_train.config_file import dump_config
from metagene_train.labels import LabelMap, read_mapping
from metagene_train.model import build_model, save_model
from metagene_train.tokenizer import load_tokenizer


def tiny_run(directory: Path, *, classes: int = 3, **overrides: object) -> Path:
    """``directory/run``; overrides are those of `tiny_config`."""
    config = tiny_config(directory, **overrides)
    labels = LabelMap.from_mapping(read_mapping(write_mapping(directory / "labels.tsv", classes)))
    torch.manual_seed(1)
    model = build_model(config, classes)
    torch.nn.init.normal_(model.head.weight, std=1.0)  # a fresh head is too unsure for a threshold
    run_dir = Path(config.training.output_dir)
    save_model(model, load_tokenizer(config.tokenizer), labels, config, run_dir / "model")
    write_run_files(run_dir, config, labels)
    return run_dir


def write_run_files(run_dir: Path, config: RunConfig, labels: LabelMap) -> None:
    (run_dir / "config.yaml").write_text(dump_config(config))
    labels.save(run_dir / "labels.json")
    lines: list[dict] = []
    for step in range(1, 21):
        lines.append(
            {"phase": "train", "step": step, "epoch": step / 10, "loss": 1.2 - step / 50, "lr": 1e-4}
            | {"peak_allocated_gib": 0.5 + step / 100, "peak_reserved_gib": None}
        )
        if step % 5 == 0:
            lines.append(
                {"phase": "eval", "step": step, "epoch": step / 10, "loss": 1.1, "macro_f1": 0.4}
                | {"micro_f1": 0.5, "mcc": 0.3, "accuracy": 0.5, "seconds": 1.0}
            )
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run_dir / "run.json").write_text(json.dumps({"status": "finished", "steps": 20, "seconds": 12.5}))
