"""What the dry run foretells of a run that is about to start, to be kept beside what is measured."""

from __future__ import annotations

from typing import Any

from metagene_doctor import rulebook
from metagene_doctor.memory.device import found
from metagene_train.config import RunConfig


def foretell(config: RunConfig) -> dict[str, Any] | None:
    """The estimate of this run on the GPU of this machine, as JSON, for ``predicted.json``.

    None where no run will use a GPU, or without a mapping (the run itself says that it needs one).
    Lengths are ``tokenizer.max_length``: an upper bound when all reads are shorter.
    """
    device = None if config.device == "cpu" else found(rulebook.load())
    if device is None or config.dataset.mapping_tsv is None:
        return None
    return foretold_on(config, device.rates)


def foretold_on(config: RunConfig, card: rulebook.Gpu) -> dict[str, Any]:
    """The same on a named card. Raises what reading the mapping and the dry run raise."""
    from metagene_doctor.memory.estimate import estimate
    from metagene_train.labels import read_mapping

    settings = config.dataset
    mapping = read_mapping(
        settings.mapping_tsv or "",
        class_column=settings.class_column,
        label_column=settings.label_column,
        tax_column=settings.tax_column,
    )
    record = estimate(config, card, num_labels=len(mapping.rows)).to_dict()
    del record["memory"]["timeline"]
    return record
