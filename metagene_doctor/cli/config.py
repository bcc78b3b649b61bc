"""``metagene config``: write, check, show and compare configs."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Write, check, show and compare configs.

    After the file KEY=VALUE arguments override its values (training.batch_size=8), here as for train
    and estimate.

    Exit codes: 0 done, 2 a config that cannot be used, usage or missing input.
    """


@command.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--preset",
    "name",
    default="default",
    show_default=True,
    metavar="NAME",
    help="Or rtx4090, 12gb ... 80gb.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write  [default: stdout].",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--rules", type=click.Path(path_type=Path), metavar="DIR", help="Directory with a lab's own rules."
)
@click.option("--quiet", "-q", is_flag=True, help="Do not name the file written.")
def init(
    overrides: tuple[str, ...], name: str, output: Path | None, force: bool, rules: Path | None, quiet: bool
) -> int:
    """Write a config with every key, its meaning and its default."""
    from metagene_doctor.configuration.views import initial_text, write_new

    text = initial_text(name, overrides, rules)
    if output is None:
        click.echo(text, nl=False)
        return 0
    write_new(output, text, force=force)
    if not quiet:
        click.echo(f"wrote {output}; next: metagene doctor --config {output}", err=True)
    return 0


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print problems only.")
def check(file: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Say everything that is wrong with FILE, each with its line.

    Exit code 2 when the config cannot be used; warnings are 0.
    """
    from metagene_doctor.configuration.views import check_file

    checked = check_file(file, overrides)
    if as_json:
        click.echo(json.dumps(checked.to_dict(), indent=1))
    else:
        for line in checked.problems if quiet else checked.lines():
            click.echo(line)
    return 2 if checked.problems else 0


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--given", is_flag=True, help="Only the keys that FILE or the command line give.")
@click.option("--json", "as_json", is_flag=True, help="Print {key: {value, origin}} as JSON.")
def show(file: Path, overrides: tuple[str, ...], given: bool, as_json: bool) -> int:
    """Print what a run with FILE would use, each value with its origin.

    FILE can be the name of a preset.
    """
    from metagene_doctor.configuration.views import effective

    shown = effective(str(file), overrides, given=given)
    click.echo(json.dumps(shown.to_dict(), indent=1) if as_json else shown.text(), nl=as_json)
    return 0


@command.command()
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print {key: [a, b]} as JSON.")
def diff(a: str, b: str, as_json: bool) -> int:
    """Print the keys that differ between two files or presets.

    Values are the effective ones: what a run would use, defaults included.
    """
    from metagene_doctor.configuration.views import differences

    changed = differences(a, b)
    if as_json:
        click.echo(json.dumps({key: [old, new] for key, (old, new) in changed.items()}, indent=1))
        return 0
    from metagene_doctor.advice.changes import ConfigChange

    for key, (old, new) in changed.items():
        click.echo(str(ConfigChange(key, old, new)))
    return 0
