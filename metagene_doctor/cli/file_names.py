"""Options that take a file as text, completed by a shell like those that take a path."""

from __future__ import annotations

import re

import click
from click.shell_completion import CompletionItem


class FileName(click.types.StringParamType):
    """Text, for which a shell offers files: patterns, ``-`` and ids of the hub are no paths."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


def complete_files(command: click.Command) -> None:
    """Let a shell offer files for every text whose placeholder says that it names one."""
    for parameter in command.params:
        if parameter.type is click.STRING and re.search(r"\b(FILE|DIR)\b", parameter.metavar or ""):
            parameter.type = FileName()
