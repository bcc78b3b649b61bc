"""Labelled reads as token ids, fetched one batch at a time from a read index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from metagene_train.config import RunConfig
from metagene_train.errors import DataError
from metagene_train.labels import LabelMap
from metagene_train.reads.access.chosen import ChosenColumn, ChosenReads
from metagene_train.reads.access.joined import AnyIndex, JoinedColumn, pieces_of
from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.counts.bases import normalise, reverse_complement
from metagene_train.tokenizer import ReadTokenizer


class Example(TypedDict):
    input_ids: list[int]
    label: int
    read: int
    """Position in the index, so that a prediction or a loss can be traced to its record."""


class ReadDataset:
    """The reads of an index, of one file or several, whose class has a label, 0..N-1 in file order.

    Nothing is held per read but a bit, and that only where reads are left out; labels of a batch are
    looked up when it is fetched.

    ``excluded_reads`` counts the reads left out because their class is not in the mapping, which only
    ``dataset.strict_classes: false`` allows. Raises DataError when strict and there are such reads or
    records without a usable header, or when nothing is left.
    """

    def __init__(self, index: AnyIndex, labels: LabelMap, tokenizer: ReadTokenizer, config: RunConfig):
        self.index = index
        self._tokenizer = tokenizer
        self._settings = config.tokenizer
        self._labels = labels
        self.label_counts = np.zeros(len(labels), dtype=np.int64)
        """Reads of every label [K] int64."""
        foreign = [_unknown_classes(part, labels, self.label_counts) for part in index.parts]
        self._reads = int(self.label_counts.sum())
        self.excluded_reads = len(index) - self._reads
        if config.dataset.strict_classes:
            _refuse_unusable(index, foreign)
        if not self._reads:
            raise DataError(
                f"{index.path}: no read has a class of {config.dataset.mapping_tsv}; does "
                "dataset.header_regex take the class from the right place?"
            )
        self._chosen = _known_reads(index, labels) if self.excluded_reads else None

    def __len__(self) -> int:
        return self._reads

    @property
    def lengths(self) -> JoinedColumn | ChosenColumn:
        """Length of every read in bases [N]."""
        lengths = JoinedColumn([part.lengths for part in self.index.parts])
        return lengths if self._chosen is None else ChosenColumn(lengths, self._chosen)

    def __getitem__(self, number: int) -> Example:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        """Examples of a batch; ``~n`` stands for the reverse complement of read ``n``.

        The strand travels in the number because worker processes hold copies of this data set that
        would not learn of a new epoch.
        """
        chosen = [int(number) for number in numbers]
        positions = self._positions([number if number >= 0 else ~number for number in chosen])
        sequences = [normalise(sequence) for sequence in self.index.sequences(positions)]
        sequences = [
            reverse_complement(sequence) if number < 0 else sequence
            for number, sequence in zip(chosen, sequences, strict=True)
        ]
        limit = self._settings.max_length if self._settings.truncation else None
        tokens = self._tokenizer.encode(sequences, limit)
        if limit is None:
            self._refuse_long(positions, tokens)
        labels = self._labels.labels_of(self.index.class_ids[positions])
        return [
            {"input_ids": ids, "label": label, "read": position}
            for ids, label, position in zip(tokens, labels.tolist(), positions.tolist(), strict=True)
        ]

    def _positions(self, numbers: list[int]) -> np.ndarray:
        asked = np.asarray(numbers, dtype=np.int64)
        return asked if self._chosen is None else self._chosen.positions(asked)

    def _refuse_long(self, positions: np.ndarray, tokens: list[list[int]]) -> None:
        limit = self._settings.max_length
        for position, ids in zip(positions.tolist(), tokens, strict=True):
            if len(ids) > limit:
                read, path = self.index.read(position), self.index.path_of(position)
                raise DataError(
                    f"{path}: record {read.record} ({read.header}) has {len(ids)} tokens, more "
                    f"than tokenizer.max_length {limit}; raise it, or set tokenizer.truncation: true"
                )


def _unknown_classes(part: ReadIndex, labels: LabelMap, label_counts: np.ndarray) -> dict[int, int]:
    """Reads of the classes of a file that have no label; those of others are added to ``label_counts``."""
    unknown: Counter[int] = Counter()
    for _, class_ids in pieces_of(part.class_ids):
        found = labels.labels_of(class_ids)
        known = found >= 0
        label_counts += np.bincount(found[known], minlength=len(labels))
        if not known.all():
            foreign, counts = np.unique(class_ids[~known], return_counts=True)
            unknown.update(dict(zip(foreign.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(unknown.items()))


def _known_reads(index: AnyIndex, labels: LabelMap) -> ChosenReads:
    bits = np.zeros(-(-len(index) // 8), dtype=np.uint8)
    for begin, class_ids in pieces_of(index.class_ids):
        # The piece may begin within a byte, where the file before ended.
        known = np.concatenate([np.zeros(begin % 8, dtype=bool), labels.labels_of(class_ids) >= 0])
        packed = np.packbits(known)
        bits[begin // 8 : begin // 8 + len(packed)] |= packed
    return ChosenReads(bits)


def _refuse_unusable(index: AnyIndex, foreign: Sequence[dict[int, int]]) -> None:
    problems = []
    for part, unknown in zip(index.parts, foreign, strict=True):
        if part.rejection_summary:
            problems.append(f"{part.path}: {part.rejection_summary}")
        if unknown:
            listed = ", ".join(
                f"{class_id} ({count:,} reads)" for class_id, count in list(unknown.items())[:10]
            )
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            problems.append(f"{part.path}: classes that are not in the mapping: {listed}{more}")
    if problems:
        remedy = "correct the file or the mapping, or set dataset.strict_classes: false to leave them out"
        raise DataError("\n".join([*problems, remedy]))
