"""What holds a GPU's clock back while it computes, sampled from the driver during a load (level deep)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from threading import Timer
from typing import Any

from metagene_doctor.finding import Frozen

LOAD_SECONDS = 15.0
STARTUP_SECONDS = 120.0
POLL_SECONDS = 0.5

_LOAD = """
import sys, time, torch
index, seconds = int(sys.argv[1]), float(sys.argv[2])
device = torch.device("cuda", index)
left = torch.randn(4096, 4096, device=device, dtype=torch.float16)
right = torch.randn(4096, 4096, device=device, dtype=torch.float16)
torch.cuda.synchronize(device)
print("ready", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(20):
        left @ right
    torch.cuda.synchronize(device)
"""

REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Bits of NVML's clocks event reasons that lower the clock; idle and application clocks are not told."""


class GpuLoadFacts(Frozen):
    """Samples of one GPU under load; clocks in MHz, temperatures in degrees Celsius."""

    index: int
    name: str
    samples: int
    reasons: dict[str, int] = {}
    """Reason -> samples in which it held the clock back."""
    first_clock: int | None = None
    last_clock: int | None = None
    """Means over the first and the last third of the samples."""
    highest_temperature: int | None = None
    error: str | None = None


def collect(index: int = 0, seconds: float = LOAD_SECONDS) -> GpuLoadFacts:
    """Let one GPU multiply matrices in a process of its own and watch its clock.

    ``index`` is the driver's; the process sees that GPU only.
    """
    import os

    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
        name = name if isinstance(name, str) else name.decode()
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(index), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        load = subprocess.Popen(
            [sys.executable, "-c", _LOAD, "0", str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        # A card that hangs never says that it is ready.
        late = Timer(STARTUP_SECONDS, load.kill)
        late.start()
        try:
            assert load.stdout
            started = load.stdout.readline().strip() == "ready"
            late.cancel()
            samples = _watch(pynvml, handle, load, seconds) if started else []
            _, errors = load.communicate(timeout=STARTUP_SECONDS)
        except subprocess.TimeoutExpired:
            return GpuLoadFacts(index=index, name=name, samples=0, error="the load did not end")
        finally:
            late.cancel()
            load.kill()
    finally:
        pynvml.nvmlShutdown()
    if load.returncode == -signal.SIGKILL and not started:
        said = f"the GPU did not answer within {STARTUP_SECONDS:.0f} s"
        return GpuLoadFacts(index=index, name=name, samples=0, error=said)
    if load.returncode != 0:
        said = (errors.strip().splitlines() or [f"exit status {load.returncode}"])[-1]
        return GpuLoadFacts(index=index, name=name, samples=0, error=said)
    return summarise(index, name, samples)


Sample = tuple[int | None, int | None, int | None]
"""(clock, temperature, reason bits)."""


def _watch(pynvml: Any, handle: Any, load: subprocess.Popen[str], seconds: float) -> list[Sample]:
    reasons = getattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or getattr(
        pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None
    )

    def ask(function: Any, *arguments: int) -> int | None:
        try:
            return int(function(handle, *arguments))
        except (pynvml.NVMLError, TypeError):
            return None

    samples: list[Sample] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and load.poll() is None:
        time.sleep(POLL_SECONDS)
        samples.append(
            (
                ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
                ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
                ask(reasons),
            )
        )
    return samples


def summarise(index: int, name: str, samples: list[Sample]) -> GpuLoadFacts:
    """Samples as facts."""
    held: Counter[str] = Counter()
    for _, _, bits in samples:
        held.update(reason for bit, reason in REASONS.items() if bits is not None and bits & bit)
    clocks = [clock for clock, _, _ in samples if clock is not None]
    third = max(1, len(clocks) // 3)
    temperatures = [temperature for _, temperature, _ in samples if temperature is not None]
    return GpuLoadFacts(
        index=index,
        name=name,
        samples=len(samples),
        reasons=dict(held),
        first_clock=round(sum(clocks[:third]) / third) if clocks else None,
        last_clock=round(sum(clocks[-third:]) / third) if clocks else None,
        highest_temperature=max(temperatures, default=None),
    )
