"""Training speed on this machine's processor: estimated, and measured with `train`.

    python benchmarks/training_speed.py recommended.yaml [--steps 20] [--encoder LAYERS UNITS]

Trains the config with every micro-batch that divides its effective batch, a run each, and prints the
estimate with its range beside the reads per second of the run (the median of its logged steps, without
the first two). Exits with 1 when a speed lies outside its range. Wants a machine with nothing else to do.

``--encoder`` takes one with random weights and so many layers of so many units (a multiple of 64) instead
of the encoder that the config names, whose vocabulary it shares.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from metagene_doctor.memory.costs.foretold import foretell
from metagene_train.config import RunConfig
from metagene_train.config_file import load_config
from metagene_train.training.trainer import train

MICRO_BATCHES = (1, 2, 4, 8, 16, 32)
HEAD = 64
"""Units of an attention head."""
FIRST = 2
"""Logged steps left out: memory and caches are filled in them."""


@dataclass(frozen=True)
class Row:
    """Reads per second."""

    config: RunConfig
    expected: float
    low: float
    high: float
    measured: float

    @property
    def holds(self) -> bool:
        return self.low <= self.measured <= self.high


def write_encoder(like: RunConfig, layers: int, units: int, directory: Path) -> Path:
    """An encoder with random weights and Llama's proportions."""
    import torch
    from transformers import AutoModel

    from metagene_train.encoder import encoder_architecture

    architecture = encoder_architecture(like.model.encoder_path, like.model.revision)
    heads = units // HEAD
    architecture.update(
        {
            "num_hidden_layers": layers,
            "hidden_size": units,
            "intermediate_size": -(-units * 8 // 3 // HEAD) * HEAD,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": HEAD,
        }
    )
    AutoModel.from_config(architecture).to(torch.bfloat16).save_pretrained(directory)
    return directory


def compare(path: Path, micro_batch: int, steps: int, encoder: Path | None) -> Row:
    """Estimate and train one micro-batch, the effective batch unchanged."""
    with tempfile.TemporaryDirectory() as directory:
        given = load_config(path).config
        effective = given.training.effective_batch
        changes = {
            "training.batch_size": micro_batch,
            "training.grad_accum_steps": effective // micro_batch,
            "training.max_steps": steps,
            "training.output_dir": f"{directory}/run",
            "training.checkpoint.save_best": "false",
            "logging.log_interval": 1,
            "device": "cpu",
            "model.encoder_path": encoder or given.model.encoder_path,
        }
        overrides = [f"{key}={value}" for key, value in changes.items()]
        config = load_config(path, [*overrides, "dataset.val_fasta=null"]).config
        record = foretell(config)
        assert record is not None, "the config names no mapping"
        train(config, quiet=True)
        lines = (Path(directory) / "run" / "metrics.jsonl").read_text().splitlines()
    speeds = [line["reads_per_s"] for line in map(json.loads, lines) if line["phase"] == "train"]
    return Row(config, **record["time"]["reads_per_s"], measured=median(speeds[FIRST:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--encoder", type=int, nargs=2, metavar=("LAYERS", "UNITS"))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        encoder = None
        if wanted.encoder:
            encoder = write_encoder(load_config(wanted.config).config, *wanted.encoder, Path(directory))
        return compare_all(wanted.config, wanted.steps, encoder)


def compare_all(path: Path, steps: int, encoder: Path | None) -> int:
    """Print a row for each micro-batch; the exit code."""
    effective = load_config(path).config.training.effective_batch
    print("| reads x steps | estimated | range | measured | |\n|---|---|---|---|---|")
    rows = []
    for micro_batch in MICRO_BATCHES:
        if effective % micro_batch == 0:
            row = compare(path, micro_batch, steps, encoder)
            print(
                f"| {micro_batch} x {effective // micro_batch} | {row.expected:.1f} "
                f"| {row.low:.1f}-{row.high:.1f} | {row.measured:.1f} | {'' if row.holds else 'OUTSIDE'} |",
                flush=True,
            )
            rows.append(row)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
