"""How much memory the control group of this process has: limit, use, and what the kernel can take back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metagene_train.processors import ancestors, cgroup_paths

UNLIMITED_V1 = 2**60
"""Version 1 writes "no limit" as the largest multiple of the page size in 63 bits."""


@dataclass(frozen=True)
class GroupMemory:
    """The group whose limit binds, and the files that say how full it is now (all in bytes)."""

    version: int
    group: Path
    limit_bytes: int | None

    @property
    def used_bytes(self) -> int | None:
        return number(self.group / ("memory.current" if self.version == 2 else "memory.usage_in_bytes"))

    @property
    def reclaimable_bytes(self) -> int | None:
        """Part of the used memory that is page cache the kernel can drop (inactive file pages)."""
        return field(
            self.group / "memory.stat", "inactive_file" if self.version == 2 else "total_inactive_file"
        )

    @property
    def free_bytes(self) -> int | None:
        """What is left below the limit, page cache counted as free; None without a limit."""
        if self.limit_bytes is None:
            return None
        return max(0, self.limit_bytes - (self.used_bytes or 0) + (self.reclaimable_bytes or 0))


def group_memory(membership: Path, root: Path) -> GroupMemory | None:
    """The tightest limit on the way from this process's group up to the root, version 1 or 2.

    ``membership`` is the file that names the group, ``root`` where groups are mounted. None without
    control groups.
    """
    groups = cgroup_paths(membership)
    if "" in groups and (root / "cgroup.controllers").is_file():
        return _version_2(ancestors(root, groups[""]))
    memory = next((path for names, path in groups.items() if "memory" in names.split(",")), None)
    return None if memory is None else _version_1(root, memory)


def _version_2(groups: list[Path]) -> GroupMemory:
    limited = [(limit, group) for group in groups if (limit := number(group / "memory.max")) is not None]
    limit, owner = min(limited, key=lambda pair: pair[0], default=(None, groups[0]))
    return GroupMemory(2, owner, limit)


def _version_1(root: Path, memory: str) -> GroupMemory:
    group = next((d for d in ancestors(root / "memory", memory)), root / "memory")
    limits = [
        field(group / "memory.stat", "hierarchical_memory_limit"),
        number(group / "memory.limit_in_bytes"),
    ]
    below = (limit for limit in limits if limit is not None and limit < UNLIMITED_V1)
    return GroupMemory(1, group, min(below, default=None))


def number(file: Path) -> int | None:
    """The integer in a control file; None for "max", or where the file is not visible."""
    text = _text(file).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def field(file: Path, key: str) -> int | None:
    """The integer after ``key`` in a control file of several lines."""
    for line in _text(file).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
