"""The GPU a run is judged for, and the memory and the speed that are predicted on it.

`metagene_doctor.forecast` predicts them.
"""

from __future__ import annotations

from typing import Literal

from metagene_doctor.finding import Frozen


class TargetGpu(Frozen):
    """The card a run is meant for: named on the command line, or the one in this machine."""

    title: str
    origin: Literal["--gpu", "--gpu-mem", "this machine"]
    option: str = ""
    """The option and its value, to pass on to other commands."""
    index: int | None = None
    """Number of the device, for the one of this machine."""
    usable_bytes: int
    """What one process may use, CUDA context included, when nothing else is on the card."""
    compute_capability: tuple[int, int] | None = None
    note: str = ""
    """How a size became a card, in a sentence."""


class MemoryFacts(Frozen):
    """Predicted peak of the configured run on one GPU, in GiB (2^30 bytes)."""

    live_gib: float
    """Tensors alive at the peak."""
    reserved_gib: float
    """What torch's allocator holds then."""
    device_gib: float
    """What nvidia-smi shows: reserved plus the CUDA context."""
    margin_gib: float
    """Uncertainty of the prediction, one-sided."""
    phase: str
    breakdown: dict[str, float]
    length: int
    """Tokens per read that the prediction is for."""
    classes: int
    note: str = ""


class SpeedFacts(Frozen):
    """Estimated training speed on that GPU: expected, and the range of the assumptions."""

    reads_per_s: float
    slowest: float
    fastest: float
    limit: str
    """What holds a step back."""
