"""The places a run reads and writes: how much room, on which kind of file system, writable or not."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from metagene_doctor.finding import Frozen

Role = Literal["hub cache", "output directory", "index directory", "training reads", "temporary directory"]


class Place(Frozen):
    role: Role
    path: str
    checked: str
    """The nearest directory that exists, which the numbers are of."""
    filesystem: str | None = None
    """Type of file system (ext4, nfs4, tmpfs, ...) from /proc/self/mountinfo."""
    mount_point: str | None = None
    total_bytes: int
    free_bytes: int
    """For this user: without the blocks reserved for root."""
    free_inodes: int | None = None
    """None on file systems that do not count them."""
    writable: bool
    noexec: bool = False
    """Programs on it cannot be run."""


class DiskFacts(Frozen):
    places: tuple[Place, ...]

    def place(self, role: Role) -> Place:
        return next(place for place in self.places if place.role == role)


def collect(directories: dict[Role, Path], mountinfo: Path = Path("/proc/self/mountinfo")) -> DiskFacts:
    """Measure each directory; one that does not exist yet is measured where it would be created."""
    mounts, noexec = read_mounts(mountinfo), noexec_mounts(mountinfo)
    return DiskFacts(places=tuple(_place(role, path, mounts, noexec) for role, path in directories.items()))


def _place(role: Role, path: Path, mounts: dict[str, str], noexec: frozenset[str]) -> Place:
    absolute = path.expanduser().absolute()
    nearest = next(found for found in (absolute, *absolute.parents) if found.exists())
    existing = nearest if nearest.is_dir() else nearest.parent
    usage = os.statvfs(existing)
    mount = mount_of(existing.resolve(), mounts)
    return Place(
        role=role,
        path=str(path),
        checked=str(existing),
        filesystem=mounts.get(mount) if mount else None,
        mount_point=mount,
        total_bytes=usage.f_frsize * usage.f_blocks,
        free_bytes=usage.f_frsize * usage.f_bavail,
        free_inodes=usage.f_favail if usage.f_files else None,
        writable=nearest.is_dir() and os.access(existing, os.W_OK | os.X_OK),
        noexec=mount in noexec,
    )


def read_mounts(mountinfo: Path) -> dict[str, str]:
    """Mount point -> file system type; empty where there is no mountinfo (not Linux)."""
    if not mountinfo.is_file():
        return {}
    mounts = {}
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounts[_mount_point(before)] = after.split(" ", 1)[0]
    return mounts


def noexec_mounts(mountinfo: Path) -> frozenset[str]:
    """Mount points from which programs cannot be run."""
    if not mountinfo.is_file():
        return frozenset()
    lines = (line.partition(" - ")[0] for line in mountinfo.read_text().splitlines())
    return frozenset(_mount_point(line) for line in lines if "noexec" in line.split(" ")[5].split(","))


def _mount_point(before: str) -> str:
    """The fifth field of a line; spaces, tabs and backslashes in it are written as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), before.split(" ")[4])


def mount_of(path: Path, mounts: dict[str, str]) -> str | None:
    return next((str(point) for point in (path, *path.parents) if str(point) in mounts), None)


def hub_cache() -> Path:
    """Where the hub client keeps downloads, by the client's own rules for environment variables."""
    environment = os.environ
    if "HF_HUB_CACHE" in environment:
        return Path(environment["HF_HUB_CACHE"])
    home = environment.get("XDG_CACHE_HOME", "~/.cache")
    return Path(environment.get("HF_HOME", f"{home}/huggingface")).expanduser() / "hub"
