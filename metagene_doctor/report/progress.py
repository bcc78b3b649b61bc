"""Progress on stderr: a bar on a terminal, one line a minute in a log, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from metagene_doctor.report.quantities import duration, file_size, whole_percent

Advance = Callable[[int, int], None]
StartStage = Callable[[str], Advance]

LOG_INTERVAL_S = 60.0


@contextmanager
def progress_on_stderr(quiet: bool = False) -> Iterator[StartStage]:
    """Gives a function that starts a stage and returns what to call with (bytes done, bytes in all or 0)."""
    console = Console(stderr=True)
    if quiet:
        yield lambda stage: lambda done, total: None
    elif not console.is_terminal:
        yield lambda stage: log_lines(stage, file_size)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:

            def start(stage: str) -> Advance:
                for earlier in bar.task_ids:
                    bar.remove_task(earlier)
                task = bar.add_task(stage, total=None)
                return lambda done, total: bar.update(task, completed=done, total=total or None)

            yield start


def log_lines(stage: str, amount: Callable[[int], str]) -> Callable[[int, int | None], None]:
    """What to tell (done, in all or nothing); a line now and then says how far it is, and how much longer
    it takes or, where that is not known, what ``amount`` makes of what is done."""
    started = time.monotonic()
    last = started

    def advance(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_S and done:
            last = now
            if not total:
                click.echo(f"{stage}: {amount(done)}", err=True)
                return
            left = (now - started) * (total - done) / done
            click.echo(f"{stage}: {whole_percent(done / total)}, about {duration(left)} left", err=True)

    return advance
