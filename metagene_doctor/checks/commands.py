"""The commands that go on with the config, reads and card that the doctor was asked about."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from shlex import quote

from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts, Role
from metagene_train.config import HEADER_REGEX, METAGENE_1, ReadsFiles

Sides = Mapping[Role, Sequence[str]]
"""The files of a side, where a command is to take others than the doctor did."""

READS: dict[Role, str] = {"train": "dataset.train_fasta", "val": "dataset.val_fasta"}

OPTIONS = {
    "--fasta": READS["train"],
    "--val": READS["val"],
    "--mapping": "dataset.mapping_tsv",
    "--header-regex": "dataset.header_regex",
    "--encoder": "model.encoder_path",
    "--tokenizer": "tokenizer.name_or_path",
    "--index-dir": "dataset.index_dir",
}
"""Option of doctor and autotune -> the key of the config that it overrides."""


def autotune_command(facts: Facts, card: str | None = None, sides: Sides | None = None) -> str:
    """The command that searches settings for the same config and reads, and for the same card unless
    another is given as an option."""
    parts = ["metagene autotune"]
    if card is None and facts.target is not None:
        card = facts.target.option
    if card:
        parts.append(card)
    told = _told(facts, sides)
    if facts.run.path is not None:
        parts.append(f"--config {quote(facts.run.path)}")
        told = {key: values for key, values in told.items() if key in _beside_the_config(facts, sides)}
    elif told.get("tokenizer.name_or_path") == told.get("model.encoder_path"):
        # An encoder that is named brings the tokenizer beside it.
        told.pop("tokenizer.name_or_path", None)
    parts += [f"{option} {quote(value)}" for option, key in OPTIONS.items() for value in told.get(key, ())]
    return " ".join([*parts, "-o recommended.yaml"])


def train_command(facts: Facts, *, resume: bool = False, sides: Sides | None = None) -> str:
    """The command that trains with the config, with the keys that options had set instead of it."""
    told = _told(facts, sides)
    words = ["metagene train --config", quote(facts.run.path or "run.yaml")]
    for key in _beside_the_config(facts, sides):
        values = told.get(key, ())
        words.append(quote(f"{key}={as_yaml(values[0] if len(values) == 1 else list(values))}"))
    return " ".join([*words, *(["--resume"] if resume else [])])


def as_yaml(value: str | list[str]) -> str:
    """A value of the config on a command line: KEY=VALUE."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_/][\w./-]*", value)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def _beside_the_config(facts: Facts, sides: Sides | None) -> list[str]:
    """Keys that are not as the config file says."""
    return list(dict.fromkeys([*facts.run.overridden, *(READS[role] for role in sides or ())]))


def _told(facts: Facts, sides: Sides | None) -> dict[str, Sequence[str]]:
    """Key -> its values, for keys that options set or that are not the usual ones."""
    config = facts.run.config
    dataset, encoder, tokenizer = config.dataset, config.model.encoder_path, config.tokenizer.name_or_path
    told: dict[str, Sequence[str]] = {
        READS["train"]: _paths(facts.train, dataset.train_fasta, "train.fa"),
        READS["val"]: _paths(facts.val, dataset.val_fasta, "val.fa"),
        "dataset.mapping_tsv": [dataset.mapping_tsv] if dataset.mapping_tsv else [],
        "dataset.header_regex": [dataset.header_regex],
        "model.encoder_path": [encoder],
        "tokenizer.name_or_path": [tokenizer],
        "dataset.index_dir": [dataset.index_dir] if dataset.index_dir else [],
    }
    usual = {
        "dataset.header_regex": dataset.header_regex == HEADER_REGEX,
        "model.encoder_path": encoder == METAGENE_1,
        "tokenizer.name_or_path": tokenizer == encoder,
    }
    told = {key: values for key, values in told.items() if key in facts.run.overridden or not usual.get(key)}
    return told | {READS[role]: files for role, files in (sides or {}).items()}


def _paths(side: ReadsFacts | None, named: ReadsFiles | None, saved_as: str) -> list[str]:
    """The files of one side, as they were named where they were not looked at. What came through a pipe
    has to be saved under some name first."""
    if side is not None:
        return [saved_as if file.stream else file.path for file in side.files]
    names = [named] if isinstance(named, str) else named or []
    return [saved_as if name == "-" else name for name in names]
