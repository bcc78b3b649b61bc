"""The tokenizer, and what it makes of an unbiased sample of the training reads."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from metagene_doctor.facts.machine.disk import hub_cache
from metagene_doctor.facts.model.encoder import is_hub_id, snapshot_of
from metagene_doctor.facts.reads.facts import Bases, ReadsFacts
from metagene_doctor.finding import Frozen
from metagene_train.config import RunConfig
from metagene_train.errors import InputError

GOLDEN_READ = "ACGTACGT"
GOLDEN_IDS = (252, 77, 290, 4)
"""What METAGENE-1's tokenizer makes of ``GOLDEN_READ``, with the final [EOS]."""


FEWEST_BASES_PER_TOKEN = 3.3
"""150 random bases make at most 45 tokens with [EOS] (measured on METAGENE-1's tokenizer)."""


class TokenFacts(Frozen):
    source: str
    vocab_size: int
    is_metagene_1: bool
    """Its tokens, in id order, are those of METAGENE-1's published tokenizer."""
    golden_ids: tuple[int, ...]
    special_tokens: int
    """Special tokens that every read gets, counted in all lengths."""
    pad_id: int
    unknown_id: int | None
    reads: int = 0
    """Reads in the sample."""
    lengths: dict[int, int] = {}
    """Tokens -> reads, of the normalised reads, uncut."""
    tokens: int = 0
    bases: int = 0
    unknown_tokens: int = 0
    raw_tokens: int = 0
    """Tokens of the same reads as they stand in the file, without normalisation."""
    raw_unknown_tokens: int = 0
    unusual: Bases = Bases()
    """Letters of the sample by kind: what unknown tokens come from."""


def locate(config: RunConfig) -> str | None:
    """The tokenizer's file or directory on this machine; None when it would need the network.

    Raises InputError for a path that does not exist.
    """
    name = config.tokenizer.name_or_path
    if Path(name).expanduser().exists() or not config.tokenizer.use_hf_tokenizer:
        return name
    if not is_hub_id(name):
        raise InputError(f"{name}: no such tokenizer file or directory")
    snapshot = snapshot_of(hub_cache() / f"models--{name.replace('/', '--')}", "main")
    return str(snapshot) if snapshot is not None and (snapshot / "tokenizer.json").is_file() else None


def collect(config: RunConfig, location: str, sample: Sequence[bytes]) -> TokenFacts:
    """Load the tokenizer and tokenize the sample: normalised as training does it, and raw.

    Raises InputError (missing, not a tokenizer) or DataError (damaged minbpe model).
    """
    from metagene_train.reads.counts.bases import BaseCounts, count_bases, normalise
    from metagene_train.tokenizer import METAGENE_1_VOCABULARY, load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer.model_copy(update={"name_or_path": location}))
    reads = tokenizer.encode([normalise(sequence) for sequence in sample]) if sample else []
    letters = sum((count_bases(sequence) for sequence in sample), start=BaseCounts())
    lengths = Counter(map(len, reads))
    raw = reads
    if letters.total != letters.acgt + letters.n:
        raw = tokenizer.encode([sequence.decode("latin-1") for sequence in sample])
    return TokenFacts(
        source=config.tokenizer.name_or_path,
        vocab_size=tokenizer.vocab_size,
        is_metagene_1=tokenizer.vocabulary_digest == METAGENE_1_VOCABULARY,
        golden_ids=tuple(tokenizer.encode([GOLDEN_READ])[0]),
        special_tokens=tokenizer.adds_special_tokens,
        pad_id=tokenizer.pad_id,
        unknown_id=tokenizer.unk_id,
        reads=len(reads),
        lengths=dict(sorted(lengths.items())),
        tokens=sum(map(len, reads)),
        bases=letters.total,
        unknown_tokens=_count(reads, tokenizer.unk_id),
        raw_tokens=sum(map(len, raw)),
        raw_unknown_tokens=_count(raw, tokenizer.unk_id),
        unusual=Bases(**{field.name: getattr(letters, field.name) for field in fields(letters)}),
    )


def expected_lengths(
    config: RunConfig, tokens: TokenFacts | None, train: ReadsFacts | None
) -> tuple[int, float]:
    """Tokens of the longest batch, and mean tokens per read with padding.

    From the tokenized sample; without a tokenizer from the lengths in bases at METAGENE-1's densest
    tokenization; without reads a full ``max_length``.
    """
    settings = config.tokenizer
    lengths = tokens.lengths if tokens is not None else {}
    if not lengths and train is not None:
        lengths = {math.ceil(bases / FEWEST_BASES_PER_TOKEN) + 1: n for bases, n in train.lengths.items()}
    if not lengths or settings.padding == "max_length":
        return settings.max_length, float(settings.max_length)
    mean = sum(min(length, settings.max_length) * n for length, n in lengths.items()) / sum(lengths.values())
    return min(settings.max_length, max(lengths)), mean / (1 - padding_share(lengths, config))


def padding_share(lengths: Mapping[int, int], config: RunConfig) -> float:
    """Share of padding among all tokens computed, for the configured way of batching reads of these
    lengths (tokens -> reads).

    Padding to ``max_length`` and grouping by length are computed; random batches are simulated, 200
    of them drawn with a fixed seed.
    """
    settings, training = config.tokenizer, config.training
    cut = [min(length, settings.max_length) for length in lengths]
    weights = list(lengths.values())
    if settings.padding == "max_length":
        mean = sum(length * number for length, number in zip(cut, weights, strict=True)) / sum(weights)
        return 1 - mean / settings.max_length
    if training.group_by_length or training.batch_size == 1:
        return 0.0
    draw = random.Random(0)
    batches = [draw.choices(cut, weights, k=training.batch_size) for _ in range(200)]
    computed = sum(max(batch) * len(batch) for batch in batches)
    return 1 - sum(map(sum, batches)) / computed


def _count(reads: Sequence[Sequence[int]], token: int | None) -> int:
    return 0 if token is None else sum(ids.count(token) for ids in reads)
