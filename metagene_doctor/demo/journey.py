"""The demo's journey: the commands a user would type, in order, run on the bundled data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_doctor.demo.inputs import DemoInputs


@dataclass(frozen=True)
class Stage:
    """One command of the journey and what it is for."""

    purpose: str
    argv: tuple[str, ...]

    @property
    def typed(self) -> str:
        return shlex.join(("metagene", *self.argv))


@dataclass(frozen=True)
class Score:
    """One row of the closing table: who classified the validation reads, and how well."""

    who: str
    macro_f1: float
    mcc: float


def stages(directory: Path, inputs: DemoInputs) -> list[Stage]:
    """The journey over ``inputs``; everything it writes goes below ``directory``."""
    reads = ("--fasta", str(inputs.train_fasta), "--val", str(inputs.val_fasta))
    mapping = ("--mapping", str(inputs.mapping_tsv))
    encoder = ("--encoder", str(inputs.encoder_dir))
    config, run = directory / "recommended.yaml", directory / "run"
    return [
        Stage("Is the data fit to train on?", ("doctor", *reads, *mapping, *encoder)),
        Stage(
            "What would METAGENE-1 itself need on a 24 GB card?",
            ("autotune", "--gpu-mem", "24", *reads, *mapping, "-o", str(directory / "metagene1-24gb.yaml")),
        ),
        Stage(
            "The best settings for this machine and the small bundled encoder",
            ("autotune", *reads, *mapping, *encoder, "--epochs", "2", "-o", str(config)),
        ),
        Stage(
            "Train",
            ("train", "--config", str(config), f"training.output_dir={run}", "training.evals_per_epoch=1"),
        ),
        Stage("How good is it, beside chance and a 4-mer baseline?", ("evaluate", str(run))),
        Stage(
            "Classify reads, one row per read",
            (
                "predict",
                str(run),
                "--fasta",
                str(inputs.val_fasta),
                "-o",
                str(directory / "predictions.parquet"),
            ),
        ),
        Stage(
            "The same reads as one sample",
            (
                *("predict", str(run), "--fasta", str(inputs.val_fasta)),
                *("-o", str(directory / "sample.tsv"), "--per-sample"),
            ),
        ),
        Stage("What could be better?", ("advise", "--run", str(run))),
    ]


def run_journey(
    journey: Sequence[Stage], run: Callable[[list[str]], int], announce: Callable[[int, Stage], None]
) -> int:
    """Run the stages in order; stop at the first that fails and return its exit code."""
    for number, stage in enumerate(journey, start=1):
        announce(number, stage)
        if code := run(list(stage.argv)):
            return code
    return 0


def scores(run_dir: Path) -> list[Score]:
    """The closing table, worst idea first, from ``evaluation/metrics.json`` of the run."""
    from metagene_train.evaluation.run_report import headline_rows

    record: dict[str, Any] = json.loads((run_dir / "evaluation" / "metrics.json").read_text())
    return [Score(who, values["macro_f1"], values["mcc"]) for who, values in headline_rows(record)]
