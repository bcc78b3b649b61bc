"""The frozen encoder in 8 or 4 bits, by bitsandbytes (the extra ``quant``), and what it needs to behave."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from metagene_train.config import RunConfig
from metagene_train.errors import ConfigError
from metagene_train.precision import WEIGHT_DTYPES
from metagene_train.quant_extra import require_bitsandbytes

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

# On processors with AVX512-BF16 it looks for a kernel to download when PEFT imports it, whether or not
# anything is quantised, and says that it found none. `prepare` does not let that kernel be used.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def quantization_config(config: RunConfig) -> BitsAndBytesConfig | None:
    """What transformers is told, None for an encoder in its own dtype.

    Raises ConfigError when bitsandbytes is missing or too old.
    """
    from transformers import BitsAndBytesConfig

    kind = config.model.quantization
    if kind == "none":
        return None
    require_bitsandbytes(f"model.quantization: {kind}", without="none")
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=WEIGHT_DTYPES[config.training.precision],
    )


@contextmanager
def packing(config: RunConfig, device: torch.device) -> Iterator[None]:
    """While weights are packed: what bitsandbytes says of a failure is told in one line.

    transformers goes on after a weight that could not be packed, and names the reasons in a report that
    it logs. Raises torch.OutOfMemoryError when memory was one of them, otherwise ConfigError.
    """
    root = logging.getLogger("transformers")
    report = _Collected()
    handlers, level, root.handlers = root.handlers, root.level, [report]
    root.setLevel(logging.WARNING)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ImportError) as error:
        reasons = [str(error).strip(), *re.findall(r"^[\w.]+Error:\s*(\S.*)", report.text, re.MULTILINE)]
        memory = [reason for reason in reasons if "out of memory" in reason]
        if memory:
            raise torch.OutOfMemoryError(memory[0]) from None
        kind = config.model.quantization
        raise ConfigError(
            [
                f"model.quantization: bitsandbytes {version('bitsandbytes')} cannot pack the encoder in "
                f"{kind} on {device.type} ({reasons[-1].splitlines()[0]}); "
                "install a newer one (`python -m bitsandbytes` says what it finds), or set it to none"
            ]
        ) from None
    finally:
        root.handlers = handlers
        root.setLevel(level)


class _Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


def pack_alike(encoder: PreTrainedModel, config: RunConfig, device: torch.device) -> None:
    """Give an encoder on the meta device weights that are all alike, packed as those of a file would be:
    what measuring memory needs, without the file. Raises ConfigError without bitsandbytes."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    settings = quantization_config(config)
    dtype = WEIGHT_DTYPES[config.training.precision]
    replace_with_bnb_linear(encoder, modules_to_not_convert=[], quantization_config=settings)
    for module in encoder.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            # bitsandbytes packs when a weight arrives on the device, 8 bits only when it comes from the host.
            packed = type(weight) is not nn.Parameter
            origin = "cpu" if packed and config.model.quantization == "int8" else device
            values = torch.full(weight.shape, 0.01, dtype=dtype, device=origin)
            make: Any = type(weight)
            options = {key: value for key, value in vars(weight).items() if key != "SCB"} if packed else {}
            module._parameters[name] = make(values, requires_grad=False, **options).to(device)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                # Rotary frequencies, all there is in a Llama.
                exponents = torch.arange(buffer.numel(), device=device) / buffer.numel()
                module._buffers[name] = (10_000.0**-exponents).to(buffer.dtype).view(buffer.shape)
    kind = "is_loaded_in_8bit" if config.model.quantization == "int8" else "is_loaded_in_4bit"
    setattr(encoder, kind, True)  # PEFT asks
    prepare(encoder)


def prepare(encoder: nn.Module) -> None:
    """Have the packed layers of an encoder hold and say no more than they must."""
    from accelerate.hooks import remove_hook_from_module
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    # It warns in every layer of every pass that the product is computed from fp16, as it has to be.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for module in encoder.modules():
        if hasattr(module, "_hf_hook"):
            # accelerate has every module of a packed model move its inputs, with some versions (8 bits before
            # bitsandbytes 0.48). Inputs are where they belong, and its copy of a module's method would
            # outlast the exchange of that method (`metagene_train.lean`).
            remove_hook_from_module(module)
            module.__dict__.pop("forward", None)
        if isinstance(module, Linear8bitLt):
            module.register_forward_hook(_release_input)
        elif isinstance(module, Linear4bit):
            # On processors with AVX512-BF16 a pass without gradients packs the weights anew in a form
            # that has no backward pass: after the first evaluation, adapters below would stop learning.
            module.support_avx512bf16_for_cpu = False


def _release_input(layer: Any, inputs: Any, output: torch.Tensor) -> None:
    """Let go of the input of an 8-bit product, which only the gradient of its (frozen) weight would need.

    bitsandbytes keeps it as a plain attribute of the graph's node. That is out of reach of checkpointing,
    which would then keep the inputs of every layer as if it were off.
    """
    node: Any = output.grad_fn
    if hasattr(node, "tensors"):
        node.tensors = (None,) * len(node.tensors)
    if hasattr(node, "A"):
        node.A = None
