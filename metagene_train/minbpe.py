"""minbpe ``.model`` files as fast tokenizers with exactly minbpe's ids.

A ``.model`` file is text: ``minbpe v1``, the split pattern (may be empty), the number of special
tokens and one ``token id`` line for each, then one merge ``left right`` per line. Ids 0-255 are the
bytes, merge number n (from 0) makes id 256 + n.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from metagene_train.errors import DataError, InputError

HEADER = "minbpe v1"


@dataclass(frozen=True)
class MinbpeModel:
    pattern: str
    special_tokens: dict[str, int]
    merges: tuple[tuple[int, int], ...]


def read_minbpe(path: Path) -> MinbpeModel:
    """Parse a ``.model`` file. Raises InputError (cannot be read) and DataError (file, line, what)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"tokenizer.name_or_path: {path} cannot be read as a minbpe model ({error})"
        ) from None
    if not lines or lines[0].strip() != HEADER:
        raise DataError(f"{path}:1: not a minbpe model (its first line is not {HEADER!r})")
    number = 3
    try:
        count = int(lines[2])
        special_tokens = {}
        for number in range(4, 4 + count):
            token, token_id = lines[number - 1].split()
            special_tokens[token] = int(token_id)
        merges: list[tuple[int, int]] = []
        for number in range(4 + count, len(lines) + 1):
            left, right = (int(part) for part in lines[number - 1].split())
            if not 0 <= min(left, right) <= max(left, right) < 256 + len(merges):
                raise DataError(f"{path}:{number}: merges {left} and {right}, ids that do not exist yet")
            merges.append((left, right))
    except (IndexError, ValueError):
        raise DataError(f"{path}:{number}: damaged minbpe model (two numbers expected)") from None
    return MinbpeModel(lines[1], special_tokens, tuple(merges))


def minbpe_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a ``.model`` file. It adds no special tokens, as minbpe's ``encode`` does not.

    Merging by rank gives minbpe's result because a merge only uses ids made before it, so applying
    one never creates a candidate of lower rank.
    """
    model = read_minbpe(path)
    symbols = _byte_symbols()
    vocabulary = {symbol: byte for byte, symbol in enumerate(symbols)}
    names = list(symbols)
    for token_id, (left, right) in enumerate(model.merges, start=256):
        name = names[left] + names[right]
        if name in vocabulary:
            raise DataError(
                f"{path}: merges {vocabulary[name]} and {token_id} make the same text, which training "
                "with minbpe never does; the file is damaged"
            )
        names.append(name)
        vocabulary[name] = token_id
    pairs = [(names[left], names[right]) for left, right in model.merges]
    vocabulary |= model.special_tokens
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if model.pattern:
        try:
            split = pre_tokenizers.Split(Regex(model.pattern), behavior="isolated")
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(f"{path}:2: the split pattern is not a regular expression ({error})") from None
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    else:
        tokenizer.pre_tokenizer = as_bytes
    return tokenizer


def _byte_symbols() -> list[str]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2's convention)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
