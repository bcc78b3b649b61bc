"""Memory, processors and limits that this process really has: the cgroup's, not the machine's."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from metagene_doctor.finding import Frozen
from metagene_train.memory_limits import field, group_memory, number
from metagene_train.processors import ancestors, cgroup_paths, cpu_quota, processors_allowed


class CgroupFacts(Frozen):
    """Limits of the control group this process runs in; None where there is no limit."""

    version: int
    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_reclaimable_bytes: int | None = None
    """Part of the used memory that is page cache the kernel can drop (inactive file pages)."""
    out_of_memory_kills: int | None = None
    cpu_quota: float | None = None
    """Processors' worth of time per period."""
    pids_limit: int | None = None


class HostFacts(Frozen):
    memory_total_bytes: int
    memory_available_bytes: int
    swap_total_bytes: int
    swap_used_bytes: int
    cpus_of_machine: int
    cpus_allowed: int
    """Processors this process may be scheduled on (affinity mask)."""
    cgroup: CgroupFacts | None = None
    shared_memory_total_bytes: int | None = None
    shared_memory_free_bytes: int | None = None
    """Of /dev/shm, through which DataLoader workers hand over batches."""
    open_files_limit: int | None = None
    job_seconds_left: float | None = None
    """Until the scheduler ends this job (SLURM_JOB_END_TIME), at the time of asking."""
    wsl: bool = False
    """A virtual machine of Windows, which sets its memory."""

    @property
    def memory_ceiling_bytes(self) -> int:
        """Most memory this process can ever have."""
        limit = self.cgroup.memory_limit_bytes if self.cgroup else None
        return min(self.memory_total_bytes, limit) if limit is not None else self.memory_total_bytes

    @property
    def memory_free_bytes(self) -> int:
        """Memory a new run can take now, page cache counted as free."""
        if self.cgroup is None or self.cgroup.memory_limit_bytes is None:
            return self.memory_available_bytes
        used = (self.cgroup.memory_used_bytes or 0) - (self.cgroup.memory_reclaimable_bytes or 0)
        return min(self.memory_available_bytes, max(0, self.cgroup.memory_limit_bytes - used))

    @property
    def cpus_usable(self) -> int:
        """Processors that worker processes can really keep busy, at least one."""
        quota = self.cgroup.cpu_quota if self.cgroup else None
        return max(1, min(self.cpus_allowed, int(quota))) if quota is not None else self.cpus_allowed


def collect(
    proc: Path = Path("/proc"), cgroup_root: Path = Path("/sys/fs/cgroup"), shm: Path = Path("/dev/shm")
) -> HostFacts:
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    shared = shutil.disk_usage(shm) if shm.is_dir() else None
    kernel = proc / "version"
    job_end = os.environ.get("SLURM_JOB_END_TIME", "")
    return HostFacts(
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        swap_total_bytes=swap.total,
        swap_used_bytes=swap.used,
        cpus_of_machine=os.cpu_count() or 1,
        cpus_allowed=processors_allowed(),
        cgroup=read_cgroup(proc / "self" / "cgroup", cgroup_root),
        shared_memory_total_bytes=shared.total if shared else None,
        shared_memory_free_bytes=shared.free if shared else None,
        open_files_limit=_open_files_limit(),
        job_seconds_left=float(job_end) - time.time() if job_end.isdigit() else None,
        wsl=kernel.is_file() and "microsoft" in kernel.read_text().lower(),
    )


def _open_files_limit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such limit to ask for.
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def read_cgroup(membership: Path, root: Path) -> CgroupFacts | None:
    """The tightest limits on the way from this process's group up to the root, version 1 or 2.

    A limit of a parent binds its children although their own file says "max", and inside a
    container the group's path may not be visible under ``root``, where the root is then the group.
    """
    if not membership.is_file():
        return None
    memory = group_memory(membership, root)
    if memory is None:
        return None
    events, pids = "memory.oom_control", None
    if memory.version == 2:
        events = "memory.events"
        groups = ancestors(root, cgroup_paths(membership)[""])
        limits = [limit for group in groups if (limit := number(group / "pids.max")) is not None]
        pids = min(limits, default=None)
    return CgroupFacts(
        version=memory.version,
        memory_limit_bytes=memory.limit_bytes,
        memory_used_bytes=memory.used_bytes,
        memory_reclaimable_bytes=memory.reclaimable_bytes,
        out_of_memory_kills=field(memory.group / events, "oom_kill"),
        cpu_quota=cpu_quota(membership, root),
        pids_limit=pids,
    )
