"""What mends a finding, said in one way: advice, then a command or a line of the config."""

from __future__ import annotations

from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Remedy


def edit(facts: Facts, advice: str, key: str, value: object) -> Remedy:
    """Advice, the file it is for, and ``dotted.key: value``, which the file takes as it stands."""
    where = facts.run.path or "the config"
    return Remedy(text=f"{advice}, in {where}:", commands=(f"{key}: {value}",))


def run(advice: str, commands: tuple[str, ...]) -> Remedy:
    """Advice and the command that follows it, where there is one (`checks.repairs` has none for a stream)."""
    return Remedy(text=advice + (":" if commands else "."), commands=commands)
