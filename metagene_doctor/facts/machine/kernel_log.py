"""Errors of NVIDIA GPUs in the kernel's log (Xid messages), where this user may read it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from metagene_doctor.finding import Frozen

SOURCES = (("dmesg", "--ctime"), ("journalctl", "--dmesg", "--no-pager", "--quiet"))
"""Commands that print the kernel's log; the second one reads the journal, which some groups may."""

_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)(?:, )?(.*)")


class Xid(Frozen):
    """Messages of one code from one card; ``text`` is the last one."""

    code: int
    pci: str
    count: int
    text: str


class KernelLogFacts(Frozen):
    xids: tuple[Xid, ...] = ()
    unreadable: str | None = None
    """Why the log could not be read."""


def collect(sources: Sequence[Sequence[str]] = SOURCES, timeout_s: float = 10.0) -> KernelLogFacts:
    reasons = []
    for command in sources:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{command[0]}: {getattr(error, 'strerror', None) or 'no answer'}")
            continue
        if done.returncode == 0 and done.stdout:
            return KernelLogFacts(xids=parse(done.stdout))
        said = done.stderr.strip().splitlines()
        reasons.append(f"{command[0]}: {said[-1] if said else 'shows nothing'}")
    return KernelLogFacts(unreadable="; ".join(reasons))


def parse(log: str) -> tuple[Xid, ...]:
    """Xid messages by card and code, in order of their first appearance."""
    found: dict[tuple[str, int], Xid] = {}
    for line in log.splitlines():
        if match := _XID.search(line):
            pci, code = match[1], int(match[2])
            earlier = found.get((pci, code))
            count = earlier.count + 1 if earlier else 1
            found[pci, code] = Xid(code=code, pci=pci, count=count, text=line.strip()[:160])
    return tuple(found.values())
