"""The model and the step of a workload, as a dry run builds and runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metagene_doctor.memory.workload import Workload
from metagene_train.config import (
    EarlyStoppingConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig


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


def build(workload: Workload, architecture: PretrainedConfig) -> tuple[Any, Any]:
    from metagene_doctor.memory.tracing.quantized import AdamW8bit, quantize
    from metagene_train.model import build_model
    from metagene_train.training.step import build_optimizer

    config = run_config(workload)
    if workload.smooths_labels:
        config.loss.label_smoothing = 0.1
    model = build_model(config, workload.num_labels, encoder_config=architecture, weights=False)
    if workload.quantization != "none":
        quantize(model.encoder, 8 if workload.quantization == "int8" else 4)
    if workload.optimizer == "adamw_8bit":
        return model, AdamW8bit(parameter for parameter in model.parameters() if parameter.requires_grad)
    return model, build_optimizer(model, config)


def train(workload: Workload, model: Any, optimizer: Any) -> None:
    from metagene_train.training.step import training_step

    config = run_config(workload)
    micro_batches = [
        batch(workload.micro_batch, workload.length) for _ in range(config.training.grad_accum_steps)
    ]
    training_step(model, optimizer, micro_batches, config)


def evaluate(workload: Workload, model: Any, optimizer: Any) -> None:
    from metagene_train.training.step import evaluation_step

    evaluation_step(model, batch(workload.evaluation_batch, workload.length))


def batch(reads: int, tokens: int) -> dict[str, Any]:
    import torch

    return {
        "input_ids": torch.zeros(reads, tokens, dtype=torch.long),
        "attention_mask": torch.ones(reads, tokens, dtype=torch.long),
        "labels": torch.zeros(reads, dtype=torch.long),
    }


def layers_name(workload: Workload) -> str:
    """Where the decoder layers are: PEFT wraps the encoder twice."""
    return "encoder.base_model.model.layers" if workload.targets else "encoder.layers"


def import_what_it_needs() -> None:
    """Import the libraries that build the model.

    Before forking, because it takes seconds; and not while tensors are fake, because transformers imports
    torch's compiler, and that of torch 2.6 computes with some.
    """
    from transformers import AutoModel  # noqa: F401
    from transformers.models.llama import modeling_llama  # noqa: F401

    import metagene_train.training.step  # noqa: F401  # before PEFT, see metagene_train/quantized.py

    import peft  # noqa: F401  # isort: skip
