"""A large reads file at level quick: seconds, whatever its size.

A plain or BGZF file is looked at in many places all over it (`places`), one compressed otherwise from
its start. What these reads show is there. What they do not show can be bounded in the first case and
is unknown in the second; no class is ever called absent and no name unique.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_doctor.facts.reads.facts import Bases, Damage, ReadsFacts, Rejected, Role, from_scan
from metagene_doctor.facts.reads.places import Pieces, read_pieces
from metagene_doctor.finding import Example
from metagene_train.errors import DataError

if TYPE_CHECKING:
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.reads.records.formats import ReadFormat

PEEKED_READS = 100_000
"""Reads looked at from the start of a file that cannot be entered elsewhere."""

SECONDS = 8.0
"""And for so long at most."""

SAMPLE_READS = 10_000


def look_quickly(
    role: Role, path: Path, header: HeaderPattern, file_format: str
) -> tuple[ReadsFacts, tuple[bytes, ...]]:
    """What some of the reads of a file show, and a sample of their sequences."""
    from metagene_train.reads.records.formats import sniff

    started = time.perf_counter()
    form = sniff(path, file_format)
    blocked = form.compression == "bgzf"
    pieces = read_pieces(path, form.kind, blocked=blocked) if blocked or form.compression == "none" else None
    if pieces is None:
        return peek(role, path, header, file_format)
    facts, sample = _scan_pieces(role, path, header, form, pieces)
    return facts.model_copy(update={"seconds": time.perf_counter() - started}), sample


def _scan_pieces(
    role: Role, path: Path, header: HeaderPattern, form: ReadFormat, pieces: Pieces
) -> tuple[ReadsFacts, tuple[bytes, ...]]:
    """The same scan as of a whole file, over a file of the pieces; places are then those of the original."""
    from metagene_train.reads.scan import scan

    joined = b"".join(piece.records for piece in pieces.pieces)
    with tempfile.NamedTemporaryFile(prefix="metagene-sample-") as file:
        file.write(joined)
        file.flush()
        found = scan(file.name, header=header, file_format=form.kind)
    facts = from_scan(role, found, indexed=False, seconds=0.0)
    size = path.stat().st_size

    def moved(example: Example) -> Example:
        near = "block at byte" if pieces.blocked else "byte"
        where = "" if example.line is None else f"{near} {pieces.offset_of_line(example.line):,}: "
        return Example(file=str(path), text=where + example.text)

    def placed(damage: Damage) -> Damage:
        if damage.line is None:
            return damage
        return Damage(
            kind=damage.kind,
            message=damage.message,
            byte_offset=pieces.offset_of_line(damage.line),
            count=damage.count,
        )

    changes = {
        "path": str(path),
        "bytes": size,
        "compression": form.compression,
        "bytes_examined": round(min(1.0, len(joined) / pieces.unpacked_bytes) * size),
        "partial": True,
        "places": pieces.places,
        "estimated_reads": round(pieces.unpacked_bytes / len(joined) * found.records),
        "rejected": tuple(
            rejected.model_copy(update={"examples": tuple(map(moved, rejected.examples))})
            for rejected in facts.rejected
        ),
        "damage": (*pieces.damage, *map(placed, facts.damage), *_end_of_blocks(path, form)),
        "readlen_examples": tuple(map(moved, facts.readlen_examples)),
        # Pieces may overlap, and the rest of the file may hold any name again.
        "duplicate_headers": 0,
        "headers_digest": "",
    }
    return facts.model_copy(update=changes), found.sample


def peek(
    role: Role, path: Path, header: HeaderPattern, file_format: str, limit: int = PEEKED_READS
) -> tuple[ReadsFacts, tuple[bytes, ...]]:
    """The first ``limit`` reads, or those of the first seconds; the sample is not one of the whole file."""
    from metagene_train.reads.counts.bases import BaseCounts, count_bases
    from metagene_train.reads.records.formats import sniff
    from metagene_train.reads.records.opening import opened
    from metagene_train.reads.records.records import reads_of

    started = time.perf_counter()
    form = sniff(path, file_format)
    front = 0
    lengths: Counter[int] = Counter()
    classes: Counter[int] = Counter()
    mates: Counter[int] = Counter()
    taxa: dict[int, Counter[int]] = {}
    rejected: dict[tuple[str, str], list[Example]] = {}
    rejections: Counter[tuple[str, str]] = Counter()
    bases, records, mismatches, letters = BaseCounts(), 0, 0, 0
    sample: list[bytes] = []
    damage: tuple[Damage, ...] = ()
    try:
        with opened(path, file_format) as reads:
            for read in reads_of(reads):
                front = reads.source.position
                records += 1
                letters += len(read.header) + len(read.sequence) + len(read.quality or b"")
                fields = header.parse(read.header)
                if fields is None or not read.sequence:
                    reason = (
                        ("header", header.explain(read.header))
                        if fields is None
                        else ("empty", "the read has no bases")
                    )
                    rejections[reason] += 1
                    place = Example(file=str(path), line=read.line, record=read.record, text=read.header[:80])
                    rejected.setdefault(reason, []).append(place)
                else:
                    lengths[len(read.sequence)] += 1
                    classes[fields.class_id] += 1
                    mates[fields.mate or 0] += 1
                    if fields.tax_id is not None:
                        taxa.setdefault(fields.class_id, Counter())[fields.tax_id] += 1
                    mismatches += fields.readlen is not None and fields.readlen != len(read.sequence)
                    bases += count_bases(read.sequence)
                    sample.append(read.sequence)
                if records == limit or (records % 1000 == 0 and time.perf_counter() - started > SECONDS):
                    break
    except DataError as error:
        damage = (Damage(kind="damage", message=str(error).removeprefix(f"{path}: ")),)
    damage += _end_of_blocks(path, form)
    facts = ReadsFacts(
        role=role,
        path=str(path),
        kind=form.kind,
        compression=form.compression,
        bytes=path.stat().st_size,
        bytes_examined=letters if form.compression == "none" else 0,
        partial=True,
        front_bytes=min(front, path.stat().st_size),
        records=records,
        accepted=len(sample),
        rejected=tuple(
            Rejected(kind=kind, reason=reason, count=rejections[kind, reason], examples=tuple(places[:5]))
            for (kind, reason), places in rejected.items()
        ),
        damage=damage,
        lengths=dict(sorted(lengths.items())),
        bases=Bases(**{kind: getattr(bases, kind) for kind in Bases.model_fields}),
        class_counts=dict(sorted(classes.items())),
        tax_ids={key: dict(counts) for key, counts in taxa.items()},
        mates=dict(mates),
        readlen_mismatches=mismatches,
        rejected_headers=tuple(
            place.text for (kind, _), places in rejected.items() if kind == "header" for place in places[:5]
        ),
        seconds=time.perf_counter() - started,
    )
    return facts, tuple(sample[:SAMPLE_READS])


def _end_of_blocks(path: Path, form: ReadFormat) -> tuple[Damage, ...]:
    """What is wrong where a BGZF file does not end as a whole one does: it was cut between two blocks."""
    from metagene_train.reads.sources.gzip import BGZF_END

    if form.compression != "bgzf":
        return ()
    with path.open("rb") as file:
        file.seek(-len(BGZF_END), 2)
        if file.read() == BGZF_END:
            return ()
    return (Damage(kind="bgzf_no_end", message="its 28-byte end block is missing"),)
