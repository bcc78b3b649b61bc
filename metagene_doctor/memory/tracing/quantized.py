"""Stand-ins for bitsandbytes: what its layers and its optimizer allocate, with no CUDA and no package.

Only sizes matter to a dry run, so each stand-in makes the tensors that the original makes, in the
order in which it makes them. Layouts: ``bitsandbytes/nn/modules.py`` (Params4bit, Int8Params),
``bitsandbytes/functional.py`` (quantize_4bit, double quantisation), ``bitsandbytes/autograd/_functions.py``
(MatMul4Bit, MatMul8bitLt) and ``bitsandbytes/optim/optimizer.py`` (Optimizer2State), release 0.45 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NF4_BLOCK = 64
"""Weights that share one scale (``blocksize`` of Params4bit)."""
NESTED_BLOCK = 256
"""Scales that share one fp32 scale under double quantisation (``compress_statistics``)."""
ADAM_BLOCK = 256
"""Values that share one scale in the 8-bit optimizer's state."""
ADAM_MIN_VALUES = 4096
"""Smaller parameters keep fp32 state (``min_8bit_size``)."""


class QuantizedLinear(nn.Linear):
    """A frozen linear layer whose weight is packed in 8 or 4 bits and unpacked for each product."""

    def __init__(self, dense: nn.Linear, bits: int):
        super().__init__(dense.in_features, dense.out_features, bias=dense.bias is not None, device="meta")
        dtype, device = dense.weight.dtype, dense.weight.device
        self.compute_dtype, self.bits = dtype, bits
        self.bias = dense.bias
        count = dense.weight.numel()
        if bits == 8:
            packed = torch.empty(dense.weight.shape, dtype=torch.int8, device=device)
            self.register_buffer("scales", torch.empty(dense.out_features, device=device))
        else:
            packed = torch.empty(-(-count // 2), 1, dtype=torch.uint8, device=device)
            scales = -(-count // NF4_BLOCK)
            self.register_buffer("scales", torch.empty(scales, dtype=torch.uint8, device=device))
            self.register_buffer("scale_scales", torch.empty(-(-scales // NESTED_BLOCK), device=device))
            self.register_buffer("codes", torch.empty(16 + 256, device=device))
            self.register_buffer("offset", torch.empty((), device=device))
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        # Always out of autocast's reach: the original is one autograd function.
        input = input.to(self.compute_dtype)
        product: Callable[..., Tensor] = _Product8.apply if self.bits == 8 else _Product4.apply
        result = product(input, self.weight, self.compute_dtype, (self.out_features, self.in_features))
        if self.bias is not None:
            result = result + self.bias
        # PEFT clones the result of a 4-bit layer before adding to it (peft/tuners/lora/bnb.py).
        return result.clone() if self.bits == 4 else result


class _Product4(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, packed: Tensor, dtype: torch.dtype, shape: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(packed)
        ctx.dtype, ctx.shape = dtype, shape
        # dequantize_4bit: the scales in fp32, then the whole weight in the compute dtype.
        scales = torch.empty(-(-shape[0] * shape[1] // NF4_BLOCK), device=input.device)
        weight = torch.empty(shape, dtype=dtype, device=input.device)
        del scales
        return input @ weight.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scales = torch.empty(-(-ctx.shape[0] * ctx.shape[1] // NF4_BLOCK), device=gradients[0].device)
        weight = torch.empty(ctx.shape, dtype=ctx.dtype, device=gradients[0].device)
        del scales
        return gradients[0] @ weight, None, None, None


class _Product8(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, packed: Tensor, dtype: torch.dtype, shape: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(packed)
        ctx.dtype, ctx.shape = dtype, shape
        rows = input.reshape(-1, shape[1])
        # int8_vectorwise_quant wants fp16; the product comes out in int32 and is scaled to 16 bits.
        half = rows.to(torch.float16) if rows.dtype is not torch.float16 else rows
        quantized = torch.empty(half.shape, dtype=torch.int8, device=input.device)
        row_scales = torch.empty(half.shape[0], device=input.device)
        integers = torch.empty(half.shape[0], shape[0], dtype=torch.int32, device=input.device)
        del half
        result = torch.empty(integers.shape, dtype=torch.float16, device=input.device)
        del integers, quantized, row_scales
        return result.to(dtype).reshape(*input.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The weight is scaled back to the compute dtype: CB.to(dtype).mul_(scales).
        weight = torch.empty(ctx.shape, dtype=ctx.dtype, device=gradients[0].device)
        return gradients[0] @ weight, None, None, None


def quantize(module: nn.Module, bits: int) -> None:
    """Replace every frozen linear layer inside ``module`` (adapters stay as they are)."""
    for parent in module.modules():
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                setattr(parent, name, QuantizedLinear(child, bits))


class AdamW8bit(torch.optim.Optimizer):
    """The state of ``bitsandbytes.optim.AdamW8bit``; its update works in place."""

    def __init__(self, parameters: Iterable[Any], lr: float = 1e-3):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter] = _adam_state(parameter)


def _adam_state(parameter: Tensor) -> dict[str, Tensor]:
    if parameter.numel() < ADAM_MIN_VALUES:
        return {name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("state1", "state2")}
    blocks = -(-parameter.numel() // ADAM_BLOCK)
    state = {}
    for name in ("1", "2"):
        state[f"state{name}"] = torch.zeros_like(parameter, dtype=torch.uint8)
        state[f"absmax{name}"] = torch.zeros(blocks, device=parameter.device)
    return state
