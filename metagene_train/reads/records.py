"""Records: the reads of a FASTA or FASTQ file, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metagene_train.errors import DataError
from metagene_train.reads.formats import BYTE_ORDER_MARK, ReadFormat, sniff
from metagene_train.reads.source import ByteSource, open_source

_CHUNK = 1 << 20

MISSING_PLUS = "no + line after the sequence"
LENGTHS_DIFFER = "sequence and quality differ in length"
STRAY_TEXT = "text where a record should start with @"
CUT_RECORD = "the file ends inside the record"


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


@dataclass
class RawRecord:
    """A record as found, sound or not; ``offset`` and ``span`` are bytes of the unpacked file."""

    record: int
    line: int
    offset: int
    header: bytes
    sequence: bytes
    quality: bytes | None
    span: int = 0
    fault: str | None = None


@dataclass
class LineTally:
    """What lines alone tell about a file."""

    lines: int = 0
    crlf: int = 0


def decode_header(header: bytes) -> str:
    """A header as text: UTF-8, or Latin-1 where it is not valid UTF-8."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def iter_reads(path: str | Path, *, file_format: str = "auto") -> Iterator[Read]:
    """Every read of a file, plain or gzip, in order, in constant memory.

    Raises InputError (missing, empty) or DataError (damage, with file, line and record) at the
    place where the damage is: the reads before it have been handed out.
    """
    path = Path(path)
    form = sniff(path, file_format)
    source = open_source(path, form.compression)
    try:
        for raw in walk(source, form, LineTally()):
            if raw.fault:
                raise DataError(f"{path}: line {raw.line:,}, record {raw.record:,}: {raw.fault}")
            if 0 in raw.sequence or 0 in raw.header:
                raise DataError(f"{path}: line {raw.line:,}, record {raw.record:,}: holds NUL bytes")
            yield Read(decode_header(raw.header), raw.sequence, raw.quality, raw.record, raw.line)
        if source.problems:
            raise DataError(f"{path}: {source.problems[0].message}")
    finally:
        source.close()


def parse_record(raw: bytes, kind: str, record: int) -> Read:
    """A sound record from its bytes, header line included. ``line`` of the read is 0 (unknown)."""
    header, *rest = (line.removesuffix(b"\r") for line in raw.removeprefix(BYTE_ORDER_MARK).split(b"\n"))
    quality = None
    if kind == "fastq":
        plus = next(number for number, line in enumerate(rest) if line.startswith(b"+"))
        quality = b"".join(rest[plus + 1 :])
        rest = rest[:plus]
    return Read(decode_header(header[1:]), b"".join(rest), quality, record, 0)


def walk(source: ByteSource, form: ReadFormat, tally: LineTally) -> Iterator[RawRecord]:
    """Every record of a source, sound or not."""
    lines = _lines(source, tally)
    return _walk_fasta(lines) if form.kind == "fasta" else _walk_fastq(lines)


def _lines(source: ByteSource, tally: LineTally) -> Iterator[tuple[int, int, int, bytes]]:
    """(line, offset, bytes with line end, text) of every line."""
    buffer = bytearray(_CHUNK)
    offset, rest = 0, b""
    while count := source.readinto(memoryview(buffer)):
        *whole, rest = (rest + buffer[:count]).split(b"\n")
        for text in whole:
            tally.lines += 1
            tally.crlf += text.endswith(b"\r")
            yield tally.lines, offset, len(text) + 1, _clean(text, tally.lines)
            offset += len(text) + 1
    if rest:
        tally.lines += 1
        yield tally.lines, offset, len(rest), _clean(rest, tally.lines)


def _clean(text: bytes, line: int) -> bytes:
    text = text.removesuffix(b"\r")
    return text.removeprefix(BYTE_ORDER_MARK) if line == 1 else text


def _walk_fasta(lines: Iterator[tuple[int, int, int, bytes]]) -> Iterator[RawRecord]:
    current: RawRecord | None = None
    parts: list[bytes] = []
    for line, offset, length, text in lines:
        if text.startswith(b">"):
            if current:
                current.sequence = b"".join(parts)
                yield current
            record = current.record + 1 if current else 1
            current, parts = RawRecord(record, line, offset, text[1:], b"", None), []
        elif current:
            parts.append(text)
        if current:
            current.span = offset + length - current.offset
    if current:
        current.sequence = b"".join(parts)
        yield current


def _walk_fastq(lines: Iterator[tuple[int, int, int, bytes]]) -> Iterator[RawRecord]:
    """Four-line and wrapped FASTQ.

    A quality line may start with @, so a new record is believed only where the quality is as long
    as the sequence, or has as many lines as the sequence had.
    """
    current: RawRecord | None = None
    state = "start"
    sequence: list[bytes] = []
    quality: list[bytes] = []
    records = 0

    def finish(fault: str | None) -> RawRecord:
        assert current is not None
        current.sequence, current.quality = b"".join(sequence), b"".join(quality)
        current.fault = fault
        return current

    for line, offset, length, text in lines:
        starts = text.startswith(b"@")
        if state == "sequence" and starts:
            yield finish(MISSING_PLUS)
            state = "start"
        elif state == "quality" and starts and len(quality) >= len(sequence):
            yield finish(LENGTHS_DIFFER)
            state = "start"
        elif state == "stray" and starts:
            yield finish(STRAY_TEXT)
            state = "start"
        if state == "start":
            if text:
                records += 1
                current = RawRecord(records, line, offset, text[starts:], b"", b"")
                sequence, quality = [], []
                state = "sequence" if starts else "stray"
        elif state == "sequence":
            if text.startswith(b"+"):
                state = "quality"
            else:
                sequence.append(text)
        elif state == "quality":
            quality.append(text)
        if current:
            current.span = offset + length - current.offset
        if state == "quality":
            missing = sum(map(len, sequence)) - sum(map(len, quality))
            if missing <= 0:
                yield finish(LENGTHS_DIFFER if missing else None)
                state = "start"
    if state == "stray":
        yield finish(STRAY_TEXT)
    elif state != "start":
        yield finish(CUT_RECORD)
