"""``metagene advise``: what went wrong in a run, and what to change."""

from __future__ import annotations

from pathlib import Path

import click

from metagene_doctor.cli.card_options import gpu_memory_option

SYMPTOMS = ["oom", "slow", "overfitting", "underfitting", "instability"]


@click.command()
@click.argument("symptom", required=False, type=click.Choice(SYMPTOMS))
@click.option(
    "--run", "run_dir", type=click.Path(path_type=Path), metavar="DIR", help="Run directory to judge."
)
@click.option(
    "--log", type=click.Path(path_type=Path), metavar="FILE", help="Text log of any trainer to judge instead."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Config of the run  [default: RUN's own].",
)
@click.option("--gpu", metavar="NAME", help="Card the run is for, e.g. rtx4090.")
@gpu_memory_option
@click.option(
    "--length", type=click.IntRange(min=1), metavar="N", help="Tokens of the longest read, if no run tells."
)
@click.option(
    "--rules", type=click.Path(path_type=Path), metavar="DIR", help="Directory with a lab's own rules."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the changed config here."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--fail-on",
    type=click.Choice(["info", "warn", "error"]),
    default="error",
    show_default=True,
    help="Severity from which the exit code is 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show also what is set already or ruled out.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def command(
    symptom: str | None,
    run_dir: Path | None,
    log: Path | None,
    config: Path | None,
    gpu: str | None,
    gpu_mem: float | None,
    length: int | None,
    rules: Path | None,
    output: Path | None,
    force: bool,
    fail_on: str,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Find the symptoms of a run and the fixes for them, in the order to try them.

    With SYMPTOM alone: its fixes for --config, without looking at a run.

    Exit codes: 0 nothing at or above --fail-on, 1 the run failed, ran out of memory, has a loss that
    is not a number or a card with memory errors (other symptoms are warnings), 2 usage, config or
    missing input.
    """

    from metagene_doctor import rulebook
    from metagene_doctor.advice.advise import advise, card, collect, rewritten
    from metagene_doctor.configuration.views import write_new
    from metagene_doctor.finding import Examined, Report, Severity, exit_code
    from metagene_doctor.report import terminal
    from metagene_train import __version__

    if symptom is None and run_dir is None and log is None:
        raise click.UsageError("name a SYMPTOM, or give --run or --log")
    if gpu is not None and gpu_mem is not None:
        raise click.UsageError("give --gpu or --gpu-mem, not both")
    book = rulebook.load(rules)
    evidence = collect(run_dir, log, config, length)
    advice = advise(evidence, book, symptom=symptom, gpu=card(book, gpu, gpu_mem))
    if output is not None:
        write_new(output, rewritten(advice, run_dir, config), force=force)
    report = Report(
        tool_version=__version__,
        argv=click.get_current_context().obj,
        complete=True,
        examined=Examined(),
        findings=advice.findings + (advice.set_aside if verbose or as_json else ()),
        verdict=advice.verdict,
    )
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    elif quiet:
        click.echo(advice.verdict)
    else:
        terminal.render(report, console=terminal.ReportConsole(), verbose=verbose, heading=evidence.source)
    if output is not None and not quiet:
        click.echo(f"wrote {output}; next: metagene doctor --config {output}", err=True)
    return exit_code(advice.findings, Severity(fail_on))
