"""What training and validation reads have in common: sequences, on either strand, and mates.

The validation reads are held in memory as 64-bit hashes (17 bytes a read); every training read is
streamed past them. Training reads are never sampled: a sample of 1 in 100 would find 1 % of the
copies. With 5e8 training and 5e7 validation reads, chance collisions of 64 bits are expected to
add 0.0014 matches.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    import numpy as np

BATCH = 1 << 16

_COMMENT_MATE = re.compile(r"^(\S+) ([12]):[YN]:")


class Overlap(Frozen):
    """One validation read and the training read it matches, by record number (from 1)."""

    val_record: int
    train_record: int


class SplitFacts(Frozen):
    same_file: bool = False
    """Both names lead to the same file; nothing else was compared then."""
    val_reads: int = 0
    train_reads: int = 0
    same_strand: int = 0
    """Validation reads whose sequence is also a training read's."""
    other_strand: int = 0
    """Validation reads whose reverse complement is a training read's, and that are not themselves."""
    sequence_examples: tuple[Overlap, ...] = ()
    paired_val_reads: int = 0
    """Validation reads whose header carries a mate number."""
    split_pairs: int = 0
    """Of those, reads whose mate is a training read."""
    pair_examples: tuple[Overlap, ...] = ()
    names_identify: bool = True
    """False: so many validation reads share a name that names do not tell pairs apart."""


class _Hashed(NamedTuple):
    sequences: np.ndarray
    """uint64 [N]: hash of the sequence or of its reverse complement, whichever sorts first."""
    strands: np.ndarray
    """int8 [N]: 1 where that was the reverse complement, else 0."""
    names: np.ndarray
    """uint64 [N]: hash of the header without its mate number."""
    mates: np.ndarray
    """int8 [N]: mate number, 0 for none."""


class _Lookup:
    """Which of some held hashes have been seen elsewhere, apart by kind (strand or mate number)."""

    def __init__(self, hashes: np.ndarray, kinds: int):
        import numpy as np

        self._ordered, self._place = np.unique(hashes, return_inverse=True)
        self._first = np.full((kinds, len(self._ordered)), -1, dtype=np.int64)

    def see(self, hashes: np.ndarray, kinds: np.ndarray, numbers: np.ndarray) -> None:
        """Note reads of another file by their ``numbers``; the first read per hash and kind is kept."""
        import numpy as np

        place = np.minimum(np.searchsorted(self._ordered, hashes), len(self._ordered) - 1)
        found = self._ordered[place] == hashes
        rows, columns, numbers = kinds[found], place[found], numbers[found]
        unseen = self._first[rows, columns] < 0
        # Later assignments win, so the batch goes in backwards to keep its first read.
        self._first[rows[unseen][::-1], columns[unseen][::-1]] = numbers[unseen][::-1]

    def first(self, kinds: np.ndarray) -> np.ndarray:
        """int64 [N]: for each held hash, the first read seen with it and with that kind, or -1."""
        return self._first[kinds, self._place]


def collect(train: Path, val: Path, file_format: str = "auto") -> SplitFacts:
    """Compare two read files. Raises DataError where one of them is damaged."""
    import numpy as np

    if os.path.samefile(train, val):
        return SplitFacts(same_file=True)
    held = _Hashed(*(np.concatenate(column) for column in zip(*_hashes(val, file_format), strict=True)))
    sequences, names = _Lookup(held.sequences, kinds=2), _Lookup(held.names, kinds=3)
    train_reads = 0
    for batch in _hashes(train, file_format):
        numbers = np.arange(train_reads, train_reads + len(batch.sequences))
        sequences.see(batch.sequences, batch.strands, numbers)
        names.see(batch.names, batch.mates, numbers)
        train_reads += len(numbers)
    copy, turned = sequences.first(held.strands), sequences.first(1 - held.strands)
    mated = held.mates > 0
    mate = np.where(mated, names.first(np.where(mated, 3 - held.mates, 0)), -1)
    named = held.names ^ held.mates.astype(np.uint64)
    return SplitFacts(
        val_reads=len(held.names),
        train_reads=train_reads,
        same_strand=int((copy >= 0).sum()),
        other_strand=int(((turned >= 0) & (copy < 0)).sum()),
        sequence_examples=_examples(np.where(copy >= 0, copy, turned)),
        paired_val_reads=int(mated.sum()),
        split_pairs=int((mate >= 0).sum()),
        pair_examples=_examples(mate),
        names_identify=len(np.unique(named)) >= 0.99 * len(named),
    )


def _examples(matches: np.ndarray) -> tuple[Overlap, ...]:
    """The first five validation reads with a match, which is a training read counted from 0."""
    import numpy as np

    return tuple(
        Overlap(val_record=int(val) + 1, train_record=int(matches[val]) + 1)
        for val in np.flatnonzero(matches >= 0)[:5]
    )


def _hashes(path: Path, file_format: str) -> Iterator[_Hashed]:
    """Batches of hashes of every read of a file, in order.

    Python's own hash of bytes (SipHash, 64 bits) is keyed anew in every process, which does no harm
    as hashes do not leave it.
    """
    import numpy as np

    from metagene_train.reads.bases import normalise, reverse_complement
    from metagene_train.reads.records import iter_reads

    reads = iter_reads(path, file_format=file_format)
    while batch := list(islice(reads, BATCH)):
        sequences, turned, names, mates = [], [], [], []
        for read in batch:
            forward = normalise(read.sequence)
            backward = reverse_complement(forward)
            sequences.append(hash(min(forward, backward)))
            turned.append(backward < forward)
            name, mate = split_mate(read.header)
            names.append(hash(name))
            mates.append(mate)
        yield _Hashed(
            np.array(sequences, dtype=np.int64).view(np.uint64),
            np.array(turned, dtype=np.int8),
            np.array(names, dtype=np.int64).view(np.uint64),
            np.array(mates, dtype=np.int8),
        )


def split_mate(header: str) -> tuple[str, int]:
    """A header without its mate number, and the number: ``name/1`` and ``name 1:N:0``; 0 for none."""
    if header[-2:-1] == "/" and header[-1] in "12":
        return header[:-2], int(header[-1])
    match = _COMMENT_MATE.match(header)
    return (match[1], int(match[2])) if match else (header, 0)
