"""Hugging Face tokenizers behind `ReadTokenizer`; the real METAGENE-1 one where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from train_fixtures import write_encoder, write_tokenizer

from metagene_train.config import METAGENE_1, TokenizerConfig
from metagene_train.errors import ConfigError, InputError
from metagene_train.tokenizer import METAGENE_1_VOCABULARY, load_tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tokenizer")


def test_reads_get_the_start_marker_and_the_closing_token(directory):
    tokenizer = load_tokenizer(TokenizerConfig(name_or_path=str(directory)))
    assert tokenizer.encode(["N", b"AN"]) == [[6, 11, 4], [6, 7, 11, 4]]
    assert tokenizer.encode([""]) == [[4]] or tokenizer.encode([""]) == [[6, 4]]
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.adds_special_tokens) == (0, 1, 1)


def test_without_special_tokens_the_closing_token_is_left_out(directory):
    settings = TokenizerConfig(name_or_path=str(directory), add_special_tokens=False)
    tokenizer = load_tokenizer(settings)
    assert tokenizer.encode(["N"]) == [[6, 11]]
    assert tokenizer.adds_special_tokens == 0


@pytest.mark.parametrize(("add_special_tokens", "last"), [(True, 4), (False, 11)])
def test_a_long_read_is_cut_but_keeps_its_closing_token(directory, add_special_tokens, last):
    settings = TokenizerConfig(name_or_path=str(directory), add_special_tokens=add_special_tokens)
    tokenizer = load_tokenizer(settings)
    cut, short = tokenizer.encode(["N" * 50, "NN"], max_length=10)
    assert len(cut) == 10
    assert cut[0] == 6
    assert cut[-1] == last
    assert short == tokenizer.encode(["NN"])[0]


def test_saved_and_loaded_again_it_gives_the_same_ids(directory, tmp_path):
    tokenizer = load_tokenizer(TokenizerConfig(name_or_path=str(directory)))
    (tmp_path / "copy").mkdir()
    tokenizer.save(tmp_path / "copy")
    again = load_tokenizer(TokenizerConfig(name_or_path=str(tmp_path / "copy" / "tokenizer.json")))
    assert again.encode(["ACGTNACGGT"]) == tokenizer.encode(["ACGTNACGGT"])
    assert again.vocabulary_digest == tokenizer.vocabulary_digest


def test_the_pad_token_can_be_declared_beside_the_tokenizer(directory):
    (directory / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[SEP]"}))
    assert load_tokenizer(TokenizerConfig(name_or_path=str(directory))).pad_id == 2


def test_the_vocabulary_must_be_the_encoders(directory, tmp_path):
    settings = TokenizerConfig(name_or_path=str(directory))
    load_tokenizer(settings, str(write_encoder(tmp_path / "fits")))
    with pytest.raises(ConfigError, match="encoder embeds 16 tokens"):
        load_tokenizer(settings, str(write_encoder(tmp_path / "small", vocab_size=16)))
    with pytest.raises(ConfigError, match="pads with id 0, the encoder with 5"):
        load_tokenizer(settings, str(write_encoder(tmp_path / "other", pad_token_id=5)))
    with pytest.raises(ConfigError, match="unrelated to those METAGENE-1"):
        load_tokenizer(settings, METAGENE_1)


def test_what_is_not_a_tokenizer_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        load_tokenizer(TokenizerConfig(name_or_path=str(tmp_path)))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not a tokenizer\.json"):
        load_tokenizer(TokenizerConfig(name_or_path=str(tmp_path)))


@pytest.mark.skipif(
    "METAGENE_TOKENIZER" not in os.environ,
    reason="METAGENE_TOKENIZER does not name a directory with METAGENE-1's tokenizer.json",
)
def test_the_published_tokenizer():
    tokenizer = load_tokenizer(TokenizerConfig(name_or_path=os.environ["METAGENE_TOKENIZER"]), METAGENE_1)
    assert tokenizer.vocabulary_digest == METAGENE_1_VOCABULARY
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.unk_id) == (1024, 0, 1)
    assert tokenizer.encode(["AC"]) == [[252, 4]]
    assert tokenizer.encode([""]) == [[4]]
    read = "ACGTTGCAGGCTAACGTACC" * 10
    ids = tokenizer.encode([read], max_length=20)[0]
    assert len(ids) == 20
    assert ids[-1] == 4
