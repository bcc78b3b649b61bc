"""What training and validation reads have in common: sequences, on either strand, and mates.

The validation reads are held in memory as 64-bit hashes (about 70 bytes a read in all); every
training read is streamed past them. Training reads are never sampled: a sample of 1 in 100 would
find 1 % of the copies. With 5e8 training and 5e7 validation reads, chance collisions of 64 bits
are expected to add 0.0014 matches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metagene_doctor.finding import Frozen
from metagene_train.reads.headers.pattern import ABSENT

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.reads.hashes import Look, ReadHashes
    from metagene_doctor.facts.reads.joined import Member
    from metagene_train.reads.headers.columns import HeaderColumns
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.reads.records.batches import RecordBatch


SEGMENT_READS = 10_000
"""About so many validation reads are looked for in parts: the share is then known to 0.01."""

SEGMENT_BASES = 20_000_000
"""Bases of those reads at most, 16 bytes each in memory: 10,000 reads of up to 2,000 bases."""

SEGMENTS_AT_STANDARD = 20_000_000
"""Training reads up to which the standard level compares segments (1.8 s of processor time a million
reads, 1.0 s without)."""

SEGMENT_STEP = 16
"""All segments of a validation read are known, of a training read every sixteenth: every shared
stretch of 31 + 16 - 1 = 46 bases holds one of those, on either strand."""


LARGEST_SIEVE_BITS = 26
"""Twice 64 MiB."""


class Overlap(Frozen):
    """One validation read and the training read it matches, by record number (from 1 over all files of
    a side: `ReadsFacts.locate`)."""

    val_record: int
    train_record: int


class SplitFacts(Frozen):
    same_file: bool = False
    """A file is on both sides, also under two names; nothing else was compared then."""
    shared_files: tuple[str, ...] = ()
    """Those files, as the validation reads name them."""
    val_reads: int = 0
    train_reads: int = 0
    same_reads: bool = False
    """Both sides hold the same sequences, as often, as written, in whatever order and under whatever
    names; told only where somebody watches, because only then every read is hashed."""
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
    segment_val_reads: int = 0
    """Validation reads, evenly chosen, that were looked for in parts."""
    sharing_val_reads: int = 0
    """Of those, reads that share a segment with a training read (see `SEGMENT_STEP`)."""
    lone_classes: tuple[int, ...] = ()
    """Classes without validation reads whose training reads are one fragment: a read, the mates of a
    pair, or copies of them. No split can give both sides some of it."""
    names_identify: bool = True
    """False: so many validation reads share a name that names do not tell pairs apart."""


class _Lookup:
    """Which of some held hashes have been seen elsewhere, apart by kind (strand or mate number).

    Tables of the hashes' leading and trailing bits turn away most others before they are searched for.
    """

    def __init__(self, hashes: np.ndarray, kinds: int):
        import numpy as np

        self._ordered, place = np.unique(hashes, return_inverse=True)
        self._place = place.astype(np.uint32)
        self._first = np.zeros((kinds, len(self._ordered)), dtype=np.uint32)
        bits = min(LARGEST_SIEVE_BITS, max(16, (8 * len(self._ordered)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._low = np.uint64((1 << bits) - 1)
        self._leading, self._trailing = np.zeros((2, 1 << bits), dtype=bool)
        self._leading[self._ordered >> self._shift] = True
        self._trailing[self._ordered & self._low] = True

    def see(self, hashes: np.ndarray, kinds: np.ndarray, records: np.ndarray) -> None:
        """Note reads of another file by their record number; the first per hash and kind is kept."""
        import numpy as np

        maybe = np.flatnonzero(self._leading[hashes >> self._shift])
        maybe = maybe[self._trailing[hashes[maybe] & self._low]]
        if not len(maybe):
            return
        place = np.minimum(np.searchsorted(self._ordered, hashes[maybe]), len(self._ordered) - 1)
        found = self._ordered[place] == hashes[maybe]
        rows, columns, records = kinds[maybe[found]], place[found], records[maybe[found]]
        unseen = self._first[rows, columns] == 0
        # Later assignments win, so the batch goes in backwards to keep its first read.
        self._first[rows[unseen][::-1], columns[unseen][::-1]] = records[unseen][::-1]

    def first(self, kinds: np.ndarray) -> np.ndarray:
        """uint32 [N]: for each held hash, the first record seen with it and that kind, 0 for none."""
        return self._first[kinds, self._place]


class _LoneClasses:
    """Which classes without validation reads have one fragment: all their reads share the pair's name,
    or the sequence, with the first of them."""

    def __init__(self, validated: np.ndarray):
        self._done = set(validated.tolist()) | {ABSENT}
        self._first: dict[int, tuple[int, int | None]] = {}
        """Class -> name and sequence of its first read; None where the sequence was not hashed."""

    def see(self, batch: ReadHashes) -> None:
        import numpy as np

        for class_id in set(np.unique(batch.class_ids).tolist()) - self._done:
            here = np.flatnonzero(batch.class_ids == class_id)
            names, sequences, hashed = batch.names[here], batch.sequences[here], batch.hashed[here]
            unknown = (int(names[0]), int(sequences[0]) if hashed[0] else None)
            name, sequence = self._first.setdefault(class_id, unknown)
            tied = names == name
            if sequence is not None:
                tied |= hashed & (sequences == sequence)
            if not tied.all():
                self._done.add(class_id)
                del self._first[class_id]

    def found(self) -> tuple[int, ...]:
        return tuple(sorted(self._first))


def collect(
    train: Path | Sequence[Member],
    val: Path | Sequence[Member],
    header: HeaderPattern,
    file_format: str = "auto",
    *,
    segments: bool = True,
    watch: Callable[[ReadHashes], None] | None = None,
    look: Look | None = None,
    look_at_val: Look | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SplitFacts:
    """Compare the read files of two sides; ``segments`` also in parts. ``watch`` is shown every training
    batch, ``look`` and ``look_at_val`` the reads themselves.

    Raises DataError where one of them is damaged.
    """
    import numpy as np

    from metagene_doctor.facts.reads.hashes import ReadHashes
    from metagene_doctor.facts.reads.joined import hashes_of
    from metagene_doctor.facts.reads.prefix_sieve import PrefixSieve

    if isinstance(train, Path) and isinstance(val, Path) and train.samefile(val):
        return SplitFacts(same_file=True)
    val_bases = 0

    def look_and_count(batch: RecordBatch, kept: np.ndarray, columns: HeaderColumns) -> None:
        nonlocal val_bases
        val_bases += int(batch.layout.length[kept].sum())
        if look_at_val:
            look_at_val(batch, kept, columns)

    batches = list(hashes_of(val, header, file_format, look=look_and_count))
    val_reads = sum(len(batch.records) for batch in batches)
    one_in = max(1, round(val_reads / SEGMENT_READS), -(-val_bases // SEGMENT_BASES))
    parts = _val_segments(val, header, file_format, one_in) if segments else _ValSegments.none()
    shared = _Lookup(parts.segments, kinds=1)
    held = ReadHashes(*(np.concatenate(column) for column in zip(*batches, strict=True)))
    sequences, names = _Lookup(held.sequences, kinds=2), _Lookup(held.names, kinds=3)
    lone = _LoneClasses(held.class_ids)
    train_reads, train_digest, step = 0, 0, SEGMENT_STEP if segments else 0
    # Who watches wants the hashes of all reads.
    sieve = None if watch else PrefixSieve(held.prefixes.reshape(-1))
    for batch in hashes_of(
        train, header, file_format, segment_step=step, sieve=sieve, look=look, progress=progress
    ):
        shared.see(batch.segments, _one_kind(batch.owners), batch.records[batch.owners])
        seen = np.flatnonzero(batch.hashed)
        sequences.see(batch.sequences[seen], batch.strands[seen], batch.records[seen])
        names.see(batch.names, batch.mates, batch.records)
        lone.see(batch)
        train_reads += len(batch.records)
        if watch:
            train_digest += _digest(batch)
            watch(batch)
    copy, turned = sequences.first(held.strands), sequences.first(1 - held.strands)
    mated = held.mates > 0
    mate = np.where(mated, names.first(np.where(mated, 3 - held.mates, 0)), 0)
    named = held.names ^ held.mates.astype(np.uint64)
    return SplitFacts(
        val_reads=len(held.records),
        train_reads=train_reads,
        same_reads=bool(watch)
        and train_reads == len(held.records) > 0
        and (train_digest - _digest(held)) % (1 << 64) == 0,
        same_strand=int((copy > 0).sum()),
        other_strand=int(((turned > 0) & (copy == 0)).sum()),
        sequence_examples=_examples(held.records, np.where(copy > 0, copy, turned)),
        paired_val_reads=int(mated.sum()),
        split_pairs=int((mate > 0).sum()),
        pair_examples=_examples(held.records, mate),
        segment_val_reads=parts.reads,
        sharing_val_reads=len(np.unique(parts.owners[shared.first(_one_kind(parts.owners)) > 0])),
        lone_classes=lone.found(),
        names_identify=_distinct(named) >= 0.99 * len(named),
    )


class _ValSegments(NamedTuple):
    segments: np.ndarray
    """uint64 [M]: every segment of the chosen validation reads."""
    owners: np.ndarray
    """int64 [M]: which of the chosen reads each is of."""
    reads: int

    @classmethod
    def none(cls) -> _ValSegments:
        import numpy as np

        return cls(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), 0)


def _val_segments(
    val: Path | Sequence[Member], header: HeaderPattern, file_format: str, one_in: int
) -> _ValSegments:
    """Segments of one in so many validation reads, at least of one."""
    import numpy as np

    from metagene_doctor.facts.reads.joined import hashes_of

    parts = [_ValSegments.none()]
    looked_at = 0
    for batch in hashes_of(val, header, file_format, segment_step=1, one_in=one_in):
        parts.append(_ValSegments(batch.segments, batch.owners + looked_at, 0))
        looked_at += len(batch.records)
    if not looked_at and one_in > 1:
        return _val_segments(val, header, file_format, one_in // 2)
    segments, owners, _ = zip(*parts, strict=True)
    return _ValSegments(np.concatenate(segments), np.concatenate(owners), looked_at)


def _digest(reads: ReadHashes) -> int:
    """A number that the same sequences, as written, have in any order: a sum of hashes modulo 2^64."""
    import numpy as np

    as_written = reads.sequences * (2 * reads.strands.astype(np.uint64) + np.uint64(1))
    return int(as_written.sum(dtype=np.uint64))


def _distinct(hashes: np.ndarray) -> int:
    """How many different ones there are; `numpy.unique` takes ten times as long."""
    import numpy as np

    ascending = np.sort(hashes)
    return min(1, len(hashes)) + int(np.count_nonzero(ascending[1:] != ascending[:-1]))


def _one_kind(like: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.zeros(len(like), dtype=np.int8)


def _examples(records: np.ndarray, matches: np.ndarray) -> tuple[Overlap, ...]:
    """The first five validation records with a match, which is a training record number or 0."""
    import numpy as np

    return tuple(
        Overlap(val_record=int(records[place]), train_record=int(matches[place]))
        for place in np.flatnonzero(matches)[:5]
    )
