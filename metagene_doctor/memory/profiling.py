"""The memory answer: live, reserved and device peaks of a run, where they are and what they hold.

`profile` answers for any module and training step:

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from metagene_doctor.memory import profile

    def build():
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=16, use_cache=False)).to(torch.bfloat16)
        return model, torch.optim.AdamW(model.parameters())

    def step(model, optimizer):
        tokens = torch.zeros(4, 512, dtype=torch.long)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    answer = profile(build, step, gpu="rtx4090", repeated_layers="model.layers")
    print(answer.device_gib, answer.phase, answer.fits)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metagene_doctor.memory import unseen
from metagene_doctor.memory.replay.allocator import Replay, replay
from metagene_doctor.memory.tracing.recording import TRACED_LAYERS, Category, Phase, Recording, Stream
from metagene_doctor.memory.unseen import Term

if TYPE_CHECKING:
    from metagene_doctor.memory.tracing.recorder import Build, Step
    from metagene_doctor.rulebook import Gpu

GIB = 2**30


class Moment(NamedTuple):
    """The highest live memory of one phase of one step, in GiB. Loading is step 0."""

    step: int
    phase: str
    live_gib: float


@dataclass(frozen=True)
class MemoryProfile:
    """Peak memory of a run on one device, in GiB (2^30 bytes).

    ``live_gib`` is what tensors hold, ``reserved_gib`` what the caching allocator takes for them, and
    ``device_gib`` what nvidia-smi shows for the process: reserved and what lies outside the allocator.
    ``margin_gib`` is the upper bound of its error, ``margin_below_gib`` the lower one. ``phase`` is
    where live memory peaks, and ``breakdown`` splits that peak by purpose: ``weights`` are parameters
    that are not trained and buffers, ``adapters`` all that are trained (in a full fine-tune the model
    itself), then their ``gradients``, the ``optimizer``'s state, ``activations`` kept for the backward
    pass, and ``temporaries``. ``fits`` is None when no card was named.
    """

    live_gib: float
    allocated_gib: float
    reserved_gib: float
    device_gib: float
    margin_gib: float
    margin_below_gib: float
    phase: str
    breakdown: dict[str, float]
    timeline: tuple[Moment, ...]
    terms: tuple[Term, ...]
    usable_gib: float | None = None
    """Memory of the named card that one process may use."""
    retries: int = 0
    """How often the allocator gives cached blocks back to stay within the card: each costs time."""
    note: str = unseen.NOT_MEASURED

    @property
    def fits(self) -> bool | None:
        if self.usable_gib is None:
            return None
        return self.device_gib + self.margin_gib <= self.usable_gib


def profile(
    build: Build,
    step: Step,
    *,
    steps: int = 2,
    gpu: str | Gpu | None = None,
    repeated_layers: str | None = None,
    expandable_segments: bool = False,
) -> MemoryProfile:
    """Peak memory of a training run, from shapes alone: no GPU, no weights, nothing allocated.

    ``build()`` returns ``(module, optimizer)``; it runs under ``torch.device("meta")`` and must not
    load weights or name another device. ``step(module, optimizer)`` runs one whole training step,
    and makes its inputs itself (``torch.zeros`` and the like); it must not look at values
    (``.item()``). Two or more ``steps`` let optimizer state and kept gradients count.

    ``repeated_layers`` is the dotted name of the ``nn.ModuleList`` of identical layers (for Hugging
    Face Llama ``"model.layers"``): four of them are traced and the rest follows exactly, in seconds.
    ``gpu`` is a card of the rule book; it decides attention kernels, workspaces, and ``fits``.

    Raises ConfigError when the layers are not alike or the step looks at values, and InputError for
    an unknown card.
    """
    from metagene_doctor.memory.tracing import depth
    from metagene_doctor.memory.tracing.recorder import count_layers, record

    card = resolve(gpu)
    layers = 0 if repeated_layers is None else count_layers(build, repeated_layers)
    shortened = layers > TRACED_LAYERS
    recording = record(
        build,
        step,
        steps=steps,
        repeated_layers=repeated_layers if shortened else None,
        keep_layers=TRACED_LAYERS if shortened else None,
        compute_capability=capability(card),
    )
    stream = depth.deepen(recording, layers) if shortened else depth.plain(recording)
    sizes = recorded_sizes(recording, stream, layers)
    return summarise(
        stream, sizes, recording.categories, expandable=expandable_segments, usable_gib=usable(card)
    )


def recorded_sizes(recording: Recording, stream: Stream, depth: int) -> np.ndarray:
    """Bytes of each storage of the stream."""
    sizes = np.array(recording.sizes, dtype=np.int64)
    for storage, growth in recording.growth.items():
        sizes[storage] += growth * max(0, depth - TRACED_LAYERS)
    return sizes[stream.origin]


def summarise(
    stream: Stream,
    sizes: np.ndarray,
    categories: Sequence[Category],
    *,
    expandable: bool,
    usable_gib: float | None = None,
    outside: tuple[Term, ...] = unseen.OUTSIDE,
    worst_ratio: float = 1.0,
    note: str = unseen.NOT_MEASURED,
) -> MemoryProfile:
    """The profile of an allocation stream whose storage ``i`` has ``sizes[i]`` bytes.

    ``categories`` has one entry per recorded storage. Reserved memory is what the allocator takes
    when nothing limits it; when that exceeds the card it is replayed with the card's limit, where
    giving back cached blocks may still make it fit. ``outside`` is what lies beyond the allocator,
    ``worst_ratio`` the worst underestimate that measurements on this machine have shown.
    """
    live = np.cumsum(stream.signs * sizes[stream.storages])
    peak = int(np.argmax(live))
    held = np.bincount(
        stream.storages[: peak + 1], weights=stream.signs[: peak + 1], minlength=len(sizes)
    ).astype(bool)
    purpose = np.asarray(categories)[stream.origin]
    split = np.bincount(purpose[held], weights=sizes[held], minlength=len(Category)) / GIB
    breakdown = {category.name.lower(): float(split[category]) for category in Category}

    static = sum(breakdown[name] for name in ("weights", "adapters", "optimizer"))
    outside_gib = sum(term.gib for term in outside)
    result = replay(stream.numbers, sizes, expandable=expandable)
    dynamic = unseen.allocator_term(
        max(0.0, result.reserved / GIB - static), (worst_ratio - 1) * result.reserved / GIB
    )
    margin = dynamic.high + sum(term.high - term.gib for term in outside)
    if usable_gib is not None and result.reserved / GIB + outside_gib + margin > usable_gib:
        limit = int((usable_gib - outside_gib - margin) * GIB)
        result = _within(stream, sizes.tolist(), limit, live[peak], expandable) or result
    return MemoryProfile(
        live_gib=float(live[peak]) / GIB,
        allocated_gib=result.allocated / GIB,
        reserved_gib=result.reserved / GIB,
        device_gib=result.reserved / GIB + outside_gib,
        margin_gib=margin,
        margin_below_gib=-dynamic.low + sum(term.gib - term.low for term in outside),
        phase=Phase(int(stream.phases[peak])).name.lower(),
        breakdown=breakdown,
        timeline=_timeline(stream, live),
        terms=(*outside, dynamic),
        usable_gib=usable_gib,
        retries=result.retries,
        note=note,
    )


def _within(stream: Stream, sizes: list[int], limit: int, live: int, expandable: bool) -> Replay | None:
    """The replay under a limit, None when it runs out of memory."""
    if live > limit:
        return None
    capped = replay(stream.events, sizes, capacity=limit, expandable=expandable)
    return capped if capped.failed_at is None else None


def _timeline(stream: Stream, live: np.ndarray) -> tuple[Moment, ...]:
    """Peak of each stretch of events with the same step and phase, in order, and what is held while a
    checkpoint is saved, which copies to the host and allocates nothing."""
    key = stream.steps * len(Phase) + stream.phases
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    peaks = np.maximum.reduceat(live, starts)
    moments: dict[tuple[int, str], float] = {}
    for start, peak in zip(starts, peaks, strict=True):
        at = (int(stream.steps[start]), Phase(int(stream.phases[start])).name.lower())
        moments[at] = max(moments.get(at, 0.0), float(peak) / GIB)
    moments[int(stream.steps.max()), Phase.SAVE.name.lower()] = float(live[-1]) / GIB
    return tuple(Moment(step, phase, gib) for (step, phase), gib in moments.items())


def resolve(gpu: str | Gpu | None) -> Gpu | None:
    """The card of that name. Raises InputError when the rule book has none."""
    if not isinstance(gpu, str):
        return gpu
    from metagene_doctor import rulebook

    return rulebook.load().gpu(gpu)


def capability(card: Gpu | None) -> tuple[int, int]:
    from metagene_doctor.memory.tracing.cuda_semantics import DEFAULT_CAPABILITY

    if card is None:
        return DEFAULT_CAPABILITY
    major, minor = card.compute_capability.split(".")
    return int(major), int(minor)


def usable(card: Gpu | None) -> float | None:
    return None if card is None else card.usable_gib
