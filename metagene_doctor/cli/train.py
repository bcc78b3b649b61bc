"""``metagene train``: one run from its configuration."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from shlex import quote

import click


@click.command(name="train")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Configuration of the run (YAML).",
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--resume", is_flag=True, help="Continue the run of training.output_dir where it stopped.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, and no summary on stdout.")
def command(config_path: Path, overrides: tuple[str, ...], resume: bool, quiet: bool) -> int:
    """Train a read classifier: LoRA adapters and a head on a frozen encoder.

    KEY=VALUE replaces a key of the file, as in optimizer.lr=1e-4. The run directory
    (training.output_dir) receives config.yaml, labels.json, metrics.jsonl, checkpoints/, run.json and,
    at the end, model/ with the best weights. Ctrl-C or SIGTERM saves a checkpoint; --resume goes on.

    Exit codes: 0 finished, 1 the reads or the run failed, 2 usage, config or missing input,
    130 interrupted.
    """
    from metagene_train.config_file import load_config

    loaded = load_config(config_path, overrides)
    for warning in loaded.warnings:
        click.echo(f"metagene: warning: {warning}", err=True)

    from metagene_doctor.memory.costs.foretold import foretell
    from metagene_doctor.report.kept import kept
    from metagene_train.errors import RunError
    from metagene_train.reads.access.data_set import distinct_files
    from metagene_train.training.trainer import train

    dataset = loaded.config.dataset
    named = [files for files in (dataset.train_fasta, dataset.val_fasta) if files]
    report = kept([str(file) for files in named for file in distinct_files(files)], dataset)
    for finding in (report or {}).get("findings", []):
        if finding["severity"] == "error":
            click.echo(f"metagene: warning: doctor found {finding['id']}: {finding['title']}", err=True)
    try:
        summary = train(
            loaded.config,
            resume=resume,
            quiet=quiet,
            foretell=partial(foretell, loaded.config),
            doctor=report,
        )
    except RunError as error:
        explain = f"metagene advise --run {quote(loaded.config.training.output_dir)}"
        raise RunError(f"{error}\nnext: {explain}") from error
    if summary.status == "interrupted":
        click.echo(f"metagene: interrupted after step {summary.steps}; continue with --resume", err=True)
        return 130
    if not quiet:
        best = ""
        if summary.best_metric is not None:
            best = f", best {summary.best_metric} {summary.best_value:.4f} at step {summary.best_step}"
        done = f"{summary.steps} steps in {summary.seconds:.0f} s on {summary.device}"
        click.echo(f"{done}{best}: {summary.output_dir}")
        if dataset.val_fasta or dataset.test_fasta:
            click.echo(f"next: metagene evaluate {quote(str(summary.output_dir))}", err=True)
    return 0
