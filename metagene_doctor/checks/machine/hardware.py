"""What the machine around the GPU shows: desktop, kernel log, clocks under load, slot, other GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from metagene_doctor.checks.commands import autotune_command
from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, gib, percent

hardware_finding = partial(Finding, scope="environment")

HARDWARE_XIDS = {
    48: "uncorrectable memory error",
    64: "a faulty memory row could not be replaced",
    74: "error of an NVLink",
    79: "the card fell off the bus (power, seating, heat)",
    94: "contained memory error",
    95: "uncontained memory error",
}
"""Codes of NVIDIA's Xid catalogue that point to the card, its memory or its connections."""

PROGRAM_XIDS = {
    13: "a program's fault in a kernel",
    31: "a program's access to a wrong address",
    43: "a program was stopped",
    45: "a program was ended early",
    63: "a faulty memory row was replaced",
}

SLOWDOWNS = ("heat (driver)", "heat (hardware)", "hardware slowdown", "power brake")
"""Reasons for a lower clock that are no normal state; the power limit alone is."""

SLOWED = 0.2
"""Share of samples under load from which a slowdown counts."""


def no_desktop(facts: Facts) -> Iterator[Finding]:
    """A desktop on the training GPU takes memory that grows with its windows."""
    assert facts.gpu
    for device in facts.gpu.devices:
        if device.display_active:
            yield hardware_finding(
                id="E13",
                severity=Severity.INFO,
                title=f"GPU {device.index} ({device.name}) shows a desktop; {gib(device.used_bytes)} are "
                "in use",
                measured=device.used_bytes,
                unit="bytes used",
                why="That changes with what is on the screen, and a run that fills the rest would stop.",
                remedy=Remedy(
                    text="Log out of the desktop, or find settings for less than is free:",
                    commands=(
                        autotune_command(facts, f"--gpu-mem {max(1, device.free_bytes // 10**9 - 1)}"),
                    ),
                ),
            )


def no_kernel_errors(facts: Facts) -> Iterator[Finding]:
    """The kernel's log since boot has no GPU errors (Xid) that point to the hardware.

    Codes that programs cause, and replaced memory rows, are remarks. Reading the log may need root.
    """
    log = facts.kernel_log
    assert log
    if log.unreadable is not None:
        yield hardware_finding(
            id="E15",
            severity=Severity.SKIP,
            title="No GPU errors in the kernel log",
            why=f"the kernel log cannot be read ({log.unreadable})",
            remedy=Remedy(text="run doctor as a user who may run dmesg"),
        )
        return
    for xid in log.xids:
        hardware = xid.code in HARDWARE_XIDS
        meaning = (
            HARDWARE_XIDS.get(xid.code) or PROGRAM_XIDS.get(xid.code) or "see NVIDIA's list of Xid errors"
        )
        yield hardware_finding(
            id="E15",
            severity=Severity.WARN if hardware else Severity.INFO,
            title=f"GPU {xid.pci} reported Xid {xid.code} ({count(xid.count, 'time')} since boot): {meaning}",
            count=xid.count,
            measured=xid.code,
            unit="Xid",
            examples=(Example(text=xid.text),),
            why="A long run on this card may end with it." if hardware else "Usually not the card's fault.",
            remedy=Remedy(
                text="Have it looked at before a run of days. Its state:",
                commands=("nvidia-smi -q",),
            )
            if hardware
            else None,
        )


def clock_held(facts: Facts) -> Iterator[Finding]:
    """Under 15 seconds of load nothing but the power limit holds the GPU's clock back (level deep)."""
    load = facts.gpu_load
    assert load
    name = f"GPU {load.index} ({load.name})"
    if load.error is not None or not load.samples:
        yield hardware_finding(
            id="E16",
            severity=Severity.SKIP,
            title="GPU holds its clock",
            why=f"{name} could not be put under load ({load.error or 'no samples'})",
        )
        return
    slowed = {reason: load.reasons.get(reason, 0) / load.samples for reason in SLOWDOWNS}
    worst = max(slowed, key=lambda reason: slowed[reason])
    if slowed[worst] < SLOWED:
        return
    clocks = (
        f"Its clock went from {load.first_clock:,} to {load.last_clock:,} MHz: a long run takes longer "
        "by about that ratio."
        if load.first_clock and load.last_clock
        else "A long run takes longer than estimated."
    )
    heat = f", at {load.highest_temperature} °C" if load.highest_temperature else ""
    yield hardware_finding(
        id="E16",
        severity=Severity.WARN,
        title=f"{name} is slowed by {worst} in {percent(slowed[worst])} of the time under load{heat}",
        measured=round(slowed[worst], 3),
        threshold=SLOWED,
        unit="fraction of samples",
        why=clocks,
        remedy=Remedy(
            text="Improve the airflow around the card, then see whether it helped:"
            if worst.startswith("heat")
            else "Check its power supply and cables, then see whether it helped:",
            commands=("nvidia-smi -q -d PERFORMANCE,TEMPERATURE",),
        ),
        confidence="sampled",
    )


def full_width(facts: Facts) -> Iterator[Finding]:
    """The GPU is connected with all the PCIe lanes it has. (The link's speed drops at idle, its width
    does not.)"""
    assert facts.gpu
    for device in facts.gpu.devices:
        width, most = device.pcie_width, device.pcie_max_width
        if width is not None and most is not None and width < most:
            yield hardware_finding(
                id="E18",
                severity=Severity.WARN if width <= most // 4 else Severity.INFO,
                title=f"GPU {device.index} ({device.name}) is connected with {width} of {most} PCIe lanes",
                measured=width,
                threshold=most,
                unit="lanes",
                why="Loading the encoder takes longer, and so do runs on several GPUs.",
                remedy=Remedy(
                    text="Seat the card anew or use another slot, then see whether it helped:",
                    commands=("nvidia-smi --query-gpu=index,pcie.link.width.current --format=csv",),
                )
                if width <= most // 4
                else None,
            )


def equal_gpus(facts: Facts) -> Iterator[Finding]:
    """Several GPUs are alike and reach each other's memory directly."""
    assert facts.gpu
    devices = facts.gpu.devices
    kinds = {(device.name, round(device.total_bytes / 2**30)) for device in devices}
    if len(kinds) > 1:
        smallest = min(devices, key=lambda device: device.total_bytes)
        yield hardware_finding(
            id="E20",
            severity=Severity.WARN,
            title=f"{len(devices)} GPUs of {len(kinds)} kinds: "
            + ", ".join(f"{name} ({size} GiB)" for name, size in sorted(kinds)),
            measured=len(kinds),
            threshold=1,
            unit="kinds",
            why=f"A run on all of them waits for the slowest and must fit the smallest ({smallest.name}, "
            f"{gib(smallest.total_bytes)}).",
            remedy=Remedy(
                text="Use GPUs of one kind in a run:",
                commands=(
                    "export CUDA_VISIBLE_DEVICES="
                    + ",".join(str(device.index) for device in devices if device.name == devices[0].name),
                ),
            ),
        )
    apart = [(first, second) for first, second, direct in facts.gpu.peers if not direct]
    if apart:
        yield hardware_finding(
            id="E20",
            severity=Severity.INFO,
            title=f"{len(apart)} of {count(len(facts.gpu.peers), 'pair')} of GPUs cannot reach each other's "
            "memory directly",
            count=len(apart),
            examples=tuple(Example(text=f"GPU {first} and GPU {second}") for first, second in apart[:5]),
            why="They exchange gradients through host memory, which is slower; LoRA's gradients are small.",
        )
