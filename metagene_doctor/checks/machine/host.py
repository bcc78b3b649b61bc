"""Will memory, shared memory, processors and file limits of this machine carry the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from metagene_doctor.checks.commands import train_command
from metagene_doctor.checks.remedies import edit
from metagene_doctor.checks.sizes import host_memory_bytes, reads_seen, worker_queue_bytes
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.machine.host import HostFacts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import GIB, count, duration, file_size, gib, verb

host_finding = partial(Finding, scope="host")

LITTLE_MEMORY = 0.1
"""Share of the machine's memory: that much swapped out while less is left means trouble."""

LISTED = 0.02
"""Share of the predicted memory below which a part is not named."""

FILES_OF_A_PROCESS = 64
"""Open files of a Python process with torch, before any worker (measured: about 20)."""


def memory_ceiling(facts: Facts) -> Iterator[Finding]:
    """The memory limit that counts is the container's or job's control group, not the machine's."""
    host = facts.host
    assert host
    if host.memory_ceiling_bytes < host.memory_total_bytes:
        yield host_finding(
            id="H01",
            severity=Severity.INFO,
            title=f"This process may use {gib(host.memory_ceiling_bytes)} of the machine's "
            f"{gib(host.memory_total_bytes)}",
            measured=round(host.memory_ceiling_bytes / GIB, 2),
            threshold=round(host.memory_total_bytes / GIB, 2),
            unit="GiB",
            why="The container or job sets the limit; beyond it the kernel kills the run.",
        )
    if host.wsl:
        yield host_finding(
            id="H01",
            severity=Severity.INFO,
            title=f"This is WSL with {gib(host.memory_total_bytes)} of memory",
            measured=round(host.memory_total_bytes / GIB, 2),
            unit="GiB",
            why="Windows gives WSL half of its memory unless told otherwise.",
            remedy=Remedy(
                text="If that is too little, set it in .wslconfig on the Windows side, under [wsl2]:",
                commands=(f"memory={round(1.5 * host.memory_total_bytes / GIB)}GB",),
            ),
        )
    kills = host.cgroup.out_of_memory_kills if host.cgroup else None
    if kills:
        yield host_finding(
            id="H01",
            severity=Severity.WARN,
            title=f"The kernel has already killed {count(kills, 'process')} here for lack of memory",
            count=kills,
            why="Counted since this container or job started; a run that needs as much will be killed too.",
            remedy=Remedy(
                text="Start it with more memory:", commands=(_more_memory(host, 2 * _limit_gib(host)),)
            ),
        )


def host_memory(facts: Facts) -> Iterator[Finding]:
    """Predicted host memory of the run against what there is.

    Counted: the Python process (measured), order and labels of the reads (16 bytes each), workers,
    and the encoder when it runs on the CPU. The read index is memory-mapped and not counted.
    """
    host = facts.host
    assert host
    on_cpu = facts.config.device == "cpu" or facts.target is None
    parts = host_memory_bytes(
        facts.config,
        sum(reads.records for reads in facts.reads),
        facts.encoder.architecture if facts.encoder else None,
        on_cpu,
    )
    needed = sum(parts.values())
    largest = max(parts, key=lambda name: parts[name])
    listed = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size >= LISTED * needed)
    if needed <= host.memory_free_bytes:
        severity = Severity.PASS
    else:
        severity = Severity.ERROR if needed > host.memory_ceiling_bytes else Severity.WARN
    no_gpu = largest == "encoder on the CPU"
    if no_gpu and severity is not Severity.PASS and facts.config.device != "cpu":
        severity = Severity.INFO  # without a GPU nobody trains this encoder here; E03 says there is none
    yield host_finding(
        id="H02",
        severity=severity,
        title=f"The run needs about {gib(needed)} of host memory, {gib(host.memory_free_bytes)} are free",
        measured=round(needed / GIB, 2),
        threshold=round(host.memory_free_bytes / GIB, 2),
        unit="GiB",
        why=("" if severity is Severity.PASS else "Short of it a run is killed. ") + f"{listed}.",
        remedy=None
        if severity is Severity.PASS
        else Remedy(text="Run it on a machine with a GPU: the encoder is then loaded straight to the card.")
        if no_gpu and severity is Severity.INFO
        else _room_for(host, needed, largest),
        confidence="estimated",
    )


def _room_for(host: HostFacts, needed: int, largest: str) -> Remedy:
    """More memory from who limits it, or from who holds it; else only another machine has it."""
    limited = host.memory_ceiling_bytes < host.memory_total_bytes or host.job_seconds_left is not None
    if limited:
        command = _more_memory(host, math.ceil(1.25 * needed / GIB))
        return Remedy(text=f"Most of it is {largest}. Start it with more memory:", commands=(command,))
    if needed <= host.memory_total_bytes:
        advice = f"Most of it is {largest}. Stop what holds memory here, which this shows:"
        return Remedy(text=advice, commands=("ps aux --sort=-rss | head",))
    return Remedy(text=f"Most of it is {largest}. Use a machine with more memory.")


def _limit_gib(host: HostFacts) -> int:
    return math.ceil(host.memory_ceiling_bytes / GIB)


def _more_memory(host: HostFacts, gibibytes: int) -> str:
    """The option of the scheduler whose job this is, else of a container."""
    if host.job_seconds_left is not None:
        return f"sbatch --mem={gibibytes}G"
    return f"docker run --memory={gibibytes}g"


def swapping(facts: Facts) -> Iterator[Finding]:
    """A machine that has swapped out much of its memory and has little left will crawl."""
    host = facts.host
    assert host
    short = host.memory_available_bytes < LITTLE_MEMORY * host.memory_total_bytes
    if short and host.swap_used_bytes > LITTLE_MEMORY * host.memory_total_bytes:
        yield host_finding(
            id="H04",
            severity=Severity.WARN,
            title=f"The machine is swapping: {gib(host.swap_used_bytes)} are swapped out, "
            f"{gib(host.memory_available_bytes)} of memory are left",
            measured=round(host.swap_used_bytes / GIB, 2),
            threshold=round(LITTLE_MEMORY * host.memory_total_bytes / GIB, 2),
            unit="GiB swapped out",
            why="Training would wait for the disk most of the time.",
            remedy=Remedy(
                text="Stop what holds the memory, which this shows:", commands=("ps aux --sort=-rss | head",)
            ),
        )


def time_left(facts: Facts) -> Iterator[Finding]:
    """The scheduler's time limit of this job against the estimated training time."""
    host, speed, train = facts.host, facts.speed, facts.train
    assert host and speed and train
    needed = reads_seen(train.accepted, facts.config) / speed.reads_per_s
    if host.job_seconds_left is not None and not train.partial and needed > host.job_seconds_left:
        yield host_finding(
            id="H07",
            severity=Severity.WARN,
            title=f"This job ends in {duration(max(0, host.job_seconds_left))}, "
            f"training takes about {duration(needed)}",
            measured=round(host.job_seconds_left),
            threshold=round(needed),
            unit="s",
            why="The scheduler would end the run before it is done.",
            remedy=Remedy(
                text="Ask for more time, or go on from the last checkpoint in a second job:",
                commands=(train_command(facts, resume=True),),
            ),
            confidence="estimated",
        )


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """Workers hand batches over through /dev/shm; when it is full they die with 'Bus error'."""
    host, training = facts.host, facts.config.training
    assert host
    if training.num_workers == 0 or host.shared_memory_free_bytes is None:
        return
    needed = 2 * worker_queue_bytes(facts.config)
    if needed > host.shared_memory_free_bytes:
        yield host_finding(
            id="H03",
            severity=Severity.ERROR,
            title=f"/dev/shm has {file_size(host.shared_memory_free_bytes)} free, "
            f"{count(training.num_workers, 'worker')} "
            f"{verb(training.num_workers, 'needs', 'need')} up to {file_size(needed)}",
            measured=host.shared_memory_free_bytes,
            threshold=needed,
            unit="bytes",
            why="Training would die with 'Bus error' once their queue fills.",
            remedy=edit(
                facts,
                "Start the container with --ipc=host, or use fewer workers",
                "training.num_workers",
                training.num_workers * host.shared_memory_free_bytes // needed,
            ),
            confidence="estimated",
        )


def open_files(facts: Facts) -> Iterator[Finding]:
    """Each batch in flight holds one open file per tensor under torch's default sharing strategy."""
    host, training = facts.host, facts.config.training
    assert host
    needed = FILES_OF_A_PROCESS + training.num_workers * (8 + 3 * 2 * training.prefetch_factor)
    if host.open_files_limit is not None and 0 <= host.open_files_limit < needed:
        yield host_finding(
            id="H05",
            severity=Severity.WARN,
            title=f"Only {count(host.open_files_limit, 'file')} may be open at once, the run may "
            f"need {needed:,}",
            measured=host.open_files_limit,
            threshold=needed,
            unit="open files",
            why="Training would stop with 'Too many open files'.",
            remedy=Remedy(text="Raise the limit in the shell that trains:", commands=("ulimit -n 65536",)),
            confidence="estimated",
        )


def workers_fit(facts: Facts) -> Iterator[Finding]:
    """More workers than usable processors (affinity and control-group quota) only take turns."""
    host, workers = facts.host, facts.config.training.num_workers
    assert host
    if workers > host.cpus_usable:
        yield host_finding(
            id="H06",
            severity=Severity.WARN,
            title=f"{count(workers, 'worker')} on {count(host.cpus_usable, 'usable processor')}",
            measured=workers,
            threshold=host.cpus_usable,
            unit="workers",
            why=f"They take turns, which is slower than fewer workers (the machine has "
            f"{host.cpus_of_machine}, this process may use {host.cpus_usable}).",
            remedy=edit(
                facts, "Use no more workers than processors", "training.num_workers", host.cpus_usable
            ),
        )


def thread_settings(facts: Facts) -> Iterator[Finding]:
    """Variables that make workers fight for processors, or leave a CPU run with one thread."""
    environment, host = facts.environment, facts.host
    assert environment and host
    workers = facts.config.training.num_workers
    if environment.variables.get("TOKENIZERS_PARALLELISM", "").lower() in ("1", "true") and workers > 1:
        yield host_finding(
            id="H08",
            severity=Severity.INFO,
            title=f"TOKENIZERS_PARALLELISM is on, with {count(workers, 'worker')}",
            why="Every worker then starts a thread per processor, and they slow each other.",
            remedy=Remedy(text="Switch it off:", commands=("export TOKENIZERS_PARALLELISM=false",)),
        )
    threads = environment.variables.get("OMP_NUM_THREADS")
    if threads == "1" and host.cpus_usable > 1 and facts.config.device == "cpu":
        yield host_finding(
            id="H08",
            severity=Severity.INFO,
            title=f"OMP_NUM_THREADS=1 leaves {host.cpus_usable - 1} of {host.cpus_usable} processors idle",
            measured=1,
            threshold=host.cpus_usable,
            unit="threads",
            why="The config trains on the CPU, and torch starts no more threads than that.",
            remedy=Remedy(text="Use all of them:", commands=(f"export OMP_NUM_THREADS={host.cpus_usable}",)),
        )
