"""Bytes a run writes to disk: checkpoints, the exported model, the download, the read index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_doctor.memory.profiling import capability
from metagene_doctor.memory.tracing.recording import Category
from metagene_doctor.memory.tracing.templates import template_of
from metagene_doctor.memory.workload import Workload
from metagene_train.config import METAGENE_1, RunConfig

if TYPE_CHECKING:
    from metagene_doctor.rulebook import Gpu


@dataclass(frozen=True)
class DiskEstimate:
    """Bytes. ``checkpoints`` is all that are kept at once; ``download`` is 0 for an encoder on disk."""

    checkpoint: int
    checkpoints: int
    model: int
    download: int
    index: int | None
    """None when the number of reads is not known."""

    @property
    def total(self) -> int:
        return self.checkpoints + self.model + self.download + (self.index or 0)


def disk(config: RunConfig, workload: Workload, *, gpu: Gpu | None, reads: int | None) -> DiskEstimate:
    """What ``config`` will write; checkpoints hold adapters, head and optimizer state, no encoder."""
    from metagene_train.reads.index.files import READ_BYTES

    template = template_of(workload.structure(), capability(gpu))
    trained = template.kept(Category.ADAPTERS, workload.dimensions)
    state = template.kept(Category.OPTIMIZER, workload.dimensions)
    settings = config.training.checkpoint
    kept = (settings.keep if settings.save_last else 0) + (1 if settings.save_best else 0)
    return DiskEstimate(
        checkpoint=trained + state,
        checkpoints=kept * (trained + state),
        model=trained,
        download=_download_bytes(config),
        index=None if reads is None else READ_BYTES * reads,
    )


def _download_bytes(config: RunConfig) -> int:
    """Size of the encoder's weight files on the hub; 0 when ``encoder_path`` is a directory."""
    path = config.model.encoder_path
    if Path(path).expanduser().is_dir():
        return 0
    if path == METAGENE_1:
        from metagene_doctor.facts.model.encoder import METAGENE_1_DOWNLOAD_BYTES

        return METAGENE_1_DOWNLOAD_BYTES
    import torch
    from transformers import AutoModelForCausalLM

    from metagene_train.encoder import encoder_architecture

    architecture = encoder_architecture(path, config.model.revision)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture)
    stored = architecture.dtype if isinstance(architecture.dtype, torch.dtype) else torch.float32
    return sum(parameter.numel() for parameter in model.parameters()) * stored.itemsize
