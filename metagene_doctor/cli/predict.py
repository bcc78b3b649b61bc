"""``metagene predict``: classify the reads of a file with a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from metagene_doctor.cli.numbers import Number
from metagene_doctor.cli.progress import progress_bar


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--fasta",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="FASTA or FASTQ, plain or compressed, any headers; - is standard input (repeatable).",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Table to write: .csv, .tsv (also .gz) or .parquet.",
)
@click.option(
    "--per-sample", is_flag=True, help="Write reads and fraction per class instead of one row per read."
)
@click.option(
    "--threshold",
    type=Number(0, 1),
    metavar="SHARE",
    help="Leave reads with less confidence than this unclassified.",
)
@click.option(
    "--probabilities",
    type=click.Choice(["all", "top", "none"]),
    help="Probability columns  [default: all for up to 50 classes, else top].",
)
@click.option(
    "--top",
    "top_k",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Classes that --probabilities top names.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Reads in one batch  [default: as configured].",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no summary.")
def command(
    run_dir: Path,
    fasta: tuple[Path, ...],
    output: Path,
    per_sample: bool,
    threshold: float | None,
    probabilities: Literal["all", "top", "none"] | None,
    top_k: int,
    batch_size: int | None,
    device: str,
    quiet: bool,
) -> int:
    """Classify every read of one or more FASTA or FASTQ files with the model in RUN_DIR.

    Several files are one sample, read in the order given.

    Exit codes: 0 done, 1 the reads or the run failed, 2 usage or missing input, 130 interrupted.
    """
    from metagene_train.prediction.predict import predict

    with progress_bar("predicting", quiet=quiet) as progress:
        summary = predict(
            run_dir,
            fasta,
            output,
            per_sample=per_sample,
            threshold=threshold,
            batch_size=batch_size,
            probabilities=probabilities,
            top_k=top_k,
            device=device,
            progress=progress,
        )
    if not quiet:
        click.echo(summary.text, err=True)
    return 0
