"""A workload of this project: what decides the memory of a run.

Workloads that differ only in sizes (micro-batch, length, rank, classes) share one recording, whose
sizes are formulas (`metagene_doctor.memory.sizes`), so that a search traces each structure once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metagene_doctor.memory.sizes import Dimensions
from metagene_train.config import RunConfig


@dataclass(frozen=True)
class Workload:
    """What decides the memory of a run. ``length`` is the tokens of its longest batch."""

    num_labels: int
    length: int
    encoder_path: str
    revision: str | None
    encoder_layers: int | None
    micro_batch: int
    evaluation_batch: int
    accumulates: bool
    """More than one micro-batch per optimizer step: gradients stay through a forward pass."""
    rank: int
    targets: tuple[str, ...] | str
    """Empty for a linear probe (no adapters)."""
    lora_bias: str
    lora_dropout: bool
    head_dropout: bool
    pooling: str
    checkpointing: bool
    precision: str
    quantization: str
    optimizer: str
    clips_gradients: bool
    smooths_labels: bool
    expandable_segments: bool

    @classmethod
    def from_config(cls, config: RunConfig, *, num_labels: int, length: int | None = None) -> Workload:
        """``length`` in tokens; None is ``tokenizer.max_length``, what a full batch is padded to."""
        model, training = config.model, config.training
        targets = model.lora.target_modules
        return cls(
            num_labels=num_labels,
            length=length or config.tokenizer.max_length,
            encoder_path=model.encoder_path,
            revision=model.revision,
            encoder_layers=model.encoder_layers,
            micro_batch=training.batch_size,
            evaluation_batch=training.eval_batch_size or training.batch_size,
            accumulates=training.grad_accum_steps > 1,
            rank=model.lora.r if model.lora.enabled else 1,
            targets=(targets if isinstance(targets, str) else tuple(targets)) if model.lora.enabled else (),
            lora_bias=model.lora.bias,
            lora_dropout=model.lora.enabled and model.lora.dropout > 0,
            head_dropout=model.dropout > 0,
            pooling=model.pooling,
            checkpointing=model.gradient_checkpointing,
            precision=training.precision,
            quantization=model.quantization,
            optimizer=config.optimizer.name,
            clips_gradients=config.optimizer.max_grad_norm is not None,
            smooths_labels=config.loss.label_smoothing > 0,
            expandable_segments=config.memory_optimization.expandable_segments,
        )

    @property
    def dimensions(self) -> Dimensions:
        return Dimensions(self.micro_batch, self.length, self.rank, self.num_labels, self.evaluation_batch)

    def structure(self) -> Workload:
        """The workload without its sizes: what has to be traced."""
        return replace(
            self, num_labels=1, length=1, micro_batch=1, evaluation_batch=1, rank=1, expandable_segments=False
        )
