"""``metagene evaluate``: metric report and pictures of a trained run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from metagene_doctor.cli.progress import progress_bar


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--fasta",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Reads of known class (repeatable)  [default: the run's test, else validation reads].",
)
@click.option(
    "--header-regex",
    metavar="REGEX",
    help="Header pattern of these reads, with a group (?P<class_id>...)  [default: the run's].",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Reads in one batch  [default: as configured].",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print evaluation/metrics.json instead of the table.")
@click.option("--quiet", "-q", is_flag=True, help="No progress and no note of the files written.")
def command(
    run_dir: Path,
    fasta: tuple[Path, ...],
    header_regex: str | None,
    batch_size: int | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Judge the model in RUN_DIR on reads of known class, beside chance and a k-mer baseline.

    Writes RUN_DIR/evaluation/ (numbers, tables, pictures) and RUN_DIR/report.html.

    Exit codes: 0 done, 1 the reads or the run failed, 2 usage or missing input, 130 interrupted.
    """
    from metagene_train.evaluation.evaluate import evaluate
    from metagene_train.evaluation.files import check_writable, evaluation_record, write_evaluation
    from metagene_train.evaluation.run_report import write_report

    check_writable(run_dir)
    with progress_bar("evaluating", quiet=quiet) as progress:
        evaluation = evaluate(
            run_dir,
            fasta,
            header_regex=header_regex,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )
    directory = write_evaluation(evaluation)
    report = write_report(run_dir)
    record = evaluation_record(evaluation)
    if as_json:
        click.echo(json.dumps(record, indent=1, ensure_ascii=False))
    else:
        _print_table(record)
    if not quiet:
        click.echo(f"wrote {directory}/ and {report}", err=True)
    return 0


def _print_table(record: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from metagene_doctor.report.quantities import count
    from metagene_doctor.report.terminal import ReportConsole, print_table
    from metagene_train.evaluation.run_report import METRIC_NAMES, headline_notes, headline_rows, quality_line

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for title in METRIC_NAMES.values():
        table.add_column(title, justify="right")
    for who, values in headline_rows(record):
        sign = "+" if who.startswith("model −") else ""
        style = "bold" if who == "this model" else None
        table.add_row(who, *(f"{values[name]:{sign}.3f}" for name in METRIC_NAMES), style=style)
    console = ReportConsole()
    counted = f"{count(record['reads'], 'read')}, {count(record['classes_with_reads'], 'class')}"
    heading = Text(f"{record['fasta']}: {counted}", style="bold")
    console.print(heading, soft_wrap=not console.is_terminal, highlight=False)
    print_table(console, table)
    for note in [quality_line(record), *headline_notes(record)]:
        console.print(Text(note), soft_wrap=not console.is_terminal, highlight=False)
