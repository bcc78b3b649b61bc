"""Progress in reads on stderr: a bar on a terminal, one line a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ReadProgress = Callable[[int, int | None], None]
"""Told reads done, and reads in all where that is known."""


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[ReadProgress | None]:
    """Yield a function to tell; None with ``quiet``."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        from metagene_doctor.report.progress import log_lines
        from metagene_doctor.report.quantities import count

        yield log_lines(what, lambda done: count(done, "read"))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("reads"))
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)

    def tell(done: int, total: int | None) -> None:
        bar.start()  # with the first reads: there may be none
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()
