"""``metagene rules``: the rule book, with a verdict on every claim."""

from __future__ import annotations

from pathlib import Path

import click

RULES = click.option(
    "--rules", type=click.Path(path_type=Path), metavar="DIR", help="Directory with a lab's own rules."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def command() -> None:
    """The rule book: every advice with its source, and whether the evidence bears it out."""


@command.command("list")
@click.option("--verdict", type=click.Choice(["holds", "contradicted", "unverified"]), help="Only these.")
@RULES
@JSON
def list_rules(verdict: str | None, rules: Path | None, as_json: bool) -> int:
    """One line per rule: verdict, id, title."""
    from metagene_doctor import rulebook
    from metagene_doctor.rulebook import views

    found = [rule for rule in rulebook.load(rules).every() if verdict in (None, rule.verdict)]
    click.echo(views.as_json(found) if as_json else views.listing(found))
    return 0


@command.command()
@click.argument("rule_id", metavar="ID")
@RULES
@JSON
def show(rule_id: str, rules: Path | None, as_json: bool) -> int:
    """One rule: its advice, where it applies, why, and the evidence."""
    from metagene_doctor import rulebook
    from metagene_doctor.rulebook import views

    rule = rulebook.load(rules).rule(rule_id)
    click.echo(views.as_json([rule]) if as_json else views.details(rule))
    return 0


@command.command()
@RULES
@JSON
def verify(rules: Path | None, as_json: bool) -> int:
    """Recompute the verdict of every memory claim.

    The dry run predicts the memory that a rule speaks of. Exit codes: 0 all verdicts hold, 1 one
    differs, 2 usage.
    """
    from metagene_doctor import rulebook
    from metagene_doctor.tuning import claims, claims_text

    checked = claims.verify(rulebook.load(rules))
    click.echo(claims_text.as_json(checked) if as_json else claims_text.text(checked))
    return 0 if all(check.agrees for check in checked) else 1
