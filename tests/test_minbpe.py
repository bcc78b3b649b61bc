"""minbpe model files: the same ids as minbpe's algorithm, and damage named by line."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from train_fixtures import random_read

from metagene_train.config import METAGENE_1, TokenizerConfig
from metagene_train.errors import ConfigError, DataError, InputError
from metagene_train.minbpe import minbpe_tokenizer
from metagene_train.tokenizer import load_tokenizer


def apply_merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    for token in ids:
        # A token just made by this merge cannot be its right-hand side: its id is the newest.
        if merged and (merged[-1], token) == pair:
            merged[-1] = new
        else:
            merged.append(token)
    return merged


def train_reference(text: str, merges: int) -> list[tuple[int, int]]:
    ids, learned = list(text.encode()), []
    for number in range(merges):
        pair = Counter(pairwise(ids)).most_common(1)[0][0]
        ids = apply_merge(ids, pair, 256 + number)
        learned.append(pair)
    return learned


def encode_reference(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """Byte-pair encoding in its plainest form: apply each merge, in the order it was learned."""
    ids = list(text.encode())
    for number, pair in enumerate(merges):
        ids = apply_merge(ids, pair, 256 + number)
    return ids


def write_model(path: Path, merges: list[tuple[int, int]], pattern: str = "") -> Path:
    lines = ["minbpe v1", pattern, "1", f"<|eos|> {256 + len(merges)}"]
    path.write_text("\n".join([*lines, *(f"{left} {right}" for left, right in merges)]) + "\n")
    return path


@pytest.mark.parametrize("pattern", ["", r" ?\p{L}+| ?\p{N}+|\s+"])
def test_ids_are_those_of_minbpe(tmp_path, pattern):
    generator = random.Random(3)
    merges = train_reference(random_read(generator, 4000, "AACCCGTTTTN"), 120)
    tokenizer = minbpe_tokenizer(write_model(tmp_path / "dna.model", merges, pattern))
    for length in (1, 2, 3, 50, 151, 400):
        read = random_read(generator, length, "ACGTN")
        assert tokenizer.encode(read).ids == encode_reference(read, merges)
    runs = "A" * 37 + "N" * 5 + "C" * 8
    assert tokenizer.encode(runs).ids == encode_reference(runs, merges)


def test_no_special_token_is_added_and_none_is_unknown(tmp_path):
    model = write_model(tmp_path / "dna.model", [(65, 67), (256, 71)])
    tokenizer = load_tokenizer(TokenizerConfig(name_or_path=str(model), use_hf_tokenizer=False))
    assert tokenizer.encode([b"ACGT", "acN"]) == [[257, 84], [97, 99, 78]]
    assert (tokenizer.unk_id, tokenizer.adds_special_tokens, tokenizer.vocab_size) == (None, 0, 259)


def test_a_minbpe_vocabulary_is_refused_for_metagene1(tmp_path):
    model = write_model(tmp_path / "dna.model", [(65, 67)])
    with pytest.raises(ConfigError, match=r"ids are unrelated.*METAGENE-1"):
        load_tokenizer(TokenizerConfig(name_or_path=str(model), use_hf_tokenizer=False), METAGENE_1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("minbpe v2\n\n0\n", 1),
        ("minbpe v1\n\nmany\n", 3),
        ("minbpe v1\n\n1\n<|eos|>\n", 4),
        ("minbpe v1\n\n2\n<|eos|> 256\n", 5),
        ("minbpe v1\n\n0\n65 67\n65\n", 5),
        ("minbpe v1\n\n0\n65 67\n257 67\n", 5),
    ],
)
def test_damage_is_named_by_line(tmp_path, text, line):
    path = tmp_path / "damaged.model"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"damaged\.model:{line}: "):
        minbpe_tokenizer(path)


def test_two_merges_that_make_the_same_text_are_refused(tmp_path):
    path = write_model(tmp_path / "twice.model", [(65, 65), (256, 65), (65, 256)])
    with pytest.raises(DataError, match="merges 257 and 258 make the same text"):
        minbpe_tokenizer(path)


def test_a_missing_model_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.model"):
        minbpe_tokenizer(tmp_path / "none.model")
