"""What a dry run records: storages and the order in which they come and go."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np

NO_LAYER = -1
"""Of a storage or event that belongs to no repeated layer."""
TRACED_LAYERS = 4
"""Layers recorded of a stack of identical ones: the first, two middle ones to compare, the last."""
REPEATED_LAYER = 2
"""The recorded layer that stands for all further middle layers."""


class Category(IntEnum):
    """What a storage is for, the split that every memory answer gives."""

    WEIGHTS = 0
    """Parameters that are not trained, and buffers."""
    ADAPTERS = 1
    """Trained parameters: LoRA adapters and the head, or all of them in full fine-tuning."""
    GRADIENTS = 2
    OPTIMIZER = 3
    """Optimizer state."""
    ACTIVATIONS = 4
    """Results of the forward pass (or of its recomputation) kept for the backward pass."""
    TEMPORARIES = 5
    """Everything else, kernel workspaces included."""


class Phase(IntEnum):
    """Where in a run an event happens."""

    LOAD = 0
    FORWARD = 1
    BACKWARD = 2
    OPTIMIZER = 3
    EVALUATION = 4
    SAVE = 5


class Event(NamedTuple):
    """``storage >= 0`` is allocated; ``~storage`` (negative) is freed."""

    storage: int
    phase: Phase
    step: int
    layer: int
    """Repeated layer whose forward or backward pass runs, NO_LAYER outside them."""


class Operation(NamedTuple):
    """A kernel launch: floating-point operations, bytes of each tensor it reads or writes, random numbers."""

    phase: Phase
    layer: int
    flops: int
    tensors: tuple[int, ...]
    drawn: int = 0


@dataclass
class Recording:
    """The raw result of a dry run. Lists with one entry per storage, and one per event.

    ``growth`` has the bytes that each further repeated layer adds to a storage that spans them all
    (such as the list of gradient norms). ``operations`` counts the kernel launches of the last step.
    """

    sizes: list[int] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    growth: dict[int, int] = field(default_factory=dict)
    operations: Counter[Operation] = field(default_factory=Counter)


def with_second_step(recording: Recording) -> Recording:
    """A recording of one training step, with what a second one would add.

    The second step of an optimizer that keeps its state does what the first did, but finds the state
    and the library workspaces there: whatever outlived the first step is not allocated again.
    """
    training = [event for event in recording.events if event.phase <= Phase.OPTIMIZER]
    first = [event for event in training if event.step == 1]
    released = {~event.storage for event in first if event.storage < 0}
    sizes, categories, layers = list(recording.sizes), list(recording.categories), list(recording.layers)
    growth = dict(recording.growth)
    again: dict[int, int] = {}
    second: list[Event] = []
    for event in first:
        storage = event.storage if event.storage >= 0 else ~event.storage
        if storage not in released:
            continue
        if event.storage >= 0:
            again[storage] = len(sizes)
            sizes.append(sizes[storage])
            categories.append(categories[storage])
            layers.append(layers[storage])
            if storage in growth:
                growth[again[storage]] = growth[storage]
        number = again[storage] if event.storage >= 0 else ~again[storage]
        second.append(event._replace(storage=number, step=2))
    after = [event._replace(step=2) for event in recording.events if event.phase > Phase.OPTIMIZER]
    return Recording(sizes, categories, layers, training + second + after, growth, recording.operations)


@dataclass(frozen=True)
class Stream:
    """Allocations of a whole run at full depth: what is replayed and summed.

    ``events`` as `metagene_doctor.memory.replay.allocator.replay` takes them; ``origin[i]`` is the storage
    of the recording that storage ``i`` is a copy of; ``phases`` and ``steps`` have one entry per event.
    """

    origin: np.ndarray
    events: list[int]
    phases: np.ndarray
    steps: np.ndarray

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """``events`` as an array."""
        return np.array(self.events)

    @functools.cached_property
    def storages(self) -> np.ndarray:
        """The storage of each event."""
        return np.where(self.numbers < 0, ~self.numbers, self.numbers)

    @functools.cached_property
    def signs(self) -> np.ndarray:
        """1 for an allocation, -1 for a release."""
        return np.where(self.numbers < 0, -1, 1)
