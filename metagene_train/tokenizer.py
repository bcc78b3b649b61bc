"""Tokenizers behind one face: a Hugging Face ``tokenizer.json`` or a minbpe ``.model`` file.

Lengths are in tokens. Sequences given to `ReadTokenizer.encode` are normalised already
(`metagene_train.reads.counts.bases.normalise`): METAGENE-1's tokenizer would turn each lower-case base
into one [UNK].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from metagene_train.config import METAGENE_1, TokenizerConfig
from metagene_train.errors import ConfigError, InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

METAGENE_1_VOCABULARY = "95106f1ca01a9f05952353cba2a27b370f109a1d4c43f682bee9287dcb7c6d6b"
"""SHA-256 of METAGENE-1's tokens in id order, one per line (from the published tokenizer.json)."""

PAD_NAMES = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")


class ReadTokenizer:
    """Reads to token ids.

    ``pad_id``: any id will do where the tokenizer has none, padding is never looked at. ``unk_id``:
    None where every byte has a token. ``vocab_size``: one more than the highest id.
    """

    def __init__(self, tokenizer: Tokenizer, *, source: str, add_special_tokens: bool, pad_id: int | None):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.source = source
        self._add_special_tokens = add_special_tokens
        special = tokenizer.encode("A", add_special_tokens=add_special_tokens).special_tokens_mask
        self.adds_special_tokens = sum(special)
        """Special tokens that every read gets, included in all lengths."""
        self._closing = special[::-1].index(0)
        vocabulary = tokenizer.get_vocab()
        self.vocab_size = max(vocabulary.values()) + 1
        self.pad_id = 0 if pad_id is None else pad_id
        self.has_pad = pad_id is not None
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.unk_id: int | None = vocabulary.get(unknown) if unknown else None

    def encode(self, sequences: Sequence[bytes | str], max_length: int | None = None) -> list[list[int]]:
        """Token ids of each sequence; longer ones are cut to ``max_length``, keeping a final [EOS]."""
        texts = [text if isinstance(text, str) else text.decode("ascii") for text in sequences]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=self._add_special_tokens)
        ids = [encoding.ids for encoding in encodings]
        if max_length is None:
            return ids
        return [read if len(read) <= max_length else self._cut(read, max_length) for read in ids]

    def _cut(self, ids: list[int], max_length: int) -> list[int]:
        body = max_length - self._closing
        return ids[:body] + ids[len(ids) - self._closing :]

    @property
    def vocabulary_digest(self) -> str:
        """SHA-256 of the tokens in id order: equal for equal vocabularies, whatever the file's layout."""
        vocabulary = self._tokenizer.get_vocab()
        tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
        return hashlib.sha256("\n".join(tokens).encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write ``tokenizer.json``, which `load_tokenizer` and transformers read."""
        self._tokenizer.save(str(directory / "tokenizer.json"))


def load_tokenizer(settings: TokenizerConfig, encoder_path: str | None = None) -> ReadTokenizer:
    """The tokenizer of a run.

    With ``encoder_path``, also checks that its vocabulary is the encoder's (see `check_vocabulary`).
    Raises InputError (not there), DataError (damaged minbpe model), ConfigError (not the encoder's).
    """
    if settings.use_hf_tokenizer:
        tokenizer, pad_id = _load_hugging_face(settings.name_or_path)
    else:
        from metagene_train.minbpe import minbpe_tokenizer

        tokenizer, pad_id = minbpe_tokenizer(Path(settings.name_or_path)), None
    reader = ReadTokenizer(
        tokenizer,
        source=settings.name_or_path,
        add_special_tokens=settings.add_special_tokens,
        pad_id=pad_id,
    )
    if encoder_path is not None:
        from metagene_train.encoder import encoder_architecture

        check_vocabulary(reader, encoder_architecture(encoder_path), encoder_path)
    return reader


def check_vocabulary(tokenizer: ReadTokenizer, encoder: PretrainedConfig, encoder_path: str) -> None:
    """Raise ConfigError when token ids would mean something else to the encoder than to the tokenizer."""
    problem = None
    if _is_metagene1(encoder) and tokenizer.vocabulary_digest != METAGENE_1_VOCABULARY:
        problem = f"its ids are unrelated to those METAGENE-1 was trained on; use {METAGENE_1}"
    elif tokenizer.vocab_size > encoder.vocab_size:
        problem = (
            f"it has ids up to {tokenizer.vocab_size - 1}, the encoder embeds {encoder.vocab_size} tokens"
        )
    elif tokenizer.has_pad and encoder.pad_token_id not in (None, tokenizer.pad_id):
        problem = f"it pads with id {tokenizer.pad_id}, the encoder with {encoder.pad_token_id}"
    if problem:
        raise ConfigError(
            [
                f"tokenizer.name_or_path: {tokenizer.source} is not the tokenizer of the encoder "
                f"{encoder_path}: {problem}"
            ]
        )


def _is_metagene1(encoder: PretrainedConfig) -> bool:
    from metagene_train.encoder import encoder_architecture

    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    published = encoder_architecture(METAGENE_1)
    return all(getattr(encoder, name, None) == getattr(published, name) for name in shape)


def _load_hugging_face(name: str) -> tuple[Tokenizer, int | None]:
    file = _tokenizer_file(name)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot parse
        raise InputError(f"tokenizer.name_or_path: {file} is not a tokenizer.json ({error})") from None
    declared = file.with_name("tokenizer_config.json")
    names: list[object] = [json.loads(declared.read_text()).get("pad_token")] if declared.exists() else []
    if tokenizer.padding is not None:
        names.append(tokenizer.padding["pad_token"])
    known = [tokenizer.token_to_id(name) for name in (*names, *PAD_NAMES) if isinstance(name, str)]
    return tokenizer, next((pad_id for pad_id in known if pad_id is not None), None)


def _tokenizer_file(name: str) -> Path:
    """A local ``tokenizer.json`` (file or its directory), else the hub's through its cache."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / "tokenizer.json").is_file():
            raise InputError(f"tokenizer.name_or_path: {path} has no tokenizer.json")
        return path / "tokenizer.json"
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except Exception as error:  # offline, no such repository, no access: one remedy for all
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"tokenizer.name_or_path: {name!r} is no local file or directory and is not in reach on the hub "
            f"({reason}); give a directory with tokenizer.json"
        ) from None
