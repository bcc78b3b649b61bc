"""How long a training step should take: the kernel launches of the traced step on a card's roofline.

Each launch costs the larger of its arithmetic (floating-point operations by
``torch.utils.flop_counter``, counted on the traced step) at a share of the card's matrix rate and its
memory traffic (bytes of every tensor it reads or writes) at a share of the card's bandwidth. The host
needs time to launch each one; what it cannot hide behind the card's work sets the pace instead. The
shares are assumptions, below. An estimate with a range, not a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from metagene_doctor.memory.measured.host_rates import HostRates
from metagene_doctor.memory.profiling import capability
from metagene_doctor.memory.sizes import Dimensions
from metagene_doctor.memory.tracing.recording import Phase
from metagene_doctor.memory.tracing.template import Template
from metagene_doctor.memory.tracing.templates import template_of
from metagene_doctor.memory.workload import Workload
from metagene_doctor.rulebook import Gpu


class Range(NamedTuple):
    """An estimate between what hardware reaches at its worst and at its best."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Assumptions:
    """What hardware really reaches: shares of the matrix rate and of the memory bandwidth, and host time
    per launched operation."""

    efficiency: float
    bandwidth: float
    launch_s: float
    draw_s: float = 0.0
    """Per random number; on a card drawing them is no more than writing them."""
    overlap: bool = True
    """Launching goes on while what was launched runs, as on a card; a processor does both itself."""


EXPECTED = Assumptions(efficiency=0.6, bandwidth=0.85, launch_s=10e-6)
FASTEST = Assumptions(efficiency=0.8, bandwidth=0.93, launch_s=6e-6)
SLOWEST = Assumptions(efficiency=0.4, bandwidth=0.7, launch_s=23e-6)
"""The slow end covers the 7-8 iterations per second that users of the guide saw on an RTX 4090 at
micro-batch 1, 128 tokens, rank 4 on q,v with checkpointing."""


class HostShares(NamedTuple):
    """What a processor reaches of what was measured there at best: shares of the matrix rate and of the
    memory bandwidth, multiples of the time of a launch and of a random number."""

    efficiency: float
    bandwidth: float
    launch: float
    draw: float

    def of(self, rates: HostRates, strain: float = 1.0) -> Assumptions:
        """``strain``: how many times as long everything takes for other work on the machine."""
        return Assumptions(
            efficiency=self.efficiency / strain,
            bandwidth=self.bandwidth / strain,
            launch_s=self.launch * rates.launch_s * strain,
            draw_s=self.draw * rates.draw_s * strain,
            overlap=False,
        )


EXPECTED_ON_HOST = HostShares(efficiency=0.9, bandwidth=0.7, launch=1.8, draw=1.05)
FASTEST_ON_HOST = HostShares(efficiency=1.1, bandwidth=1.2, launch=1.05, draw=0.95)
SLOWEST_ON_HOST = HostShares(efficiency=0.7, bandwidth=0.35, launch=2.4, draw=1.25)
"""Chosen on runs of the demo's encoder (`benchmarks/training_speed.py`, docs/memory.md). Small tensors stay
in the caches, which are faster than the memory that was measured. Larger operations than those of the
smallest step start threads, and a trainer loads batches and keeps account."""
DATA_PARALLEL_SHARE = 0.92
"""Share of the throughput of N devices that data parallelism keeps (gradients of adapters only)."""
PACKED_BYTES = {"int8": 1.0, "nf4": 0.516}
"""Of a quantised weight; nf4 is 4 bits and, with double quantisation, 0.127 bits of scale per weight
(arXiv:2305.14314)."""
UNPACKED_BYTES = 2.0


@dataclass(frozen=True)
class TimeEstimate:
    """Speed of training on all devices together, evaluation and data loading not included.

    ``padded_tokens`` is the mean tokens per read that a batch holds, padding included.
    ``teraflops_per_step`` (10^12 operations) is what each device does in one optimizer step, over all
    its micro-batches.
    """

    reads_per_s: Range
    tokens_per_s: Range
    seconds_per_step: Range
    hours_per_epoch: Range | None
    """None when the number of training reads is not known."""
    hours: Range | None
    """All epochs (or ``max_steps``)."""
    teraflops_per_step: float
    padded_tokens: float
    limit: str
    """What holds the step back: arithmetic, memory traffic, or launching kernels."""
    basis: str
    """What it rests on, in words."""


class _Work(NamedTuple):
    """Seconds of one micro-batch by cause; seconds of the optimizer."""

    arithmetic: float
    traffic: float
    drawing: float
    launching: float
    optimizer: float

    @property
    def device(self) -> float:
        return self.arithmetic + self.traffic + self.drawing

    @property
    def limit(self) -> str:
        if self.launching > self.device:
            return "launching kernels"
        by_cause = {
            "arithmetic": self.arithmetic,
            "memory traffic": self.traffic,
            "random numbers (dropout)": self.drawing,
        }
        return max(by_cause, key=by_cause.__getitem__)


def _assumptions(card: Gpu) -> tuple[Assumptions, Assumptions, Assumptions]:
    """Expected, fastest, slowest; the last on a processor with as much other work as it was measured with."""
    if not isinstance(card, HostRates):
        return EXPECTED, FASTEST, SLOWEST
    return (
        EXPECTED_ON_HOST.of(card),
        FASTEST_ON_HOST.of(card),
        SLOWEST_ON_HOST.of(card, card.strain),
    )


def throughput(
    workload: Workload,
    card: Gpu,
    *,
    accumulation: int,
    padded_tokens: float | None = None,
    reads: int | None = None,
    epochs: float = 1,
    max_steps: int | None = None,
    devices: int = 1,
) -> TimeEstimate:
    """Time of ``workload`` on ``card`` with ``accumulation`` micro-batches per optimizer step.

    ``padded_tokens`` is the mean length of a padded batch; None takes the longest (``length``).
    ``devices`` such cards each run the workload on reads of their own, and exchange gradients.
    """
    if workload.precision == "32":
        card = card.model_copy(update={"bf16_tflops": card.fp32_tflops})
    unpacked = _unpacking_seconds(workload, card)
    # What multiplies is 16 bits wide also where the weights are kept in fewer.
    workload = replace(workload, quantization="none")
    template = template_of(workload.structure(), capability(card))
    tokens = float(workload.length if padded_tokens is None else padded_tokens)
    dimensions = workload.dimensions
    batch = workload.micro_batch
    steps: dict[Assumptions, float] = {}
    limit = ""
    expected, fastest, slowest = _assumptions(card)
    for assumed in (expected, fastest, slowest):
        work = _work(
            template, dimensions, tokens, card, assumed, micro_batches=2 if workload.accumulates else 1
        )
        batch_s = max(work.device, work.launching) if assumed.overlap else work.device + work.launching
        steps[assumed] = accumulation * (batch_s + unpacked / assumed.bandwidth) + work.optimizer
        if assumed is expected:
            limit = work.limit
    share = DATA_PARALLEL_SHARE if devices > 1 else 1.0
    step = _scaled(Range(steps[expected], steps[fastest], steps[slowest]), 1 / share)
    per_step = batch * accumulation * devices
    speed = Range(*(per_step / seconds for seconds in (step.expected, step.high, step.low)))
    epoch = None if reads is None else _scaled(step, reads / per_step / 3600)
    if max_steps is not None:
        whole: Range | None = _scaled(step, max_steps / 3600)
    else:
        whole = None if epoch is None else _scaled(epoch, epochs)
    return TimeEstimate(
        reads_per_s=speed,
        tokens_per_s=_scaled(speed, tokens),
        seconds_per_step=step,
        hours_per_epoch=epoch,
        hours=whole,
        teraflops_per_step=_flops(template, dimensions, tokens, workload.accumulates) * accumulation / 1e12,
        padded_tokens=tokens,
        limit=limit,
        basis="estimate: FLOPs and traffic of the traced step on "
        + ("rates measured here" if isinstance(card, HostRates) else "the card's published rates"),
    )


def _unpacking_seconds(workload: Workload, card: Gpu) -> float:
    """Per micro-batch at full bandwidth: each pass reads the packed weights and writes them in 16 bits
    before the products read them. The products themselves are taken to run in 16 bits. int8 unpacks for
    the backward pass only; quantising its inputs is taken to cost as much in the forward pass."""
    if workload.quantization == "none":
        return 0.0
    from metagene_train.encoder import encoder_architecture

    encoder = encoder_architecture(workload.encoder_path, workload.revision)
    head = getattr(encoder, "head_dim", None) or encoder.hidden_size // encoder.num_attention_heads
    attention = 2 * head * (encoder.num_attention_heads + encoder.num_key_value_heads)
    layer = encoder.hidden_size * (attention + 3 * encoder.intermediate_size)
    weights = layer * (workload.encoder_layers or encoder.num_hidden_layers)
    passes = 1 + bool(workload.targets) * (1 + workload.checkpointing)
    moved = weights * (PACKED_BYTES[workload.quantization] + UNPACKED_BYTES)
    return passes * moved / (card.bandwidth_gbs * 1e9)


def _work(
    template: Template,
    dimensions: Dimensions,
    tokens: float,
    card: Gpu,
    assumed: Assumptions,
    micro_batches: int,
) -> _Work:
    flops, traffic, drawn = _at(template, dimensions, tokens)
    computing = flops / (card.bf16_tflops * 1e12 * assumed.efficiency)
    moving = traffic / (card.bandwidth_gbs * 1e9 * assumed.bandwidth)
    in_batch = template.phases != Phase.OPTIMIZER
    often = template.launches / micro_batches * in_batch
    by_arithmetic = computing > moving
    return _Work(
        arithmetic=float((often * computing)[by_arithmetic].sum()),
        traffic=float((often * moving)[~by_arithmetic].sum()),
        drawing=float((often * drawn).sum()) * assumed.draw_s,
        launching=float(often.sum()) * assumed.launch_s,
        optimizer=float((template.launches * moving)[~in_batch].sum())
        + (0 if assumed.overlap else float(template.launches[~in_batch].sum()) * assumed.launch_s),
    )


def _flops(template: Template, dimensions: Dimensions, tokens: float, accumulates: bool) -> float:
    flops, _, _ = _at(template, dimensions, tokens)
    return float((flops * template.launches).sum()) / (2 if accumulates else 1)


def _at(
    template: Template, dimensions: Dimensions, tokens: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FLOPs, bytes and random numbers of each launch at a mean length between two whole ones."""
    below = int(tokens)
    share = tokens - below
    flops = traffic = drawn = np.zeros(len(template.launches))
    for length, weight in ((below, 1 - share), (below + 1, share)):
        if weight:
            at = dimensions._replace(tokens=length)
            flops = flops + weight * template.flops.at(at)
            drawn = drawn + weight * template.drawn.at(at)
            traffic = traffic + weight * np.bincount(
                template.launch_of, weights=template.traffic.at(at), minlength=len(template.launches)
            )
    return flops, traffic, drawn


def _scaled(value: Range, factor: float) -> Range:
    return Range(*(number * factor for number in value))
