"""``metagene completion``: the script with which a shell completes commands, options and file names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options and file names.

    bash and zsh take it at the end of ~/.bashrc or ~/.zshrc, fish in
    ~/.config/fish/completions/metagene.fish; it works in the next shell.

    Exit codes: 0 printed, 2 usage.
    """
    root = context.find_root()
    completion = get_completion_class(shell)
    assert completion is not None, f"click knows {shell}"
    click.echo(completion(root.command, {}, "metagene", "_METAGENE_COMPLETE").source())
