"""What ``training.precision`` means: the dtype of the frozen weights and of the forward pass."""

from __future__ import annotations

import torch

from metagene_train.config import RunConfig

WEIGHT_DTYPES = {
    "bf16-mixed": torch.bfloat16,
    "fp16-mixed": torch.float16,
    "bf16-true": torch.bfloat16,
    "32": torch.float32,
}
"""Dtype of the frozen encoder. Nothing trains these weights, so the mixed precisions hold them
in the dtype that autocast would cast them to on every use anyway: half the memory of fp32."""

AUTOCAST_DTYPES = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}
"""Dtype of matrix products where trained fp32 weights (adapters) meet 16-bit activations."""


def autocast(config: RunConfig, device: torch.device | str) -> torch.autocast:
    """The context of an encoder forward pass; it does nothing for ``bf16-true`` and ``32``."""
    dtype = AUTOCAST_DTYPES.get(config.training.precision)
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None)
