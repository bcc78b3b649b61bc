"""Train the demo encoder's tokenizer on the training regions, with METAGENE-1's conventions.

    python -m metagene_doctor.demo.regenerate.train_tokenizer

Byte-pair encoding, 1,024 items, the same fixed ids (0 to 11), a start-of-read marker ``_`` put before
every read, [EOS] after it, no [BOS]. Writes ``data/encoder/tokenizer.json`` and its config.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from metagene_doctor.demo.genomes import DATA, regions
from metagene_doctor.demo.inputs import READ_LENGTH, reverse_complement

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[SEP]", "[BOS]", "[EOS]", "[MASK]"]
ALPHABET = ["_", "A", "C", "G", "T", "N"]
VOCABULARY = 1024


def training_reads() -> Iterator[str]:
    """Every training region, both strands, in pieces of one read length."""
    for region in regions("train"):
        for strand in (region.sequence, reverse_complement(region.sequence)):
            for start in range(0, len(strand), READ_LENGTH):
                piece = strand[start : start + READ_LENGTH]
                if set(piece) <= set("ACGT"):
                    yield piece


def tokenizer_from(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """A byte-pair tokenizer that puts ``_`` before a read and splits at white space only."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Prepend("_")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def main() -> None:
    learner = tokenizer_from({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS) - 1,  # N is in no training read
        initial_alphabet=ALPHABET[:-1],
        limit_alphabet=len(ALPHABET) - 1,
        show_progress=False,
    )
    learner.train_from_iterator(training_reads(), trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    items = SPECIAL_TOKENS + ALPHABET + ["".join(pair) for pair in merges]
    tokenizer = tokenizer_from({item: number for number, item in enumerate(items)}, merges)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [EOS]", pair="$A [EOS] $B [EOS]", special_tokens=[("[EOS]", items.index("[EOS]"))]
    )
    directory = DATA / "encoder"
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": 512,
                "padding_side": "right",
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "eos_token": "[EOS]",
                "sep_token": "[SEP]",
                "bos_token": "[BOS]",
                "mask_token": "[MASK]",
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
