"""Random access: the right read, in every process, and never one of another file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import multiprocessing
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zstandard
from reads_fixtures import bgzf, fasta, fastq, random_reads, written

from metagene_train.errors import DataError, InputError
from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.headers.pattern import HeaderPattern

READS = random_reads(500, length=60)
STANDARD = HeaderPattern()


def build(path: Path, index_dir: Path, header: HeaderPattern | None = STANDARD) -> ReadIndex:
    return ReadIndex.open_or_build(path, header=header, index_dir=index_dir)


def wrong_reads(index: ReadIndex, positions: range) -> int:
    """How many reads at these positions are not those of READS."""
    together = index.sequences(positions)
    assert together == [index.read(i).sequence for i in positions]
    found = (
        (index.read(i).header, sequence.decode()) for i, sequence in zip(positions, together, strict=True)
    )
    return sum(read != READS[i] for i, read in zip(positions, found, strict=True))


@pytest.fixture
def counted_scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths that were scanned to build an index."""
    from metagene_train.reads.access import read_index as index

    calls: list[str] = []
    original = index.scan
    monkeypatch.setattr(
        index, "scan", lambda path, **rest: (calls.append(str(path)), original(path, **rest))[1]
    )
    yield calls


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(fasta(READS), id="fasta"),
        pytest.param(fasta(READS).replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(fasta((h, s[:30] + "\n" + s[30:]) for h, s in READS), id="wrapped"),
        pytest.param(fastq(READS), id="fastq"),
        pytest.param(gzip.compress(fasta(READS)), id="gzip"),
        pytest.param(bgzf(fastq(READS)), id="bgzf"),
        pytest.param(zstandard.compress(fasta(READS)), id="zstd"),
        pytest.param(lzma.compress(fastq(READS)), id="xz"),
        pytest.param(bz2.compress(fasta(READS)), id="bzip2"),
        pytest.param(b"\xef\xbb\xbf" + fasta(READS)[:-1], id="byte order mark, no final line end"),
    ],
)
def test_every_read_is_found_at_its_position(tmp_path: Path, content: bytes) -> None:
    index = build(written(tmp_path / "reads", content), tmp_path / "index")
    assert len(index) == 500
    assert wrong_reads(index, range(500)) == 0
    assert index.class_ids.tolist() == [int(header.split("|")[1]) for header, _ in READS]
    assert index.lengths.tolist() == [60] * 500
    assert (index.class_ids.dtype, index.lengths.dtype) == (np.int32, np.int32)
    assert index.read(-1).header == READS[-1][0]
    assert index.read(np.int64(3)).record == 4  # type: ignore[arg-type]
    assert index.sequences([]) == []
    for outside in (500, -501):
        with pytest.raises(IndexError):
            index.read(outside)
        with pytest.raises(IndexError):
            index.sequences([0, outside])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("lengths", [[60], [1, 59, 60]])
def test_reads_come_in_the_order_of_the_positions(tmp_path: Path, lengths: list[int], wrapped: bool) -> None:
    reads = [(header, s[: lengths[i % len(lengths)]]) for i, (header, s) in enumerate(READS)]
    lines = [(h, s[:30] + "\n" + s[30:] if wrapped and i == 7 else s) for i, (h, s) in enumerate(reads)]
    index = build(written(tmp_path / "reads.fa", fasta(lines)), tmp_path / "index")
    positions = np.random.default_rng(0).integers(0, 500, 700)
    positions[5] = 7
    assert [s.decode() for s in index.sequences(positions)] == [reads[i][1] for i in positions]


def test_rejected_records_are_left_out_and_counted(tmp_path: Path) -> None:
    reads = [("bad", "A"), *READS[:3], ("lbl|1|||empty", ""), ("bad", "C"), READS[3]]
    index = build(written(tmp_path / "reads.fa", fasta(reads)), tmp_path / "index")
    assert (len(index), index.records) == (4, 7)
    assert [index.read(i).record for i in range(4)] == [2, 3, 4, 7]
    assert (
        "2 records rejected (header: does not start with lbl|; first at line 1: bad)"
        in index.rejection_summary
    )
    assert "1 record rejected (empty: the read has no bases" in index.rejection_summary


def test_reads_of_any_header_have_no_class(tmp_path: Path) -> None:
    index = build(written(tmp_path / "reads.fa", b">a b\nAC\n>c\nG\n"), tmp_path / "index", header=None)
    assert index.class_ids.tolist() == [-1, -1]
    assert [index.read(i).header for i in range(2)] == ["a b", "c"]


def test_an_index_takes_twenty_bytes_a_read(tmp_path: Path) -> None:
    build(written(tmp_path / "reads.fa", fasta(READS)), tmp_path / "index")
    arrays = [file for file in tmp_path.glob("index/*/*") if file.suffix != ".json"]
    assert sum(file.stat().st_size for file in arrays) == 20 * 500


def test_a_fresh_index_is_opened_and_a_stale_one_rebuilt(tmp_path: Path, counted_scans: list[str]) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))
    build(path, tmp_path / "index")
    build(path, tmp_path / "index")
    assert len(counted_scans) == 1
    changed = [(header, sequence[::-1]) for header, sequence in READS]
    path.write_bytes(fasta(changed))
    index = build(path, tmp_path / "index")
    assert len(counted_scans) == 2
    assert index.read(7).sequence.decode() == changed[7][1]
    assert len(list((tmp_path / "index").iterdir())) == 1


def test_same_size_and_time_but_other_ends_is_another_file(tmp_path: Path, counted_scans: list[str]) -> None:
    path = written(tmp_path / "reads.fa", b">lbl|1|||a\nACGT\n")
    build(path, tmp_path / "index")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b">lbl|1|||a\nTTTT\n")
    os.utime(path, ns=times)
    assert build(path, tmp_path / "index").read(0).sequence == b"TTTT"
    assert len(counted_scans) == 2


def test_the_end_of_a_large_file_identifies_it_too(tmp_path: Path, counted_scans: list[str]) -> None:
    reads = random_reads(2000)
    path = written(tmp_path / "reads.fa", fasta(reads))
    build(path, tmp_path / "index")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(fasta([*reads[:-1], (reads[-1][0], "T" * 150)]))
    os.utime(path, ns=times)
    build(path, tmp_path / "index")
    assert len(counted_scans) == 2


def test_a_read_of_another_length_than_was_indexed_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", b">lbl|1|||a\nACGT\n")
    index = build(path, tmp_path / "index")
    path.write_bytes(b">lbl|1|||abc\nAC\n")
    with pytest.raises(DataError, match="changed after it was indexed"):
        index.read(0)
    with pytest.raises(DataError, match="changed after it was indexed"):
        index.sequences([0])


def test_another_pattern_has_its_own_index(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", b">lbl|1|22|3|a\nACG\n")
    assert build(path, tmp_path / "index").class_ids.tolist() == [1]
    assert build(path, tmp_path / "index", HeaderPattern(r"\|(?P<class_id>22)\|")).class_ids.tolist() == [22]
    assert build(path, tmp_path / "index").class_ids.tolist() == [1]


def test_incomplete_indexes_are_rebuilt(tmp_path: Path, counted_scans: list[str]) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))
    build(path, tmp_path / "index")
    lengths = next(tmp_path.glob("index/*/lengths"))
    lengths.write_bytes(lengths.read_bytes()[:-4])
    assert wrong_reads(build(path, tmp_path / "index"), range(500)) == 0
    next(tmp_path.glob("index/*/index.json")).write_text("{")
    assert wrong_reads(build(path, tmp_path / "index"), range(500)) == 0
    assert len(counted_scans) == 3


def test_a_change_under_an_open_index_is_an_error_and_never_garbage(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))
    index = build(path, tmp_path / "index")
    copy = pickle.dumps(index)
    path.write_bytes(fasta(READS[250:]))
    with pytest.raises(DataError, match="changed after it was indexed"):
        for position in range(1, 500):
            assert index.read(position).sequence.decode() == READS[position][1]
    with pytest.raises(DataError, match="changed after it was indexed"):
        pickle.loads(copy)


@pytest.mark.parametrize("letter", [b"\n", b">", b"\r"])
def test_whatever_one_byte_becomes_reads_together_are_what_each_is_alone(
    tmp_path: Path, letter: bytes
) -> None:
    content = b">lbl|1|||a\nACGT\n>lbl|2|||bc\nGATT\n"
    path = written(tmp_path / "reads.fa", content)
    index = build(path, tmp_path / "index")
    told = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + letter + content[place + 1 :])
        try:
            together = index.sequences([1, 0])
        except DataError:
            told += 1
            with pytest.raises(DataError, match="changed after it was indexed"):
                index.read(0), index.read(1)
            continue
        assert together == [index.read(1).sequence, index.read(0).sequence]
    assert told >= 2


def test_a_copy_whose_index_is_gone_says_so(tmp_path: Path) -> None:
    copy = pickle.dumps(build(written(tmp_path / "reads.fa", fasta(READS)), tmp_path / "index"))
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(DataError, match="the read index is gone"):
        pickle.loads(copy)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("compressed", [False, True])
def test_processes_share_an_index(tmp_path: Path, method: str, compressed: bool) -> None:
    content = fasta(READS)
    path = written(tmp_path / "reads", gzip.compress(content) if compressed else content)
    index = build(path, tmp_path / "index")
    index.read(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        parts = [range(start, 500, 2) for start in (0, 1, 0, 1)]
        assert pool.starmap(wrong_reads, [(index, part) for part in parts]) == [0, 0, 0, 0]


def test_threads_share_an_index(tmp_path: Path) -> None:
    index = build(written(tmp_path / "reads.fa", fasta(READS)), tmp_path / "index")
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: wrong_reads(index, range(500)), range(4))) == [0, 0, 0, 0]


def test_concurrent_builders_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa.gz", gzip.compress(fasta(READS)))
    together = threading.Barrier(4)

    def work(_: int) -> int:
        together.wait()
        return wrong_reads(build(path, tmp_path / "index"), range(500))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [0, 0, 0, 0]
    assert len(list((tmp_path / "index").iterdir())) == 1


def test_damaged_files_are_not_indexed(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fq", fastq(READS)[:-20])
    with pytest.raises(
        DataError, match=r"line 1,997, record 500: the file ends inside the record.*metagene doctor --fasta"
    ):
        build(path, tmp_path / "index")
    assert not list((tmp_path / "index").iterdir())


def test_a_file_without_a_usable_read_is_an_error_that_says_why(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", b">SRR1\nAC\n>SRR2\nAC\n")
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"none of its 2 records is usable; 2 records rejected \(header: "
        ):
            build(path, tmp_path / "index")


def test_compressed_files_are_unpacked_once(tmp_path: Path, counted_scans: list[str]) -> None:
    path = written(tmp_path / "reads.fa.gz", gzip.compress(fasta(READS)))
    build(path, tmp_path / "index")
    build(path, tmp_path / "index")
    assert len(counted_scans) == 1
    assert [file.read_bytes() for file in tmp_path.glob("index/*/reads")] == [fasta(READS)]


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=100))
    path = written(tmp_path / "reads.fa.gz", gzip.compress(fasta(READS)))
    with pytest.raises(
        InputError, match=r"needs about [\d.]+ .B, 100 B are free; set dataset.index_dir"
    ) as caught:
        build(path, tmp_path / "index")
    assert "METAGENE_CACHE" in str(caught.value)
    assert not list((tmp_path / "index").iterdir())


def test_a_directory_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))
    blocked = written(tmp_path / "file", b"")
    with pytest.raises(InputError, match="METAGENE_CACHE to a directory that can be written"):
        build(path, blocked / "index")


def test_the_default_directory_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    path = written(tmp_path / "data" / "reads.fa", fasta(READS))
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))
    ReadIndex.open_or_build(path, header=STANDARD)
    assert list((tmp_path / "cache" / "index").iterdir())
    monkeypatch.delenv("METAGENE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    ReadIndex.open_or_build(path, header=STANDARD)
    assert list((tmp_path / "home" / ".cache" / "metagene" / "index").iterdir())
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["reads.fa"]


def test_partial_indexes_of_killed_builds_are_removed_after_a_day(tmp_path: Path) -> None:
    old, recent = tmp_path / "index" / ".metagene-partial-old", tmp_path / "index" / ".metagene-partial-new"
    foreign = tmp_path / "index" / ".ssh"
    for directory in (old, recent, foreign):
        directory.mkdir(parents=True)
        written(directory / "offsets", b"12345678")
    os.utime(old / "offsets", (0, 0))
    os.utime(foreign / "offsets", (0, 0))
    build(written(tmp_path / "reads.fa", fasta(READS)), tmp_path / "index")
    assert (old.exists(), recent.exists(), foreign.exists()) == (False, True, True)
