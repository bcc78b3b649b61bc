"""Which part imports which: one way only, imports inside functions included."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported(file: Path) -> Iterator[str]:
    """Dotted names of modules; of ``from package import module`` both."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts() -> dict[str, set[str]]:
    """The packages and modules right under metagene_doctor, and those that each imports."""
    top = {path.stem for path in (ROOT / "metagene_doctor").iterdir() if path.suffix in ("", ".py")}
    edges = defaultdict(set)
    for file in (ROOT / "metagene_doctor").rglob("*.py"):
        own = file.relative_to(ROOT / "metagene_doctor").parts[0].removesuffix(".py")
        for name in imported(file):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package == "metagene_doctor" and other in top and other != own:
                edges[own].add(other)
    return edges


def test_no_part_of_the_doctor_imports_itself_through_others():
    edges = parts()
    list(TopologicalSorter(edges).static_order())  # raises CycleError, which names the circle
    assert {"memory", "tuning"} <= edges["forecast"] and "forecast" in edges["collect"]


def test_facts_know_of_nothing_that_judges_or_predicts():
    assert parts()["facts"] == {"finding"}


def test_the_trainer_does_not_know_the_doctor():
    files = list((ROOT / "metagene_train").rglob("*.py"))
    assert len(files) > 20
    assert not [file for file in files for name in imported(file) if name.startswith("metagene_doctor")]
