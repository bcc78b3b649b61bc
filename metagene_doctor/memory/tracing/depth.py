"""From a recording of four layers to the allocations of any number of identical layers.

Layers of a transformer are alike: they allocate the same sizes in the same order. A recording with
four of them holds the first layer (whose input is special), two middle ones, and the last. `deepen`
shows that the two middle layers did exactly the same, and repeats the second one as often as the depth
asks, forwards in the forward pass and the optimizer, backwards in the backward pass. The result is the
full event stream, event for event what recording all layers would give, so that replaying it gives
reserved bytes too (which do not extrapolate).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from metagene_doctor.memory.tracing.recording import (
    NO_LAYER,
    REPEATED_LAYER,
    TRACED_LAYERS,
    Event,
    Phase,
    Recording,
    Stream,
)
from metagene_train.errors import ConfigError

_FIRST_MIDDLE, _SECOND_MIDDLE, _LAST = 1, REPEATED_LAYER, 3
_FAR_APART = ((0, _SECOND_MIDDLE), (_LAST, _FIRST_MIDDLE))
"""A layer whose pass takes or releases a storage of a layer that is next to it in the recording only."""


class _Run(NamedTuple):
    """Consecutive events of one layer (or of none)."""

    layer: int
    events: list[Event]


class _Reference(NamedTuple):
    """Which storage an event of a middle layer means, wherever that layer stands.

    ``offset`` 0 is the layer's own storage number ``slot``, 1 the next layer's, -1 the previous
    one's; ``at_edge`` is the storage of the recording when that neighbour is the last or the first
    layer.
    """

    offset: int
    slot: int
    at_edge: int


def plain(recording: Recording) -> Stream:
    """The recording as it is, for a model whose layers were all traced."""
    events = list(_in_fixed_order(recording))
    return Stream(
        origin=np.arange(len(recording.sizes)),
        events=[event.storage for event in events],
        phases=np.array([event.phase for event in events]),
        steps=np.array([event.step for event in events]),
    )


def deepen(recording: Recording, depth: int) -> Stream:
    """The stream of ``depth`` layers from a recording of `TRACED_LAYERS`.

    Raises ConfigError when the two middle layers did not allocate alike.
    """
    if depth < TRACED_LAYERS:
        raise ValueError(f"{depth} layers are recorded directly, not extended from {TRACED_LAYERS}")
    runs = list(_runs(recording))
    slots = {layer: _slots(recording, runs, layer) for layer in (_FIRST_MIDDLE, _SECOND_MIDDLE)}
    templates = list(_templates(recording, runs, slots))
    copies = depth - 2
    origin: list[int] = []
    single: dict[int, int] = {}
    copied: dict[tuple[int, int], int] = {}
    events: list[int] = []
    phases: list[Phase] = []
    steps: list[int] = []
    by_slot = sorted(slots[_SECOND_MIDDLE], key=slots[_SECOND_MIDDLE].__getitem__)

    def once(storage: int) -> int:
        """The number of a storage that exists once, or in a copy of a middle layer next to it."""
        layer = recording.layers[storage]
        if layer == _FIRST_MIDDLE:
            return instance(1, slots[_FIRST_MIDDLE][storage])
        if layer == _SECOND_MIDDLE:
            return instance(copies, slots[_SECOND_MIDDLE][storage])
        if storage not in single:
            single[storage] = len(origin)
            origin.append(storage)
        return single[storage]

    def instance(copy: int, slot: int) -> int:
        if (copy, slot) not in copied:
            copied[copy, slot] = len(origin)
            origin.append(by_slot[slot])
        return copied[copy, slot]

    def emit(event: Event, number: int) -> None:
        events.append(number if event.storage >= 0 else ~number)
        phases.append(event.phase)
        steps.append(event.step)

    def emit_copy(run: _Run, references: list[_Reference], copy: int) -> None:
        for event, (offset, slot, at_edge) in zip(run.events, references, strict=True):
            neighbour = copy + offset
            number = instance(neighbour, slot) if 1 <= neighbour <= copies else once(at_edge)
            emit(event, number)

    previous = NO_LAYER
    unused = {_FIRST_MIDDLE: iter(templates), _SECOND_MIDDLE: iter(templates)}
    for run in runs:
        if run.layer in unused:
            references = next(unused[run.layer])
            if run.layer == _FIRST_MIDDLE:
                emit_copy(run, references, 1)
            else:
                rising = previous == _FIRST_MIDDLE
                for copy in range(2, copies + 1) if rising else range(copies, 1, -1):
                    emit_copy(run, references, copy)
        else:
            for event in run.events:
                storage = event.storage if event.storage >= 0 else ~event.storage
                if (run.layer, recording.layers[storage]) in _FAR_APART:
                    raise ConfigError([_UNLIKE.format("an outer layer and one that is not next to it")])
                emit(event, once(storage))
        if run.layer != NO_LAYER:
            previous = run.layer
    return Stream(np.array(origin), events, np.array(phases), np.array(steps))


def multiplicity(layer: int, depth: int) -> int:
    """How many layers of the full model a recorded layer stands for."""
    return depth - TRACED_LAYERS + 1 if layer == _SECOND_MIDDLE else 1


def _runs(recording: Recording) -> Iterator[_Run]:
    """Consecutive events of the same layer; outside a layer's pass the storage's own layer counts."""
    run: _Run | None = None
    for event in _in_fixed_order(recording):
        layer = event.layer
        if layer == NO_LAYER:
            layer = recording.layers[event.storage if event.storage >= 0 else ~event.storage]
        if run is None or run.layer != layer:
            if run is not None:
                yield run
            run = _Run(layer, [])
        run.events.append(event)
    if run is not None:
        yield run


def _in_fixed_order(recording: Recording) -> Iterator[Event]:
    """The events, with storages that go at the same time outside layers in the order they came.

    Autocast drops its cache of weight copies in no particular order. The allocator ends in the same
    state whatever the order of frees without an allocation between them.
    """
    released: list[Event] = []
    for event in recording.events:
        if event.storage < 0 and event.layer == NO_LAYER:
            released.append(event)
            continue
        yield from sorted(released, key=lambda e: (recording.layers[~e.storage], ~e.storage))
        released.clear()
        yield event
    yield from sorted(released, key=lambda e: (recording.layers[~e.storage], ~e.storage))


def _slots(recording: Recording, runs: list[_Run], layer: int) -> dict[int, int]:
    """Storages of one layer, numbered in the order in which they are allocated."""
    allocated = [event.storage for run in runs for event in run.events if event.storage >= 0]
    mine = (storage for storage in allocated if recording.layers[storage] == layer)
    return {storage: slot for slot, storage in enumerate(mine)}


def _templates(
    recording: Recording, runs: list[_Run], slots: dict[int, dict[int, int]]
) -> Iterator[list[_Reference]]:
    """For each pair of runs of the two middle layers, what their events refer to; proves them alike."""
    first = [run for run in runs if run.layer == _FIRST_MIDDLE]
    second = [run for run in runs if run.layer == _SECOND_MIDDLE]
    if len(first) != len(second):
        raise ConfigError([_UNLIKE.format(f"{len(first)} and {len(second)} stretches of events")])
    for one, two in zip(first, second, strict=True):
        if len(one.events) != len(two.events):
            raise ConfigError([_UNLIKE.format(f"{len(one.events)} and {len(two.events)} events in a row")])
        yield [_reference(recording, slots, a, b) for a, b in zip(one.events, two.events, strict=True)]


def _reference(recording: Recording, slots: dict[int, dict[int, int]], one: Event, two: Event) -> _Reference:
    a, b = (event.storage if event.storage >= 0 else ~event.storage for event in (one, two))
    if (one.storage >= 0) != (two.storage >= 0) or recording.sizes[a] != recording.sizes[b]:
        raise ConfigError([_UNLIKE.format(f"{recording.sizes[a]} and {recording.sizes[b]} bytes")])
    own_a, own_b = recording.layers[a] == _FIRST_MIDDLE, recording.layers[b] == _SECOND_MIDDLE
    if own_a and own_b and slots[_FIRST_MIDDLE][a] == slots[_SECOND_MIDDLE][b]:
        return _Reference(0, slots[_SECOND_MIDDLE][b], b)
    if recording.layers[a] == _SECOND_MIDDLE and recording.layers[b] == _LAST:
        return _Reference(1, slots[_SECOND_MIDDLE][a], b)
    if recording.layers[b] == _FIRST_MIDDLE and recording.layers[a] == 0:
        return _Reference(-1, slots[_FIRST_MIDDLE][b], a)
    raise ConfigError([_UNLIKE.format(f"storages of layers {recording.layers[a]} and {recording.layers[b]}")])


_UNLIKE = (
    "repeated_layers: the two middle layers do not allocate alike ({}), so the dry run cannot repeat "
    "one of them; leave repeated_layers out to trace every layer"
)
