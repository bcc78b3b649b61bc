"""A reads file as the checks see it: what one pass over it found, as numbers and a few examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from metagene_doctor.facts.reads.companions import Companion
from metagene_doctor.finding import Example, Frozen
from metagene_train.reads.access.data_set import title_of
from metagene_train.reads.records.formats import short_name_of

if TYPE_CHECKING:
    from metagene_train.reads.counts.bases import BaseCounts
    from metagene_train.reads.problems import Place
    from metagene_train.reads.scan import ReadScan

Role = Literal["train", "val"]


class InputFile(Frozen):
    """A reads file that was named, and why it is no reads file when it is not."""

    role: Role
    path: str
    bytes: int
    refused: str | None = None
    companions: tuple[Companion, ...] = ()
    """Index files of other tools beside it."""


class Damage(Frozen):
    """Damage of the file itself; line, record and byte (on disk) are of the first of ``count``."""

    kind: str
    message: str
    line: int | None = None
    record: int | None = None
    byte_offset: int | None = None
    count: int = 1


class Rejected(Frozen):
    """Records that training leaves out, by reason."""

    kind: str
    reason: str
    count: int
    examples: tuple[Example, ...] = ()


class Bases(Frozen):
    """Letters of reads by kind; see `metagene_train.reads.counts.bases.BaseCounts`."""

    acgt: int = 0
    lower: int = 0
    u: int = 0
    n: int = 0
    iupac: int = 0
    whitespace: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.acgt + self.lower + self.u + self.n + self.iupac + self.whitespace + self.other


class ReadsFacts(Frozen):
    """``records == accepted + rejected``. Lengths (in bases, 0 for empty reads) and letters are of all
    records with a sound structure, classes and mates of the accepted ones."""

    role: Role
    path: str
    kind: Literal["fasta", "fastq"]
    compression: str
    bytes: int
    bytes_examined: int
    partial: bool = False
    """Only some of the reads were looked at (level quick)."""
    places: int = 0
    """Places drawn at random all over the file of which those reads are (`places`); 0 when they
    are the first ones, which say nothing of the rest."""
    front_bytes: int = 0
    """Bytes from the start of the file, on disk, that hold those reads at most, where they are the first."""
    estimated_reads: int | None = None
    """Reads in the whole file, from the mean size of those at the places."""
    stream: bool = False
    """Came through a pipe or standard input, and cannot be read again."""
    indexed: bool = False
    """The pass has also written the index that training uses."""
    records: int
    accepted: int
    rejected: tuple[Rejected, ...] = ()
    damage: tuple[Damage, ...] = ()
    lengths: dict[int, int]
    bases: Bases
    lines: int = 0
    crlf_lines: int = 0
    non_ascii_headers: int = 0
    class_counts: dict[int, int]
    class_bases: dict[int, Bases] = {}
    """class -> letters of its reads; none where only some of the reads were looked at."""
    tax_ids: dict[int, dict[int, int]] = {}
    """class -> tax id in headers -> reads."""
    mates: dict[int, int] = {}
    """mate number (0 for none) -> reads."""
    readlen_mismatches: int = 0
    readlen_examples: tuple[Example, ...] = ()
    duplicate_headers: int = 0
    class_order: float | None = None
    """0 for classes in random order, 1 for a file sorted by class, None if it cannot be told."""
    headers_digest: str = ""
    """Equal for files with the same headers in any order."""
    quality_range: tuple[int, int] | None = None
    """Lowest and highest quality character (ASCII code) seen; None in FASTA."""
    first_header: str = ""
    """An example, told of headers of a pattern of one's own."""
    rejected_headers: tuple[str, ...] = ()
    """Headers that did not match, to find out what they look like instead."""
    seconds: float
    parts: tuple[ReadsFacts, ...] = ()
    """The files, where these are the facts of several (see `facts.reads.joined`); else empty."""

    @property
    def files(self) -> tuple[ReadsFacts, ...]:
        """The facts of each file."""
        return self.parts or (self,)

    def locate(self, record: int) -> tuple[ReadsFacts, int]:
        """The file that holds a record, numbered from 1 over all files, and its number there."""
        for file in self.files[:-1]:
            if record <= file.records:
                return file, record
            record -= file.records
        return self.files[-1], record

    @property
    def confidence(self) -> Literal["exact", "sampled"]:
        """Whether shares and counts are of all reads or of those that were looked at."""
        return "sampled" if self.partial else "exact"

    @property
    def expected_reads(self) -> int:
        """Usable reads of the whole file: counted, or estimated to three digits."""
        if self.parts:
            return sum(part.expected_reads for part in self.parts)
        if self.estimated_reads is None:
            return self.accepted
        estimated = self.estimated_reads * self.accepted / self.records
        return int(float(f"{estimated:.3g}"))

    @property
    def whole(self) -> bool:
        """Whether counts are those of all the data: the file was read to its end, undamaged."""
        return not self.partial and not self.damage

    @property
    def classes_unknown_because(self) -> str | None:
        """Why a class that was not seen may exist all the same; None when all classes are known."""
        if not self.accepted:
            return f"no read of {self.name} has a class (F07)"
        return None if self.whole else f"{self.name} was not read in full: a class may be in the rest"

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        if self.parts:
            return title_of([part.name for part in self.parts])
        return short_name_of(self.path)

    @property
    def bytes_unpacked(self) -> int:
        """At least this many bytes when decompressed: the bases and two characters of every header."""
        if self.parts:
            return sum(part.bytes_unpacked for part in self.parts)
        if self.compression == "none":
            return self.bytes
        return sum(length * count for length, count in self.lengths.items()) + 4 * self.records


def from_scan(role: Role, scan: ReadScan, indexed: bool, seconds: float) -> ReadsFacts:
    import numpy as np

    return ReadsFacts(
        role=role,
        path=scan.path,
        kind=scan.format.kind,
        compression=scan.format.compression,
        bytes=scan.bytes_present,
        bytes_examined=scan.bytes_examined,
        indexed=indexed,
        records=scan.records,
        accepted=scan.accepted,
        rejected=tuple(
            Rejected(
                kind=rejection.kind,
                reason=rejection.reason,
                count=rejection.count,
                examples=tuple(_example(scan.path, place) for place in rejection.examples),
            )
            for rejection in scan.rejected
        ),
        damage=tuple(
            Damage(
                kind=problem.kind,
                message=problem.message,
                line=problem.line,
                record=problem.record,
                byte_offset=problem.byte_offset,
                count=problem.count,
            )
            for problem in scan.problems
        ),
        lengths={int(length): int(scan.lengths[length]) for length in np.flatnonzero(scan.lengths)},
        bases=_bases(scan.bases),
        lines=scan.lines,
        crlf_lines=scan.crlf_lines,
        non_ascii_headers=scan.non_ascii_headers,
        class_counts=_plain(scan.class_counts),
        class_bases={int(key): _bases(bases) for key, bases in scan.class_bases.items()},
        tax_ids={int(key): _plain(counts) for key, counts in scan.tax_ids.items()},
        mates=_plain(scan.mates),
        readlen_mismatches=scan.readlen_mismatches,
        readlen_examples=tuple(_example(scan.path, place) for place in scan.readlen_examples),
        duplicate_headers=scan.duplicate_headers,
        class_order=None if scan.class_order is None else float(scan.class_order),
        headers_digest=scan.headers_digest,
        quality_range=scan.quality_range,
        rejected_headers=tuple(
            place.text
            for rejection in scan.rejected
            if rejection.kind == "header"
            for place in rejection.examples
        ),
        seconds=seconds,
    )


def _bases(counts: BaseCounts) -> Bases:
    return Bases(**{kind: getattr(counts, kind) for kind in Bases.model_fields})


def _plain(counts: Mapping[int, int]) -> dict[int, int]:
    return {int(key): int(count) for key, count in counts.items()}


def _example(path: str, place: Place) -> Example:
    return Example(file=path, line=place.line, record=place.record, text=place.text)
