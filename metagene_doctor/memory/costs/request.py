"""From what a user types to an estimate: configuration, card, classes, lengths of the reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_doctor import rulebook
from metagene_doctor.memory.costs.batches import batches_of
from metagene_doctor.memory.costs.estimate import Estimate, estimate
from metagene_train.config import RunConfig
from metagene_train.config_file import load_config
from metagene_train.errors import ConfigError

if TYPE_CHECKING:
    from metagene_doctor.rulebook import Gpu


@dataclass(frozen=True)
class Question:
    """The options of ``metagene estimate``; None or empty is not given."""

    config: Path | None = None
    overrides: Sequence[str] = ()
    gpu: str | None = None
    gpu_mem: float | None = None
    fasta: tuple[Path, ...] = ()
    devices: int = 1


@dataclass(frozen=True)
class Prepared:
    """What an estimate is made of, and where each part comes from, in sentences."""

    config: RunConfig
    card: Gpu | None
    num_labels: int
    token_length: int
    padded_tokens: float | None
    reads: int | None
    devices: int
    origins: tuple[str, ...]
    warnings: tuple[str, ...]

    def estimate(self) -> Estimate:
        return estimate(
            self.config,
            self.card,
            num_labels=self.num_labels,
            token_length=self.token_length,
            padded_tokens=self.padded_tokens,
            reads=self.reads,
            devices=self.devices,
        )


def prepare(question: Question, progress: Callable[[int, int], None] | None = None) -> Prepared:
    """Read the configuration and the reads. Raises InputError, ConfigError or DataError."""
    loaded = load_config(question.config, question.overrides)
    config = loaded.config
    if question.fasta:
        from metagene_train.reads.access.data_set import spelled_out

        config = config.model_copy(deep=True)
        config.dataset.train_fasta = spelled_out([str(file) for file in question.fasta])
    card, card_origin = choose_card(question.gpu, question.gpu_mem)
    classes, classes_origin = _classes(config)
    batches = batches_of(config, classes, progress, asked=bool(question.fasta))
    statistics = batches.statistics
    if classes is None and statistics.reads is not None:
        classes_origin = f"{statistics.classes:,} classes found in the reads"
    return Prepared(
        config=config,
        card=card,
        num_labels=statistics.classes,
        token_length=batches.longest,
        padded_tokens=batches.padded_tokens,
        reads=statistics.reads,
        devices=question.devices,
        origins=(card_origin, classes_origin, batches.origin, statistics.origin),
        warnings=loaded.warnings,
    )


def choose_card(gpu: str | None, gpu_mem: float | None) -> tuple[Gpu | None, str]:
    """The named card, the smallest of a size, or the one of this machine; and a sentence about it."""
    from metagene_doctor.memory.measured import device

    book = rulebook.load()
    if gpu is not None or gpu_mem is not None:
        chosen = device.choose(book, gpu=gpu, gpu_mem=gpu_mem)
        return chosen.gpu, chosen.origin
    found = device.found(book)
    if found is None:
        return None, "no card named and none on this machine: --gpu NAME or --gpu-mem GB says what fits"
    return found.gpu, found.origin


def _classes(config: RunConfig) -> tuple[int | None, str]:
    dataset = config.dataset
    if isinstance(config.model.num_classes, int):
        return config.model.num_classes, f"{config.model.num_classes:,} classes (model.num_classes)"
    if dataset.mapping_tsv is None:
        return None, ""
    if not Path(dataset.mapping_tsv).expanduser().is_file():
        raise ConfigError(
            [
                f"dataset.mapping_tsv: no file {dataset.mapping_tsv}; "
                "set model.num_classes to estimate without it"
            ]
        )
    from metagene_train.labels import read_mapping

    table = read_mapping(
        dataset.mapping_tsv,
        class_column=dataset.class_column,
        label_column=dataset.label_column,
        tax_column=dataset.tax_column,
    )
    return len(table), f"{len(table):,} classes in {Path(dataset.mapping_tsv).name}"
