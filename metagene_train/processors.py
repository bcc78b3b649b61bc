"""How many processors this process can really keep busy: affinity mask and control group, not the machine."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """At least one."""
    quota = cpu_quota(_PROC / "self" / "cgroup", _CGROUP_ROOT)
    allowed = processors_allowed()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def processors_allowed() -> int:
    """Processors this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(membership: Path, root: Path) -> float | None:
    """Processors' worth of time that the process's control group gets, None without a limit.

    ``membership`` is the file that names the group, ``root`` where groups are mounted. The
    tightest limit on the way up to the root counts.
    """
    groups = cgroup_paths(membership)
    if "" in groups and (root / "cgroup.controllers").is_file():
        limits = [version_2_quota(group / "cpu.max") for group in ancestors(root, groups[""])]
    else:
        path = next((path for names, path in groups.items() if "cpu" in names.split(",")), "/")
        limits = [version_1_quota(group) for group in ancestors(root / "cpu", path) or [root / "cpu"]]
    return min((limit for limit in limits if limit is not None), default=None)


def cgroup_paths(membership: Path) -> dict[str, str]:
    """Controllers (comma-separated; empty in version 2) to the path of the process's group."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return {}
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}


def ancestors(root: Path, path: str) -> list[Path]:
    """A group's directory and its parents up to ``root``, those that are visible here."""
    group = root / path.lstrip("/")
    directories = [group, *group.parents]
    return [directory for directory in directories if directory.is_relative_to(root) and directory.is_dir()]


def version_2_quota(file: Path) -> float | None:
    """``cpu.max`` of one group."""
    quota, _, period = _text(file).strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def version_1_quota(group: Path) -> float | None:
    quota, period = (_text(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
