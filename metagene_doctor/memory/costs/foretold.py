"""What the dry run foretells of a run that is about to start, to be kept beside what is measured."""

from __future__ import annotations

import os
from typing import Any

from metagene_doctor import rulebook
from metagene_doctor.memory.measured.device import found, host
from metagene_train.config import RunConfig


def foretell(config: RunConfig) -> dict[str, Any] | None:
    """The estimate of this run on the GPU of this machine, or its processor, as JSON, for ``predicted.json``.

    None without a mapping (the run itself says that it needs one). Lengths are those of the run's training
    reads. A processor's record has no memory: what is modelled is the allocator of a GPU. Memory is that
    of one process, speed that of all that a launcher (torchrun) has started.
    """
    if config.dataset.mapping_tsv is None:
        return None
    card = None if config.device == "cpu" else found(rulebook.load())
    if card is not None:
        return foretold_on(config, card.rates, int(os.environ.get("WORLD_SIZE", "1")))
    # Processes on one processor share it, so its speed is that of all of them.
    record = foretold_on(config, host().rates)
    unknown = ("memory", "fits", "devices", "effective_batch")
    return {key: value for key, value in record.items() if key not in unknown}


def foretold_on(config: RunConfig, card: rulebook.Gpu, devices: int = 1) -> dict[str, Any]:
    """The same on so many of a named card. Raises what reading the mapping and the dry run raise."""
    from metagene_doctor.memory.costs.batches import batches_of
    from metagene_doctor.memory.costs.estimate import estimate
    from metagene_train.labels import read_mapping

    settings = config.dataset
    mapping = read_mapping(
        settings.mapping_tsv or "",
        class_column=settings.class_column,
        label_column=settings.label_column,
        tax_column=settings.tax_column,
    )
    classes = len(mapping.rows)
    batches = batches_of(config, classes)
    record = estimate(
        config,
        card,
        num_labels=classes,
        token_length=batches.longest,
        padded_tokens=batches.padded_tokens,
        reads=batches.statistics.reads,
        devices=devices,
    ).to_dict()
    del record["memory"]["timeline"]
    return record
