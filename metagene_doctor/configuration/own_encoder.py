"""What comes with an encoder that is named on the command line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from metagene_train.config import METAGENE_1, RunConfig


def tokenizer_beside(encoder: str, config: RunConfig, given: Collection[str]) -> str | None:
    """The directory of an encoder that has its tokenizer in it, to go on with; else None.

    A tokenizer that the config names (``given``) is kept, unless it is that of the encoder which the
    config names, or METAGENE-1's: these come with their encoder, and files that `config init` wrote name
    them all.
    """
    if not (Path(encoder).expanduser() / "tokenizer.json").is_file():
        return None
    named = config.tokenizer.name_or_path
    replaced = named in (METAGENE_1, config.model.encoder_path)
    return encoder if replaced or "tokenizer.name_or_path" not in given else None
