"""Stand-ins for bitsandbytes: what its layers and its optimizer allocate, with no CUDA and no package.

Only sizes matter to a dry run, so each stand-in makes the tensors that the original makes, in the
order in which it makes and releases them. Sources, release 0.50: ``bitsandbytes/nn/modules.py``
(Params4bit, Int8Params), ``bitsandbytes/functional.py`` (quantize_4bit, double quantisation),
``bitsandbytes/autograd/_functions.py`` (MatMul4Bit, MatMul8bitLt), ``bitsandbytes/backends/cuda/ops.py``
(what the kernels allocate) and ``bitsandbytes/optim/optimizer.py`` (Optimizer2State). Where the package is
installed, ``tests/test_quantized.py`` holds the stand-ins to it, allocation by allocation.
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
CODE_VALUES = 256
"""What 8 bits can stand for, a table of fp32 numbers."""


class QuantizedLinear(nn.Linear):
    """A frozen linear layer whose weight is packed in 8 or 4 bits and unpacked for each product.

    ``adapted`` of one that PEFT has wrapped.
    """

    def __init__(self, dense: nn.Linear, bits: int, adapted: bool):
        super().__init__(dense.in_features, dense.out_features, bias=dense.bias is not None, device="meta")
        dtype, device = dense.weight.dtype, dense.weight.device
        self.compute_dtype, self.bits, self.adapted = dtype, bits, adapted
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
            self.register_buffer("code", torch.empty(16, device=device))
            self.register_buffer("scale_code", torch.empty(CODE_VALUES, device=device))
            self.register_buffer("offset", torch.empty((), device=device))
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        # Always out of autocast's reach: the original is one autograd function.
        product: Callable[..., Tensor] = _Product8.apply
        if self.bits == 4:
            input, product = input.to(self.compute_dtype), _Product4.apply
        result = product(input, self.weight, (self.out_features, self.in_features))
        if self.bias is not None:
            result = result + self.bias
        # PEFT clones the result of a 4-bit layer before adding to it (peft/tuners/lora/bnb.py).
        return result.clone() if self.bits == 4 and self.adapted else result


class _Product4(torch.autograd.Function):
    """Unpacks the whole weight. (For a few hundred tokens, depending on card and shape, release 0.50 has a
    kernel that does not in the forward pass; the backward pass always does.)"""

    @staticmethod
    def forward(ctx: Any, input: Tensor, packed: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.shape = shape
        # The scales in fp32, again with their offset, and the weight; all until the product is made.
        scales = _scales(shape, input.device)
        shifted = torch.empty_like(scales)
        weight = torch.empty(shape, dtype=input.dtype, device=input.device)
        result = input @ weight.t()
        del scales, shifted
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scales = _scales(ctx.shape, gradients[0].device)
        weight = torch.empty(ctx.shape, dtype=gradients[0].dtype, device=gradients[0].device)
        del scales
        return gradients[0] @ weight, None, None


def _scales(shape: tuple[int, int], device: torch.device) -> Tensor:
    return torch.empty(-(-shape[0] * shape[1] // NF4_BLOCK), device=device)


class _Product8(torch.autograd.Function):
    """Quantises the input by rows, and keeps the columns with outliers in 16 bits (``LLM.int8()``).

    How many those are depends on values; they are taken to be few. The input itself is not kept for the
    backward pass (`metagene_train.quantized.prepare` sees to that).
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, packed: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.dtype, ctx.shape = input.dtype, shape
        rows = input.reshape(-1, shape[1])
        half = rows.to(torch.float16)
        row_scales = torch.empty(half.shape[0], device=input.device)
        quantized = torch.empty(half.shape, dtype=torch.int8, device=input.device)
        outliers = half.abs() >= 6.0
        del outliers, half
        integers = torch.empty(rows.shape[0], shape[0], dtype=torch.int32, device=input.device)
        scaled = torch.empty(integers.shape, dtype=torch.float16, device=input.device)
        result = scaled.to(input.dtype)
        del scaled, integers, quantized, row_scales
        return result.reshape(*input.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The weight is scaled back to the dtype of the input: CB.to(dtype).mul_(scales).
        weight = torch.empty(ctx.shape, dtype=ctx.dtype, device=gradients[0].device)
        scales = torch.empty(ctx.shape[0], device=gradients[0].device)
        del scales
        return gradients[0] @ weight, None, None


def quantize(module: nn.Module, bits: int) -> None:
    """Replace every frozen linear layer inside ``module`` (adapters stay as they are)."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in module.modules():
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                setattr(parent, name, QuantizedLinear(child, bits, isinstance(parent, BaseTunerLayer)))


class AdamW8bit(torch.optim.Optimizer):
    """The state of ``bitsandbytes.optim.AdamW8bit``; its update works in place."""

    def __init__(self, parameters: Iterable[Any], lr: float = 1e-3):
        super().__init__(parameters, {"lr": lr})
        self.codes: list[Tensor] = []
        """What the 8 bits of either moment stand for, one table for all parameters."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter] = self._new_state(parameter)

    def _new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter.numel() < ADAM_MIN_VALUES:
            return {name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("state1", "state2")}
        if not self.codes:
            self.codes = [torch.zeros(CODE_VALUES, device=parameter.device) for _ in range(2)]
        blocks = -(-parameter.numel() // ADAM_BLOCK)
        state = {f"state{name}": torch.zeros_like(parameter, dtype=torch.uint8) for name in (1, 2)}
        return state | {f"absmax{name}": torch.zeros(blocks, device=parameter.device) for name in (1, 2)}
