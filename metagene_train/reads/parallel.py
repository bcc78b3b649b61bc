"""The same work on many items in several processes, with the results in the order of the items."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from metagene_train.errors import RunError
from metagene_train.processors import usable_processors

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Item = TypeVar("Item")
Result = TypeVar("Result")

CAN_FORK = sys.platform == "linux"
"""Only a forked process starts without importing everything again, and only there is it safe."""


WORTHWHILE_FROM_BYTES = 1 << 28
"""Smaller files are read in about the time that starting processes and collecting their results takes."""


def worthwhile_processes(path: Path) -> int:
    """Processes to scan a file with: all usable processors, or one for small files and streams."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return usable_processors() if size >= WORTHWHILE_FROM_BYTES else 1


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Generator[Result, None, None]:
    """Results of ``work`` for every item.

    Each process takes every so-manieth item and waits with a result until it is taken, so no more
    than one result a process is held. Raises what ``work`` raises, and RunError when a process is
    killed. There are no threads: they and forking do not go together.
    """
    import multiprocessing

    context = multiprocessing.get_context("fork")
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        for number in range(min(processes, len(items))):
            receiving, sending = context.Pipe(duplex=False)
            parents = [receiving, *(connection for _, connection in workers)]
            mine = items[number::processes]
            process: BaseProcess = context.Process(
                target=_work_through, args=(work, mine, sending, parents), daemon=True
            )
            process.start()
            sending.close()
            workers.append((process, receiving))
        for place in range(len(items)):
            yield _received(workers[place % len(workers)][1])
    finally:
        for process, receiving in workers:
            receiving.close()
            process.terminate()
            process.join()


def _work_through(
    work: Callable[[Item], Result], items: Sequence[Item], sending: Connection, parents: list[Connection]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for connection in parents:
        connection.close()
    with suppress(BrokenPipeError):  # the parent is gone
        for item in items:
            try:
                outcome: tuple[Result | None, Exception | None] = work(item), None
            except Exception as error:
                outcome = None, error
            sending.send(outcome)


def _received(receiving: Connection) -> Result:  # type: ignore[type-var]
    try:
        result, error = receiving.recv()
    except EOFError:
        raise RunError(
            "a process that read a part of the file was killed: is there too little memory?"
        ) from None
    if error:
        raise error
    return result
