"""How fast a training step should be: arithmetic and memory traffic against a device's rates.

An estimate, labelled as one wherever it is shown. A micro-batch costs the larger of what the device
computes and what the host needs to launch it. The device multiplies (weights are frozen, so a pass
backward through activations costs what a pass forward does; checkpointing adds a pass forward) and
moves memory: every pass reads all weights once, and element-wise operations read and write
activations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metagene_doctor.tuning.device import Device
from metagene_train.config import RunConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BYTES_PER_WEIGHT = {"none": 2.0, "int8": 1.0, "nf4": 0.53}
"""nf4: 4 bits and, with double quantisation, 0.127 bits of scale per weight (arXiv:2305.14314)."""
UNPACKED_BYTES = 2.0
"""A quantised weight is written once in 16 bits before the product of each pass reads it."""
PER_HIDDEN, PER_FFN, PER_ADAPTED = 40, 8, 4
"""Reads and writes of element-wise operations in one layer forward, in elements per token: per hidden
unit (two norms computed in fp32, rotary embedding, two residuals, attention input and output), per
unit of the MLP (activation, product), and per input and output unit of an adapted projection (dropout,
sum). Counted from the operations of a Llama layer with PEFT, run one by one."""
OPERATIONS_PER_LAYER, OPERATIONS_PER_ADAPTER = 45, 8
"""Operations launched for one layer forward, counted the same way; backward launches twice as many."""


@dataclass(frozen=True)
class Assumptions:
    """What hardware really reaches: share of the matrix rate, and host time per launched operation."""

    efficiency: float
    launch_s: float


EXPECTED = Assumptions(efficiency=0.6, launch_s=10e-6)
FASTEST = Assumptions(efficiency=0.8, launch_s=6e-6)
SLOWEST = Assumptions(efficiency=0.4, launch_s=17e-6)
"""The slow end reproduces the 7-8 iterations per second that users of the guide saw on an RTX 4090 at
micro-batch 1, 128 tokens, rank 4 on q,v with checkpointing: about 17 microseconds per operation."""
BANDWIDTH_SHARE = 0.85
"""Share of the memory bandwidth that streaming kernels reach."""
DATA_PARALLEL_SHARE = 0.92
"""Share of the throughput of N devices that data parallelism keeps (gradients of adapters only)."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of a Llama-like encoder, in units."""

    layers: int
    hidden: int
    ffn: int
    query: int
    key_value: int
    context: int
    vocabulary: int

    @classmethod
    def of(cls, encoder: PretrainedConfig, layers: int | None = None) -> Architecture:
        heads = encoder.num_attention_heads
        head = getattr(encoder, "head_dim", None) or encoder.hidden_size // heads
        return cls(
            layers=layers or encoder.num_hidden_layers,
            hidden=encoder.hidden_size,
            ffn=encoder.intermediate_size,
            query=heads * head,
            key_value=(getattr(encoder, "num_key_value_heads", None) or heads) * head,
            context=encoder.max_position_embeddings,
            vocabulary=encoder.vocab_size,
        )

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Linear layers of one block: name -> units in, units out."""
        return {
            "q_proj": (self.hidden, self.query),
            "k_proj": (self.hidden, self.key_value),
            "v_proj": (self.hidden, self.key_value),
            "o_proj": (self.query, self.hidden),
            "gate_proj": (self.hidden, self.ffn),
            "up_proj": (self.hidden, self.ffn),
            "down_proj": (self.ffn, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        return self.layers * sum(rows * columns for rows, columns in self.projections.values())

    def adapted(self, targets: list[str] | str) -> dict[str, tuple[int, int]]:
        """The projections that ``targets`` names."""
        if targets == "all-linear":
            return self.projections
        return {name: shape for name, shape in self.projections.items() if name in targets}

    def adapter_parameters(self, rank: int, targets: list[str] | str) -> int:
        return self.layers * rank * sum(sum(shape) for shape in self.adapted(targets).values())


@dataclass(frozen=True)
class Speed:
    """Reads per second on all devices together: expected, and the range of the assumptions."""

    reads_per_s: float
    slow: float
    fast: float
    padded_tokens: float
    """Tokens per read with padding."""
    limit: str
    """What holds the step back: arithmetic, memory traffic, or launching operations."""

    def hours(self, reads: float, epochs: float) -> tuple[float, float, float]:
        """Hours of training: expected, at best, at worst. Evaluations are not included."""
        seen = reads * epochs / 3600
        return seen / self.reads_per_s, seen / self.fast, seen / self.slow


def estimate(
    config: RunConfig, architecture: Architecture, device: Device, padded_tokens: float, devices: int = 1
) -> Speed:
    """``padded_tokens``: mean tokens per read including padding."""
    seconds = {
        assumptions: _micro_batch_seconds(config, architecture, device, padded_tokens, assumptions)
        for assumptions in (EXPECTED, SLOWEST, FASTEST)
    }
    share = devices * (DATA_PARALLEL_SHARE if devices > 1 else 1.0)
    rate = {key: config.training.batch_size * share / sum_s for key, (sum_s, _) in seconds.items()}
    return Speed(
        reads_per_s=rate[EXPECTED],
        slow=rate[SLOWEST],
        fast=rate[FASTEST],
        padded_tokens=padded_tokens,
        limit=seconds[EXPECTED][1],
    )


def _micro_batch_seconds(
    config: RunConfig, shape: Architecture, device: Device, padded_tokens: float, assumed: Assumptions
) -> tuple[float, str]:
    """Seconds of one micro-batch forward and backward with its share of the optimizer step."""
    lora = config.model.lora
    tokens = config.training.batch_size * padded_tokens
    adapted = shape.adapted(lora.target_modules) if lora.enabled else {}
    adapter_parameters = shape.adapter_parameters(lora.r, lora.target_modules) if lora.enabled else 0
    backward = 1 if lora.enabled else 0
    again = 1 if config.model.gradient_checkpointing and lora.enabled else 0
    passes = 1 + backward + again

    quantization = config.model.quantization
    weight_bytes = 4.0 if config.training.precision == "32" else BYTES_PER_WEIGHT["none"]
    unpacked = 0.0 if quantization == "none" else BYTES_PER_WEIGHT[quantization] + UNPACKED_BYTES
    streaming = device.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE
    weights_s = shape.linear_parameters * weight_bytes / streaming
    unpack_s = shape.linear_parameters * unpacked / streaming
    attention = 2 * tokens * padded_tokens * shape.query * shape.layers
    product_s = (2 * shape.linear_parameters * tokens + attention) / (
        device.tflops * 1e12 * assumed.efficiency
    )
    adapters_s = 3 * 2 * adapter_parameters * tokens / (device.tflops * 1e12 * assumed.efficiency)
    multiply_s = passes * (max(product_s, weights_s) + unpack_s) + adapters_s

    itemsize = 4 if config.training.precision == "32" else 2
    adapted_units = sum(sum(units) for units in adapted.values())
    elements = PER_HIDDEN * shape.hidden + PER_FFN * shape.ffn + PER_ADAPTED * adapted_units
    traffic_s = (1 + again + 2 * backward) * shape.layers * elements * itemsize * tokens / streaming

    operations = shape.layers * (OPERATIONS_PER_LAYER + OPERATIONS_PER_ADAPTER * len(adapted))
    launch_s = (1 + again + 2 * backward) * operations * assumed.launch_s
    # Adam reads weight, gradient and two moments and writes three of them, once per optimizer step.
    optimizer_s = adapter_parameters * 4 * 7 / streaming / config.training.grad_accum_steps

    device_s = multiply_s + traffic_s
    limit = (
        "launching operations"
        if launch_s > device_s
        else "memory traffic"
        if traffic_s + passes * (unpack_s + (weights_s if weights_s > product_s else 0)) > device_s / 2
        else "arithmetic"
    )
    return max(device_s, launch_s) + optimizer_s, limit


def steps(reads: float, epochs: float, effective_batch: int) -> int:
    """Optimizer steps of a run; the last, smaller batch of an epoch counts."""
    return math.ceil(reads / effective_batch) * max(1, round(epochs)) if reads else 0
