"""Which part imports which: one way only, imports inside functions included."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(file: Path) -> Iterator[str]:
    """Dotted names of modules; of ``from package import module`` both."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts(package: str) -> dict[str, set[str]]:
    """The packages and modules right under a package, and those that each imports."""
    folder = ROOT / package.replace(".", "/")
    top = {path.stem for path in folder.iterdir() if path.suffix in ("", ".py")}
    edges = defaultdict(set)
    for file in folder.rglob("*.py"):
        own = file.relative_to(folder).parts[0].removesuffix(".py")
        for name in imported(file):
            other = name.removeprefix(f"{package}.").partition(".")[0]
            if name.startswith(f"{package}.") and other in top and other != own:
                edges[own].add(other)
    return edges


@pytest.mark.parametrize(
    "package",
    [
        *("metagene_doctor", "metagene_doctor.checks", "metagene_doctor.memory"),
        *("metagene_train", "metagene_train.reads"),
    ],
)
def test_no_part_of_a_package_imports_itself_through_others(package):
    edges = parts(package)
    edges.pop("__init__", None)
    assert edges
    list(TopologicalSorter(edges).static_order())  # raises CycleError, which names the circle


def test_no_module_imports_itself_through_others():
    files = [
        file for package in ("metagene_doctor", "metagene_train") for file in (ROOT / package).rglob("*.py")
    ]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    edges = {own: {name for name in imported(file) if name in modules} for own, file in modules.items()}
    assert sum(map(len, edges.values())) > len(modules)
    list(TopologicalSorter(edges).static_order())


def test_forecasts_join_facts_with_the_dry_run_from_above():
    edges = parts("metagene_doctor")
    assert {"memory", "tuning"} <= edges["forecast"] and "forecast" in edges["collect"]


def test_facts_know_of_nothing_that_judges_or_predicts():
    assert parts("metagene_doctor")["facts"] == {"finding"}


def test_the_trainer_does_not_know_the_doctor():
    files = list((ROOT / "metagene_train").rglob("*.py"))
    assert len(files) > 20
    assert not [file for file in files for name in imported(file) if name.startswith("metagene_doctor")]
