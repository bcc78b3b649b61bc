"""Records: the reads of a FASTA or FASTQ file, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metagene_train.errors import DataError
from metagene_train.reads.records.batches import iter_batches
from metagene_train.reads.records.layout import FAULTS, MIXED
from metagene_train.reads.records.opening import OpenReads, opened

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Read:
    """One read: ``header`` without ``>`` or ``@``, ``sequence`` and ``quality`` as in the file but on
    one line. ``record`` and ``line`` count from 1; ``line`` is 0 where it is not known.
    """

    header: str
    sequence: bytes
    quality: bytes | None
    record: int
    line: int


def decode_header(header: bytes) -> str:
    """A header as text: UTF-8, or Latin-1 where it is not valid UTF-8."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def iter_reads(path: str | Path, *, file_format: str = "auto") -> Iterator[Read]:
    """Every read of a file or stream (``-`` is standard input), in order, in constant memory.

    Reads without bases are reads too. Raises InputError (missing, empty) or DataError (damage, with
    file, line and record) at the place where the damage is: the reads before it have been handed out.
    """
    with opened(path, file_format) as reads:
        yield from reads_of(reads)


def reads_of(reads: OpenReads) -> Iterator[Read]:
    """The same of what has been opened, once."""
    name, source = reads.name, reads.source
    for batch in iter_batches(source, reads.form, _CHUNK_BYTES):
        faults = dict.fromkeys(batch.damaged_by_nul(), "holds NUL bytes")
        faults |= dict.fromkeys(batch.mixed_with_fastq(), MIXED)
        faults |= {number: FAULTS[batch.layout.faults[number]] for number in batch.faulty()}
        for number in range(len(batch)):
            fault = faults.get(number)
            record, line = batch.first_record + number, batch.line(number)
            if fault:
                reasons = [fault, *(problem.message for problem in source.problems)]
                raise DataError(f"{name}: line {line:,}, record {record:,}: {'; '.join(reasons)}")
            header = decode_header(batch.header(number))
            yield Read(header, batch.sequence(number), batch.quality(number), record, line)
    if source.problems:
        raise DataError(f"{name}: {source.problems[0].message}")


def parse_record(raw: bytes, kind: str, record: int) -> Read:
    """A sound record from its bytes, header line included. ``line`` of the read is 0 (unknown)."""
    header, *rest = (line.removesuffix(b"\r") for line in raw.split(b"\n"))
    quality = None
    if kind == "fastq":
        plus = next(number for number, line in enumerate(rest) if line.startswith(b"+"))
        quality = b"".join(rest[plus + 1 :])
        rest = rest[:plus]
    return Read(decode_header(header[1:]), b"".join(rest), quality, record, 0)
