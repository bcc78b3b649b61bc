"""Statistics of the user's reads that decide a configuration: how many, and how long in tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metagene_doctor.memory.costs.read_survey import Survey, survey
from metagene_doctor.padding import FEWEST_BASES_PER_TOKEN, Lengths
from metagene_doctor.report.quantities import count
from metagene_train.config import RunConfig
from metagene_train.errors import InputError

if TYPE_CHECKING:
    from metagene_train.reads.access.joined import AnyIndex

SAMPLE = 20_000
"""Reads that are tokenized; a file with fewer is tokenized whole."""
LONGEST = 200
"""Of them, the longest reads of the file in bases, so that the tail is seen."""
MULTIPLE = 8
"""max_length is a multiple of 8 tokens, which tensor cores want (NVIDIA, mixed-precision guide)."""
ASSUMED_TOKENS, ASSUMED_SPREAD = 36, 1.6
"""Mean and standard deviation for reads of 150 bases: the mean is that of wastewater reads, the deviation
that of 20,000 random sequences, which METAGENE-1's tokenizer makes 33 to 45 tokens of, [EOS] included."""
ASSUMED_CLASSES = 1000
"""Head size when neither config, mapping nor reads tell it: 16 MB of fp32 weights for METAGENE-1."""


@dataclass(frozen=True)
class ReadStatistics:
    """``token_counts[n]`` is the share of reads with ``n`` tokens, special ones included."""

    reads: int | None
    """Training reads; None when no file was given."""
    classes: int
    bases: float
    """Median read length in bases."""
    token_counts: np.ndarray
    origin: str
    """Where the numbers come from, in a sentence."""
    tokenized: int
    """Reads that were tokenized; 0 for an assumption or an estimate."""
    sample: Lengths | None = None
    """Of single reads; None where their tokens are all that is known."""

    @property
    def longest(self) -> int:
        return int(np.flatnonzero(self.token_counts)[-1])

    @property
    def mean_tokens(self) -> float:
        return float(np.arange(len(self.token_counts)) @ self.token_counts)

    def cut(self, max_length: int) -> float:
        """Share of reads longer than ``max_length`` tokens; the shares' own sum is 1 but for rounding."""
        return round(float(self.token_counts[max_length + 1 :].sum()), 12)

    def longest_batch(self, max_length: int) -> int:
        """Tokens of the longest batch that is padded to its longest read, in multiples of 8 as a search has
        them, which also leaves room for a read of a large file that the sample missed."""
        return min(max_length, -(-self.longest // MULTIPLE) * MULTIPLE)

    def shortest_length(self, max_truncation: float, context: int) -> int:
        """Smallest multiple of 8 tokens that cuts at most ``max_truncation`` of the reads, or the context."""
        for length in range(MULTIPLE, context, MULTIPLE):
            if self.cut(length) <= max_truncation:
                return length
        return context

    def padded_tokens(self, max_length: int, micro_batch: int, *, grouped: bool) -> float:
        """Mean tokens per read with padding to the longest of a micro-batch, batched as the trainer does."""
        lengths = self.sample
        if lengths is None:
            tokens = np.flatnonzero(self.token_counts)
            lengths = Lengths(tokens, tokens, self.token_counts[tokens])
        return lengths.padded_tokens(max_length, micro_batch, grouped=grouped)


def assumed(classes: int | None, because: str = "no reads given") -> ReadStatistics:
    """150-base reads, when there is no file to look at: 36 tokens each on average, 64 planned for.

    ``because`` says why they are assumed. 150 bases are 36 tokens on wastewater reads and at most 44 on
    random sequence; 64 tokens hold any read up to about 215 bases, so that slightly longer reads are not
    cut unseen. One in a hundred is taken to be that long.
    """
    usual = np.arange(ASSUMED_TOKENS - 5, ASSUMED_TOKENS + 6)
    shares = np.exp(-(((usual - ASSUMED_TOKENS) / ASSUMED_SPREAD) ** 2) / 2)
    tokens = np.append(usual, 64)
    weights = np.append(0.99 * shares / shares.sum(), 0.01)
    return ReadStatistics(
        reads=None,
        classes=classes or ASSUMED_CLASSES,
        bases=150,
        token_counts=np.bincount(tokens, weights=weights),
        sample=Lengths(np.where(tokens < 64, 150, 215), tokens, weights),
        origin=f"{because}: reads of 150 bases assumed, about 36 tokens each (METAGENE-1's tokenizer makes "
        "one token of 4.29 bases of wastewater reads), with room for 64"
        + (f"; {classes:,} classes" if classes else f"; {ASSUMED_CLASSES:,} classes assumed"),
        tokenized=0,
    )


def measure(
    config: RunConfig, classes: int | None, progress: Callable[[int, int], None] | None = None
) -> ReadStatistics:
    """Statistics of ``config.dataset.train_fasta``: every read is counted, up to 20,000 are tokenized.

    Raises what the read index and the tokenizer raise; a tokenizer from the hub that is not on this
    machine is replaced by an estimate from the bases, and ``origin`` says so.
    """
    from metagene_train.open_reads import open_reads
    from metagene_train.reads.access.data_set import title_of

    dataset = config.dataset
    assert dataset.train_fasta is not None
    index = open_reads(dataset.train_fasta, dataset, progress)
    found = survey(index, LONGEST)
    positions, weights = sample(found)
    name = title_of([part.path for part in index.parts])
    tokens, how = _token_lengths(config, index, positions)
    counts = np.bincount(tokens, weights=weights)
    lengths = Lengths(np.asarray(index.lengths[positions], dtype=np.int64), tokens, weights)
    labels = classes or found.classes
    return ReadStatistics(
        reads=len(index),
        classes=labels,
        bases=found.median,
        token_counts=counts / counts.sum(),
        origin=f"{name}: {count(len(index), 'read')}, median {found.median:g} "
        f"{'base' if found.median == 1 else 'bases'}; {how}; {count(labels, 'class')}",
        tokenized=len(positions) if "tokenized" in how else 0,
        sample=lengths,
    )


def _on_this_machine(tokenizer: str) -> bool:
    """A path, or a hub id whose tokenizer is in the cache: tuning needs no network."""
    if Path(tokenizer).expanduser().exists():
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(tokenizer, "tokenizer.json"), str)
    except HFValidationError:
        raise InputError(f"tokenizer.name_or_path: {tokenizer}: no such file or directory") from None


def sample(found: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the reads to tokenize and how many reads each stands for: all reads, or the longest
    and a random draw of the others."""
    if found.reads <= SAMPLE:
        return np.arange(found.reads), np.ones(found.reads)
    drawn = np.random.default_rng(0).choice(found.reads, SAMPLE - LONGEST, replace=False)
    positions = np.union1d(found.longest, drawn)
    is_longest = np.isin(positions, found.longest)
    others = found.reads - len(found.longest)
    return positions, np.where(is_longest, 1.0, others / (~is_longest).sum())


def _token_lengths(config: RunConfig, index: AnyIndex, positions: np.ndarray) -> tuple[np.ndarray, str]:
    from metagene_train.reads.counts.bases import normalise
    from metagene_train.tokenizer import load_tokenizer

    if not _on_this_machine(config.tokenizer.name_or_path):
        bases = index.lengths[positions]
        estimate = np.ceil(bases / FEWEST_BASES_PER_TOKEN).astype(int) + 1
        return estimate, (
            f"token lengths estimated at {FEWEST_BASES_PER_TOKEN} bases per token, because the tokenizer "
            f"{config.tokenizer.name_or_path} is not on this machine"
        )
    tokenizer = load_tokenizer(config.tokenizer, config.model.encoder_path)
    sequences = [normalise(sequence) for sequence in index.sequences(positions)]
    tokens = np.array([len(ids) for ids in tokenizer.encode(sequences)])
    share = "all" if len(positions) == len(index) else f"{len(positions):,}"
    return tokens, f"{share} of them tokenized: mean {tokens.mean():.1f}, longest {tokens.max()} tokens"
