"""How much padding the trainer's batches hold, from the lengths of a sample of reads.

Reads are grouped by their bases, which are known without tokenizing; reads of equally many bases still
differ in tokens, so that grouping leaves some padding (7 % of batches of 16 random reads of 150 bases, with
METAGENE-1's tokenizer).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metagene_doctor.facts.model.tokens import TokenFacts
    from metagene_doctor.facts.reads.facts import ReadsFacts
    from metagene_train.config import RunConfig

WINDOW_BATCHES = 50
"""Batches that are sorted together, as by `metagene_train.training.batching`."""
READS_DRAWN = 20_000
"""At least: rare long reads have to be among them."""
FEWEST_BASES_PER_TOKEN = 3.4
"""Without a tokenizer at hand. METAGENE-1's makes 3.88 bases per token of uniform random sequence and
4.29 of wastewater reads; its longest encoding of 150 random bases is 44 tokens, 3.41 each, and [EOS]."""


@dataclass(frozen=True)
class Lengths:
    """Of sampled reads, [K] each: bases, tokens, and how many reads each stands for."""

    bases: np.ndarray
    tokens: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, tokens_by_bases: Mapping[int, Mapping[int, int]]) -> Lengths:
        """From a table: bases -> tokens -> reads."""
        rows = [
            (bases, tokens, reads)
            for bases, found in tokens_by_bases.items()
            for tokens, reads in found.items()
        ]
        bases, tokens, reads = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        return cls(bases, tokens, reads.astype(float))

    def mean_tokens(self, max_length: int) -> float:
        """Per read, longer ones being cut."""
        return float(np.average(np.minimum(self.tokens, max_length), weights=self.weights))

    def padding_share(self, max_length: int, micro_batch: int, *, grouped: bool, seed: int = 0) -> float:
        """Share of padding among all tokens of batches that are padded to their longest read.

        Simulated: windows of 50 batches of reads drawn with a fixed seed, sorted by bases if grouped.
        """
        windows = -(-READS_DRAWN // (WINDOW_BATCHES * micro_batch))
        drawn = np.random.default_rng(seed).choice(
            len(self.tokens),
            size=(windows, WINDOW_BATCHES * micro_batch),
            p=self.weights / self.weights.sum(),
        )
        if grouped:
            drawn = np.take_along_axis(drawn, np.argsort(self.bases[drawn], axis=1, kind="stable"), axis=1)
        tokens = np.minimum(self.tokens[drawn], max_length).reshape(-1, micro_batch)
        return float(1 - tokens.sum() / (tokens.max(axis=1).sum() * micro_batch))

    def padded_tokens(self, max_length: int, micro_batch: int, *, grouped: bool) -> float:
        """Mean tokens per read with padding to the longest of a micro-batch."""
        share = self.padding_share(max_length, micro_batch, grouped=grouped)
        return self.mean_tokens(max_length) / (1 - share)


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
    by_bases = tokens.by_bases if tokens is not None else {}
    return min(settings.max_length, max(lengths)), mean / (1 - padding_share(lengths, config, by_bases))


def padding_share(
    lengths: Mapping[int, int], config: RunConfig, by_bases: Mapping[int, Mapping[int, int]] | None = None
) -> float:
    """Share of padding among all tokens computed, for the configured way of batching reads of these
    lengths (tokens -> reads; ``by_bases``: bases -> tokens -> reads).

    Padding to ``max_length`` is computed, batches are simulated. Where bases are not known, reads that
    are grouped by length are taken to be alike in tokens.
    """
    settings, training = config.tokenizer, config.training
    table = by_bases or {length: {length: reads} for length, reads in lengths.items()}
    sampled = Lengths.of(table)
    if settings.padding == "max_length":
        return 1 - sampled.mean_tokens(settings.max_length) / settings.max_length
    return sampled.padding_share(settings.max_length, training.batch_size, grouped=training.group_by_length)
