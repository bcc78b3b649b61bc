"""``metagene doctor``: collect facts, judge them, report."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from metagene_doctor import ignoring
from metagene_doctor.checks.next_step import next_step
from metagene_doctor.checks.registry import CHECKS, explain, names, rules, sections, select
from metagene_doctor.checks.repairs import in_one_command
from metagene_doctor.checks.runner import run_checks
from metagene_doctor.cli.card_options import CARD_GB
from metagene_doctor.cli.name_lists import NameList, one_by_one
from metagene_doctor.cli.repair import repair_options, run_repair, wanted
from metagene_doctor.collect import Request, collect
from metagene_doctor.configuration.own_encoder import tokenizer_beside
from metagene_doctor.facts.facts import Facts, Level, RunFacts
from metagene_doctor.finding import Examined, Report, Severity, exit_code
from metagene_doctor.report import html, kept, markdown, sarif, terminal
from metagene_doctor.report.progress import progress_on_stderr
from metagene_doctor.report.quantities import duration, file_size, gib
from metagene_doctor.report.verdict import make_report
from metagene_train.config_file import load_config
from metagene_train.errors import InputError
from metagene_train.reads.access.data_set import title_of
from metagene_train.reads.records.formats import short_name_of

OVERRIDES = {
    "fasta": "dataset.train_fasta",
    "val": "dataset.val_fasta",
    "mapping": "dataset.mapping_tsv",
    "header_regex": "dataset.header_regex",
    "encoder": "model.encoder_path",
    "tokenizer": "tokenizer.name_or_path",
    "index_dir": "dataset.index_dir",
}
"""Option -> the configuration key it overrides."""


@click.command(name="doctor")
@click.option(
    "--fasta",
    multiple=True,
    metavar="FILE",
    help="Training reads: FASTA or FASTQ, plain or compressed; - is standard input (repeatable).",
)
@click.option("--val", multiple=True, metavar="FILE", help="Validation reads (repeatable).")
@click.option("--mapping", metavar="FILE", help="Table of classes: class_id, label_name, optional tax_id.")
@click.option(
    "--config", "config_path", metavar="FILE", help="Run configuration; options given here override it."
)
@click.option("--header-regex", metavar="REGEX", help="Header pattern with a group (?P<class_id>...).")
@click.option("--encoder", metavar="DIR|HUB_ID", help="Encoder to judge.")
@click.option("--tokenizer", metavar="DIR|FILE|HUB_ID", help="Tokenizer to judge.")
@click.option(
    "--gpu", metavar="NAME", help="Judge for this card (rtx4090, a100-80gb, ...), not the one here."
)
@click.option(
    "--gpu-mem", type=CARD_GB, metavar="GB", help="Judge for the smallest card sold with this memory."
)
@click.option(
    "--level",
    type=click.Choice(["quick", "standard", "deep"]),
    default="standard",
    show_default=True,
    help="quick: a sample of large files, in seconds; standard: all reads; deep: also a second reader, "
    "loads on GPU and disk, and every package.",
)
@click.option("--index-dir", metavar="DIR", help="Where read indexes are kept.")
@click.option(
    "--only",
    multiple=True,
    type=NameList(names),
    callback=one_by_one,
    metavar="ID",
    help="Run only this check or scope, or these: T01,T02 (repeatable).",
)
@click.option(
    "--skip",
    multiple=True,
    type=NameList(names),
    callback=one_by_one,
    metavar="ID",
    help="Leave this check or scope out, or these (repeatable).",
)
@click.option(
    "--fail-on",
    type=click.Choice(["warn", "error"]),
    default="error",
    show_default=True,
    help="Severity from which the exit code is 1.",
)
@click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write JSON (- or nothing: to stdout, instead of the text).",
)
@click.option("--html", "html_file", metavar="FILE", help="Write one self-contained HTML file.")
@click.option("--markdown", "markdown_file", metavar="FILE", help="Write Markdown.")
@click.option("--sarif", "sarif_file", metavar="FILE", help="Write SARIF 2.1.0, for code hosts and editors.")
@click.option(
    "--ignore",
    "ignore_file",
    metavar="FILE",
    help="YAML list of checks to ignore, each with id, reason and optional until (a date).",
)
@click.option("--strict", is_flag=True, help="Warnings fail (exit 1), and so do skipped checks (exit 3).")
@click.option(
    "--exit-zero", is_flag=True, help="Report only: findings do not fail, a check that broke off still does."
)
@click.option("--save-facts", metavar="FILE", help="Write what was found out, to judge it again elsewhere.")
@click.option("--facts", "facts_file", metavar="FILE", help="Judge saved facts; look at nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="Also show passes, places and times.")
@click.option(
    "-q", "--quiet", is_flag=True, help="No report and no progress; only the exit code and files asked for."
)
@click.option("--list-checks", is_flag=True, help="List all checks.")
@click.option("--explain", "explained", metavar="ID", help="What a check does, and why.")
@click.option("--schema", is_flag=True, help="JSON schema of --json.")
@repair_options
def command(
    config_path: str | None,
    gpu: str | None,
    gpu_mem: float | None,
    level: Level,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    fail_on: str,
    json_file: str | None,
    html_file: str | None,
    markdown_file: str | None,
    sarif_file: str | None,
    ignore_file: str | None,
    strict: bool,
    exit_zero: bool,
    save_facts: str | None,
    facts_file: str | None,
    verbose: bool,
    quiet: bool,
    list_checks: bool,
    explained: str | None,
    schema: bool,
    **overrides: Any,
) -> int:
    """Check data, labels, split, model, machine and config before the first GPU hour.

    Inputs are only read, and nothing uses the network. Whatever is not given is left out, and the
    report says which option would add it. --fix shows what a repair would change, and with -o DIR
    makes new files.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 usage, config or missing input,
    3 a check could not be finished, 130 interrupted; the same with --json and --quiet. With
    --exit-zero findings are 0, the others stay. With --fix: 0 done and read again, 1 damage that
    cannot be repaired, 2 as above.
    """
    repair = wanted(overrides)
    if list_checks:
        click.echo("\n".join(f"{check.id:4} {check.scope:12} {check.title}" for check in CHECKS))
        return 0
    if explained is not None:
        click.echo(explain(explained))
        return 0
    if schema:
        click.echo(json.dumps(Report.model_json_schema(), indent=2))
        return 0
    if gpu is not None and gpu_mem is not None:
        raise click.UsageError("give --gpu or --gpu-mem, not both")
    if exit_zero:
        _require_no_other_exit(strict, repairs=repair is not None)

    if repair is not None:
        return run_repair(
            repair,
            _run_facts(config_path, overrides).config.dataset,
            quiet=quiet,
            write_json=None if json_file is None else partial(_write, json_file),
            echo=json_file != "-",
        )

    checks = select(only, skip)
    ignores = ignoring.load(ignore_file, [check.id for check in CHECKS]) if ignore_file else ()
    argv = click.get_current_context().obj
    if facts_file is not None:
        facts = _load_facts(facts_file)
    else:
        request = Request(
            run=_run_facts(config_path, overrides),
            level=level,
            gpu=gpu,
            gpu_mem=gpu_mem,
            argv=argv,
            sections=sections(checks),
        )
        with progress_on_stderr(quiet) as stage:
            facts = collect(request, stage)
    if save_facts is not None:
        _write(save_facts, _as_json(facts, indent=1))
    for entry in filter(ignoring.expired, ignores):
        click.echo(
            f"metagene: {ignore_file}:{entry.line}: {entry.id} was ignored until {entry.until}; "
            "it counts again",
            err=True,
        )
    findings = ignoring.apply(ignores, run_checks(checks, facts))
    report = make_report(
        in_one_command(findings, [file.path for file in facts.files]),
        argv=argv,
        examined=Examined(
            bytes=sum(reads.bytes_examined for reads in facts.reads),
            records=sum(reads.records for reads in facts.reads),
        ),
        next_step=next_step(facts, findings),
    )
    if facts_file is None and not only and not skip:
        kept.keep(report, [file.path for file in facts.files], facts.config.dataset)
    heading = describe(facts)
    if json_file is not None:
        _write(json_file, _as_json(report, indent=2))
    if html_file is not None:
        _write(html_file, html.render(report, heading))
    if markdown_file is not None:
        _write(markdown_file, markdown.render(report, heading))
    if sarif_file is not None:
        _write(sarif_file, sarif.render(report, rules(checks)))
    if not quiet and json_file != "-":
        terminal.render(report, console=terminal.ReportConsole(), verbose=verbose, heading=heading)
    if verbose and not quiet and facts.seconds:
        slowest = sorted(facts.seconds.items(), key=lambda part: -part[1])
        click.echo("Time: " + ", ".join(f"{name} {duration(spent)}" for name, spent in slowest), err=True)
    if exit_zero:
        return exit_code(report.findings, None)
    return exit_code(report.findings, Severity("warn" if strict else fail_on), all_judged=strict)


def _require_no_other_exit(strict: bool, *, repairs: bool) -> None:
    """--exit-zero leaves nothing for the options that say what fails, and a repair is no report."""
    context = click.get_current_context()
    if strict:
        raise click.UsageError("give --exit-zero or --strict, not both")
    if context.get_parameter_source("fail_on") is not ParameterSource.DEFAULT:
        raise click.UsageError("give --exit-zero or --fail-on, not both")
    if repairs:
        raise click.UsageError(
            "--exit-zero has no effect with --fix: whether files were repaired is no finding"
        )


def _run_facts(config_path: str | None, overrides: dict[str, Any]) -> RunFacts:
    if "-" in overrides["fasta"] and "-" in overrides["val"]:
        raise click.UsageError("standard input can be read only once: give --fasta - or --val -, not both")
    loaded = load_config(config_path)
    config, given = loaded.config, set(loaded.lines)
    own, overridden = None, []
    if overrides["encoder"] is not None:
        own = tokenizer_beside(overrides["encoder"], config, given)
    for option, dotted in OVERRIDES.items():
        value = overrides[option]
        if isinstance(value, tuple):
            value = value[0] if len(value) == 1 else list(value) or None
        if value is None:
            continue
        overridden.append(dotted)
        section, key = dotted.split(".")
        try:
            setattr(getattr(config, section), key, value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise click.UsageError(f"--{option.replace('_', '-')} {reason}") from None
    if own is not None and overrides["tokenizer"] is None:
        config.tokenizer.name_or_path = own
        overridden.append("tokenizer.name_or_path")
    return RunFacts(config=config, path=config_path, overridden=tuple(overridden), warnings=loaded.warnings)


def _load_facts(path: str) -> Facts:
    try:
        return Facts.model_validate(json.loads(Path(path).read_bytes()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(
            f"{path}: is not a facts file of this version (metagene doctor --save-facts)"
        ) from None


def _as_json(document: BaseModel, indent: int) -> str:
    try:
        return document.model_dump_json(indent=indent)
    except PydanticSerializationError:
        # The name of a file is no UTF-8.
        return json.dumps(document.model_dump(mode="json"), indent=indent)


def _write(path: str, text: str) -> None:
    # Of a file name that is no UTF-8 JSON has the bytes as escapes.
    text = text.encode(errors="backslashreplace").decode()
    if path == "-":
        click.echo(text)
        return
    try:
        Path(path).write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def describe(facts: Facts) -> str:
    """The first line of a report: inputs, card, memory, level."""
    sides = [[file for file in facts.files if file.role == role] for role in ("train", "val")]
    files = [
        title_of([short_name_of(file.path) for file in side])
        + f" ({file_size(sum(file.bytes for file in side))})"
        for side in sides
        if side
    ]
    if facts.mapping is not None:
        files.append(Path(facts.mapping.path).name)
    parts = [f"metagene doctor {facts.tool_version}", "  ".join(files)]
    if facts.target is not None:
        taken = f" for {facts.target.option}" if facts.target.origin == "--gpu-mem" else ""
        parts.append(f"{facts.target.title}{taken}, {gib(facts.target.usable_bytes)} usable")
    if facts.host is not None:
        parts.append(f"{gib(facts.host.memory_ceiling_bytes)} RAM")
    parts.append(f"level {facts.level}")
    return " | ".join(part for part in parts if part)
