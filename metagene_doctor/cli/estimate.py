"""``metagene estimate``: memory, time and disk of one configuration, before it runs."""

from __future__ import annotations

from pathlib import Path

import click

from metagene_doctor.cli.card_options import gpu_memory_option, gpus_option


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run configuration  [default: all defaults].",
)
@click.option("--gpu", metavar="NAME", help="Card (rtx4090, a100-80gb, ...)  [default: the one here].")
@gpu_memory_option
@click.option(
    "--fasta",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Training reads: their lengths decide (repeatable)  [default: the config's, where they are here].",
)
@gpus_option
@click.option("--measure", is_flag=True, help="Also run the step on this machine's GPU and compare.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print the verdict only.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(
    config: Path | None,
    gpu: str | None,
    gpu_mem: float | None,
    fasta: tuple[Path, ...],
    gpus: int,
    measure: bool,
    as_json: bool,
    quiet: bool,
    overrides: tuple[str, ...],
) -> int:
    """Peak memory, time and disk of one config, from shapes alone: no GPU, no weights, no network.

    KEY=VALUE overrides the config (training.batch_size=16). With --gpus N, N cards train together and
    each runs the micro-batches of the config: memory of each, time of all.

    Exit codes: 0 the run fits the card, 1 it does not (or ran out of memory under --measure) or reads or
    mapping are damaged, 2 usage, config or missing input, 130 interrupted.
    """
    if gpu is not None and gpu_mem is not None:
        raise click.UsageError("give --gpu or --gpu-mem, not both")
    if measure and gpus > 1:
        raise click.UsageError("--measure runs one process on one GPU: leave --gpus out")
    from metagene_doctor.cli.progress import progress_bar
    from metagene_doctor.memory.costs import request, text

    with progress_bar("Reading", quiet=quiet or as_json, in_bytes=True) as progress:
        prepared = request.prepare(request.Question(config, overrides, gpu, gpu_mem, fasta, gpus), progress)
    for warning in prepared.warnings:
        click.echo(f"warning: {warning}", err=True)
    answer = prepared.estimate()
    measured = None
    if measure:
        from metagene_doctor.memory.costs.measure import measure_and_remember

        measured = measure_and_remember(answer, prepared.config)
    if as_json:
        import json

        click.echo(
            json.dumps(answer.to_dict() | ({"measured": measured.to_dict()} if measured else {}), indent=2)
        )
    elif quiet:
        click.echo(text.verdict(answer))
    else:
        click.echo(text.text(answer, prepared.origins))
        if measured:
            click.echo("\n" + text.measured(measured, answer))
    return 1 if answer.fits is False or (measured is not None and measured.out_of_memory) else 0
