"""The classifier: a causal encoder, LoRA adapters on it, masked pooling, and a linear head.

Reads are padded on the right. In a causal encoder no token sees what follows it, so padding cannot
reach a real token and no attention mask is needed: the encoder runs the plain causal kernel (flash
attention where there is one, no B x 1 x L x L mask), and pooling is where padding is left out.
The logits of a read therefore do not depend on the reads that share its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from metagene_train.adapters import with_adapters
from metagene_train.config import RunConfig
from metagene_train.encoder import empty_encoder, encoder_architecture, first_line, load_encoder
from metagene_train.errors import ConfigError, InputError
from metagene_train.precision import autocast

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from metagene_train.labels import LabelMap
    from metagene_train.tokenizer import ReadTokenizer

__all__ = [
    "ClassifierOutput",
    "LoadedClassifier",
    "ReadClassifier",
    "build_model",
    "encoder_architecture",
    "load_model",
    "load_trained",
    "pool",
    "save_model",
    "save_trained",
]

HEAD_FILE = "head.safetensors"
ADAPTER_FILE = "adapter_model.safetensors"


class ClassifierOutput(NamedTuple):
    loss: Tensor | None
    """Scalar, mean over the reads of the batch; None without labels."""
    logits: Tensor
    """[B, K] fp32."""


def build_model(
    config: RunConfig,
    num_labels: int,
    *,
    encoder_config: PretrainedConfig | None = None,
    weights: bool = True,
    device: torch.device | str = "cpu",
    make_encoder: Callable[[PretrainedConfig], PreTrainedModel] | None = None,
) -> ReadClassifier:
    """The model of a run, with fresh adapters and head.

    ``weights=False`` builds it on ``torch.device("meta")`` from the architecture alone, every
    parameter in the dtype it would train in, and needs neither weights nor network; quantization
    is then not applied (there is nothing to pack). Otherwise the encoder is loaded
    straight to ``device``, or is what ``make_encoder`` makes of its architecture. ``encoder_config``
    overrides the architecture found at ``model.encoder_path``. Raises InputError (no such encoder),
    ConfigError (quantization without its package, an architecture or target module that does not fit).
    """
    settings = config.model
    if encoder_config is None:
        encoder_config = encoder_architecture(settings.encoder_path, settings.revision)
    else:
        encoder_config = deepcopy(encoder_config)
    if settings.encoder_layers is not None:
        if settings.encoder_layers > encoder_config.num_hidden_layers:
            raise ConfigError(
                [
                    f"model.encoder_layers: {settings.encoder_layers} layers asked for, "
                    f"{settings.encoder_path} has {encoder_config.num_hidden_layers}; null takes all of them"
                ]
            )
        encoder_config.num_hidden_layers = settings.encoder_layers
    encoder_config.use_cache = False

    if make_encoder is not None:
        encoder = make_encoder(encoder_config)
    elif weights:
        encoder = load_encoder(config, encoder_config, torch.device(device))
    else:
        encoder = empty_encoder(config, encoder_config)
    if not any(getattr(module, "is_causal", False) for module in encoder.modules()):
        raise ConfigError(
            [
                f"model.encoder_path: {settings.encoder_path} ({encoder_config.model_type}) is not a causal "
                "encoder; this trainer fine-tunes Llama-like ones such as METAGENE-1"
            ]
        )
    with torch.device("meta" if not weights else device):
        return ReadClassifier(config, encoder, num_labels)


@dataclass(frozen=True)
class LoadedClassifier:
    """A trained classifier as `load_model` finds it in a model directory."""

    model: ReadClassifier
    tokenizer: ReadTokenizer
    labels: LabelMap
    config: RunConfig


class ReadClassifier(nn.Module):
    """Class logits of reads. Trainable: the adapters (or nothing, for a linear probe) and the head."""

    encoder: Any
    """The encoder, in PEFT's wrapper when it has adapters."""
    class_weights: Tensor | None
    """Weight of each class in the training loss [K] fp32, or None."""

    def __init__(self, config: RunConfig, encoder: PreTrainedModel, num_labels: int):
        super().__init__()
        self.run_config = config
        self.num_labels = num_labels
        self.encoder = with_adapters(encoder, config) if config.model.lora.enabled else encoder
        self.trains_encoder = config.model.lora.enabled
        if not self.trains_encoder:
            self.encoder.requires_grad_(False)
        self.dropout = nn.Dropout(config.model.dropout)
        self.head = nn.Linear(encoder.config.hidden_size, num_labels, dtype=torch.float32)
        nn.init.normal_(self.head.weight, std=encoder.config.initializer_range)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("class_weights", None, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> ClassifierOutput:
        """``input_ids`` and ``attention_mask`` [B, L] int64, padded on the right; ``labels`` [B] int64."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_encoder),
            autocast(self.run_config, input_ids.device),
        ):
            hidden = self.encoder(input_ids=input_ids).last_hidden_state
        # fp32 from here on, also inside an autocast region of the caller.
        with torch.autocast(input_ids.device.type, enabled=False):
            pooled = pool(hidden, attention_mask, self.run_config.model.pooling)
            logits = self.head(self.dropout(pooled))
            if labels is None:
                return ClassifierOutput(None, logits)
            total = functional.cross_entropy(
                logits,
                labels,
                weight=self.class_weights,
                label_smoothing=self.run_config.loss.label_smoothing,
                reduction="sum",
            )
        return ClassifierOutput(total / labels.shape[0], logits)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One fp32 vector per read, [B, H], of hidden states [B, L, H] over its real tokens only.

    ``cls`` takes the last real token: in a causal encoder the only one that saw the whole read
    (METAGENE-1 was trained without a first token that could summarise).
    """
    padding = attention_mask.eq(0)
    if pooling == "mean":
        # The reduction accumulates in fp32 without an fp32 copy of the hidden states.
        total = hidden.masked_fill(padding.unsqueeze(-1), 0).sum(dim=1, dtype=torch.float32)
        return total / attention_mask.sum(dim=1, keepdim=True).clamp(min=1)
    if pooling == "max":
        lowest = torch.finfo(hidden.dtype).min
        return hidden.masked_fill(padding.unsqueeze(-1), lowest).max(dim=1).values.float()
    last = (attention_mask.sum(dim=1) - 1).clamp(min=0)
    index = last.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1).float()


def save_trained(model: ReadClassifier, directory: Path) -> None:
    """Write what was trained, megabytes beside the encoder's gigabytes: ``head.safetensors`` and, in
    PEFT's own format, ``adapter_model.safetensors`` with ``adapter_config.json``."""
    from safetensors.torch import save_file

    head = {name: value.detach().cpu().contiguous() for name, value in model.head.state_dict().items()}
    save_file(head, directory / HEAD_FILE)
    if model.trains_encoder:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in _adapter_state(model).items()},
            directory / ADAPTER_FILE,
            metadata={"format": "pt"},
        )
        settings = copy(model.encoder.peft_config["default"])
        settings.inference_mode = True
        settings.save_pretrained(str(directory))


def _adapter_state(model: ReadClassifier) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model.encoder, save_embedding_layers=False)


def load_trained(model: ReadClassifier, directory: Path) -> None:
    """Read what `save_trained` wrote into a model of the same configuration.

    Raises InputError when a file is missing or was written for another model.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.head.load_state_dict(load_file(directory / HEAD_FILE))
        if model.trains_encoder:
            adapter = load_file(directory / ADAPTER_FILE)
            if adapter.keys() != _adapter_state(model).keys():
                # PEFT itself would leave adapters that the file lacks at their fresh values.
                raise RuntimeError(f"{ADAPTER_FILE} adapts other modules")
            set_peft_model_state_dict(model.encoder, adapter)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{directory}: its weights do not load into this model ({first_line(error)}); files of another "
            "run, or an edited config.yaml?"
        ) from None


def save_model(
    model: ReadClassifier, tokenizer: ReadTokenizer, labels: LabelMap, config: RunConfig, directory: Path
) -> None:
    """Write a model directory: trained weights, ``tokenizer.json``, ``labels.json``, ``config.yaml``.

    The frozen encoder is not in it; ``config.yaml`` names it.
    """
    from metagene_train.config_file import dump_config

    directory.mkdir(parents=True, exist_ok=True)
    save_trained(model, directory)
    tokenizer.save(directory)
    labels.save(directory / "labels.json")
    (directory / "config.yaml").write_text(dump_config(config), encoding="utf-8")


def load_model(directory: str | Path, device: torch.device | str = "cpu") -> LoadedClassifier:
    """A trained classifier, in evaluation mode. Raises InputError (not a model directory, no encoder)."""
    from metagene_train.config_file import load_config
    from metagene_train.labels import LabelMap
    from metagene_train.tokenizer import load_tokenizer

    directory = Path(directory)
    if not (directory / HEAD_FILE).is_file():
        raise InputError(f"{directory}: no trained model here ({HEAD_FILE} is missing)")
    config = load_config(directory / "config.yaml").config
    labels = LabelMap.load(directory / "labels.json")
    saved = {"name_or_path": str(directory / "tokenizer.json"), "use_hf_tokenizer": True}
    tokenizer = load_tokenizer(config.tokenizer.model_copy(update=saved))
    model = build_model(config, len(labels), device=device)
    load_trained(model, directory)
    return LoadedClassifier(model.eval(), tokenizer, labels, config)
