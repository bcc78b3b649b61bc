"""Which reads form a batch, and the padded tensors of one.

The order of a data set of any size is computed where it is needed (`read_order`), so that an epoch can
be entered at any batch. Reads of similar length share a batch: they are sorted within windows of the
shuffled order, and the batches of a window shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from metagene_train.read_order import key_of, mixed, read_order
from metagene_train.reads.access.chosen import ChosenColumn
from metagene_train.reads.access.joined import Column

WINDOW_BATCHES = 50
"""Batches per window at most: enough that the reads of a batch differ little in length."""
SORTED_TOGETHER = 1 << 20
"""Reads of an evaluation that are sorted at once, in 16 MB."""

_STRANDS = 4
"""What the coins for the strands are keyed by, beside seed and epoch; the order takes the numbers below."""


def collate(
    examples: Sequence[Mapping[str, Any]],
    pad_id: int,
    padding: Literal["longest", "max_length"],
    max_length: int,
) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` [B, L] int64, padded on the right, and ``labels`` [B] int64.

    L is the longest read of the batch, or ``max_length``.
    """
    longest = max(len(example["input_ids"]) for example in examples)
    # A read without a single token (an empty one, without special tokens) still needs a column.
    width = max_length if padding == "max_length" else max(longest, 1)
    input_ids = torch.full((len(examples), width), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(examples), width), dtype=torch.int64)
    for row, example in enumerate(examples):
        ids = example["input_ids"]
        input_ids[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        attention_mask[row, : len(ids)] = 1
    labels = torch.tensor([example["label"] for example in examples], dtype=torch.int64)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


class BatchOrder:
    """Batches of read numbers for training: a function of the seed and the epoch, nothing else.

    ``lengths`` [N] (bases or tokens) None does not group by length. ``strands`` picks a strand for
    each read in each epoch: ``~n`` is the reverse complement of read ``n``. With ``world_size``
    processes each gets its share of every global batch, all the same number of batches. The window
    with the longest read comes first and starts with its longest batch: an allocator that meets the
    largest request first fragments least, and a batch that does not fit fails at once.
    """

    def __init__(
        self,
        reads: int,
        batch_size: int,
        *,
        seed: int,
        lengths: Column | ChosenColumn | None = None,
        strands: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        self._reads = reads
        self.batch_size = batch_size
        self._seed = seed
        self._lengths = lengths
        self._strands = strands
        self._rank = rank
        self._world_size = world_size
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self._reads // self._global_batch)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(self.epoch)

    @property
    def _global_batch(self) -> int:
        return self.batch_size * self._world_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[int]]:
        """This process's batches of an epoch, from batch ``start``; whole windows are skipped unread."""
        shuffled = read_order(self._reads, self._seed, epoch)
        per_window = max(1, min(WINDOW_BATCHES, self._reads // (4 * self._global_batch)))
        windows = -(-len(self) // per_window)
        first = 0
        if self._lengths is not None:
            longest = shuffled.place_of(int(self._lengths.argmax()))
            first = longest // (per_window * self._global_batch)
        done = 0
        for step in range(windows):
            window = (first + step) % windows
            begin = window * per_window * self._global_batch
            end = min(begin + per_window * self._global_batch, self._reads)
            count = -(-(end - begin) // self._global_batch)
            if done + count > start:
                numbers = shuffled.numbers(begin, end)
                yield from self._window(numbers, epoch, window, step == 0)[max(start - done, 0) :]
            done += count

    def _window(self, numbers: np.ndarray, epoch: int, window: int, is_first: bool) -> list[list[int]]:
        generator = np.random.default_rng([self._seed, epoch, window])
        if self._lengths is not None:
            numbers = numbers[np.argsort(-self._lengths[numbers].astype(np.int64), kind="stable")]
        batches = [
            numbers[begin : begin + self._global_batch]
            for begin in range(0, len(numbers), self._global_batch)
        ]
        if self._lengths is not None:
            order = generator.permutation(np.arange(int(is_first), len(batches)))
            batches = batches[: int(is_first)] + [batches[number] for number in order]
        return [self._own_part(batch, epoch) for batch in batches]

    def _own_part(self, batch: np.ndarray, epoch: int) -> list[int]:
        if len(batch) < self._world_size:
            # Every process must take part in every step: the last few reads are then seen twice.
            batch = np.resize(batch, self._world_size)
        own = np.array_split(batch, self._world_size)[self._rank]
        if self._strands:
            coins = mixed(own.astype(np.uint64), key_of(self._seed, epoch, _STRANDS))
            own = np.where(coins & np.uint64(1), ~own, own)
        return [int(number) for number in own]


class EvaluationOrder:
    """Batches of every read once, the longest first: little padding, and the largest batch shows at once
    whether it fits.

    Of large data sets the reads of a window of the file are sorted together, and the window with the
    longest read comes first. Of ``world_size`` processes each takes every so-manyth batch.
    """

    def __init__(
        self, lengths: Column | ChosenColumn, batch_size: int, *, rank: int = 0, world_size: int = 1
    ):
        self._lengths = lengths
        self.batch_size = batch_size
        self._rank = rank
        self._world_size = world_size

    def __len__(self) -> int:
        batches = -(-len(self._lengths) // self.batch_size)
        return len(range(self._rank, batches, self._world_size))

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self._batches(), self._rank, None, self._world_size)

    def _batches(self) -> Iterator[list[int]]:
        # Whole batches, so that only the last one of the file is smaller.
        window = self.batch_size * max(1, SORTED_TOGETHER // self.batch_size)
        windows = -(-len(self._lengths) // window)
        first = int(self._lengths.argmax()) // window
        for step in range(windows):
            begin = (first + step) % windows * window
            numbers = np.arange(begin, min(begin + window, len(self._lengths)))
            order = numbers[np.argsort(-self._lengths[numbers].astype(np.int64), kind="stable")]
            for start in range(0, len(order), self.batch_size):
                yield order[start : start + self.batch_size].tolist()
