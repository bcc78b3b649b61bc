"""Sizes a run will have on disk and in host memory, from its configuration and its encoder."""

from __future__ import annotations

import math

from metagene_doctor.facts.model.encoder import Architecture
from metagene_train.config import RunConfig

INDEX_BYTES_PER_READ = 20
"""Offset (int64), span, length and class (32 bits each) of one read in the index on disk."""

ORDER_BYTES_PER_READ = 16
"""In memory per read: the shuffled order (int64) and the label (int64)."""

PROCESS_BYTES = 380 * 2**20
"""Resident memory of Python with torch, transformers and peft imported.

Measured with CPU builds of torch 2.13 and transformers 5.23; CUDA builds need more."""

WORKER_BYTES = 11 * 2**20
"""Memory of a forked DataLoader worker that it does not share with its parent (measured likewise)."""

WEIGHT_BYTES = {"bf16-mixed": 2, "fp16-mixed": 2, "bf16-true": 2, "32": 4}
"""Bytes per frozen encoder weight, by ``training.precision``."""

TRAINED_STATE_BYTES = 12
"""Per trained parameter in a checkpoint: the fp32 weight and two fp32 moments of AdamW."""

FP32_BYTES = 4


def encoder_parameters(architecture: Architecture, layers: int | None = None) -> int:
    """Parameters of a Llama-like encoder without its language-model head."""
    per_layer = sum(inputs * outputs for inputs, outputs in architecture.linear_shapes.values())
    per_layer += 2 * architecture.hidden_size  # the two RMS norms of a block
    embedding = architecture.vocab_size * architecture.hidden_size
    return embedding + per_layer * (layers or architecture.num_hidden_layers) + architecture.hidden_size


def trainable_parameters(architecture: Architecture, config: RunConfig, classes: int) -> int:
    """Head (with bias) and, when LoRA is on, r x (inputs + outputs) for every targeted layer."""
    head = classes * (architecture.hidden_size + 1)
    lora = config.model.lora
    if not lora.enabled:
        return head
    shapes = architecture.linear_shapes
    targets = shapes if lora.target_modules == "all-linear" else lora.target_modules
    adapters = sum(lora.r * sum(shapes[name]) for name in targets if name in shapes)
    return head + adapters * (config.model.encoder_layers or architecture.num_hidden_layers)


def checkpoint_bytes(trainable: int) -> int:
    """One checkpoint: trained weights in fp32 with their optimizer state. The encoder is not in it."""
    return trainable * TRAINED_STATE_BYTES


def run_directory_bytes(trainable: int, config: RunConfig) -> int:
    """Most a run directory takes: kept checkpoints, the best one, one being written, and the model."""
    kept = config.training.checkpoint
    checkpoints = (kept.keep if kept.save_last else 0) + int(kept.save_best) + 1
    return checkpoints * checkpoint_bytes(trainable) + trainable * FP32_BYTES


def worker_queue_bytes(config: RunConfig) -> int:
    """Shared memory for batches in flight: two int64 [B, L] tensors per batch, at full length."""
    training = config.training
    batch = training.batch_size * config.tokenizer.max_length * 2 * 8
    return training.num_workers * training.prefetch_factor * batch


def host_memory_bytes(
    config: RunConfig, reads: int, architecture: Architecture | None, on_cpu: bool
) -> dict[str, int]:
    """Peak host memory of a training run by part.

    The index itself is memory-mapped and can be dropped by the kernel, so only the order and the
    labels count. A run on a GPU loads the encoder straight to the card.
    """
    parts = {
        "Python and torch": PROCESS_BYTES,
        "order and labels": reads * ORDER_BYTES_PER_READ,
    }
    if config.training.num_workers:
        workers = config.training.num_workers * WORKER_BYTES + worker_queue_bytes(config)
        parts[f"{config.training.num_workers} workers"] = workers
    if on_cpu and architecture is not None:
        weights = encoder_parameters(architecture, config.model.encoder_layers)
        parts["encoder on the CPU"] = weights * WEIGHT_BYTES[config.training.precision]
    return parts


def steps_per_epoch(reads: int, config: RunConfig) -> int:
    """Optimizer steps that see every read once on one device, the last partial batch included."""
    return math.ceil(math.ceil(reads / config.training.batch_size) / config.training.grad_accum_steps)


def total_steps(reads: int, config: RunConfig) -> int:
    """Optimizer steps of the run: ``max_steps``, else ``max_epochs`` over the reads."""
    if config.training.max_steps is not None:
        return config.training.max_steps
    return math.ceil(config.training.max_epochs * steps_per_epoch(reads, config))


def reads_seen(reads: int, config: RunConfig) -> float:
    """Reads that the run computes: all of them in every epoch, or those of ``max_steps`` steps."""
    if config.training.max_steps is not None:
        return config.training.max_steps * config.training.effective_batch
    return reads * config.training.max_epochs


def evaluations(reads: int, config: RunConfig) -> int:
    """Evaluations of the run, the one after its last step included."""
    steps, per_epoch = total_steps(reads, config), steps_per_epoch(reads, config)
    if config.training.eval_steps is not None:
        return math.ceil(steps / config.training.eval_steps)
    return math.ceil(min(config.training.evals_per_epoch, per_epoch) * steps / max(1, per_epoch))
