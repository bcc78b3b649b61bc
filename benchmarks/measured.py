"""What a command costs: processor time and memory of the process and of those it started."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Cost:
    """``cpu_s`` is user and system time, start-up and ended child processes included; ``peak_mib`` the
    largest memory of any one process; ``answer`` what the command printed, if that was JSON."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    answer: Any = None


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command. Raises SystemExit with what it wrote to stderr if it fails.

    The peak of a process starts at what its parent holds, so whoever calls this should be small.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    printed = process.stdout.read()
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{complaint.decode(errors='replace')}")
    try:
        answer = json.loads(printed)
    except ValueError:
        answer = None
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024, answer)


def typical(costs: Sequence[Cost]) -> Cost:
    """Medians of several rounds; the answer is the last one."""
    return Cost(
        median(cost.cpu_s for cost in costs),
        median(cost.wall_s for cost in costs),
        median(cost.peak_mib for cost in costs),
        costs[-1].answer,
    )
