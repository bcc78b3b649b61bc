"""What training and validation reads have in common: sequences, on either strand, and mates.

The validation reads are held in memory as 64-bit hashes (about 70 bytes a read in all); every
training read is streamed past them. Training reads are never sampled: a sample of 1 in 100 would
find 1 % of the copies. With 5e8 training and 5e7 validation reads, chance collisions of 64 bits
are expected to add 0.0014 matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from metagene_doctor.facts.split.lone_classes import LoneClasses, Undecided
from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.reads.hashes import ReadHashes
    from metagene_doctor.facts.reads.prefix_sieve import PrefixSieve


SEGMENT_BASES = 20_000_000
"""Bases of the validation reads that are looked for in parts, 16 bytes each in memory: 10,000 reads, the
sample of a scan, of up to 2,000 bases. With so many the share is known to 0.01."""

SEGMENTS_AT_STANDARD = 20_000_000
"""Training reads up to which the standard level compares segments, by an estimate of their number."""

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
    names."""
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


class _Seen(NamedTuple):
    """Held hashes that were met among others."""

    kinds: np.ndarray
    """intp [M]"""
    columns: np.ndarray
    """intp [M]: which of the different held hashes."""
    places: np.ndarray
    """int64 [M]: which of the others."""


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

    def find(self, hashes: np.ndarray, kinds: np.ndarray, places: np.ndarray) -> _Seen:
        """Those of other reads that are held; changes nothing."""
        import numpy as np

        maybe = np.flatnonzero(self._leading[hashes >> self._shift])
        maybe = maybe[self._trailing[hashes[maybe] & self._low]]
        if not len(maybe):
            return _Seen(*np.zeros((3, 0), dtype=np.intp))
        column = np.minimum(np.searchsorted(self._ordered, hashes[maybe]), len(self._ordered) - 1)
        found = self._ordered[column] == hashes[maybe]
        return _Seen(kinds[maybe[found]].astype(np.intp), column[found], places[maybe[found]])

    def note(self, seen: _Seen, before: int) -> None:
        """Keep the first record seen per hash and kind. So many records came before those."""
        if not len(seen.places):
            return
        unseen = self._first[seen.kinds, seen.columns] == 0
        kinds, columns, places = (values[unseen] for values in seen)
        # Later assignments win, so the batch goes in backwards to keep its first read.
        self._first[kinds[::-1], columns[::-1]] = before + 1 + places[::-1]

    def first(self, kinds: np.ndarray) -> np.ndarray:
        """uint32 [N]: for each held hash, the first record seen with it and that kind, 0 for none."""
        return self._first[kinds, self._place]


class HeldReads:
    """The hashes of all reads of the validation side, as they come in."""

    def __init__(self) -> None:
        self._batches: list[ReadHashes] = []

    def find(self, hashes: ReadHashes) -> ReadHashes:
        """All of a batch."""
        return hashes

    def note(self, hashes: ReadHashes, before: int) -> None:
        """Those of a batch, of a side with so many records before it."""
        self._batches.append(hashes._replace(places=before + 1 + hashes.places))

    def result(self) -> ReadHashes:
        """The hashes of all reads, in order; ``places`` are their record numbers, from 1."""
        import numpy as np

        from metagene_doctor.facts.reads.hashes import ReadHashes

        batches = self._batches or [ReadHashes.none()]
        together = ReadHashes(*(np.concatenate(column) for column in zip(*batches, strict=True)))
        self._batches = [together]
        return together


class SeenInTraining(NamedTuple):
    """What a batch of training reads has in common with the validation reads."""

    segments: _Seen
    sequences: _Seen
    names: _Seen
    lone: Undecided | None
    reads: int
    turned_away: int
    """Reads that a sieve has told from all validation reads."""
    digest: int


class Comparison:
    """Training reads against held validation reads; with ``segments`` of some of them, shared stretches
    are looked for too."""

    def __init__(self, val: HeldReads, segments: ValSegments | None = None):
        self._held = val.result()
        self._parts = segments or ValSegments.none()
        self.segment_step = SEGMENT_STEP if segments else 0
        self._segments = _Lookup(self._parts.segments, kinds=1)
        self._sequences = _Lookup(self._held.sequences, kinds=2)
        self._names = _Lookup(self._held.names, kinds=3)
        self._lone = LoneClasses(self._held.class_ids)
        self._train_reads = self._turned_away = self._train_digest = 0

    def sieve(self) -> PrefixSieve:
        """Turns most other reads away, which then need not be hashed."""
        from metagene_doctor.facts.reads.prefix_sieve import PrefixSieve

        return PrefixSieve(self._held.prefixes.reshape(-1))

    def find(self, train: ReadHashes) -> SeenInTraining:
        """What a batch shares with the validation reads; changes nothing."""
        import numpy as np

        hashed = np.flatnonzero(train.hashed)
        return SeenInTraining(
            self._segments.find(train.segments, _one_kind(train.owners), train.places[train.owners]),
            self._sequences.find(train.sequences[hashed], train.strands[hashed], train.places[hashed]),
            self._names.find(train.names, train.mates, train.places),
            self._lone.find(train),
            len(train.places),
            len(train.places) - len(hashed),
            _digest(train),
        )

    def note(self, seen: SeenInTraining, before: int) -> None:
        """What was found in a batch, of a side with so many records before it."""
        self._segments.note(seen.segments, before)
        self._sequences.note(seen.sequences, before)
        self._names.note(seen.names, before)
        self._lone.note(seen.lone)
        self._train_reads += seen.reads
        self._turned_away += seen.turned_away
        self._train_digest += seen.digest

    def result(self) -> SplitFacts:
        """What all batches so far have in common with the validation reads."""
        import numpy as np

        held, parts = self._held, self._parts
        copy, turned = self._sequences.first(held.strands), self._sequences.first(1 - held.strands)
        mated = held.mates > 0
        mate = np.where(mated, self._names.first(np.where(mated, 3 - held.mates, 0)), 0)
        named = held.names ^ held.mates.astype(np.uint64)
        return SplitFacts(
            val_reads=len(held.places),
            train_reads=self._train_reads,
            same_reads=not self._turned_away
            and self._train_reads == len(held.places) > 0
            and (self._train_digest - _digest(held)) % (1 << 64) == 0,
            same_strand=int((copy > 0).sum()),
            other_strand=int(((turned > 0) & (copy == 0)).sum()),
            sequence_examples=_examples(held.places, np.where(copy > 0, copy, turned)),
            paired_val_reads=int(mated.sum()),
            split_pairs=int((mate > 0).sum()),
            pair_examples=_examples(held.places, mate),
            segment_val_reads=parts.reads,
            sharing_val_reads=len(np.unique(parts.owners[self._segments.first(_one_kind(parts.owners)) > 0])),
            lone_classes=self._lone.result(),
            names_identify=_distinct(named) >= 0.99 * len(named),
        )


class ValSegments(NamedTuple):
    segments: np.ndarray
    """uint64 [M]: every segment of the chosen validation reads."""
    owners: np.ndarray
    """int64 [M]: which of the chosen reads each is of."""
    reads: int

    @classmethod
    def none(cls) -> ValSegments:
        return cls.of((), 0)

    @classmethod
    def of(cls, sample: Sequence[bytes], most_bases: int = SEGMENT_BASES) -> ValSegments:
        """Of an even sample of the validation reads; of every so-manieth if they have too many bases."""
        from metagene_doctor.facts.reads.hashes import segments_of

        every = max(1, -(-sum(map(len, sample)) // most_bases)) if sample else 1
        chosen = sample[::every]
        return cls(*segments_of(chosen), len(chosen))


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
