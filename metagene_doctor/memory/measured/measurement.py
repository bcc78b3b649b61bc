"""What a run on a GPU really took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """Peaks of a real run in GiB. ``out_of_memory`` is torch's message, None when the run finished."""

    gpu: str
    torch: str
    driver: str
    live_gib: float
    allocated_gib: float
    reserved_gib: float
    context_gib: float
    """Of the context alone, before the first tensor."""
    outside_gib: float
    """Outside the allocator at the end: context and kernels loaded on the way."""
    retries: int
    seconds_per_step: float | None
    out_of_memory: str | None
    cap_gib: float | None
    in_use_before_gib: float = 0.0
    """By other processes; theirs can grow while a run is measured."""
    moments: tuple[dict[str, Any], ...] = ()
    """Peaks of loading, of each step and of the evaluation: ``after`` and the three peaks."""

    @property
    def device_gib(self) -> float:
        return self.reserved_gib + self.outside_gib

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"device_gib": self.device_gib}
