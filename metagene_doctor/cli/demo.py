"""``metagene demo``: the whole journey on bundled real data."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
def command(directory: Path | None) -> int:
    """Doctor, autotune, train, evaluate, predict and advise on bundled genomes, in minutes on a CPU.

    Everything is written into DIRECTORY, which must be new or empty (default: metagene-demo, or
    metagene-demo-2 and so on when that exists).

    Exit codes: 0 done, else that of the command that failed.
    """
    from metagene_doctor.cli.main import main
    from metagene_doctor.demo.inputs import write_demo_inputs
    from metagene_doctor.demo.journey import Stage, run_journey, scores, stages
    from metagene_train.errors import InputError

    if directory is None:
        names = itertools.chain(
            ["metagene-demo"], (f"metagene-demo-{number}" for number in itertools.count(2))
        )
        directory = next(path for path in map(Path, names) if not path.exists())
    if directory.exists() and any(directory.iterdir()):
        raise InputError(f"{directory} is not empty; remove it or name another directory")
    began = time.monotonic()
    inputs = write_demo_inputs(directory / "inputs")
    journey = stages(directory, inputs)

    def announce(number: int, stage: Stage) -> None:
        click.secho(f"\n[{number}/{len(journey)}] {stage.purpose}", bold=True)
        click.secho(f"$ {stage.typed}", fg="cyan")

    if code := run_journey(journey, main, announce):
        click.echo(f"metagene demo stopped: the command above ended with exit code {code}", err=True)
        return code
    click.secho(f"\nFrom reads to report in {time.monotonic() - began:.0f} s", bold=True)
    for score in scores(directory / "run"):
        click.echo(f"  {score.who:<32} macro-F1 {score.macro_f1:6.3f}   MCC {score.mcc:6.3f}")
    click.echo(f"\nReport: {directory / 'run' / 'report.html'}")
    return 0
