"""Memory that ran out, on the GPU or in the machine: who held it, and in what form."""

from __future__ import annotations

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.symptom import Symptom, gib
from metagene_doctor.finding import Severity

FOREIGN_GIB = 1.0
"""Device memory outside the run that is worth a word; drivers and a desktop keep up to this much."""
FRAGMENTED = 0.10
"""Share of reserved memory lying unused at a failure that speaks of fragmentation."""


def out_of_memory(evidence: Evidence) -> list[Symptom]:
    """The last allocation failure on a GPU: what was asked for, who held the memory, and in what form."""
    if not evidence.device_failures:
        return []
    failure = evidence.device_failures[-1]
    parts = []
    if failure.tried_gib is not None:
        during = f" during {failure.phase}" if failure.phase else ""
        parts.append(f"{failure.device} could not give {gib(failure.tried_gib)} more{during}")
    if failure.capacity_gib is not None and failure.free_gib is not None:
        parts.append(f"{gib(failure.free_gib)} of {gib(failure.capacity_gib)} was free")
    if failure.allocated_gib is not None and failure.unallocated_gib is not None:
        parts.append(
            f"tensors held {gib(failure.allocated_gib)}, the allocator kept another "
            f"{gib(failure.unallocated_gib)} in pieces it could not use"
        )
    foreign = failure.foreign_gib
    if foreign is not None and foreign > FOREIGN_GIB:
        parts.append(f"{gib(foreign)} of the device belonged to something else than this run")
    if failure.limit_gib is not None:
        parts.append(f"the process was limited to {gib(failure.limit_gib)}")
    if len(evidence.device_failures) > 1:
        parts.append(f"{len(evidence.device_failures)} different failures in all, this is the last")
    return [
        Symptom(
            id="A03",
            symptom="oom",
            title="The GPU ran out of memory",
            severity=Severity.ERROR,
            measured=_rounded(needed_gib(evidence)),
            threshold=_rounded(failure.capacity_gib),
            unit="GiB" if failure.capacity_gib is not None else None,
            why="; ".join(parts) or f"message: {failure.text[:160]}",
        )
    ]


def is_fragmented(evidence: Evidence) -> bool:
    """The last failure left more unused reserved memory than it asked for, and more than a tenth."""
    if not evidence.device_failures:
        return False
    failure = evidence.device_failures[-1]
    if failure.unallocated_gib is None or not failure.reserved_gib:
        return False
    return failure.unallocated_gib > FRAGMENTED * failure.reserved_gib and failure.unallocated_gib > (
        failure.tried_gib or 0.0
    )


def host_memory(evidence: Evidence) -> list[Symptom]:
    titles = {
        "allocation": "The machine's memory (not the GPU's) ran out",
        "shared memory": "Shared memory (/dev/shm) ran out while workers passed batches",
        "killed": "The run was killed, most likely by the kernel or the scheduler for its memory",
    }
    fix = {"shared memory": "Start the container with --ipc=host or --shm-size=8g"}
    workers = evidence.config.training.num_workers if evidence.config else None
    return [
        Symptom(
            id="A17",
            symptom="host-memory",
            title=titles[failure.kind],
            severity=Severity.ERROR,
            measured=_rounded(failure.tried_gib),
            threshold=None,
            unit="GiB" if failure.tried_gib is not None else None,
            why=f"line {failure.line}: {failure.text[:160]}",
            fix=fix.get(failure.kind, "Ask for more memory")
            + ("" if workers == 0 else ", or read without workers"),
            command="training.num_workers: 0" if workers is None else "",
        )
        for failure in evidence.host_failures[-1:]
    ]


def needed_gib(evidence: Evidence) -> float | None:
    """GiB the process held plus what it asked for at its last failure: a lower bound of its need."""
    failure = evidence.device_failures[-1]
    held = failure.process_gib if failure.process_gib is not None else failure.reserved_gib
    return None if held is None or failure.tried_gib is None else held + failure.tried_gib


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
