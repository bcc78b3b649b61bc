"""Options that take one name, or several with commas between them, and can be given more than once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem


class NameList(click.ParamType):
    """``A,B`` is the same as the option given with A and again with B (`one_by_one`).

    ``known`` are the names that a shell offers for the last of them.
    """

    name = "names"

    def __init__(self, known: Callable[[], Sequence[str]]):
        self._known = known

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        names = tuple(name for part in value.split(",") if (name := part.strip()))
        # What holds no name at all stays as it was given, for the command to judge.
        return names or (value,)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in self._known()
            if name.lower().startswith(begun.lower()) and name not in taken
        ]


def one_by_one(
    context: click.Context, parameter: click.Parameter, lists: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """All names of an option, in the order in which they were given."""
    return tuple(name for names in lists for name in names)
