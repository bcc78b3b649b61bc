"""Data loaders: a data set and the order of its batches, to padded tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from metagene_train.config import RunConfig
from metagene_train.training.batching import BatchOrder, EvaluationOrder, collate
from metagene_train.training.dataset import Example, ReadDataset


class EpochLoader(DataLoader):
    """Hands the epoch on to its batch order; transformers calls `set_epoch`."""

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, BatchOrder)
        self.batch_sampler.set_epoch(epoch)


class Collate:
    """`collate` with the settings of a run; an object, because worker processes must receive it."""

    def __init__(self, pad_id: int, config: RunConfig):
        self._pad_id = pad_id
        self._padding = config.tokenizer.padding
        self._max_length = config.tokenizer.max_length

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        return collate(examples, self._pad_id, self._padding, self._max_length)


def training_loader(dataset: ReadDataset, order: BatchOrder, config: RunConfig, pad_id: int) -> EpochLoader:
    return EpochLoader(**_settings(dataset, config, pad_id), batch_sampler=order)


def evaluation_loader(
    dataset: ReadDataset, config: RunConfig, pad_id: int, *, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """Every read once over all processes, in the order of `EvaluationOrder`."""
    size = config.training.eval_batch_size or config.training.batch_size
    order = EvaluationOrder(dataset.lengths, size, rank=rank, world_size=world_size)
    return DataLoader(**_settings(dataset, config, pad_id), batch_sampler=order)


def _settings(dataset: ReadDataset, config: RunConfig, pad_id: int) -> dict[str, Any]:
    settings = config.training
    loading: dict[str, Any] = {
        "dataset": dataset,
        "collate_fn": Collate(pad_id, config),
        "num_workers": settings.num_workers,
        # Its own, so that starting a loader draws nothing from the generator that dropout draws from.
        "generator": torch.Generator(),
        "pin_memory": settings.pin_memory and config.device != "cpu" and torch.cuda.is_available(),
    }
    if settings.num_workers:
        loading |= {
            "prefetch_factor": settings.prefetch_factor,
            "persistent_workers": settings.persistent_workers,
            "worker_init_fn": _one_thread_per_worker,
        }
    return loading


def _one_thread_per_worker(worker: int) -> None:
    # Worker processes are the parallelism; the tokenizer's own threads do not survive a fork.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
