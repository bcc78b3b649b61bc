"""Training speed on this machine's processor: estimated, and measured with `train`.

    python benchmarks/training_speed.py recommended.yaml [--steps 20]

Trains the config with every micro-batch that divides its effective batch, a run each, and prints the
estimate with its range beside the reads per second of the run (the median of its logged steps, without
the first two). Exits with 1 when a speed lies outside its range. Wants a machine with nothing else to do.
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


def compare(path: Path, micro_batch: int, steps: int) -> Row:
    """Estimate and train one micro-batch, the effective batch unchanged."""
    with tempfile.TemporaryDirectory() as directory:
        effective = load_config(path).config.training.effective_batch
        changes = {
            "training.batch_size": micro_batch,
            "training.grad_accum_steps": effective // micro_batch,
            "training.max_steps": steps,
            "training.output_dir": f"{directory}/run",
            "training.checkpoint.save_best": "false",
            "logging.log_interval": 1,
            "device": "cpu",
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
    wanted = parser.parse_args()
    effective = load_config(wanted.config).config.training.effective_batch
    print("| reads x steps | estimated | range | measured | |\n|---|---|---|---|---|")
    rows = []
    for micro_batch in MICRO_BATCHES:
        if effective % micro_batch == 0:
            row = compare(wanted.config, micro_batch, wanted.steps)
            print(
                f"| {micro_batch} x {effective // micro_batch} | {row.expected:.1f} "
                f"| {row.low:.1f}-{row.high:.1f} | {row.measured:.1f} | {'' if row.holds else 'OUTSIDE'} |",
                flush=True,
            )
            rows.append(row)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
