"""Labelled reads as token ids, fetched one batch at a time from a read index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from metagene_train.config import RunConfig
from metagene_train.errors import DataError
from metagene_train.labels import LabelMap
from metagene_train.reads.bases import normalise, reverse_complement
from metagene_train.reads.joined import AnyIndex, Column, starts_of
from metagene_train.reads.records import Read
from metagene_train.tokenizer import ReadTokenizer


class Example(TypedDict):
    input_ids: list[int]
    label: int
    read: int
    """Position in the index, so that a prediction or a loss can be traced to its record."""


class ReadDataset:
    """The reads of an index, of one file or several, whose class has a label, 0..N-1 in file order.

    ``excluded_reads`` counts the reads left out because their class is not in the mapping, which
    only ``dataset.strict_classes: false`` allows. Raises DataError when strict and there are such
    reads or records without a usable header, or when nothing is left.
    """

    def __init__(self, index: AnyIndex, labels: LabelMap, tokenizer: ReadTokenizer, config: RunConfig):
        self.index = index
        self._tokenizer = tokenizer
        self._settings = config.tokenizer
        # File by file: the classes of all reads lie in no one array.
        of_files = [labels.labels_of(part.class_ids).astype(np.int32) for part in index.parts]
        every_label = of_files[0] if len(of_files) == 1 else np.concatenate(of_files)
        known = every_label >= 0
        self.excluded_reads = int(len(known) - known.sum())
        if config.dataset.strict_classes:
            _refuse_unusable(index, known)
        if not known.any():
            raise DataError(f"{index.path}: no read has a class of {config.dataset.mapping_tsv}")
        # Positions only where reads are left out: at 10^8 reads this array would be 800 MB.
        self._positions = np.flatnonzero(known) if self.excluded_reads else None
        self.labels: np.ndarray = every_label[known] if self.excluded_reads else every_label
        """Label of every read [N] int32."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Column:
        """Length of every read in bases [N]."""
        lengths = self.index.lengths
        return lengths if self._positions is None else lengths[self._positions]

    def __getitem__(self, number: int) -> Example:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        """Examples of a batch; ``~n`` stands for the reverse complement of read ``n``.

        The strand travels in the number because worker processes hold copies of this data set that
        would not learn of a new epoch.
        """
        chosen = [int(number) for number in numbers]
        own = [number if number >= 0 else ~number for number in chosen]
        sequences = self._sequences(own)
        sequences = [
            reverse_complement(sequence) if number < 0 else sequence
            for number, sequence in zip(chosen, sequences, strict=True)
        ]
        limit = self._settings.max_length if self._settings.truncation else None
        tokens = self._tokenizer.encode(sequences, limit)
        if limit is None:
            self._refuse_long(own, tokens)
        return [
            {"input_ids": ids, "label": int(self.labels[number]), "read": self._position(number)}
            for number, ids in zip(own, tokens, strict=True)
        ]

    def _position(self, number: int) -> int:
        return number if self._positions is None else int(self._positions[number])

    def _sequences(self, numbers: list[int]) -> list[bytes]:
        positions = numbers if self._positions is None else self._positions[numbers]
        return [normalise(sequence) for sequence in self.index.sequences(positions)]

    def _read(self, number: int) -> Read:
        return self.index.read(self._position(number))

    def _refuse_long(self, numbers: list[int], tokens: list[list[int]]) -> None:
        limit = self._settings.max_length
        for number, ids in zip(numbers, tokens, strict=True):
            if len(ids) > limit:
                read, path = self._read(number), self.index.path_of(self._position(number))
                raise DataError(
                    f"{path}: record {read.record} ({read.header}) has {len(ids)} tokens, more "
                    f"than tokenizer.max_length {limit}; raise it, or set tokenizer.truncation: true"
                )


def _refuse_unusable(index: AnyIndex, known: np.ndarray) -> None:
    problems = []
    starts = starts_of(index.parts)
    for part, begin, end in zip(index.parts, starts, starts[1:], strict=False):
        if part.rejection_summary:
            problems.append(f"{part.path}: {part.rejection_summary}")
        own = known[begin:end]
        if not own.all():
            class_ids, counts = np.unique(part.class_ids[~own], return_counts=True)
            listed = ", ".join(
                f"{class_id} ({count:,} reads)"
                for class_id, count in list(zip(class_ids, counts, strict=True))[:10]
            )
            more = f" and {len(class_ids) - 10} more" if len(class_ids) > 10 else ""
            problems.append(f"{part.path}: classes that are not in the mapping: {listed}{more}")
    if problems:
        remedy = "correct the file or the mapping, or set dataset.strict_classes: false to leave them out"
        raise DataError("\n".join([*problems, remedy]))
