"""Ranges of a file read by several processes: the same result as of one, in every detail."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reads_fixtures import bgzf, fasta, fastq, random_reads, written

from metagene_train.reads import scan as scan_module
from metagene_train.reads.counts.report import ReadScan
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.index.files import COLUMNS, META, REJECTED, UNPACKED
from metagene_train.reads.ranges import open_range, split
from metagene_train.reads.records.formats import sniff
from metagene_train.reads.scan import scan

STANDARD = HeaderPattern()
READS = random_reads(100, length=50)
MIXED = [(header, sequence[: 7 + i % 40]) for i, (header, sequence) in enumerate(READS)]
TWICE = [READS[i % 70] for i in range(100)]


def wrapped(reads: list[tuple[str, str]], mark: str = ">") -> bytes:
    return "".join(f"{mark}{h}\n{s[:20]}\n{s[20:]}\n" for h, s in reads).encode()


def at_sign_qualities(reads: list[tuple[str, str]]) -> bytes:
    """Qualities that look like headers, and + lines that repeat the header."""
    return "".join(f"@{h}\n{s}\n+{h}\n{'@' + 'I' * (len(s) - 1)}\n" for h, s in reads).encode()


SOUND: dict[str, bytes] = {
    "fasta": fasta(READS),
    "fasta of mixed lengths": fasta(MIXED),
    "fasta with repeated headers": fasta(TWICE),
    "fasta with bad headers": fasta([(h.replace("lbl|1", "x|1"), s) for h, s in MIXED]),
    "fasta with empty reads": fasta([(h, s if i % 3 else "") for i, (h, s) in enumerate(READS)]),
    "fasta sorted by class": fasta(sorted(READS)),
    "wrapped fasta": wrapped(READS),
    "crlf fasta": fasta(READS).replace(b"\n", b"\r\n"),
    "fasta with blank lines": fasta(READS).replace(b"\n>", b"\n\n\r\n>"),
    "fasta without last line end": fasta(READS)[:-1],
    "fasta with a byte order mark": b"\xef\xbb\xbf" + fasta(READS),
    "fasta with > inside lines": fasta([(h + ">x", s[:9] + ">" + s[9:]) for h, s in READS]),
    "fasta with long records": fasta([(h, s * (1 + 90 * (i % 20 == 0))) for i, (h, s) in enumerate(READS)]),
    "fasta of one record": fasta([("lbl|1|1||a", "ACGT" * 2000)]),
    "lower case, U, N": fasta([(h, s.lower().replace("t", "u") + "NRY-* A") for h, s in READS]),
    "fastq": fastq(MIXED),
    "crlf fastq": fastq(READS).replace(b"\n", b"\r\n"),
    "fastq with blank lines": fastq(READS).replace(b"\n@", b"\n\n@"),
    "wrapped fastq": "".join(f"@{h}\n{s[:9]}\n{s[9:]}\n+\n{s[:30]}\n{s[30:]}\n" for h, s in READS).encode(),
    "fastq with qualities like headers": at_sign_qualities(MIXED),
}
DAMAGED: dict[str, bytes] = {
    "fastq cut": fastq(READS)[:-70],
    "fastq with short qualities": fastq(READS).replace(b"I\n@lbl|1", b"\n@lbl|1"),
    "fastq with long qualities": fastq(READS).replace(b"I\n@lbl|1", b"III\n@lbl|1"),
    "fastq without plus lines": fastq(READS).replace(b"\n+\nI", b"\nI", 30),
    "fastq with stray text": fastq(READS).replace(b"\n@lbl|2", b"\nwhat is this\n@lbl|2"),
    "NUL bytes": fasta(READS[:50]) + b">lbl|1|1||x/1\nAC" + bytes(300) + b"\n" + fasta(READS[50:]),
    "fasta that turns to fastq": fasta(READS[:40]) + fastq(READS[40:]).replace(b"I", b"5"),
    "fastq that turns to fasta": fastq(READS[:40]) + fasta(READS[40:]),
}


def comparable(found: ReadScan) -> dict[str, Any]:
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return values | {"lengths": found.lengths.tolist()}


def index_files(root: Path) -> dict[str, bytes]:
    directories = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    names = (*COLUMNS, REJECTED, UNPACKED)
    return {name: (d / name).read_bytes() for d in directories for name in names if (d / name).exists()}


def compare(path: Path, tmp_path: Path, range_bytes: int, processes: int = 2, **options: Any) -> ReadScan:
    """Both scans of a file, with their indexes."""
    alone = scan(path, header=STANDARD, index_dir=tmp_path / "alone", **options)
    together = scan(
        path,
        header=STANDARD,
        index_dir=tmp_path / "together",
        processes=processes,
        range_bytes=range_bytes,
        **options,
    )
    assert comparable(together) == comparable(alone)
    assert index_files(tmp_path / "together") == index_files(tmp_path / "alone")
    assert bool(index_files(tmp_path / "alone")) == alone.complete
    assert not list((tmp_path / "together").glob(f"*/{META}.*"))
    return together


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each attempt to read ranges, whether it was good."""
    made: list[bool] = []
    original: Callable[..., bool] = scan_module._add_ranges
    monkeypatch.setattr(
        scan_module, "_add_ranges", lambda *given: (made.append(original(*given)), made[-1])[1]
    )
    return made


@pytest.mark.parametrize("range_bytes", [300, 1777])
@pytest.mark.parametrize("name", [*SOUND, *DAMAGED])
def test_ranges_give_what_one_process_gives(tmp_path: Path, name: str, range_bytes: int) -> None:
    path = written(tmp_path / "reads", (SOUND | DAMAGED)[name])
    compare(path, tmp_path, range_bytes, chunk_bytes=3000)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in SOUND
        if name not in ("wrapped fastq", "fastq with blank lines", "fasta of one record")
    ],
)
def test_sound_files_are_really_read_in_ranges(tmp_path: Path, attempts: list[bool], name: str) -> None:
    path = written(tmp_path / "reads", SOUND[name])
    assert len(split(path, sniff(path), 800)) > 5
    compare(path, tmp_path, 800)
    assert attempts == [True]


@pytest.mark.parametrize("block", [300, 1500])
@pytest.mark.parametrize("name", ["fasta", "crlf fasta", "fasta with long records", "fastq", "wrapped fasta"])
def test_blocked_gzip_is_read_in_ranges(tmp_path: Path, attempts: list[bool], name: str, block: int) -> None:
    path = written(tmp_path / "reads.gz", bgzf(SOUND[name], block=block))
    found = compare(path, tmp_path, 2000, processes=3)
    assert attempts == [True]
    assert found.bytes_examined == path.stat().st_size


def changed(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda packed: packed[:-28], id="no end block"),
        pytest.param(lambda packed: packed[:-300], id="cut"),
        pytest.param(lambda packed: packed + b"garbage", id="garbage"),
        pytest.param(lambda packed: packed + bgzf(b""), id="two end blocks"),
        pytest.param(lambda packed: changed(packed, len(packed) // 2), id="changed byte"),
        pytest.param(lambda packed: changed(packed, -30), id="changed length at the end"),
        pytest.param(lambda packed: changed(packed, -35), id="changed checksum at the end"),
    ],
)
@pytest.mark.parametrize("block", [300, 5000])
def test_damaged_blocks_are_reported_as_by_one_process(
    tmp_path: Path, damage: Callable[[bytes], bytes], block: int
) -> None:
    path = written(tmp_path / "reads.gz", damage(bgzf(SOUND["fasta"], block=block)))
    compare(path, tmp_path, 2000)


@pytest.mark.parametrize("seed", range(20))
def test_random_edits_give_the_same_by_ranges(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    content = bytearray((SOUND | DAMAGED)[source.choice([*SOUND, *DAMAGED])])
    for _ in range(source.choice([1, 5, 50])):
        place = source.randrange(1, len(content))
        new = source.choice([b"", b"@", b">", b"\n", b"\n@", b"\n+\n", b"\r\n", b"\0", b"N", b"+"])
        content[place : place + source.choice([0, 1, 1, 40])] = new
    path = written(tmp_path / "reads", bytes(content))
    compare(path, tmp_path, source.choice([200, 1000]), chunk_bytes=source.choice([700, 1 << 21]))


@pytest.mark.parametrize("name", ["fasta", "fastq", "fasta with long records"])
@pytest.mark.parametrize("blocked", [False, True])
def test_ranges_cover_every_byte_once(tmp_path: Path, name: str, blocked: bool) -> None:
    content = SOUND[name]
    path = written(tmp_path / "reads", bgzf(content, block=500) if blocked else content)
    parts = []
    for part in split(path, sniff(path), 900):
        source = open_range(path, part)
        buffer = bytearray(part.end - part.start + 10)
        count = 0
        while read := source.readinto(memoryview(buffer)[count:]):
            count += read
        source.close()
        parts.append(bytes(buffer[:count]))
    assert len(parts) > 5
    assert b"".join(parts) == content
    assert all(part.startswith((b">", b"@lbl")) for part in parts)


def test_a_file_that_is_changed_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))

    def append(_done: int, _total: int) -> None:
        with path.open("ab") as file:
            file.write(b">more\nA\n")

    found = scan(
        path, header=STANDARD, progress=append, index_dir=tmp_path / "index", processes=2, range_bytes=2000
    )
    assert [problem.kind for problem in found.problems] == ["changed"]
    assert not list((tmp_path / "index").iterdir())


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.gz", bgzf(fasta(READS), block=700))
    calls: list[tuple[int, int]] = []
    scan(
        path,
        header=STANDARD,
        processes=2,
        range_bytes=2000,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert len(calls) > 3
    assert calls == sorted(calls)
    assert calls[-1] == (path.stat().st_size, path.stat().st_size)


def test_many_reads_of_which_a_sample_is_kept(tmp_path: Path) -> None:
    reads = random_reads(25_000, length=20, classes=40, seed=3)
    found = compare(written(tmp_path / "reads.fa", fasta(reads)), tmp_path, 200_000)
    assert len(found.sample) == 10_000
    places = np.array([found.sample.index(s) for s in found.sample[:50]])
    assert (np.diff(places) > 0).all()
