"""What CUDA does differently from the fake CPU tensors of a dry run, made explicit.

Fake CPU tensors work on every machine, but a CPU allocates other things than a GPU in three places:
autocast casts other operations, dropout saves another mask, and attention runs another kernel. While
`CudaSemantics` is active, Python-level calls to those operations take CUDA's route.

Sources: the cast policies of CUDA autocast are in ``aten/src/ATen/autocast_mode.h``
(AT_FORALL_FP32, AT_FORALL_FP32_SET_OPT_DTYPE); fused dropout in ``native/Dropout.cpp``; the choice of
an attention kernel in ``native/transformers/cuda/sdp_utils.cpp``; its workspaces in
``native/transformers/cuda/flash_attn/flash_api.cpp`` (``mha_bwd``) and
``native/transformers/cuda/attention_backward.cu``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint
from torch.utils._pytree import tree_map_only

AUTOCAST_FP32_INPUTS = frozenset(
    {
        *("acos", "asin", "cosh", "sinh", "tan", "erfinv", "exp", "expm1", "softplus", "rsqrt", "reciprocal"),
        *("log", "log10", "log1p", "log2", "logsumexp", "pow", "__pow__", "__rpow__"),
        *("layer_norm", "native_layer_norm", "group_norm", "norm", "nuclear_norm", "renorm"),
        *("cdist", "pdist", "dist", "cosine_similarity", "cosine_embedding_loss", "hinge_embedding_loss"),
        *("cross_entropy", "nll_loss", "poisson_nll_loss", "kl_div", "binary_cross_entropy_with_logits"),
        *("l1_loss", "mse_loss", "huber_loss", "smooth_l1_loss", "soft_margin_loss", "multi_margin_loss"),
        *("margin_ranking_loss", "triplet_margin_loss", "multilabel_margin_loss"),
    }
)
"""Names of operations whose 16-bit inputs CUDA autocast copies to fp32."""
AUTOCAST_FP32_RESULT = frozenset(
    {"prod", "sum", "cumprod", "cumsum", "softmax", "log_softmax", "vector_norm", "matrix_norm"}
)
"""Names of operations that CUDA autocast runs on the 16-bit input with an fp32 result."""

DEFAULT_CAPABILITY = (8, 0)
"""Compute capability taken when no card is named: every card since 2020 has its kernels."""
FLASH_BLOCK = 128
"""Flash attention's backward pass pads its accumulators to a multiple of this many tokens."""


class CudaSemantics(TorchFunctionMode):
    """Run Python-level torch calls on fake CPU tensors the way CUDA would.

    ``compute_capability`` decides between the attention kernels: flash needs (8, 0) and a 16-bit
    dtype, the memory-efficient one serves masks, fp32 and older cards.
    """

    def __init__(self, compute_capability: tuple[int, int] = DEFAULT_CAPABILITY):
        super().__init__()
        self.compute_capability = compute_capability

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is functional.dropout or func is torch.dropout:
            return _dropout(func, *args, **kwargs)
        if torch.is_autocast_enabled("cpu"):
            name = getattr(func, "__name__", "")
            if name in AUTOCAST_FP32_INPUTS:
                args, kwargs = tree_map_only(Tensor, _to_fp32, (args, kwargs))
            elif name in AUTOCAST_FP32_RESULT and kwargs.get("dtype") is None and _is_16_bit(args):
                kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Active in the calling code and in what checkpointing recomputes during the backward pass.

        The autograd engine runs without the caller's function modes, so the recomputed function has
        to bring its own. Also makes ``torch.autocast("cuda")`` mean what it says: without a GPU it is
        silently off.
        """
        autocast_init = torch.amp.autocast_mode.autocast.__init__
        frame_init = checkpoint._CheckpointFrame.__init__
        reentrant_forward = checkpoint.CheckpointFunction.forward

        def with_mode(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def run(*args: Any, **kwargs: Any) -> Any:
                if self in torch.overrides._get_current_function_mode_stack():
                    return function(*args, **kwargs)
                with self:
                    return function(*args, **kwargs)

            return run

        def init_autocast(context: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
            autocast_init(context, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

        def init_frame(frame: Any, recompute: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
            frame_init(frame, with_mode(recompute), *args, **kwargs)

        def forward(context: Any, function: Callable[..., Any], *args: Any) -> Any:
            return reentrant_forward(context, with_mode(function), *args)

        with (
            mock.patch.object(torch.amp.autocast_mode.autocast, "__init__", init_autocast),
            mock.patch.object(checkpoint._CheckpointFrame, "__init__", init_frame),
            mock.patch.object(checkpoint.CheckpointFunction, "forward", staticmethod(forward)),
            self,
        ):
            yield

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        head = query.shape[-1]
        fused = query.dim() == 4 and head % 8 == 0 and value.shape[-1] == head
        half = query.dtype in (torch.float16, torch.bfloat16)
        if fused and half and attn_mask is None and self.compute_capability >= (8, 0) and head <= 256:
            return torch.ops.aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, return_debug_mask=False, scale=scale
            )[0]
        efficient = self.compute_capability >= (8, 0) or query.dtype is not torch.bfloat16
        # The flag alone does not rule the kernel out (transformers 5.0 always sets it): fewer heads do.
        if fused and efficient and query.shape[-3] == key.shape[-3]:
            needs_backward = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
            return torch.ops.aten._scaled_dot_product_efficient_attention(
                query, key, value, _bias(attn_mask, query), needs_backward, dropout_p, is_causal, scale=scale
            )[0]
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        return torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale
        )[0]


def attention_workspace(operator: Any, args: tuple[Any, ...]) -> list[int]:
    """Bytes that an attention kernel allocates inside itself and frees before it returns.

    Flash backward accumulates dQ in fp32 over padded tokens, with one fp32 row sum per token; the
    memory-efficient backward keeps an fp32 dQ when it computes in 16 bits, and the row sums.
    """
    name = operator._schema.name
    if name == "aten::_scaled_dot_product_flash_attention_backward":
        batch, heads, tokens, head = args[1].shape
        padded = -(-tokens // FLASH_BLOCK) * FLASH_BLOCK
        head_padded = -(-head // 32) * 32
        return [4 * batch * heads * padded * head_padded, 4 * batch * heads * padded]
    if name == "aten::_scaled_dot_product_efficient_attention_backward":
        batch, heads, tokens, head = args[1].shape
        padded = -(-tokens // 32) * 32
        row_sums = [4 * batch * heads * padded]
        return row_sums if args[1].dtype is torch.float32 else [4 * batch * heads * padded * head, *row_sums]
    return []


def cublas_workspace(compute_capability: tuple[int, int]) -> int:
    """Bytes PyTorch allocates once for each cuBLAS handle (``aten/src/ATen/cuda/CublasHandlePool.cpp``).

    ``parseChosenWorkspaceSize``: 32 MiB on compute capability 9.0, and on 10 and 12 in newer
    releases; 2 x 4 MiB + 8 x 16 KiB on others. ``CUBLAS_WORKSPACE_CONFIG`` overrides it.
    """
    return 32 << 20 if compute_capability >= (9, 0) else (4096 * 2 + 16 * 8) << 10


def _dropout(
    func: Callable[..., Tensor], input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    if not training or p == 0 or inplace:
        return func(input, p, training, inplace) if func is functional.dropout else func(input, p, training)
    # CUDA keeps a one-byte mask; the CPU keeps the scaled noise in the dtype of the input.
    return torch.native_dropout(input, p, True)[0]


def _bias(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """The memory-efficient kernel wants an additive mask whose rows are padded to 16 elements."""
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), float("-inf"))
    tokens = mask.shape[-1]
    if tokens % 16:
        mask = functional.pad(mask, (0, -tokens % 16))[..., :tokens]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], tokens)


def _to_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _is_16_bit(args: tuple[Any, ...]) -> bool:
    return bool(args) and isinstance(args[0], Tensor) and args[0].dtype in (torch.float16, torch.bfloat16)
