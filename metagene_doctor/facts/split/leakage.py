"""What training and validation reads have in common: sequences, on either strand, and mates.

The validation reads are held in memory as 64-bit hashes (5 million take 0.8 GB at the peak); every
training read is streamed past them. Training reads are never sampled: a sample of 1 in 100 would
find 1 % of the copies. With 5e8 training and 5e7 validation reads, chance collisions of 64 bits
are expected to add 0.0014 matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from metagene_doctor.facts.split.held_reads import Held, HeldReads
from metagene_doctor.facts.split.lone_classes import LoneClasses, Undecided
from metagene_doctor.facts.split.lookup import Lookup, Met
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


class SeenInTraining(NamedTuple):
    """What a batch of training reads has in common with the validation reads."""

    segments: Met
    sequences: Met
    names: Met
    lone: Undecided | None
    reads: int
    turned_away: int
    """Reads that a sieve has told from all validation reads."""
    digest: int


class Comparison:
    """Training reads against held validation reads; with ``segments`` of some of them, shared stretches
    are looked for too."""

    def __init__(self, val: HeldReads, segments: ValSegments | None = None):
        """The reads are no longer held by ``val`` then."""
        import numpy as np

        held = val.release()
        self._parts = segments or ValSegments.none()
        self._records, self._strands, self._mates = held.records, held.strands, held.mates
        self._prefixes, self._validated = held.prefixes, val.classes
        self._digest = _digest(held)
        named = held.names ^ held.mates.astype(np.uint64)
        self._names_identify = _distinct(named) >= 0.99 * len(named)
        self.segment_step = SEGMENT_STEP if segments else 0
        self._segments = Lookup(self._parts.segments, kinds=1)
        self._sequences = Lookup(held.sequences, kinds=2)
        self._names = Lookup(held.names, kinds=3)
        self.forget()

    def forget(self) -> None:
        """As if no training read had been seen."""
        for lookup in (self._segments, self._sequences, self._names):
            lookup.forget()
        self._lone = LoneClasses(self._validated)
        self._train_reads = self._turned_away = self._train_digest = 0

    def sieve(self) -> PrefixSieve:
        """Turns most other reads away, which then need not be hashed. For reads held with prefixes."""
        from metagene_doctor.facts.reads.prefix_sieve import PrefixSieve

        return PrefixSieve(self._prefixes.reshape(-1))

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

        strands, mates, parts = self._strands, self._mates, self._parts
        copy, turned = self._sequences.first(strands), self._sequences.first(1 - strands)
        mate = np.where(mates > 0, self._names.first(np.where(mates > 0, 3 - mates, 0)), 0)
        return SplitFacts(
            val_reads=len(self._records),
            train_reads=self._train_reads,
            same_reads=not self._turned_away
            and self._train_reads == len(self._records) > 0
            and (self._train_digest - self._digest) % (1 << 64) == 0,
            same_strand=int((copy > 0).sum()),
            other_strand=int(((turned > 0) & (copy == 0)).sum()),
            sequence_examples=_examples(self._records, np.where(copy > 0, copy, turned)),
            paired_val_reads=int((mates > 0).sum()),
            split_pairs=int((mate > 0).sum()),
            pair_examples=_examples(self._records, mate),
            segment_val_reads=parts.reads,
            sharing_val_reads=len(np.unique(parts.owners[self._segments.first(_one_kind(parts.owners)) > 0])),
            lone_classes=self._lone.result(),
            names_identify=self._names_identify,
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


def _digest(reads: ReadHashes | Held) -> int:
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
