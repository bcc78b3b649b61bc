"""From what a user types to a `Request`: configuration, device, reads, classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from metagene_doctor import rulebook
from metagene_doctor.configuration.own_encoder import tokenizer_beside
from metagene_doctor.memory.costs import read_lengths
from metagene_doctor.memory.measured import device
from metagene_doctor.rulebook.schema import Policy
from metagene_doctor.tuning.search import Request, with_values
from metagene_doctor.tuning.speed import Architecture
from metagene_train.config import METAGENE_1, RunConfig
from metagene_train.config_file import load_config
from metagene_train.errors import InputError


@dataclass(frozen=True)
class Wishes:
    """The options of ``metagene autotune``; None or empty is not given."""

    config: Path | None = None
    fasta: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    mapping: Path | None = None
    header_regex: str | None = None
    encoder: str | None = None
    tokenizer: str | None = None
    index_dir: Path | None = None
    gpu: str | None = None
    gpu_mem: float | None = None
    cpu: bool = False
    goal: str = "balanced"
    policy: Policy = "evidence"
    devices: int = 1
    max_truncation: float | None = None
    epochs: float | None = None
    rules: Path | None = None


@dataclass(frozen=True)
class Asked:
    """A request, the keys that the user set himself, and warnings about his configuration."""

    request: Request
    given: frozenset[str]
    warnings: tuple[str, ...]


def build(wishes: Wishes, progress: Callable[[int, int], None] | None = None) -> Asked:
    """Read everything a search needs. ``progress`` is told bytes done and in all while a file is indexed.

    Raises InputError, ConfigError or DataError for what cannot be read or understood.
    """
    from metagene_train.encoder import encoder_architecture

    book = rulebook.load(wishes.rules)
    loaded = load_config(wishes.config)
    if loaded.config.device == "cpu" and (wishes.gpu or wishes.gpu_mem):
        raise InputError(
            f"{wishes.config} says device: cpu, and a card is named: take that line out, or name no card"
        )
    if loaded.config.device == "cuda" and wishes.cpu:
        raise InputError(f"{wishes.config} says device: cuda, and --device cpu: take one of them out")
    paths = _paths(wishes, loaded.config, set(loaded.lines))
    try:
        base = with_values(loaded.config, paths)
    except ValidationError as error:
        # Of what the options set, the header pattern alone can be malformed.
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--header-regex {reason}") from None
    architecture = Architecture.of(
        encoder_architecture(base.model.encoder_path, base.model.revision), base.model.encoder_layers
    )
    target = device.choose(
        book, gpu=wishes.gpu, gpu_mem=wishes.gpu_mem, cpu=wishes.cpu or base.device == "cpu"
    )
    if target.gpu is None and wishes.devices > 1:
        raise InputError(
            f"--gpus {wishes.devices}: tuning is for a processor here; name the cards with --gpu or --gpu-mem"
        )
    classes = _classes(base)
    statistics = (
        read_lengths.measure(base, classes, progress)
        if base.dataset.train_fasta
        else read_lengths.assumed(classes)
    )
    request = Request(
        base=base,
        book=book,
        device=target,
        architecture=architecture,
        reads=statistics,
        goal=wishes.goal,
        policy=wishes.policy,
        devices=wishes.devices,
        max_truncation=wishes.max_truncation,
        epochs=wishes.epochs,
    )
    return Asked(request, frozenset(loaded.lines) | frozenset(paths), loaded.warnings)


def _paths(wishes: Wishes, config: RunConfig, given: set[str]) -> dict[str, str | list[str]]:
    """Configuration keys that options of the command line set; paths absolute, so that the file can move."""
    from metagene_train.reads.access.data_set import distinct_files
    from metagene_train.reads.records.formats import sniff

    values: dict[str, str | list[str]] = {}
    for key, named in (("dataset.train_fasta", wishes.fasta), ("dataset.val_fasta", wishes.val)):
        files = distinct_files(named)
        for file in files:
            sniff(file, config.dataset.file_format)
        if files:
            absolute = [str(file.absolute()) for file in files]
            values[key] = absolute[0] if len(absolute) == 1 else absolute
    if wishes.cpu:
        values["device"] = "cpu"
    if wishes.mapping is not None:
        values["dataset.mapping_tsv"] = str(wishes.mapping.absolute())
    if wishes.encoder is not None:
        directory = Path(wishes.encoder).expanduser()
        if wishes.encoder != METAGENE_1 and not (directory / "config.json").is_file():
            raise InputError(
                f"--encoder {wishes.encoder}: not a directory with an encoder's config.json, nor {METAGENE_1}"
            )
        encoder = str(directory.absolute()) if directory.is_dir() else wishes.encoder
        values["model.encoder_path"] = encoder
        if (own := tokenizer_beside(encoder, config, given)) is not None:
            values["tokenizer.name_or_path"] = own
    if wishes.tokenizer is not None:
        local = Path(wishes.tokenizer).expanduser()
        values["tokenizer.name_or_path"] = str(local.absolute()) if local.exists() else wishes.tokenizer
    if wishes.header_regex is not None:
        values["dataset.header_regex"] = wishes.header_regex
    if wishes.index_dir is not None:
        values["dataset.index_dir"] = str(wishes.index_dir.absolute())
    return values


def _classes(config: RunConfig) -> int | None:
    """Classes of the head: those of the mapping, or the number the configuration names."""
    from metagene_train.labels import read_mapping

    dataset = config.dataset
    if dataset.mapping_tsv is not None:
        table = read_mapping(
            dataset.mapping_tsv,
            class_column=dataset.class_column,
            label_column=dataset.label_column,
            tax_column=dataset.tax_column,
        )
        return len(table)
    return config.model.num_classes if isinstance(config.model.num_classes, int) else None
