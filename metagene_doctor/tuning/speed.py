"""How fast a training step should be: the traced step against a device's rates.

An estimate, labelled as one wherever it is shown. `metagene_doctor.memory.throughput` does the sums;
this module holds what it assumes of hardware, and the sizes of an encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metagene_doctor.tuning.device import Device
from metagene_train.config import RunConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Assumptions:
    """What hardware really reaches: share of the matrix rate, and host time per launched operation."""

    efficiency: float
    launch_s: float


EXPECTED = Assumptions(efficiency=0.6, launch_s=10e-6)
FASTEST = Assumptions(efficiency=0.8, launch_s=6e-6)
SLOWEST = Assumptions(efficiency=0.4, launch_s=22e-6)
"""The slow end covers the 7-8 iterations per second that users of the guide saw on an RTX 4090 at
micro-batch 1, 128 tokens, rank 4 on q,v with checkpointing."""
BANDWIDTH_SHARE = 0.85
"""Share of the memory bandwidth that streaming kernels reach."""
DATA_PARALLEL_SHARE = 0.92
"""Share of the throughput of N devices that data parallelism keeps (gradients of adapters only)."""
PACKED_BYTES = {"int8": 1.0, "nf4": 0.53}
"""Of a quantised weight; nf4 is 4 bits and, with double quantisation, 0.127 bits of scale per weight
(arXiv:2305.14314)."""
UNPACKED_BYTES = 2.0


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
    config: RunConfig,
    encoder: Architecture,
    device: Device,
    padded_tokens: float,
    *,
    classes: int,
    devices: int = 1,
) -> Speed:
    """``padded_tokens``: mean tokens per read including padding; ``classes``: rows of the head."""
    from metagene_doctor.memory import Workload
    from metagene_doctor.memory.throughput import throughput

    rates = device.rates
    if config.training.precision == "32":
        rates = rates.model_copy(update={"bf16_tflops": rates.fp32_tflops})
    workload = Workload.from_config(config, num_labels=classes)
    time = throughput(
        replace(workload, quantization="none"),
        rates,
        accumulation=config.training.grad_accum_steps,
        padded_tokens=padded_tokens,
    )
    unpacking = _unpacking_seconds(config, encoder, device) / config.training.batch_size
    share = devices * (DATA_PARALLEL_SHARE if devices > 1 else 1.0)
    expected, slow, fast = (share / (1 / rate + unpacking) for rate in time.reads_per_s)
    return Speed(expected, slow, fast, padded_tokens, time.limit)


def _unpacking_seconds(config: RunConfig, encoder: Architecture, device: Device) -> float:
    """Per micro-batch: each pass reads the packed weights and writes them in 16 bits before the products
    read them. The products themselves are taken to run in 16 bits."""
    quantization = config.model.quantization
    if quantization == "none":
        return 0.0
    passes = 1 + config.model.lora.enabled * (1 + config.model.gradient_checkpointing)
    moved = encoder.linear_parameters * (PACKED_BYTES[quantization] + UNPACKED_BYTES)
    return passes * moved / (device.rates.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE)
