"""``metagene doctor --fix``: the options of a repair, and what is printed of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from metagene_doctor.cli.name_lists import NameList, one_by_one
from metagene_doctor.cli.numbers import Number
from metagene_doctor.repair.plan import ORDER
from metagene_train.config import DatasetConfig, ReadsFiles

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = {
    "fix": "--fix",
    "output_dir": "-o",
    "salvage": "--salvage",
    "split_by": "--split-by",
    "validation_share": "--validation-share",
    "genome_regex": "--genome-regex",
    "max_n": "--max-n",
    "seed": "--seed",
    "gzip": "--gzip",
}
"""Parameter -> option, as `repair_options` adds them; all but the first mean nothing without it."""


def wanted(given: dict[str, Any]) -> dict[str, Any] | None:
    """Take a repair's options out of a command's; None if no repair was asked for.

    Raises UsageError for options that would have no effect.
    """
    options = {name: given.pop(name) for name in OPTIONS}
    if options["fix"]:
        return options
    idle = [OPTIONS[name] for name, value in options.items() if value not in (None, ())]
    if idle:
        raise click.UsageError(f"{idle[0]} has no effect without --fix")
    return None


def repair_options(command: Command) -> Command:
    """Add the options of a repair to a command."""
    options = (
        click.option(
            "--fix",
            multiple=True,
            is_flag=False,
            flag_value="",
            type=NameList(lambda: ORDER),
            callback=one_by_one,
            metavar="[REPAIR]",
            help="Show what a repair would change, and with -o make new files (repeatable): line-ends, "
            "uppercase, u-to-t, iupac-to-n, headers, whole-words, drop-damaged, deduplicate, split, shuffle; "
            "without a name the safe ones that are needed. Several files are repaired together.",
        ),
        click.option("-o", "--output", "output_dir", metavar="DIR", help="Where --fix writes."),
        click.option("--salvage", is_flag=True, default=None, help="Keep the readable part of a cut file."),
        click.option(
            "--split-by",
            type=click.Choice(["fragment", "genome"]),
            help="What --fix split keeps together. [default: fragment]",
        ),
        click.option(
            "--validation-share",
            type=Number(0, 0.9, min_open=True),
            metavar="SHARE",
            help="Share of each class that --fix split holds out. [default: 0.1]",
        ),
        click.option(
            "--genome-regex", metavar="REGEX", help="Where names hold the genome, for --split-by genome."
        ),
        click.option(
            "--max-n",
            type=Number(0, 1),
            metavar="SHARE",
            help="Share of letters read as N that --fix drop-damaged tolerates. [default: 0.1]",
        ),
        click.option(
            "--seed", type=click.IntRange(0, 2**31 - 1), help="Of --fix split and shuffle. [default: 0]"
        ),
        click.option(
            "--gzip/--no-gzip", default=None, help="Compress what --fix writes. [default: as the input]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_repair(
    options: dict[str, Any],
    dataset: DatasetConfig,
    *,
    quiet: bool,
    write_json: Callable[[str], None] | None,
    echo: bool,
) -> int:
    """Show or carry out a repair of the files of a data set; the exit code."""
    from metagene_doctor.repair.report import describe
    from metagene_doctor.repair.run import look, repair
    from metagene_doctor.report.progress import progress_on_stderr

    plan = _plan(options, dataset)
    output = options["output_dir"]
    with progress_on_stderr(quiet) as stage:
        outcome = repair(plan, Path(output), stage) if output is not None else look(plan, stage)
    if write_json is not None:
        write_json(json.dumps(outcome.to_dict(), indent=2, ensure_ascii=False))
    if echo and not quiet:
        click.echo("\n".join(describe(outcome)))
        if output is None:
            click.echo("Nothing was written; give -o DIR to do it.")
    return 1 if outcome.wrong else 0


def _plan(options: dict[str, Any], dataset: DatasetConfig) -> Any:
    from metagene_doctor.repair.plan import GENOME_REGEX, Plan, Role, in_order, look_at, make_jobs
    from metagene_train.reads.access.data_set import distinct_files

    named: dict[Role, ReadsFiles | None] = {"train": dataset.train_fasta, "val": dataset.val_fasta}
    output = options["output_dir"]
    paths = {role: distinct_files(files, output) for role, files in named.items() if files is not None}
    if not paths:
        raise click.UsageError("--fix needs reads: --fasta FILE")
    repairs = set(options["fix"])
    if options["salvage"]:
        repairs.add("drop-damaged")
    ordered = in_order(tuple(repairs))
    sides = {role: [look_at(path, dataset.file_format) for path in files] for role, files in paths.items()}
    return Plan(
        repairs=ordered,
        jobs=make_jobs(sides, repairs=ordered, gzip=options["gzip"]),
        header_regex=dataset.header_regex,
        classes=_classes(dataset),
        salvage=bool(options["salvage"]),
        largest_unknown=0.1 if options["max_n"] is None else options["max_n"],
        split_by=options["split_by"] or "fragment",
        validation_share=options["validation_share"] or 0.1,
        genome_regex=_regex(options["genome_regex"]) or GENOME_REGEX,
        seed=options["seed"] or 0,
    )


def _classes(dataset: DatasetConfig) -> tuple[int, ...] | None:
    from metagene_train.labels import read_mapping

    if dataset.mapping_tsv is None:
        return None
    mapping = read_mapping(
        dataset.mapping_tsv,
        class_column=dataset.class_column,
        label_column=dataset.label_column,
        tax_column=dataset.tax_column,
    )
    return tuple(sorted(row.class_id for row in mapping.rows))


def _regex(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise click.UsageError(f"--genome-regex is not a regular expression ({error})") from None
    if not groups:
        raise click.UsageError("--genome-regex needs a group that holds the genome: (?P<genome>...)")
    return text
