"""LoRA adapters on a frozen encoder, by PEFT, without what its defaults waste."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from metagene_train.config import RunConfig
from metagene_train.encoder import first_line
from metagene_train.errors import ConfigError
from metagene_train.precision import AUTOCAST_DTYPES, WEIGHT_DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections of a Llama layer that are applied to one and the same tensor."""


class SharedDropout(nn.Dropout):
    """One dropped-out copy of an input for all adapters that read it.

    PEFT draws a mask of its own for each adapter, and each one's copy and mask are kept for the backward
    pass. Adapters that share the mask see the same distribution, one by one, as with their own; the merged
    q,k,v projection of the original LoRA code shares it as well. ``users`` adapters ask for the copy in
    each pass; the last one takes it along, so that nothing outlives the pass.
    """

    def __init__(self, p: float, users: int):
        super().__init__(p)
        self.users = users
        self._input: Tensor | None = None
        self._copy: Tensor | None = None
        self._expected = 0

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        if input is not self._input or self._copy is None:
            self._input, self._copy, self._expected = input, super().forward(input), self.users
        copy = self._copy
        self._expected -= 1
        if self._expected == 0:
            self._input = self._copy = None
        return copy


def with_adapters(encoder: PreTrainedModel, config: RunConfig) -> nn.Module:
    """The encoder in PEFT's wrapper, everything but the adapters frozen.

    Raises ConfigError when ``model.lora.target_modules`` names no module of the encoder.
    """
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    from metagene_train.lean import make_lean

    settings = config.model.lora
    adapter = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT divides it by r: any number will do
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        bias=settings.bias,
        use_rslora=settings.use_rslora,
        task_type="FEATURE_EXTRACTION",
    )
    mixed = config.training.precision in AUTOCAST_DTYPES
    trained_dtype = torch.float32 if mixed else WEIGHT_DTYPES[config.training.precision]
    with warnings.catch_warnings():
        # transformers 5.2x renames these methods; the old names are the ones every 5.x has.
        warnings.simplefilter("ignore", FutureWarning)
        if config.model.gradient_checkpointing:
            encoder.enable_input_require_grads()
            encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        try:
            model = get_peft_model(encoder, adapter, autocast_adapter_dtype=mixed)
        except ValueError as error:
            raise ConfigError([f"model.lora.target_modules: {first_line(error)}"]) from None
    for parameter in model.parameters():
        if parameter.requires_grad:
            # PEFT leaves this to the dtype and device of the layer it wraps, and meta has no say there.
            parameter.data = parameter.data.to(trained_dtype)
    for module in model.modules():
        # PEFT copies each adapter's 16-bit input to the fp32 of its weights; autocast undoes that in
        # the product, so the copy changes no gradient and costs up to a tenth of peak memory.
        if mixed and isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]
    if settings.dropout > 0:
        share_dropout(model)
    make_lean(model)
    return model


def share_dropout(model: nn.Module) -> None:
    """Give the adapters of `SAME_INPUT` in each layer one dropout between them."""
    for module in model.modules():
        for names in SAME_INPUT:
            children: list[Any] = [getattr(module, name, None) for name in names]
            adapted = [child for child in children if getattr(child, "lora_dropout", None)]
            if len(adapted) > 1:
                shared = SharedDropout(adapted[0].lora_dropout["default"].p, users=len(adapted))
                for child in adapted:
                    child.lora_dropout["default"] = shared
