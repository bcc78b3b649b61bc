"""Does the tokenizer fit the encoder, and how do the reads come out in tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.remedies import edit, run
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.model.tokens import GOLDEN_IDS, GOLDEN_READ, TokenFacts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.padding import padding_share
from metagene_doctor.report.quantities import count, percent
from metagene_train.config import METAGENE_1
from metagene_train.reads.headers.pattern import HEADER_REGEX

token_finding = partial(Finding, scope="tokenizer")

UNKNOWN_WARN, UNKNOWN_ERROR = 0.001, 0.01
"""Shares of unknown tokens in training input."""

CUT_WARN = 0.01
"""Share of reads cut at max_length from which to warn."""

WASTE_WARN = 0.25
"""Share of padding among the tokens computed from which to warn."""

SPARE = 0.9
"""Of the bases that fill the encoder in the mean, what pieces of a long read are cut to: few of them then
have more tokens than fit."""

MATE_BEFORE_PIECE = r"s#(/[0-9]+)?(_sliding:[0-9]+-[0-9]+)$#\2#"
"""For sed: what `seqkit sliding` makes of a name with a mate number, without that number."""

LENGTH_STEP = 8
"""Lengths are suggested in multiples of 8, which tensor cores like."""


def padding_usable(facts: Facts) -> Iterator[Finding]:
    """The token that pads a batch has an embedding, and the encoder's config names the same one.

    Training pads by the tokenizer and masks what it padded, and hands over token ids and mask only;
    programs that go by the encoder's config need its ``pad_token_id``.
    """
    tokens, encoder = facts.tokens, facts.encoder
    assert tokens and encoder
    architecture = encoder.architecture
    if architecture is None:
        return
    if not 0 <= tokens.pad_id < architecture.vocab_size:
        yield token_finding(
            id="M06",
            severity=Severity.ERROR,
            title=f"The padding token {tokens.pad_id} has no embedding: the encoder embeds "
            f"{architecture.vocab_size:,} ids",
            measured=tokens.pad_id,
            threshold=architecture.vocab_size,
            unit="token id",
            why="The first batch of reads of different lengths would stop training.",
            remedy=_encoders_own(facts),
        )
    elif architecture.pad_token_id != tokens.pad_id:
        named = "none" if architecture.pad_token_id is None else str(architecture.pad_token_id)
        yield token_finding(
            id="M06",
            severity=Severity.INFO,
            title=f"The tokenizer pads with {tokens.pad_id}, the encoder's config names {named}",
            measured=named,
            threshold=tokens.pad_id,
            unit="token id",
            why="Padding is masked here, so it does no harm; other programs may take padding for sequence.",
        )


def tokenizer_fits(facts: Facts) -> Iterator[Finding]:
    """The tokenizer's ids mean to the encoder what they mean to the tokenizer.

    For METAGENE-1 its vocabulary must be the published one, and ACGTACGT must become 252, 77, 290
    and [EOS] 4; for another encoder all ids must have an embedding.
    """
    tokens, encoder = facts.tokens, facts.encoder
    assert tokens and encoder
    if encoder.is_metagene_1 and not tokens.is_metagene_1:
        yield token_finding(
            id="M05",
            severity=Severity.ERROR,
            title=f"{tokens.source} is not METAGENE-1's tokenizer: {tokens.vocab_size:,} ids, "
            f"{GOLDEN_READ} becomes {', '.join(map(str, tokens.golden_ids))}",
            measured=" ".join(map(str, tokens.golden_ids)),
            threshold=" ".join(map(str, GOLDEN_IDS)),
            unit="token ids",
            why="Its ids are unrelated to those the encoder was trained on: the encoder would read noise.",
            remedy=edit(facts, "Use the encoder's own", "tokenizer.name_or_path", METAGENE_1),
        )
    elif encoder.architecture is not None and tokens.vocab_size > encoder.architecture.vocab_size:
        yield token_finding(
            id="M05",
            severity=Severity.ERROR,
            title=f"The tokenizer has {tokens.vocab_size:,} ids, the encoder embeds "
            f"{encoder.architecture.vocab_size:,}",
            measured=tokens.vocab_size,
            threshold=encoder.architecture.vocab_size,
            unit="token ids",
            why="The first read with a larger id would stop training with an index error.",
            remedy=_encoders_own(facts),
        )
    elif (
        encoder.is_metagene_1
        and facts.config.tokenizer.add_special_tokens
        and tokens.golden_ids != GOLDEN_IDS
    ):
        yield token_finding(
            id="M05",
            severity=Severity.ERROR,
            title=f"The tokenizer makes {', '.join(map(str, tokens.golden_ids))} of {GOLDEN_READ}, "
            f"not {', '.join(map(str, GOLDEN_IDS))}",
            measured=" ".join(map(str, tokens.golden_ids)),
            threshold=" ".join(map(str, GOLDEN_IDS)),
            unit="token ids",
            why="It splits reads otherwise, or lacks the final [EOS]: the encoder would read what it never "
            "saw.",
            remedy=edit(facts, "Use the published one", "tokenizer.name_or_path", METAGENE_1),
        )


def unknown_tokens(facts: Facts) -> Iterator[Finding]:
    """Share of [UNK] among the tokens of a sample, as training sees the reads and as they stand in
    the file, with the letters that cause them."""
    tokens = facts.tokens
    assert tokens
    if not tokens.tokens:
        return
    share = tokens.unknown_tokens / tokens.tokens
    if share:
        yield token_finding(
            id="T01",
            severity=Severity.ERROR
            if share >= UNKNOWN_ERROR
            else Severity.WARN
            if share >= UNKNOWN_WARN
            else Severity.INFO,
            title=f"{percent(share)} of all tokens are unknown ([UNK]) to this tokenizer",
            count=tokens.unknown_tokens,
            measured=share,
            threshold=UNKNOWN_WARN,
            unit="fraction of tokens",
            why="The encoder does not see what they stand for: this tokenizer does not know all of A, C, "
            "G, T and N.",
            remedy=_encoders_own(facts),
            confidence="sampled",
        )
    elif tokens.raw_unknown_tokens:
        raw = tokens.raw_unknown_tokens / tokens.raw_tokens
        yield token_finding(
            id="T01",
            severity=Severity.INFO,
            title=f"No unknown tokens ([UNK]); with the letters as they are in the file {percent(raw)} "
            "would be",
            measured=raw,
            threshold=UNKNOWN_WARN,
            unit="fraction of tokens",
            why=f"Because of {_causes(tokens)}. Training mends that, other tools may not.",
            confidence="sampled",
        )


def _encoders_own(facts: Facts) -> Remedy:
    text = "Use the tokenizer that the encoder was trained with"
    return edit(facts, text, "tokenizer.name_or_path", facts.config.model.encoder_path)


def _causes(tokens: TokenFacts) -> str:
    letters = tokens.unusual
    causes = (
        ("lower case", letters.lower),
        ("U", letters.u),
        ("ambiguity codes", letters.iupac),
        ("other", letters.other),
    )
    total = sum(number for _, number in causes)
    return ", ".join(f"{cause} {percent(number / total)}" for cause, number in causes if number)


def token_lengths(facts: Facts) -> Iterator[Finding]:
    """Reads in tokens against ``tokenizer.max_length``: how many are cut, how much padding is computed,
    and which length suits them. Lengths of an unbiased sample, special tokens included."""
    tokens, settings = facts.tokens, facts.config.tokenizer
    assert tokens and facts.encoder
    architecture = facts.encoder.architecture
    if architecture and settings.max_length > architecture.max_position_embeddings:
        yield token_finding(
            id="T02",
            severity=Severity.ERROR,
            title=f"tokenizer.max_length is {settings.max_length:,}, the encoder takes "
            f"{architecture.max_position_embeddings:,} tokens",
            measured=settings.max_length,
            threshold=architecture.max_position_embeddings,
            unit="tokens",
            why="It has not learnt what lies beyond: longer reads would be read wrongly.",
            remedy=edit(facts, "Lower it", "tokenizer.max_length", architecture.max_position_embeddings),
        )
        return
    if not tokens.reads:
        return
    cut = (
        sum(number for length, number in tokens.lengths.items() if length > settings.max_length)
        / tokens.reads
    )
    waste = padding_share(tokens.lengths, facts.config, tokens.by_bases)
    static = settings.padding == "max_length"
    can_be_less = static or not facts.config.training.group_by_length
    longest = max(tokens.lengths)
    limit = architecture.max_position_embeddings if architecture else longest + LENGTH_STEP
    suggested = min(limit, round_up(quantile(tokens.lengths, 0.999)))
    per_token = tokens.bases / max(1, tokens.tokens - tokens.reads * tokens.special_tokens)
    brief = f"Median {quantile(tokens.lengths, 0.5)}, longest {longest} tokens."
    measured = (
        f"Median {quantile(tokens.lengths, 0.5)}, longest {longest} tokens "
        f"({per_token:.2f} bases per token; {count(tokens.reads, 'sampled read')})."
    )
    if cut >= CUT_WARN and suggested > settings.max_length:
        stops = "" if settings.truncation else " (truncation: false)"
        effect = "The end of each is cut off" if settings.truncation else "The first of them stops training"
        yield token_finding(
            id="T02",
            severity=Severity.WARN if settings.truncation else Severity.ERROR,
            title=f"{percent(cut)} of the reads are longer than tokenizer.max_length "
            f"{settings.max_length}{stops}",
            measured=cut,
            threshold=CUT_WARN,
            unit="fraction of reads",
            why=f"{effect}. {measured if settings.truncation else brief}",
            remedy=edit(facts, "Take 999 in 1,000 in full", "tokenizer.max_length", suggested),
            confidence="sampled",
        )
    elif cut >= CUT_WARN:
        kept = sum(min(length, settings.max_length) * n for length, n in tokens.lengths.items())
        lost = 1 - kept / sum(length * number for length, number in tokens.lengths.items())
        yield token_finding(
            id="T02",
            severity=Severity.WARN if settings.truncation else Severity.ERROR,
            title=f"{percent(cut)} of the reads are longer than the {settings.max_length} tokens that the "
            "encoder takes",
            measured=cut,
            threshold=CUT_WARN,
            unit="fraction of reads",
            why=f"{percent(lost)} of all tokens are cut off. {brief}"
            if settings.truncation
            else f"The first of them stops training (truncation: false). {brief}",
            remedy=run(
                "Cut the reads into pieces, each of which is then a read",
                _pieces(facts, int((settings.max_length - tokens.special_tokens) * per_token * SPARE)),
            ),
            confidence="sampled",
        )
    elif waste >= WASTE_WARN and can_be_less:
        reason = "Every read is padded to max_length" if static else "Short reads are padded to long ones"
        yield token_finding(
            id="T02",
            severity=Severity.WARN,
            title=f"{percent(waste)} of the tokens computed would be padding",
            measured=waste,
            threshold=WASTE_WARN,
            unit="fraction of tokens",
            why=f"{reason}: that much of the GPU's time is lost. {brief}",
            remedy=edit(facts, "Pad to the longest read of a batch", "tokenizer.padding", "longest")
            if static
            else edit(facts, "Batch reads of similar length", "training.group_by_length", "true"),
            confidence="sampled",
        )
    else:
        yield token_finding(
            id="T02",
            severity=Severity.INFO,
            title=f"Reads take up to {longest} tokens: max_length {settings.max_length} cuts {percent(cut)}, "
            f"{percent(waste)} of the tokens computed are padding",
            measured=longest,
            threshold=settings.max_length,
            unit="tokens",
            why=measured,
            confidence="sampled",
        )


def _pieces(facts: Facts, bases: int) -> tuple[str, ...]:
    """For one file; several would need a command each. Pieces do not overlap.

    Only for the guide's headers: of others seqkit drops what stands behind the first blank, perhaps the
    class. A mate number has to go too, because seqkit writes behind it what tells the pieces apart.
    """
    train = facts.train
    if train is None or train.stream or train.parts or facts.config.dataset.header_regex != HEADER_REGEX:
        return ()
    length = max(LENGTH_STEP, bases // 100 * 100)
    new = f"pieces.{'fa' if train.kind == 'fasta' else 'fq'}"
    cut = f"seqkit sliding --greedy --step {length} --window {length} {quote(train.path)}"
    return (f"{cut} | sed -E {quote(MATE_BEFORE_PIECE)} > {new}",)


def quantile(lengths: dict[int, int], share: float) -> int:
    """The smallest length that at least ``share`` of the reads do not exceed."""
    needed, seen = share * sum(lengths.values()), 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= needed:
            return length
    return max(lengths)


def round_up(length: int) -> int:
    return math.ceil(length / LENGTH_STEP) * LENGTH_STEP
