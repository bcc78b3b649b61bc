"""``metagene autotune``: the best settings that fit a device, as a configuration file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from metagene_doctor.cli.card_options import gpu_memory_option, gpus_option
from metagene_doctor.cli.numbers import Number

GOALS = ["balanced", "max-quality", "fast-convergence", "anti-overfitting", "min-memory", "max-speed"]


@click.command()
@click.option(
    "--gpu", metavar="NAME", help="Card the run is for, e.g. rtx4090  [default: the card of this machine]."
)
@gpu_memory_option
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", help="cpu: tune for no GPU.")
@click.option(
    "--fasta",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Training reads; their lengths decide (repeatable).",
)
@click.option(
    "--val",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Validation reads (repeatable).",
)
@click.option(
    "--mapping", type=click.Path(path_type=Path), metavar="FILE", help="Mapping of class ids to labels (TSV)."
)
@click.option("--header-regex", metavar="REGEX", help="Header pattern with a group (?P<class_id>...).")
@click.option("--encoder", metavar="DIR", help="Directory of a Llama-like encoder  [default: METAGENE-1].")
@click.option(
    "--tokenizer",
    metavar="DIR|FILE",
    help="Directory or file of its tokenizer  [default: the encoder's].",
)
@click.option(
    "--index-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where read indexes are kept."
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Config to start from.")
@click.option(
    "--goal",
    type=click.Choice(GOALS),
    default="balanced",
    show_default=True,
    metavar="GOAL",
    help=f"What the settings are for: {', '.join(GOALS)}.",
)
@click.option(
    "--policy",
    type=click.Choice(["evidence", "guide"]),
    default="evidence",
    show_default=True,
    help="evidence: what the evidence supports; guide: the guide's row for the card, fitting or not.",
)
@gpus_option
@click.option(
    "--max-truncation",
    type=Number(0, 1),
    metavar="SHARE",
    help="Largest share of the reads that may be cut  [default: 0.001].",
)
@click.option("--epochs", type=Number(min=0, min_open=True), metavar="N", help="Passes over the reads.")
@click.option(
    "--rules", type=click.Path(path_type=Path), metavar="DIR", help="Directory with a lab's own rules."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the recommended config here.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the memory maps as a picture (.png, .svg or .pdf).",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print the recommendation only.")
def command(
    device: str,
    gpus: int,
    output: Path | None,
    force: bool,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Find the settings that fit a device and run fastest, for these reads and this goal.

    Needs no GPU, no weights and no network: memory comes from a dry run of the training step.

    Exit codes: 0 settings were found, 1 nothing fits (or, with --policy guide, the guide's row does
    not) or reads or mapping are damaged, 2 usage, config or missing input, 130 interrupted.
    """
    if options["gpu"] and options["gpu_mem"]:
        raise click.UsageError("give --gpu or --gpu-mem, not both")
    if device == "cpu" and (options["gpu"] or options["gpu_mem"]):
        raise click.UsageError("--device cpu leaves no place for --gpu or --gpu-mem")
    from metagene_doctor.cli.progress import progress_bar
    from metagene_doctor.configuration.views import write_new
    from metagene_doctor.report.terminal import ReportConsole
    from metagene_doctor.tuning import as_json as json_document
    from metagene_doctor.tuning import autotune, picture, recommended, report
    from metagene_doctor.tuning.request import Wishes, build

    if output is not None:
        recommended.must_be_new(output, force=force)
    if plot is not None:
        picture.must_be_drawable(plot, force=force)
    wishes = Wishes(cpu=device == "cpu", devices=gpus, **options)
    with progress_bar("Reading", quiet=quiet or as_json, in_bytes=True) as progress:
        asked = build(wishes, progress)
    for warning in asked.warnings:
        click.echo(f"warning: {warning}", err=True)
    result = autotune.run(asked.request, around=not quiet or as_json or plot is not None)
    recommendation = result.recommendation
    # What is printed may go to a program that reads the first lines only (head): files come first.
    if plot is not None:
        picture.save(result.exploration.heat_maps, plot, report.verdict(recommendation))
    written = output if recommendation.fits or wishes.policy == "guide" else None
    if written is not None:
        write_new(written, recommended.to_yaml(recommendation, asked.given), force=force)
    if as_json:
        click.echo(json_document.text(result, click.get_current_context().obj[1:]))
    elif quiet:
        click.echo(report.verdict(recommendation))
    else:
        report.render(result, ReportConsole(width=None if sys.stdout.isatty() else 120))
    if written is not None and not quiet:
        launcher = f"torchrun --nproc-per-node {gpus} --no-python " if gpus > 1 else ""
        following = f"next: {launcher}metagene train --config {written}"
        click.echo(
            f"wrote {written}{'; ' + following if recommendation.fits else ', which does not fit'}", err=True
        )
    return 0 if recommendation.fits else 1
