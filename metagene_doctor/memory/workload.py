"""A workload of this project, and its memory: the model and the step that training runs, traced.

Workloads that differ only in sizes (micro-batch, length, rank, classes) share one recording, whose
sizes are formulas (`metagene_doctor.memory.sizes`), so that a search traces each structure once.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_doctor.memory import depth, sizes
from metagene_doctor.memory.calibration import calibration
from metagene_doctor.memory.profiling import MemoryProfile, capability, resolve, summarise, usable
from metagene_doctor.memory.recording import TRACED_LAYERS, Category, Stream, with_second_step
from metagene_doctor.memory.sizes import Dimensions, Formulas
from metagene_doctor.memory.unseen import NOT_MEASURED, outside_the_allocator
from metagene_train.config import (
    EarlyStoppingConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainingConfig,
)
from metagene_train.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from metagene_doctor.rulebook import Gpu

__all__ = ["Workload", "profile_many", "trace"]

PARALLEL_FROM = 100
"""Workloads from which a second process pays for its start."""
MOST_PROCESSES = 4


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


def trace(workload: Workload, *, gpu: str | Gpu | None = None) -> MemoryProfile:
    """Peak memory of one workload; the first one of a structure takes a second, others milliseconds.

    On a machine where the card was measured (`metagene_doctor.memory.measure`) the answer is calibrated.

    Raises InputError (unknown card or encoder) and ConfigError (target modules that do not exist).
    """
    card = resolve(gpu)
    template = template_of(workload.structure(), capability(card))
    known = None if card is None else calibration(card.title)
    return summarise(
        template.stream,
        template.storage_sizes(workload.dimensions),
        template.categories,
        expandable=workload.expandable_segments,
        usable_gib=usable(card),
        outside=known.terms if known else outside_the_allocator(workload.quantization != "none"),
        worst_ratio=known.worst_ratio if known else 1.0,
        note=known.note if known else NOT_MEASURED,
    )


def profile_many(
    workloads: Sequence[Workload], *, gpu: str | Gpu | None = None, processes: int | None = None
) -> list[MemoryProfile]:
    """Peak memory of many workloads, in order, each as exact as `trace` gives it.

    ``processes`` None takes one, and from `PARALLEL_FROM` workloads on up to `MOST_PROCESSES`.
    """
    card = resolve(gpu)
    if processes is None:
        processes = 1 if len(workloads) < PARALLEL_FROM else min(MOST_PROCESSES, os.cpu_count() or 1)
    if processes <= 1:
        return [trace(workload, gpu=card) for workload in workloads]
    # Neighbours share structures: sorted, each process traces its own ones.
    order = sorted(range(len(workloads)), key=lambda i: repr(workloads[i].structure()))
    share = -(-len(order) // processes)
    parts = [order[start : start + share] for start in range(0, len(order), share)]
    found: dict[int, MemoryProfile] = {}
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        answers = pool.map(_profile_part, [([workloads[i] for i in part], card) for part in parts])
        for part, profiles in zip(parts, answers, strict=True):
            found.update(zip(part, profiles, strict=True))
    return [found[index] for index in range(len(workloads))]


def _profile_part(job: tuple[list[Workload], Gpu | None]) -> list[MemoryProfile]:
    workloads, card = job
    return profile_many(workloads, gpu=card, processes=1)


@functools.lru_cache(maxsize=64)
def template_of(structure: Workload, compute_capability: tuple[int, int]) -> Template:
    """Trace a structure (`Workload.structure`) once, at prime dimensions."""
    from metagene_doctor.memory.tracing import record
    from metagene_train.encoder import encoder_architecture

    architecture = encoder_architecture(structure.encoder_path, structure.revision)
    dimensions = sizes.prime_dimensions(_numbers(architecture))
    layers = structure.encoder_layers or architecture.num_hidden_layers
    if layers > architecture.num_hidden_layers:
        raise ConfigError(
            [
                f"model.encoder_layers: {layers} layers asked for, {structure.encoder_path} has "
                f"{architecture.num_hidden_layers}"
            ]
        )
    traced = min(layers, TRACED_LAYERS)
    workload = replace(
        structure,
        encoder_layers=traced,
        micro_batch=dimensions.micro_batch,
        length=dimensions.tokens,
        rank=dimensions.rank,
        num_labels=dimensions.labels,
        evaluation_batch=dimensions.evaluation_batch,
    )
    one_step = record(
        functools.partial(_build, workload, architecture),
        functools.partial(_train, workload),
        steps=1,
        evaluate=functools.partial(_evaluate, workload),
        repeated_layers=_layers_name(workload) if layers > TRACED_LAYERS else None,
        compute_capability=compute_capability,
    )
    recording = with_second_step(one_step)
    stream = depth.deepen(recording, layers) if layers > TRACED_LAYERS else depth.plain(recording)
    growth = np.zeros(len(recording.sizes), dtype=np.int64)
    for storage, per_layer in recording.growth.items():
        growth[storage] = per_layer * (layers - traced)
    operations = list(recording.operations.items())
    tensors = [(at, size) for at, (operation, _) in enumerate(operations) for size in operation.tensors]
    return Template(
        stream=stream,
        categories=tuple(recording.categories),
        sizes=sizes.formulas(recording.sizes, dimensions),
        growth=growth,
        flops=sizes.formulas([operation.flops for operation, _ in operations], dimensions),
        traffic=sizes.formulas([size for _, size in tensors], dimensions),
        launch_of=np.array([at for at, _ in tensors], dtype=np.int64),
        launches=np.array(
            [
                count * (depth.multiplicity(operation.layer, layers) if layers > TRACED_LAYERS else 1)
                for operation, count in operations
            ],
            dtype=np.int64,
        ),
        phases=np.array([operation.phase for operation, _ in operations]),
    )


def run_config(workload: Workload) -> RunConfig:
    """The configuration that the model and the step are built from."""
    adapters = bool(workload.targets)
    targets: Any = workload.targets if isinstance(workload.targets, str) else list(workload.targets)
    return RunConfig(
        model=ModelConfig(
            encoder_path=workload.encoder_path,
            revision=workload.revision,
            encoder_layers=workload.encoder_layers,
            pooling=workload.pooling,  # type: ignore[arg-type]
            dropout=0.1 if workload.head_dropout else 0.0,
            gradient_checkpointing=workload.checkpointing,
            lora=LoraConfig(
                enabled=adapters,
                r=workload.rank,
                dropout=0.1 if workload.lora_dropout else 0.0,
                bias=workload.lora_bias,  # type: ignore[arg-type]
                **({"target_modules": targets} if adapters else {}),
            ),
        ),
        training=TrainingConfig(
            batch_size=workload.micro_batch,
            eval_batch_size=workload.evaluation_batch,
            grad_accum_steps=2 if workload.accumulates else 1,
            precision=workload.precision,  # type: ignore[arg-type]
            early_stopping=EarlyStoppingConfig(),
        ),
        optimizer=OptimizerConfig(max_grad_norm=1.0 if workload.clips_gradients else None),
    )


def _build(workload: Workload, architecture: PretrainedConfig) -> tuple[Any, Any]:
    from metagene_doctor.memory.quantized import AdamW8bit, quantize
    from metagene_train.model import build_model
    from metagene_train.step import build_optimizer

    config = run_config(workload)
    if workload.smooths_labels:
        config.loss.label_smoothing = 0.1
    model = build_model(config, workload.num_labels, encoder_config=architecture, weights=False)
    if workload.quantization != "none":
        quantize(model.encoder, 8 if workload.quantization == "int8" else 4)
    if workload.optimizer == "adamw_8bit":
        return model, AdamW8bit(parameter for parameter in model.parameters() if parameter.requires_grad)
    return model, build_optimizer(model, config)


def _train(workload: Workload, model: Any, optimizer: Any) -> None:
    from metagene_train.step import training_step

    config = run_config(workload)
    micro_batches = [
        _batch(workload.micro_batch, workload.length) for _ in range(config.training.grad_accum_steps)
    ]
    training_step(model, optimizer, micro_batches, config)


def _evaluate(workload: Workload, model: Any, optimizer: Any) -> None:
    from metagene_train.step import evaluation_step

    evaluation_step(model, _batch(workload.evaluation_batch, workload.length))


def _batch(reads: int, tokens: int) -> dict[str, Any]:
    import torch

    return {
        "input_ids": torch.zeros(reads, tokens, dtype=torch.long),
        "attention_mask": torch.ones(reads, tokens, dtype=torch.long),
        "labels": torch.zeros(reads, dtype=torch.long),
    }


def _layers_name(workload: Workload) -> str:
    """Where the decoder layers are: PEFT wraps the encoder twice."""
    return "encoder.base_model.model.layers" if workload.targets else "encoder.layers"


def _numbers(architecture: PretrainedConfig) -> list[int]:
    """Every integer of the architecture, and the head size, which is not always among them."""
    numbers = [value for value in architecture.to_dict().values() if type(value) is int]
    return [*numbers, architecture.hidden_size // architecture.num_attention_heads]
