"""The frozen encoder: its architecture, and its weights in the dtype and on the device of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from typing import TYPE_CHECKING

import torch

from metagene_train.config import METAGENE_1, RunConfig
from metagene_train.errors import InputError
from metagene_train.precision import WEIGHT_DTYPES
from metagene_train.quantized import packing, prepare, quantization_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("vocab_size", "max_position_embeddings"),
)
"""What the configuration of every Llama-like encoder has."""
CAUSAL_ATTENTION = "metagene_causal_sdpa"
"""Name under which SDPA is registered without a mask builder: transformers then passes no mask."""


def encoder_architecture(encoder_path: str, revision: str | None = None) -> PretrainedConfig:
    """Architecture (not weights) of an encoder.

    METAGENE-1's is packaged with this module and needs no network; another hub id is looked up in
    the hub cache and then on the hub. Raises InputError when there is no such encoder, or its sizes are none.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    if encoder_path == METAGENE_1:
        facts = json.loads((files("metagene_train") / "metagene1.json").read_text())
        return AutoConfig.for_model(facts.pop("model_type"), **facts)
    try:
        architecture = AutoConfig.from_pretrained(encoder_path, revision=revision)
    except StrictDataclassError as error:
        raise _unusable(encoder_path, str(error).splitlines()[-1].strip().partition(": ")[2]) from None
    except TypeError as error:  # transformers 5.0 computes with sizes before it checks them
        raise _unusable(encoder_path, f"its sizes are no numbers ({first_line(error)})") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"model.encoder_path: no encoder at {encoder_path!r} ({first_line(error)}); "
            "give a directory with config.json and weights, or a hub id"
        ) from None
    _check_sizes(architecture, encoder_path)
    return architecture


def _check_sizes(architecture: PretrainedConfig, encoder_path: str) -> None:
    for name in SIZES:
        size = getattr(architecture, name, None)
        if not isinstance(size, int) or size < 1:
            raise _unusable(encoder_path, f"{name} is {size}")
    heads, hidden = architecture.num_attention_heads, architecture.hidden_size
    # transformers 5.0 fills in the quotient where the file has no head_dim.
    if getattr(architecture, "head_dim", None) in (None, hidden // heads) and hidden % heads:
        raise _unusable(encoder_path, f"hidden_size {hidden} is not a multiple of {heads} attention heads")
    shared = getattr(architecture, "num_key_value_heads", None) or heads
    if heads % shared:
        raise _unusable(encoder_path, f"{heads} attention heads cannot share {shared} key-value heads")


def _unusable(encoder_path: str, reason: str) -> InputError:
    return InputError(
        f"model.encoder_path: the config.json of {encoder_path!r} describes no encoder: {reason}"
    )


def empty_encoder(config: RunConfig, encoder_config: PretrainedConfig) -> PreTrainedModel:
    from transformers import AutoModel

    _register_attention()
    with torch.device("meta"):
        return AutoModel.from_config(
            encoder_config,
            dtype=WEIGHT_DTYPES[config.training.precision],
            attn_implementation=CAUSAL_ATTENTION,
        )


def load_encoder(
    config: RunConfig, encoder_config: PretrainedConfig, device: torch.device
) -> PreTrainedModel:
    from transformers import AutoModel

    _register_attention()
    settings = config.model
    quantization = quantization_config(config)
    try:
        with _quiet_transformers(), packing(config, device) if quantization else nullcontext():
            encoder, loading = AutoModel.from_pretrained(
                settings.encoder_path,
                revision=settings.revision,
                config=encoder_config,
                # Named, because the hub file of METAGENE-1 is fp32: 26 GB where 13 GB do.
                dtype=WEIGHT_DTYPES[config.training.precision],
                attn_implementation=CAUSAL_ATTENTION,
                quantization_config=quantization,
                device_map={"": device},
                output_loading_info=True,
            )
    except OSError as error:
        raise InputError(
            f"model.encoder_path: the weights of {settings.encoder_path!r} cannot be loaded "
            f"({first_line(error)}); download them first, or give their directory"
        ) from None
    if loading["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise InputError(
            f"model.encoder_path: {settings.encoder_path!r} lacks {len(loading['missing_keys'])} weights of "
            f"its architecture, such as {min(loading['missing_keys'])}; the download is incomplete"
        )
    if quantization:
        prepare(encoder)
    return encoder


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the loading bar and the report on the language-model head, which is left out on purpose."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _register_attention() -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(CAUSAL_ATTENTION, sdpa_attention_forward)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
