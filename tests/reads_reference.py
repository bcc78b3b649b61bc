"""A reads scanner as plain as it can be: one line at a time, one record at a time.

It is the specification that the array scanner is compared with, so it shares no code with it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

MISSING_PLUS = "no + line after the sequence"
LENGTHS_DIFFER = "sequence and quality differ in length"
STRAY_TEXT = "text where a record should start with @"
CUT_RECORD = "the file ends inside the record"


@dataclass
class Record:
    line: int
    offset: int
    header: bytes
    sequence: list[bytes] = field(default_factory=list)
    quality: list[bytes] | None = None
    fault: str = ""
    end: int = 0

    @property
    def bases(self) -> bytes:
        return b"".join(self.sequence)


def split_lines(content: bytes) -> list[tuple[int, bytes, int]]:
    """(offset, text, offset of the next line) of every line."""
    offset = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    lines = []
    while offset < len(content):
        feed = content.find(b"\n", offset)
        stop = len(content) if feed < 0 else feed + 1
        text = content[offset:stop]
        if text.endswith(b"\n"):
            text = text[:-1]
        if text.endswith(b"\r"):
            text = text[:-1]
        lines.append((offset, text, stop))
        offset = stop
    return lines


def fasta_records(content: bytes) -> list[Record]:
    records: list[Record] = []
    for number, (offset, text, stop) in enumerate(split_lines(content), start=1):
        if text[:1] == b">":
            records.append(Record(number, offset, text[1:]))
        elif records:
            records[-1].sequence.append(text)
        if records:
            records[-1].end = stop
    return records


def fastq_records(content: bytes) -> list[Record]:
    lines = split_lines(content)
    records: list[Record] = []
    i = 0
    while i < len(lines):
        if not lines[i][1].strip():
            i += 1
            continue
        record = Record(i + 1, lines[i][0], lines[i][1])
        i = _read_fastq_record(lines, i, record)
        record.end = lines[i - 1][2]
        records.append(record)
    return records


def _read_fastq_record(lines: list[tuple[int, bytes, int]], i: int, record: Record) -> int:
    """Fill a record from line i on; the line after it."""
    if record.header[:1] != b"@":
        record.fault = STRAY_TEXT
        i += 1
        while i < len(lines) and lines[i][1][:1] != b"@":
            i += 1
        return i
    record.header = record.header[1:]
    i += 1
    while True:
        if i == len(lines):
            record.fault = CUT_RECORD
            return i
        if lines[i][1][:1] == b"@":
            record.fault = MISSING_PLUS
            return i
        if lines[i][1][:1] == b"+":
            break
        record.sequence.append(lines[i][1])
        i += 1
    i += 1
    record.quality = []
    while len(b"".join(record.quality)) < len(record.bases):
        if i == len(lines):
            record.fault = CUT_RECORD
            return i
        if lines[i][1][:1] == b"@" and len(record.quality) >= len(record.sequence):
            record.fault = LENGTHS_DIFFER
            return i
        record.quality.append(lines[i][1])
        i += 1
    if len(b"".join(record.quality)) != len(record.bases):
        record.fault = LENGTHS_DIFFER
    return i


def has_fastq(record: Record) -> bool:
    """A line of the sequence that starts with @, and a later one with +."""
    starts = b"".join(line[:1] for line in record.sequence if line[:1] in (b"@", b"+"))
    return b"@+" in starts


def decode(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def number(text: str | None) -> int | None:
    """Numbers of more than 18 digits do not fit and count as absent."""
    return int(text) if text and len(text) <= 18 else None


def base_kind(letter: int) -> str:
    character = chr(letter)
    if character in "ACGT":
        return "acgt"
    if character in "acgt":
        return "lower"
    if character in "uU":
        return "u"
    if character in "nN":
        return "n"
    if character in "RYSWKMBDHVryswkmbdhv":
        return "iupac"
    return "whitespace" if character in " \t\n\v\f\r" else "other"


def statistics(content: bytes, kind: str, regex: str) -> dict:
    """What `scan` has to find in this content, under the same names."""
    records = fasta_records(content) if kind == "fasta" else fastq_records(content)
    found: dict = {
        "records": len(records),
        "lines": len(split_lines(content)),
        "crlf_lines": content.count(b"\r\n") + content.endswith(b"\r"),
        "duplicate_headers": len(records) - len({record.header for record in records}),
        "non_ascii_headers": sum(any(byte > 127 for byte in record.header) for record in records),
        "lengths": Counter(),
        "bases": Counter(),
        "class_counts": Counter(),
        "class_bases": {},
        "tax_ids": {},
        "mates": Counter(),
        "readlen_mismatches": 0,
        "rejected": Counter(),
        "faults": Counter(),
        "nul": 0,
        "mixed": 0,
        "accepted_records": [],
        "sampled": [],
        "rejected_at": [],
    }
    classes = []
    for record in records:
        sequence = record.bases
        found["mixed"] += kind == "fasta" and has_fastq(record)
        found["nul"] += 0 in content[record.offset : record.end]
        if record.fault:
            found["rejected"]["fastq"] += 1
            found["faults"][record.fault] += 1
            found["rejected_at"].append(len(classes))
            continue
        found["lengths"][len(sequence)] += 1
        found["bases"].update(base_kind(letter) for letter in sequence)
        if sequence:
            found["sampled"].append(sequence)
        match = re.search(regex, decode(record.header))
        in_range = match and int(match["class_id"]) < 2**31
        if not match or not in_range or not sequence:
            found["rejected"]["empty" if in_range else "header"] += 1
            found["rejected_at"].append(len(classes))
            continue
        class_id = int(match["class_id"])
        groups = match.groupdict()
        classes.append(class_id)
        found["accepted_records"].append(record)
        found["class_counts"][class_id] += 1
        found["class_bases"].setdefault(class_id, Counter()).update(map(base_kind, sequence))
        tax_id, readlen, mate = (number(groups.get(name)) for name in ("tax_id", "readlen", "mate"))
        found["mates"][mate or 0] += 1
        if tax_id is not None:
            found["tax_ids"].setdefault(class_id, Counter())[tax_id] += 1
        found["readlen_mismatches"] += readlen not in (None, len(sequence))
    found["accepted"] = len(classes)
    found["adjacent_same_class"] = sum(a == b for a, b in zip(classes, classes[8:], strict=False))
    found["classes"] = classes
    return found
