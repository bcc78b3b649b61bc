"""The tokenizer, and what it makes of an unbiased sample of the training reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from metagene_doctor.facts.machine.disk import hub_cache
from metagene_doctor.facts.model.encoder import is_hub_id, snapshot_of
from metagene_doctor.facts.reads.facts import Bases
from metagene_doctor.finding import Frozen
from metagene_train.config import RunConfig
from metagene_train.errors import InputError

GOLDEN_READ = "ACGTACGT"
GOLDEN_IDS = (252, 77, 290, 4)
"""What METAGENE-1's tokenizer makes of ``GOLDEN_READ``, with the final [EOS]."""


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
    by_bases: dict[int, dict[int, int]] = {}
    """The same by bases: bases -> tokens -> reads."""
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
        by_bases=_by_bases(sample, reads),
        tokens=sum(map(len, reads)),
        bases=letters.total,
        unknown_tokens=_count(reads, tokenizer.unk_id),
        raw_tokens=sum(map(len, raw)),
        raw_unknown_tokens=_count(raw, tokenizer.unk_id),
        unusual=Bases(**{field.name: getattr(letters, field.name) for field in fields(letters)}),
    )


def _by_bases(sample: Sequence[bytes], reads: Sequence[Sequence[int]]) -> dict[int, dict[int, int]]:
    found: dict[int, Counter[int]] = {}
    for sequence, ids in zip(sample, reads, strict=True):
        found.setdefault(len(sequence), Counter())[len(ids)] += 1
    return {bases: dict(sorted(found[bases].items())) for bases in sorted(found)}


def _count(reads: Sequence[Sequence[int]], token: int | None) -> int:
    return 0 if token is None else sum(ids.count(token) for ids in reads)
