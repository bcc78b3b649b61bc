"""Reads files made up for benchmarks: random bases, headers as the guide has them.

A read follows from its number alone, so that what is read back can be checked.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

READ_LENGTH = 150
CLASSES = 500
BLOCK = 20_000
COPIED = 2_500
"""Validation reads that are also training reads, every second one as its reverse complement."""

_OPPOSITE = bytes.maketrans(b"ACGT", b"TGCA")


def block(number: int, count: int = BLOCK) -> list[tuple[bytes, bytes]]:
    """Headers and sequences of reads ``number * BLOCK`` and following."""
    source = np.random.default_rng(number)
    bases = np.frombuffer(b"ACGT", np.uint8)[source.integers(0, 4, (BLOCK, READ_LENGTH))]
    classes = source.integers(0, CLASSES, BLOCK).tolist()
    return [(header(classes[i], f"read{number * BLOCK + i:09d}"), bases[i].tobytes()) for i in range(count)]


def header(class_id: int, name: str) -> bytes:
    return f"lbl|{class_id}|{10**6 + class_id}|{READ_LENGTH}|{name}/1".encode()


def blocks(reads: int) -> Iterator[list[tuple[bytes, bytes]]]:
    for start in range(0, reads, BLOCK):
        yield block(start // BLOCK, min(BLOCK, reads - start))


def write_fasta(path: Path, reads: int) -> None:
    with path.open("wb") as file:
        for part in blocks(reads):
            file.write(b"".join(b">%s\n%s\n" % read for read in part))


def write_gzip(path: Path, fasta: Path) -> None:
    with fasta.open("rb") as plain, gzip.open(path, "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)


def write_other_layouts(wrapped: Path, fastq: Path, reads: int) -> None:
    """The same reads in lines of 60 bases, and as FASTQ."""
    quality = b"I" * READ_LENGTH
    with wrapped.open("wb") as folded, fastq.open("wb") as four_lines:
        for part in blocks(reads):
            folded.writelines(b">%s\n%s\n%s\n%s\n" % (h, s[:60], s[60:120], s[120:]) for h, s in part)
            four_lines.writelines(b"@%s\n%s\n+\n%s\n" % (h, s, quality) for h, s in part)


def write_validation(path: Path, reads: int) -> None:
    """Reads of which the first ``COPIED`` are among the training reads."""
    with path.open("wb") as file:
        for i, (_, sequence) in enumerate(block(0)[:COPIED]):
            copy = sequence if i % 2 else sequence.translate(_OPPOSITE)[::-1]
            file.write(b">%s\n%s\n" % (header(i % CLASSES, f"copy{i:09d}"), copy))
        for number, start in enumerate(range(COPIED, reads, BLOCK)):
            # Blocks far behind those of the training reads.
            part = block(10**6 + number, min(BLOCK, reads - start))
            file.write(b"".join(b">%s\n%s\n" % read for read in part))


def write_mapping(path: Path) -> None:
    rows = [f"{label}\tclass {label}\t{10**6 + label}" for label in range(CLASSES)]
    path.write_text("\n".join(["class_id\tlabel_name\ttax_id", *rows]) + "\n", encoding="utf-8")
