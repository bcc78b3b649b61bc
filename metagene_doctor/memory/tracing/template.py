"""One recording that stands for every workload of its structure: its sizes are formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metagene_doctor.memory.sizes import Dimensions, Formulas
from metagene_doctor.memory.tracing.recording import Category, Stream

Capability = tuple[int, int]
"""A card's compute capability, major and minor."""


@dataclass(frozen=True)
class Template:
    """The allocations and kernel launches of every workload of one structure, at full depth."""

    stream: Stream
    categories: tuple[Category, ...]
    sizes: Formulas
    growth: np.ndarray
    """Bytes that a storage of the recording gains with the layers that were not traced."""
    flops: Formulas
    traffic: Formulas
    """Bytes read or written, one entry per tensor of a launch."""
    drawn: Formulas
    """Random numbers that a launch draws."""
    launch_of: np.ndarray
    """Which launch each entry of ``traffic`` belongs to."""
    launches: np.ndarray
    """How often each launch happens in one training step."""
    phases: np.ndarray
    """The phase of each launch."""

    def storage_sizes(self, dimensions: Dimensions) -> np.ndarray:
        """Bytes of each storage of the stream."""
        return (self.sizes.at(dimensions) + self.growth)[self.stream.origin]

    def kept(self, category: Category, dimensions: Dimensions) -> int:
        """Bytes of the storages of one purpose that live until the end of the run."""
        sizes = self.storage_sizes(dimensions)
        last = np.bincount(self.stream.storages, weights=self.stream.signs, minlength=len(sizes))
        purpose = np.asarray(self.categories)[self.stream.origin]
        return int(sizes[(last > 0) & (purpose == category)].sum())
