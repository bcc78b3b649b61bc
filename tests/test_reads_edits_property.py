"""Random bytes and random edits of sound files, in every compression: no traceback, nothing uncounted."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reads_fixtures import bgzf, fasta, fastq, random_reads
from reads_reference import fasta_records, fastq_records

from metagene_train.errors import DataError, InputError, MetageneError
from metagene_train.reads import scan as scan_module
from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.counts.report import ReadScan
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.records import iter_reads
from metagene_train.reads.scan import scan

STANDARD = HeaderPattern()
READS = random_reads(30, length=30, classes=3)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bgzf": lambda content: bgzf(content, block=400),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lambda content: lzma.compress(content, preset=0),
    "bzip2": bz2.compress,
}
MAGIC = [b"", b">", b"@", b"\x1f\x8b\x08", b"\x1f\x8b\x08\x04", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9"]

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 30),
        st.sampled_from([b"", b"\n", b">", b"@", b"\n>", b"\n@", b"\n+\n", b"\r\n", b"\0", b"\xff", b"AC"])
        | st.binary(max_size=6),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges one after the other: what is tried is where they are cut and how they are put together."""

    def in_turn(work: Callable[[Any], Any], items: Sequence[Any], processes: int) -> Iterator[Any]:
        for item in items:
            yield work(item)

    monkeypatch.setattr(scan_module, "in_order", in_turn)


def edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, removed, new in changes:
        start = int(place * len(content))
        content = content[:start] + new + content[start + removed :]
    return content


def checked(path: Path) -> ReadScan | None:
    """The scan of a file if it is one of reads, after everything that has to add up was added up."""
    try:
        found = scan(path, header=STANDARD)
    except MetageneError as error:
        assert isinstance(error, (DataError, InputError))
        with pytest.raises(type(error)):
            list(iter_reads(path))
        return None
    assert found.records == found.accepted + sum(rejection.count for rejection in found.rejected)
    assert found.accepted == sum(found.class_counts.values()) == sum(found.mates.values())
    assert found.total_bases == found.bases.total
    assert found.bytes_present == path.stat().st_size
    assert found.bytes_examined <= found.bytes_present
    assert found.bytes_examined == found.bytes_present or not found.complete
    for problem in found.problems:
        assert problem.byte_offset is None or 0 <= problem.byte_offset <= found.bytes_present
        assert problem.record is None or 1 <= problem.record <= found.records
        assert problem.line is None or 1 <= problem.line <= found.lines
    in_ranges = scan(path, header=STANDARD, processes=2, range_bytes=300)
    for field in dataclasses.fields(ReadScan):
        one, other = (getattr(each, field.name) for each in (found, in_ranges))
        assert (one.tolist() == other.tolist()) if field.name == "lengths" else one == other, field.name
    try:
        count = sum(1 for _ in iter_reads(path))
    except DataError:
        assert not found.complete
    else:
        assert found.complete
        assert count == found.records
    return found


def in_a_file(content: bytes) -> ReadScan | None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "reads"
        path.write_bytes(content)
        return checked(path)


@few
@given(st.sampled_from(MAGIC), st.binary(max_size=400))
def test_random_bytes(magic: bytes, content: bytes) -> None:
    in_a_file(magic + content)


@few
@given(st.sampled_from([fasta(READS), fastq(READS)]), edits, st.sampled_from([*PACKERS]))
@example(fastq(READS), [(0.4375, 7, b""), (0.25, 0, b"\0")], "none")
def test_random_edits_before_compression(
    content: bytes, changes: list[tuple[float, int, bytes]], packer: str
) -> None:
    new = edited(content, changes)
    found = in_a_file(PACKERS[packer](new))
    if found is not None:
        records = fasta_records(new) if found.format.kind == "fasta" else fastq_records(new)
        assert found.records == len(records)
        assert found.format.compression == packer
        assert found.total_bases == sum(len(record.bases) for record in records if not record.fault)


@few
@given(st.sampled_from([fasta(READS), fastq(READS)]), edits, st.sampled_from([*PACKERS][1:]), st.booleans())
def test_random_edits_of_compressed_files(
    content: bytes, changes: list[tuple[float, int, bytes]], packer: str, twice: bool
) -> None:
    packed = PACKERS[packer](content) * (1 + twice)
    new = edited(packed, changes)
    found = in_a_file(new)
    # Only a changed name or time in a header of gzip, or padding, may go unnoticed, and costs no read.
    # What an edit of the first bytes turned into another format is another file.
    if found is not None and found.complete and new != packed and found.format.compression == packer:
        assert found.records % len(READS) == 0
        assert found.accepted == found.records


@few
@given(st.sampled_from([*PACKERS]), st.floats(0, 1))
def test_every_cut_of_a_compressed_file_is_noticed(packer: str, share: float) -> None:
    packed = PACKERS[packer](fastq(READS)) * 2
    cut = packed[: int(len(packed) * share)]
    found = in_a_file(cut)
    if found is not None and found.complete:
        whole = len(packed) // 2
        assert len(cut) in (whole, len(packed)) or packer == "none"


@few
@given(st.sampled_from([fasta(READS), fastq(READS)]), edits)
def test_an_index_is_whole_or_not_there(content: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "reads"
        path.write_bytes(edited(content, changes))
        try:
            index = ReadIndex.open_or_build(path, header=STANDARD, index_dir=Path(directory) / "index")
        except MetageneError:
            return
        expected = [read for read in iter_reads(path) if read.sequence and STANDARD.parse(read.header)]
        assert [index.read(i).sequence for i in range(len(index))] == [read.sequence for read in expected]
