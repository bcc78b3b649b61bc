"""Is the GPU itself free and healthy, as the driver sees it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from metagene_doctor.checks.commands import autotune_command
from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import GIB, count, gib, verb

gpu_finding = partial(Finding, scope="environment")

LISTED = 2
"""Processes that a finding names."""


def enough_free_memory(facts: Facts) -> Iterator[Finding]:
    """What the run is predicted to need must be free now on the GPU of this machine."""
    assert facts.gpu and facts.memory and facts.target
    card = next((gpu for gpu in facts.gpu.devices if gpu.index == facts.target.index), None)
    if card is None:
        return
    device = next((part for part in card.slices if part.name == facts.target.title), card)
    needed = (facts.memory.device_gib + facts.memory.margin_gib) * GIB
    if needed <= device.free_bytes or needed > facts.target.usable_bytes:
        return  # when it cannot fit even an empty card, that is C02's finding
    processes = device.processes or ()
    holders = ", ".join(
        f"pid {process.pid}" + (f" ({gib(process.used_bytes)})" if process.used_bytes else "")
        for process in processes[:LISTED]
    ) + (f" and {len(processes) - LISTED} more" if len(processes) > LISTED else "")
    yield gpu_finding(
        id="E11",
        severity=Severity.ERROR,
        title=f"The run needs {gib(needed)} and only {gib(device.free_bytes)} of {device.name} are free",
        measured=round(device.free_bytes / GIB, 2),
        threshold=round(needed / GIB, 2),
        unit="GiB free",
        why="It would run out of memory: "
        f"{gib(device.used_bytes)} are held by {holders or 'processes that cannot be seen from here'}.",
        remedy=Remedy(
            text="Stop what holds it, or find settings for what is free:",
            commands=(autotune_command(facts, f"--gpu-mem {max(1, int(device.free_bytes / GIB))}"),),
        ),
        confidence="estimated",
    )


def other_processes(facts: Facts) -> Iterator[Finding]:
    """Another process on the GPU takes memory and compute time, and may grow during the run.

    In a container the driver shows the host's process ids, or none: then memory in use without a
    visible owner is what tells.
    """
    assert facts.gpu
    for device in facts.gpu.devices:
        others = [process for process in device.processes or () if not process.mine]
        unexplained = device.used_bytes - (device.reserved_bytes or 0)
        if others:
            yield gpu_finding(
                id="E12",
                severity=Severity.WARN,
                title=f"GPU {device.index} ({device.name}) is used by {count(len(others), 'other process')}",
                count=len(others),
                measured=round(device.used_bytes / GIB, 2),
                unit="GiB used",
                examples=tuple(
                    Example(
                        text=f"pid {process.pid}: "
                        + (gib(process.used_bytes) if process.used_bytes else "memory not shown")
                    )
                    for process in others[:5]
                ),
                why=f"{verb(len(others), 'It shares', 'They share')} the card's speed and may take more "
                "memory while the run is on, which would end it.",
                remedy=Remedy(
                    text=f"See whose {verb(len(others), 'it is', 'they are')}:", commands=("nvidia-smi",)
                ),
            )
        elif unexplained > GIB:
            yield gpu_finding(
                id="E12",
                severity=Severity.WARN,
                title=f"{gib(unexplained)} of GPU {device.index} are used by processes that cannot "
                f"be seen from here",
                measured=round(unexplained / GIB, 2),
                threshold=1,
                unit="GiB used",
                why="They may take more while the run is on, which would end it. A container hides the "
                "processes of its host.",
                remedy=Remedy(text="Outside the container, see whose they are:", commands=("nvidia-smi",)),
            )


def memory_faults(facts: Facts) -> Iterator[Finding]:
    """Uncorrected memory errors and pending row remaps end long runs, or make their numbers wrong."""
    assert facts.gpu
    for device in facts.gpu.devices:
        if device.remap_failed:
            found, what_to_do, command = (
                "faulty memory that it could not replace by spare memory",
                "Have the card replaced. Its record:",
                "nvidia-smi -q -d ROW_REMAPPER",
            )
        elif device.remap_pending:
            found, what_to_do, command = (
                "faulty memory that it will replace by spare memory when it is reset",
                "Reset it while nothing runs on it:",
                f"sudo nvidia-smi --gpu-reset -i {device.index}",
            )
        elif device.uncorrected_ecc_errors:
            errors = count(device.uncorrected_ecc_errors, "memory error")
            found, what_to_do, command = (
                f"{errors} that could not be corrected since the driver was loaded",
                "Do not start a long run on it. Its record:",
                "nvidia-smi -q -d ECC",
            )
        else:
            continue
        yield gpu_finding(
            id="E14",
            severity=Severity.ERROR,
            title=f"GPU {device.index} ({device.name}) has {found}",
            count=device.uncorrected_ecc_errors or None,
            why="A long run would end with an error, or compute wrong numbers.",
            remedy=Remedy(text=what_to_do, commands=(command,)),
        )


def power_capped(facts: Facts) -> Iterator[Finding]:
    """A power limit below the card's default lowers its clocks under load."""
    assert facts.gpu
    for device in facts.gpu.devices:
        limit, default = device.power_limit_w, device.default_power_limit_w
        if limit is not None and default is not None and limit < 0.95 * default:
            yield gpu_finding(
                id="E17",
                severity=Severity.INFO,
                title=f"GPU {device.index} is limited to {limit:.0f} of {default:.0f} W",
                measured=limit,
                threshold=default,
                unit="W",
                why="Training takes longer than estimated for this card.",
                remedy=Remedy(
                    text="If that is not meant, give it its default back:",
                    commands=(f"sudo nvidia-smi -i {device.index} -pl {default:.0f}",),
                ),
            )


def sharing_mode(facts: Facts) -> Iterator[Finding]:
    """MIG splits a card into slices with their own memory; a compute mode may refuse processes."""
    assert facts.gpu
    for device in facts.gpu.devices:
        if device.mig:
            yield gpu_finding(
                id="E19",
                severity=Severity.WARN,
                title=f"GPU {device.index} ({device.name}) is split into MIG slices",
                why=f"A run gets one slice and its memory, not all of the card's {gib(device.total_bytes)}"
                + (f": {device.slices[0].name} where none is named." if device.slices else "."),
                remedy=Remedy(
                    text="Name yours in CUDA_VISIBLE_DEVICES by its UUID, which this lists:"
                    if device.slices
                    else "Give the memory of your slice, which this lists, with --gpu-mem:",
                    commands=("nvidia-smi -L",),
                ),
            )
        if device.compute_mode == "prohibited":
            yield gpu_finding(
                id="E19",
                severity=Severity.ERROR,
                title=f"GPU {device.index} is in compute mode 'prohibited'",
                measured=device.compute_mode,
                threshold="default",
                why="No program may use it, so the run would stop at its start.",
                remedy=Remedy(
                    text="Set the default mode:", commands=(f"sudo nvidia-smi -i {device.index} -c 0",)
                ),
            )
        elif device.compute_mode == "exclusive process" and device.processes:
            yield gpu_finding(
                id="E19",
                severity=Severity.WARN,
                title=f"GPU {device.index} takes one process at a time, and has one",
                measured=device.compute_mode,
                why="The run would be refused until that process ends.",
                remedy=Remedy(text="Wait for that process, which this shows:", commands=("nvidia-smi",)),
            )
