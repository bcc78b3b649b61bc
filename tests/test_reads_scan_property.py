"""The array scanner against the plain reference, on files as nasty as can be made up."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reads_reference import fasta_records, fastq_records, statistics

from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.headers.pattern import HEADER_REGEX, HeaderPattern
from metagene_train.reads.records.batches import iter_batches
from metagene_train.reads.records.formats import sniff
from metagene_train.reads.records.layout import FAULTS
from metagene_train.reads.scan import scan
from metagene_train.reads.sources.source import open_source

CUSTOM_REGEX = r"c=(?P<class_id>\d+)(?: t=(?P<tax_id>\d+))?"

numbers = st.one_of(
    st.integers(0, 12),
    st.integers(0, 10**11),
    st.sampled_from([2**31 - 1, 2**31, 99999999, 10**18 - 1, 10**30]),
)
names = (
    st.text("abcXYZ019_.:-|éλ \t\x0b", min_size=0, max_size=12) | st.just("n" * 70) | st.just("long" * 200)
)
good_headers = st.builds(
    lambda c, t, r, n, m: f"lbl|{c}|{t}|{r}|{n}{m}",
    st.integers(0, 6),
    st.one_of(st.just(""), numbers),
    st.one_of(st.just(""), st.integers(0, 90)),
    st.text("abcXYZ019_.:-", min_size=1, max_size=12),
    st.sampled_from(["", "/1", "/2", "/300", "/0"]),
)
odd_headers = st.one_of(
    st.builds(lambda c, t, r, n: f"lbl|{c}|{t}|{r}|{n}/1", numbers, numbers, numbers, names),
    st.builds(lambda c, n: f"{n} c={c} t=5", st.integers(0, 6), names),
    st.text("lbl|0123456789/ x", max_size=30),
    st.sampled_from(
        ["", "lbl|1|2|3|", "lbl|1|2|3|x/", "lbl|1|2|3|x/1/2", "lbl||2|3|x", "lbl|1|2|3|/1", "lbl|1|2|3"]
    ),
)
headers = st.one_of(good_headers, good_headers, good_headers, odd_headers).map(str.encode) | st.just(
    b"lbl|1|||\xe9/1"
)

plain_bases = st.text("ACGT", min_size=0, max_size=60)
odd_bases = st.text("ACGTNacgtnuURYSWKMBDHV-*. \t\r|/XJ>@+\x00", max_size=40)
sequences = st.one_of(
    plain_bases, plain_bases, plain_bases, odd_bases, st.sampled_from(["ACGT" * 400, "+ACG", "@ACG"])
).map(str.encode)
sizes = st.sampled_from([1, 1, 30])
ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"])


@st.composite
def fasta_files(draw: st.DrawFn) -> bytes:
    parts = [draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\n", b"\r\n\n"]))]
    for header in draw(st.lists(headers, min_size=draw(sizes), max_size=40)):
        end = draw(ends)
        parts += [b">", header.replace(b"\n", b""), end]
        sequence = draw(sequences)
        width = draw(st.sampled_from([0, 0, 0, 7, 20]))
        pieces = [sequence[i : i + width] for i in range(0, len(sequence), width)] if width else [sequence]
        for piece in pieces:
            # A line that starts with > is a header, whatever was meant.
            parts += [piece.lstrip(b">"), draw(ends) if draw(st.integers(0, 9)) == 0 else end]
        parts += draw(st.sampled_from([[], [], [], [b"\n"], [b"\r\n"]]))
    content = b"".join(parts)
    return content[:-1] if draw(st.booleans()) and content.endswith(b"\n") else content


@st.composite
def fastq_files(draw: st.DrawFn) -> bytes:
    parts = []
    for header in draw(st.lists(headers, min_size=draw(sizes), max_size=40)):
        end = draw(ends)
        sequence = draw(sequences).replace(b">", b"")
        quality = draw(st.binary(min_size=0, max_size=3)).translate(bytes(64 + i % 30 for i in range(256)))
        quality = (quality * 600)[: len(sequence)] or b"I" * len(sequence)
        damage = draw(st.sampled_from(["", "", "", "", "", "short", "long", "no plus", "stray", "wrap"]))
        width = draw(st.sampled_from([5, 20])) if damage == "wrap" else 0
        if damage == "short":
            quality = quality[:-1]
        if damage == "long":
            quality += b"II"
        if damage == "stray":
            parts += [b"what is this", end]
        parts += [b"@", header, end]
        parts += [piece + end for piece in cut(sequence, width)]
        if damage != "no plus":
            parts += [b"+", draw(st.sampled_from([b"", header])), end]
        parts += [piece + end for piece in cut(quality, width)]
        parts += draw(st.sampled_from([[], [], [], [], [b"\n"], [b" \r\n"]]))
    content = b"".join(parts)
    if not content.startswith(b"@"):
        content = b"@first\nA\n+\nI\n" + content
    return content[: len(content) - draw(st.sampled_from([0, 0, 1, 2, 30]))] or b"@x\n"


def cut(text: bytes, width: int) -> list[bytes]:
    return [text[i : i + width] for i in range(0, len(text), width)] if width and text else [text]


many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(
    fasta_files(), st.sampled_from([700, 701, 1500, 1 << 21]), st.sampled_from([HEADER_REGEX, CUSTOM_REGEX])
)
def test_fasta_scan_equals_the_reference(content: bytes, chunk_bytes: int, regex: str) -> None:
    compare(content, "fasta", chunk_bytes, regex)


@many
@given(
    fastq_files(), st.sampled_from([700, 701, 1500, 1 << 21]), st.sampled_from([HEADER_REGEX, CUSTOM_REGEX])
)
def test_fastq_scan_equals_the_reference(content: bytes, chunk_bytes: int, regex: str) -> None:
    compare(content, "fastq", chunk_bytes, regex)


def compare(content: bytes, kind: str, chunk_bytes: int, regex: str) -> None:
    expected = statistics(content, kind, regex)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "reads"
        path.write_bytes(content)
        pattern = HeaderPattern(regex)
        found = scan(path, header=pattern, index_dir=Path(name) / "index", chunk_bytes=chunk_bytes)
        check_records(path, content, kind, chunk_bytes)
        if found.complete and found.accepted:
            check_index(path, pattern, Path(name) / "index", expected)
    for plain in [
        "records",
        "accepted",
        "lines",
        "crlf_lines",
        "duplicate_headers",
        "non_ascii_headers",
        "class_counts",
        "mates",
        "readlen_mismatches",
        "adjacent_same_class",
    ]:
        assert getattr(found, plain) == expected[plain], plain
    assert found.bytes_examined == len(content)
    assert {n: int(found.lengths[n]) for n in np.flatnonzero(found.lengths)} == expected["lengths"]
    counted = {kind: getattr(found.bases, kind) for kind in expected["bases"]}
    assert counted == expected["bases"]
    assert found.bases.total == found.total_bases == sum(expected["bases"].values())
    by_class = {
        class_id: {kind: letters for kind, letters in asdict(bases).items() if letters}
        for class_id, bases in found.class_bases.items()
    }
    assert by_class == expected["class_bases"]
    assert found.tax_ids == expected["tax_ids"]
    assert sum(item.count for item in found.rejected) + found.accepted == found.records
    for reason in ("header", "empty", "fastq"):
        assert sum(r.count for r in found.rejected if r.kind == reason) == expected["rejected"][reason]
    faults = {problem.message: problem.count for problem in found.problems if problem.kind == "fastq"}
    assert faults == expected["faults"]
    for kind_of_damage in ("nul", "mixed"):
        counts = [problem.count for problem in found.problems if problem.kind == kind_of_damage]
        assert sum(counts) == expected[kind_of_damage]
    assert sorted(found.sample) == sorted(expected["sampled"])


def check_records(path: Path, content: bytes, kind: str, chunk_bytes: int) -> None:
    expected = fasta_records(content) if kind == "fasta" else fastq_records(content)
    found = []
    form = sniff(path)
    with closing(open_source(path, form.compression)) as source:
        for batch in iter_batches(source, form, chunk_bytes):
            assert batch.first_record == len(found) + 1
            for i in range(len(batch)):
                fault = FAULTS[batch.layout.faults[i]]
                start = int(batch.offsets()[i])
                end = start + int(batch.layout.ends[i] - batch.layout.starts[i])
                quality = None if fault else batch.quality(i)
                found.append((batch.line(i), start, end, batch.header(i), batch.sequence(i), quality, fault))
    assert found == [
        (
            r.line,
            r.offset,
            r.end,
            r.header,
            r.bases,
            None if r.fault or r.quality is None else b"".join(r.quality),
            r.fault,
        )
        for r in expected
    ]


def check_index(path: Path, pattern: HeaderPattern, index_dir: Path, expected: dict) -> None:
    index = ReadIndex.open_or_build(path, header=pattern, index_dir=index_dir)
    assert index.class_ids.tolist() == expected["classes"]
    assert index.lengths.tolist() == [len(record.bases) for record in expected["accepted_records"]]
    records = [
        position + 1 + sum(before <= position for before in expected["rejected_at"])
        for position in range(len(index))
    ]
    bases = [record.bases for record in expected["accepted_records"]]
    assert index.sequences(range(len(index))) == bases
    for position, record in enumerate(expected["accepted_records"]):
        read = index.read(position)
        assert read.sequence == record.bases
        assert read.header.encode() == record.header or read.header.encode("latin-1") == record.header
        assert read.quality == (None if record.quality is None else b"".join(record.quality))
        assert read.record == records[position]


@pytest.mark.parametrize("kind", ["fasta", "fastq"])
def test_the_reference_finds_records_at_all(kind: str) -> None:
    content = b">a\nAC\n>b\nG\n" if kind == "fasta" else b"@a\nAC\n+\nII\n@b\nG\n+\nI\n"
    found = statistics(content, kind, HEADER_REGEX)
    assert (found["records"], found["lengths"]) == (2, {2: 1, 1: 1})
