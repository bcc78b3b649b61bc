"""How fast a training step should be: the traced step against a device's rates.

An estimate, labelled as one wherever it is shown. `metagene_doctor.memory.costs.throughput` does the sums;
this module adds the sizes of an encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metagene_doctor.memory.measured.device import Device
from metagene_train.config import RunConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig


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
    device: Device,
    padded_tokens: float,
    *,
    classes: int,
    devices: int = 1,
) -> Speed:
    """``padded_tokens``: mean tokens per read including padding; ``classes``: rows of the head."""
    from metagene_doctor.memory import Workload
    from metagene_doctor.memory.costs.throughput import throughput

    time = throughput(
        Workload.from_config(config, num_labels=classes),
        device.rates,
        accumulation=config.training.grad_accum_steps,
        padded_tokens=padded_tokens,
        devices=devices,
    )
    return Speed(*time.reads_per_s, padded_tokens, time.limit)
