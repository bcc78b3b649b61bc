"""Tiny encoders, tokenizers and read files for the tests of training."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, LlamaConfig

from metagene_train.config import RunConfig

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[SEP]", "[BOS]", "[EOS]", "[MASK]")


def tiny_architecture(**changes: object) -> LlamaConfig:
    settings: dict = {
        "vocab_size": 1024,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 3,
        "eos_token_id": 4,
    }
    return LlamaConfig(**(settings | changes))


def write_encoder(directory: Path, seed: int = 0, **changes: object) -> Path:
    """A random Llama encoder in fp32, as on the hub but tiny."""
    torch.manual_seed(seed)
    AutoModel.from_config(tiny_architecture(**changes)).save_pretrained(directory)
    return directory


def write_tokenizer(directory: Path) -> Path:
    """A BPE tokenizer with METAGENE-1's conventions: a start marker, [EOS] at the end, pad id 0."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL_TOKENS, "_", *"ACGTN"))}
    merges = [(first, second) for first in "ACGT" for second in "ACGT"]
    for first, second in merges:
        vocabulary[first + second] = len(vocabulary)
    for first in "ACGT":
        merges.append((first + "C", "GT"))
        vocabulary[first + "CGT"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Prepend("_")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [EOS]", special_tokens=[("[EOS]", vocabulary["[EOS]"])]
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def random_read(generator: random.Random, length: int, alphabet: str = "ACGT") -> str:
    return "".join(generator.choices(alphabet, k=length))


def write_reads(path: Path, count: int, *, classes: int = 3, seed: int = 0, length: int = 60) -> Path:
    """FASTA in the guide's header format; the class of a read shows in its base composition."""
    generator = random.Random(seed)
    alphabets = ["AAAAAACGT", "CCCCCCAGT", "GGGGGGACT", "TTTTTTACG"]
    with path.open("w") as file:
        for number in range(count):
            class_id = number % classes
            size = generator.randint(length // 2, length)
            read = random_read(generator, size, alphabets[class_id])
            file.write(f">lbl|{class_id + 10}|{class_id + 562}|{size}|r{seed}_{number}/1\n{read}\n")
    return path


def write_mapping(path: Path, classes: int = 3) -> Path:
    rows = [f"{number + 10}\ttaxon {number}\t{number + 562}" for number in range(classes)]
    path.write_text("\n".join(["class_id\tlabel_name\ttax_id", *rows]) + "\n")
    return path


def tiny_config(directory: Path, **overrides: object) -> RunConfig:
    """A complete run in ``directory``: encoder, tokenizer, reads, mapping; fp32 on the CPU.

    ``overrides`` are dotted keys with ``.`` written as ``__``.
    """
    config = RunConfig.model_validate(
        {
            "device": "cpu",
            "tokenizer": {"name_or_path": str(write_tokenizer(directory / "tokenizer")), "max_length": 64},
            "model": {"encoder_path": str(write_encoder(directory / "encoder"))},
            "dataset": {
                "train_fasta": str(write_reads(directory / "train.fa", 48, seed=1)),
                "val_fasta": str(write_reads(directory / "val.fa", 15, seed=2)),
                "mapping_tsv": str(write_mapping(directory / "labels.tsv")),
                "index_dir": str(directory / "index"),
            },
            "training": {
                "output_dir": str(directory / "run"),
                "batch_size": 8,
                "max_epochs": 2,
                "precision": "32",
                "pin_memory": False,
                "early_stopping": {"patience": 0},
            },
            "optimizer": {"lr": 1e-3},
            "scheduler": {"warmup_steps": 2},
            "logging": {"log_interval": 1},
        }
    )
    return change(config, **overrides)


def change(config: RunConfig, **overrides: object) -> RunConfig:
    data = config.model_dump()
    for name, value in overrides.items():
        *sections, key = name.split("__")
        part = data
        for section in sections:
            part = part[section]
        part[key] = value
    return RunConfig.model_validate(data)


def random_batch(*lengths: int, classes: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """A right-padded batch of random tokens of the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    tokens = torch.randint(6, 1024, (len(lengths), width), generator=generator)
    mask = torch.arange(width).expand(len(lengths), width) < torch.tensor(lengths).unsqueeze(1)
    labels = torch.randint(0, classes, (len(lengths),), generator=generator)
    return {
        "input_ids": torch.where(mask, tokens, 0),
        "attention_mask": mask.long(),
        "labels": labels,
    }
