"""``metagene``: the command group, its lazy commands, and the exit codes they share."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys

import click

from metagene_doctor.cli.encodings import take_any_letter
from metagene_doctor.cli.file_names import complete_files
from metagene_train import __version__
from metagene_train.errors import MetageneError

COMMANDS = {
    "doctor": "Check data, labels, split, model, machine and config before the first GPU hour.",
    "autotune": "Find the best settings that fit a GPU and write a recommended config.",
    "estimate": "Memory, time and disk of one config, before it runs.",
    "train": "Train a read classifier from a config.",
    "evaluate": "Metric report and pictures of a trained run.",
    "predict": "Classify reads with a trained run.",
    "advise": "Explain what went wrong in a run and what to change.",
    "rules": "The rule book, with a verdict on every claim.",
    "config": "Write, check, show and compare configs.",
    "demo": "The whole journey on bundled real data, on a CPU, in minutes.",
    "completion": "Script for your shell (bash, zsh, fish) that completes commands.",
}
"""Command name -> one line of help, here so that ``--help`` imports no command."""


_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_OF_THE_MACHINE = (*_FORBIDDEN, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a file system says no to; whatever else it says is a bug of ours."""


class LazyGroup(click.Group):
    """Imports ``metagene_doctor.cli.<name>`` only when ``<name>`` runs or is asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "doctor":
            # It scans, in processes that it forks, and needs no algebra: NumPy's library for that starts
            # a thread for each processor, which costs time and does not go together with forking.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        command = importlib.import_module(f"metagene_doctor.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        complete_files(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the command that was probably meant."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near:
            ctx.fail(f"No such command '{args[0]}'. Did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="metagene")
def group() -> None:
    """Pre-flight diagnostics, tuning and training of METAGENE-1 read classifiers.

    Exit codes: 0 fine, 1 findings or a failed run, 2 usage, config or missing input,
    3 a check could not be finished, 130 interrupted.

    NO_COLOR=1 turns colours off.
    """


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; user errors become one message on stderr.

    The words of the command line are the click context's ``obj``.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        result = group.main(args=words, prog_name="metagene", standalone_mode=False, obj=("metagene", *words))
        return result if isinstance(result, int) else 0
    except MetageneError as error:
        click.echo(f"metagene: error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        if _is_file_without_its_option(error):
            click.echo("Reads are given with --fasta, a pattern in quotes: --fasta 'reads/*.fa'.", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("metagene: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: not an error, and nothing left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            return _bug(error)
        # A failed write does not say of which file it was.
        where = error.filename or "a file of the output, of $METAGENE_CACHE or a temporary one"
        click.echo(f"metagene: error: {where}: {error.strerror}", err=True)
        return 2 if error.errno in _FORBIDDEN else 1
    except Exception as error:
        return _bug(error)


def _bug(error: Exception) -> int:
    if os.environ.get("METAGENE_TRACEBACK"):
        raise error
    kind = type(error).__name__
    click.echo(
        f"metagene: internal error: {kind}: {error}\n"
        "This is a bug in metagene; METAGENE_TRACEBACK=1 shows where, for a report.",
        err=True,
    )
    return 3


def _is_file_without_its_option(error: click.ClickException) -> bool:
    """Reads given without --fasta are the likeliest extra argument."""
    return (
        isinstance(error, click.UsageError)
        and error.message.startswith("Got unexpected extra argument")
        and error.ctx is not None
        and any("--fasta" in parameter.opts for parameter in error.ctx.command.params)
    )


def entry_point() -> None:
    take_any_letter()
    sys.exit(main())
