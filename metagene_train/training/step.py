"""One optimizer step: forward, loss, backward, clip, update.

The trainer calls these functions and the memory dry run traces them, so nothing here looks at a
value (no ``.item()``, no branch on data): they also run on tensors that have only a shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from metagene_train.config import RunConfig
from metagene_train.model import ReadClassifier
from metagene_train.precision import autocast
from metagene_train.quant_extra import require_bitsandbytes

__all__ = ["autocast", "build_optimizer", "evaluation_step", "forward_loss", "training_step"]

Batch = Mapping[str, Tensor]
"""``input_ids`` and ``attention_mask`` [B, L] int64, ``labels`` [B] int64."""


def build_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """AdamW over what is trained; biases and norms (vectors) are not decayed.

    The fused update needs no temporaries of its own, unlike the for-each one that torch would take
    on CUDA. Raises ConfigError when ``adamw_8bit`` is asked for without bitsandbytes.
    """
    settings = config.optimizer
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trained if parameter.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)
    require_bitsandbytes("optimizer.name: adamw_8bit", without="adamw")
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=settings.lr, betas=settings.betas)


def forward_loss(model: ReadClassifier, batch: Batch, reads: Tensor | int | None = None) -> Tensor:
    """Loss of one micro-batch as its share of ``reads`` reads (its own when None), a scalar.

    With ``reads`` the number of reads of the whole accumulation, the micro-batch losses add up to
    the mean over reads, whatever the sizes of the micro-batches.
    """
    loss = model(**batch).loss
    return loss if reads is None else loss * (batch["labels"].shape[0] / reads)


def training_step(
    model: ReadClassifier,
    optimizer: torch.optim.Optimizer,
    micro_batches: Sequence[Batch],
    config: RunConfig,
) -> None:
    """One optimizer step over an accumulation of micro-batches, the last of which may be smaller.

    The loss scaling that ``fp16-mixed`` needs on CUDA is the trainer's; it holds no memory worth
    counting.
    """
    model.train()
    reads = sum(batch["labels"].shape[0] for batch in micro_batches)
    for batch in micro_batches:
        loss = forward_loss(model, batch, reads)
        loss.backward()
        # Without this the scalar would keep the last graph alive into the next forward pass.
        del loss
    if config.optimizer.max_grad_norm is not None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, config.optimizer.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def evaluation_step(model: ReadClassifier, batch: Batch) -> Tensor:
    """Logits [B, K] fp32 of one batch, without dropout; ``labels`` are not used."""
    model.eval()
    return model(batch["input_ids"], batch["attention_mask"]).logits
