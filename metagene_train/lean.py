"""Llama's norm and gated MLP, keeping less for the backward pass.

Both are frozen and cheap to compute, and both keep more than they need: the norm an fp32 copy of its
16-bit input, the MLP its activated gate beside the gate. Here the norm keeps its input as it is and one
number per token, and the MLP activates the gate again. Forward results are the same to the bit; the
activations of METAGENE-1 shrink by a tenth to a seventh (docs/memory.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm


def make_lean(model: nn.Module) -> None:
    """Exchange the methods of every Llama norm and MLP with SiLU in ``model``; names and weights stay."""
    for module in model.modules():
        if type(module) is LlamaRMSNorm and not module.weight.requires_grad:
            module.__class__ = LeanNorm
        elif type(module) is LlamaMLP and _is_silu(module.act_fn):
            module.__class__ = LeanMLP


def _is_silu(activation: Any) -> bool:
    return isinstance(activation, nn.SiLU) or type(activation).__name__ == "SiLUActivation"


class LeanNorm(LlamaRMSNorm):
    """`LlamaRMSNorm` with a frozen weight."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        result: Tensor = _RMSNorm.apply(hidden_states, self.weight, self.variance_epsilon)
        return result


class LeanMLP(LlamaMLP):
    """`LlamaMLP` with SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down_proj(_GatedSiLU.apply(self.gate_proj(x), self.up_proj(x)))
        return result


class _RMSNorm(torch.autograd.Function):
    """``weight * x / sqrt(mean(x^2) + epsilon)`` over the last dimension, in fp32; no gradient of weight."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = hidden.to(torch.float32)
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(hidden, weight, scale)
        return weight * (wide * scale).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scale = ctx.saved_tensors
        wide, gradient = hidden.to(torch.float32), (gradients[0] * weight).to(torch.float32)
        # d(x s)/dx with s = (mean(x^2) + e)^-1/2:  s g - s^3 x mean(g x).
        along = (gradient * wide).mean(-1, keepdim=True) * scale.square()
        return ((gradient - wide * along) * scale).to(hidden.dtype), None, None


class _GatedSiLU(torch.autograd.Function):
    """``silu(gate) * up``; the activated gate is computed again for the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate) * up

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        up_gradient = gradients[0] * functional.silu(gate)
        return torch.ops.aten.silu_backward(gradients[0] * up, gate), up_gradient
