"""Progress in reads or bytes on stderr: a bar on a terminal, one line a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Told = Callable[[int, int | None], None]
"""Told what is done, and what there is in all where that is known."""


@contextmanager
def progress_bar(what: str, *, quiet: bool, in_bytes: bool = False) -> Iterator[Told | None]:
    """Yield a function to tell reads, or bytes of their files; None with ``quiet``."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        from metagene_doctor.report.progress import log_lines
        from metagene_doctor.report.quantities import count, file_size

        yield log_lines(what, file_size if in_bytes else lambda done: count(done, "read"))
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    amount = (DownloadColumn(),) if in_bytes else (MofNCompleteColumn(), TextColumn("reads"))
    columns = (TextColumn("{task.description}"), BarColumn(), *amount)
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)

    def tell(done: int, total: int | None) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()  # with the first reads: there may be none

    try:
        yield tell
    finally:
        bar.stop()
