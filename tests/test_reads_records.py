"""Reads one after the other: every layout that is FASTA or FASTQ, and damage that must not pass."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from reads_fixtures import fasta, fastq, random_reads, written

from metagene_train.errors import DataError, InputError
from metagene_train.reads.records.records import iter_reads

READS = random_reads(3000)


def pairs(path: Path) -> list[tuple[str, bytes]]:
    return [(read.header, read.sequence) for read in iter_reads(path)]


@pytest.mark.parametrize(
    "content, expected",
    [
        pytest.param(b">a\nAC\n>b\nG\n", [("a", b"AC"), ("b", b"G")], id="one line"),
        pytest.param(b">a\nAC\nGT\n>b\nG", [("a", b"ACGT"), ("b", b"G")], id="wrapped, no final line end"),
        pytest.param(b">a\r\nAC\r\nGT\r\n", [("a", b"ACGT")], id="CRLF"),
        pytest.param(b">a\nACG\r\nTAC\nG\r\n", [("a", b"ACGTACG")], id="LF and CRLF in one record"),
        pytest.param(b"\n\n>a\n\nAC\n\n\n>b\nG\n\n", [("a", b"AC"), ("b", b"G")], id="blank lines"),
        pytest.param(b">a\n>b\n>c", [("a", b""), ("b", b""), ("c", b"")], id="reads without bases"),
        pytest.param(b">a b|c/1\nAC GT\n", [("a b|c/1", b"AC GT")], id="blanks are kept"),
        pytest.param(b">a>b\nA>C\n", [("a>b", b"A>C")], id="> inside a line"),
        pytest.param(b"\xef\xbb\xbf>a\nAC\n", [("a", b"AC")], id="byte order mark"),
        pytest.param(
            ">é\nA\n".encode("latin-1") + ">λ\nC\n".encode(), [("é", b"A"), ("λ", b"C")], id="not ASCII"
        ),
        pytest.param(b">" + b"n" * 70_000 + b"\nA\n", [("n" * 70_000, b"A")], id="long name"),
        pytest.param(
            b">a\n" + b"ACGT" * 400_000 + b"\n>b\nC\n",
            [("a", b"ACGT" * 400_000), ("b", b"C")],
            id="long read",
        ),
        pytest.param(b"@a\nAC\n+\nII\n@b\nG\n+b\n@\n", [("a", b"AC"), ("b", b"G")], id="FASTQ"),
        pytest.param(b"@a\r\nAC\r\n+\r\nII\r\n", [("a", b"AC")], id="FASTQ, CRLF"),
        pytest.param(
            b"@a\nAC\nGT\n+\n@I\n+I\n@b\nG\n+\nI", [("a", b"ACGT"), ("b", b"G")], id="FASTQ, wrapped"
        ),
        pytest.param(
            b"@a\nAC\n+\nII\n\n@b\n\n+\n\n@c\nG\n+\nI\n",
            [("a", b"AC"), ("b", b""), ("c", b"G")],
            id="FASTQ, blank lines",
        ),
    ],
)
def test_every_layout_is_read(tmp_path: Path, content: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert pairs(written(tmp_path / "reads", content)) == expected
    assert pairs(written(tmp_path / "reads.gz", gzip.compress(content))) == expected


def test_quality_lines_and_numbers_of_a_read(tmp_path: Path) -> None:
    reads = list(iter_reads(written(tmp_path / "reads.fq", b"@a\nAC\nG\n+\n@B\nC\n\n@b\nG\n+\n+\n")))
    assert [(read.record, read.line, read.quality) for read in reads] == [(1, 1, b"@BC"), (2, 8, b"+")]
    assert [read.quality for read in iter_reads(written(tmp_path / "reads.fa", b">a\nAC\n"))] == [None]


def test_records_across_chunks_are_whole(tmp_path: Path) -> None:
    expected = [(header, sequence.encode()) for header, sequence in READS]
    assert pairs(written(tmp_path / "reads.fa", fasta(READS))) == expected
    assert pairs(written(tmp_path / "reads.fq", fastq(READS))) == expected


@pytest.mark.parametrize(
    "damaged, line, record, words, sound_before",
    [
        (b"@b\nACGT\n+\nIII\n@c\nA\n+\nI\n", 5, 2, "differ in length", 1),
        (b"@b\nACGT\n+\nIIIII\n@c\nA\n+\nI\n", 5, 2, "differ in length", 1),
        (b"@b\nACGT\nIIII\n@c\nA\n+\nI\n", 5, 2, "no \\+ line", 1),
        (b"@b\nACGT\n+\n", 5, 2, "the file ends inside", 1),
        (b"@b\nACGT\n", 5, 2, "the file ends inside", 1),
        (b"@b\nACGT\n+\nII", 5, 2, "the file ends inside", 1),
        (b"@b\nA\n+\nI\nstray\n@c\nA\n+\nI\n", 9, 3, "should start with @", 2),
        (b"@b\nA\0\n+\nII\n", 5, 2, "NUL", 1),
    ],
)
def test_damage_raises_where_it_is_and_not_before(
    tmp_path: Path, damaged: bytes, line: int, record: int, words: str, sound_before: int
) -> None:
    path = written(tmp_path / "reads.fq", b"@a\nAC\n+\nII\n" + damaged)
    reads = iter_reads(path)
    assert [next(reads).record for _ in range(sound_before)] == list(range(1, sound_before + 1))
    with pytest.raises(DataError, match=words) as caught:
        next(reads)
    assert f"{path}: line {line}, record {record}: " in str(caught.value)


def test_a_truncated_gzip_never_ends_quietly(tmp_path: Path) -> None:
    packed = gzip.compress(fasta(READS))
    path = written(tmp_path / "reads.fa.gz", packed[: len(packed) // 2])
    found = []
    with pytest.raises(DataError, match=r"record [\d,]+: .*ends at byte [\d,]+ inside the gzip member"):
        for read in iter_reads(path):
            found.append((read.header, read.sequence.decode()))
    assert len(found) > 1000
    assert found == READS[: len(found)]


def test_missing_files_raise_when_iteration_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        next(iter_reads(tmp_path / "absent.fa"))
