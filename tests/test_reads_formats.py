"""What a file is, by its first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest
import zstandard
from reads_fixtures import bgzf, fasta, fastq, random_reads, written

from metagene_train.errors import DataError, InputError
from metagene_train.reads.records.formats import ReadFormat, sniff

READS = random_reads(3)


@pytest.mark.parametrize(
    "content, expected",
    [
        (fasta(READS), ReadFormat("fasta", "none")),
        (fastq(READS), ReadFormat("fastq", "none")),
        (gzip.compress(fasta(READS)), ReadFormat("fasta", "gzip")),
        (gzip.compress(b"") + gzip.compress(fastq(READS)), ReadFormat("fastq", "gzip")),
        (bgzf(fastq(READS)), ReadFormat("fastq", "bgzf")),
        (bz2.compress(fastq(READS)), ReadFormat("fastq", "bzip2")),
        (lzma.compress(fasta(READS)), ReadFormat("fasta", "xz")),
        (zstandard.compress(fasta(READS)), ReadFormat("fasta", "zstd")),
        (b"\x50\x2a\x4d\x18\x03\0\0\0xyz" + zstandard.compress(fastq(READS)), ReadFormat("fastq", "zstd")),
        (b"\xef\xbb\xbf" + fasta(READS), ReadFormat("fasta", "none", byte_order_mark=True)),
        (b"\r\n\n" + fasta(READS), ReadFormat("fasta", "none")),
        (b">", ReadFormat("fasta", "none")),
        (b"@SQ1 a read that only looks like SAM\nA\n+\nI\n", ReadFormat("fastq", "none")),
    ],
)
def test_content_decides_and_the_name_does_not(tmp_path: Path, content: bytes, expected: ReadFormat) -> None:
    for name in ("reads.fa", "reads.fastq.gz", "reads.txt"):
        assert sniff(written(tmp_path / name, content)) == expected


@pytest.mark.parametrize(
    "content, words",
    [
        (b"@HD\tVN:1.6\n", "SAM"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"; comment\n>a\nAC\n", "comment"),
        (b"LOCUS       AB000001", "GenBank"),
        (b'{"error": 404}', "JSON"),
        (b"ACGTACGT\n", "line 1 starts with 'ACGTACGT'"),
        (b"\x00\x01\x02\x03", "binary"),
        (">a\nAC\n".encode("utf-16"), "UTF-16"),
        (b">a\rACGT\r>b\rAC\r", "CR only"),
        (b">p\nMKVLIPEFQLSTWYVMKVLIPEFQ\n", "protein"),
        (b"\x04\x22\x4d\x18....", "lz4"),
        (bz2.compress(b"PK")[:9], "file ends at byte 9 inside the bzip2 stream"),
        (lzma.compress(b"BAM\x01\x00"), "BAM"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd frame"),
        (b"PK\x03\x04....", "unzip"),
        (gzip.compress(b"BAM\x01\x00"), "BAM"),
        (gzip.compress(b"dir/" + bytes(253) + b"ustar" + bytes(300)), "tar"),
        (b"\x1f\x8b\x07" + bytes(20), "unknown method"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = written(tmp_path / "reads.fa", content)
    with pytest.raises(DataError, match=words) as caught:
        sniff(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "0 bytes"),
        (b"\n\r\n\n", "blank lines"),
        (gzip.compress(b""), "no data"),
        (b"\xef\xbb\xbf", "blank"),
    ],
)
def test_nothing_to_read_is_an_input_error(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        sniff(written(tmp_path / "reads.fa", content))


def test_missing_files_directories_and_pipes_are_input_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no such file"):
        sniff(tmp_path / "absent.fa")
    with pytest.raises(InputError, match="is a directory"):
        sniff(tmp_path)
    with pytest.raises(InputError, match="not a regular file"):
        sniff(tmp_path / "pipe")


def test_a_format_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fastq(READS))
    assert sniff(path, "fastq").kind == "fastq"
    with pytest.raises(DataError, match="is FASTQ, but dataset"):
        sniff(path, "fasta")


@pytest.mark.parametrize("packed", [gzip.compress(fasta(READS)), bgzf(fasta(READS))])
def test_compression_that_was_asked_for_must_be_there(tmp_path: Path, packed: bytes) -> None:
    plain, compressed = written(tmp_path / "a.fa", fasta(READS)), written(tmp_path / "b.fa", packed)
    assert sniff(plain, gzip=False).compression == "none"
    assert sniff(compressed, gzip=True).compression != "none"
    with pytest.raises(DataError, match=r"is not compressed, but dataset\.gzip says true"):
        sniff(plain, gzip=True)
    with pytest.raises(DataError, match=r"is compressed with gzip, but dataset\.gzip says false"):
        sniff(compressed, gzip=False)
