"""Compressed files: what a reader has to notice that ordinary gzip readers do not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from reads_fixtures import BGZF_END, bgzf, fasta, random_reads, written

from metagene_train.errors import DataError
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.formats import sniff
from metagene_train.reads.scan import scan
from metagene_train.reads.sources.gzip import GzipSource
from metagene_train.reads.sources.raw import DiskFile
from metagene_train.reads.sources.source import open_source

READS = random_reads(2000)
CONTENT = fasta(READS)


def unpack(path: Path, piece: int = 10_000) -> tuple[bytes, list[str]]:
    """Everything a source hands out, and the kinds of damage it met."""
    source = open_source(path, sniff(path).compression)
    buffer = bytearray(piece)
    parts = []
    while count := source.readinto(memoryview(buffer)):
        parts.append(bytes(buffer[:count]))
    source.close()
    return b"".join(parts), [problem.kind for problem in source.problems]


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(CONTENT, id="plain"),
        pytest.param(gzip.compress(CONTENT), id="gzip"),
        pytest.param(gzip.compress(CONTENT, 1), id="gzip -1"),
        pytest.param(gzip.compress(CONTENT[:50_000]) + gzip.compress(CONTENT[50_000:]), id="two members"),
        pytest.param(gzip.compress(b"") + gzip.compress(CONTENT) + gzip.compress(b""), id="empty members"),
        pytest.param(gzip.compress(CONTENT) + bytes(700), id="zero padding"),
        pytest.param(bgzf(CONTENT), id="bgzf"),
        pytest.param(bgzf(CONTENT, block=60_000), id="bgzf, large blocks"),
    ],
)
@pytest.mark.parametrize("piece", [1000, 300_000])
def test_sound_files_are_handed_out_whole(tmp_path: Path, packed: bytes, piece: int) -> None:
    assert unpack(written(tmp_path / "reads", packed), piece) == (CONTENT, [])


def test_optional_header_fields_of_gzip_are_skipped(tmp_path: Path) -> None:
    plain = gzip.compress(CONTENT, mtime=0)
    with_fields = (
        plain[:3] + b"\x1e" + plain[4:10] + b"\x03\0xyz" + b"name.fa\0" + b"comment\0" + b"\0\0" + plain[10:]
    )
    assert unpack(written(tmp_path / "reads.gz", with_fields)) == (CONTENT, [])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.999])
def test_a_truncated_file_yields_what_was_read_and_says_where_it_ends(tmp_path: Path, share: float) -> None:
    packed = gzip.compress(CONTENT)
    path = written(tmp_path / "reads.gz", packed[: int(len(packed) * share)])
    found = scan(path, header=HeaderPattern())
    assert [(problem.kind, problem.byte_offset) for problem in found.problems] == [
        ("gzip_truncated", path.stat().st_size)
    ]
    assert not found.complete
    assert share * 1800 < found.records <= 2000
    assert found.bytes_examined == path.stat().st_size
    # The record that was cut is counted, but is no read.
    assert [(r.kind, r.count, r.examples[0].record) for r in found.rejected] == [("cut", 1, found.records)]
    assert set(found.sample) <= {sequence.encode() for _, sequence in READS}
    assert found.bases.total == found.total_bases == 150 * found.accepted


@pytest.mark.parametrize("missing", [1, 4, 7, 8])
def test_a_file_cut_in_its_trailer_is_truncated(tmp_path: Path, missing: int) -> None:
    assert unpack(written(tmp_path / "reads.gz", gzip.compress(CONTENT)[:-missing])) == (
        CONTENT,
        ["gzip_truncated"],
    )


@pytest.mark.parametrize("place, wrong", [(-8, "CRC-32"), (-4, "length")])
def test_a_wrong_checksum_is_damage(tmp_path: Path, place: int, wrong: str) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[place] ^= 0xFF
    path = written(tmp_path / "reads.gz", bytes(packed))
    found = scan(path, header=HeaderPattern())
    assert [problem.kind for problem in found.problems] == ["gzip_checksum"]
    assert found.problems[0].byte_offset == len(packed) - 8
    assert wrong in found.problems[0].message
    assert found.records == 2000


def test_corrupt_data_in_the_middle_is_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    middle = len(packed) // 2
    packed[middle : middle + 200] = bytes(200)
    _, kinds = unpack(written(tmp_path / "reads.gz", bytes(packed)))
    assert len(kinds) == 1
    assert kinds[0] in ("gzip_corrupt", "gzip_checksum")


def test_garbage_after_the_last_member_is_damage_with_its_position(tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    path = written(tmp_path / "reads.gz", packed + b"<html>error</html>")
    found = scan(path, header=HeaderPattern())
    assert [(problem.kind, problem.byte_offset) for problem in found.problems] == [
        ("gzip_trailing_garbage", len(packed))
    ]
    assert "18 bytes" in found.problems[0].message
    assert (found.records, found.bytes_examined) == (2000, len(packed))


def test_garbage_is_found_behind_zero_padding(tmp_path: Path) -> None:
    content = gzip.compress(CONTENT) + bytes(400_000) + b"x"
    assert unpack(written(tmp_path / "reads.gz", content)) == (CONTENT, ["gzip_trailing_garbage"])


def test_bgzf_cut_between_blocks_is_damage_although_gzip_sees_none(tmp_path: Path) -> None:
    whole = bgzf(CONTENT)
    cut = whole[: -len(BGZF_END)]
    assert gzip.decompress(cut) == CONTENT
    assert unpack(written(tmp_path / "reads.gz", cut)) == (CONTENT, ["bgzf_no_end"])


def test_bgzf_cut_inside_a_block_is_reported_once(tmp_path: Path) -> None:
    _, kinds = unpack(written(tmp_path / "reads.gz", bgzf(CONTENT)[:-1000]))
    assert kinds == ["gzip_truncated"]


def test_the_standard_library_decodes_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metagene_train.reads.sources.gzip.inflate", zlib)
    assert unpack(written(tmp_path / "a.gz", bgzf(CONTENT))) == (CONTENT, [])
    assert unpack(written(tmp_path / "b.gz", gzip.compress(CONTENT)[:-9]))[1] == ["gzip_truncated"]


def test_a_failing_disk_is_damage_and_no_traceback(tmp_path: Path) -> None:
    raw = DiskFile(written(tmp_path / "reads.gz", gzip.compress(CONTENT)))
    raw.close()
    raw._file = FailingFile()  # type: ignore[assignment]
    source = GzipSource(raw, blocked=False)
    assert source.readinto(memoryview(bytearray(100))) == 0
    assert [problem.kind for problem in source.problems] == ["unreadable"]


class FailingFile:
    def read(self, _count: int) -> bytes:
        raise OSError(5, "Input/output error")


def zstd(content: bytes, *, checksum: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=checksum).compress(content)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
SKIPPED_FRAME = b"\x5a\x2a\x4d\x18" + (9).to_bytes(4, "little") + b"not reads"


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("piece", [1000, 300_000])
def test_every_compression_is_handed_out_whole(tmp_path: Path, name: str, piece: int) -> None:
    pack = PACKERS[name]
    several = pack(b"") + pack(CONTENT[:50_000]) + pack(b"") + pack(CONTENT[50_000:]) + bytes(700)
    assert sniff(written(tmp_path / "one", pack(CONTENT))).compression == name
    assert unpack(tmp_path / "one", piece) == (CONTENT, [])
    assert unpack(written(tmp_path / "several", several), piece) == (CONTENT, [])


@pytest.mark.parametrize("level", [-5, 3, 19])
@pytest.mark.parametrize("content", [CONTENT, b">a\n" + b"A" * 1_000_000], ids=["reads", "one run"])
def test_zstd_of_every_kind_of_block(tmp_path: Path, level: int, content: bytes) -> None:
    whole = zstandard.ZstdCompressor(level=level, write_content_size=False).compress(content)
    streamed = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    flushed = b"".join(
        streamed.compress(content[i : i + 9000]) + streamed.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for i in range(0, len(content), 9000)
    )
    assert unpack(written(tmp_path / "a", SKIPPED_FRAME + whole + SKIPPED_FRAME)) == (content, [])
    assert unpack(written(tmp_path / "b", flushed + streamed.flush())) == (content, [])


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("parts", [1, 3])
def test_every_truncated_compression_says_where_it_ends(tmp_path: Path, name: str, parts: int) -> None:
    pack = PACKERS[name]
    content = fasta(random_reads(12_000))
    packed = b"".join(pack(content) for _ in range(parts))
    last = len(packed) // parts * (parts - 1)
    for share in (0.5, 0.9999):
        size = last + int((len(packed) - last) * share)
        found = scan(written(tmp_path / "reads", packed[:size]), header=HeaderPattern())
        assert [(problem.kind, problem.byte_offset) for problem in found.problems] == [
            (f"{name}_truncated", size)
        ]
        assert f"starts at byte {last:,}" in found.problems[0].message
        assert (found.bytes_present, found.bytes_examined) == (size, size)
        assert found.records >= 12_000 * (parts - 1)
        assert found.records == found.accepted + sum(rejection.count for rejection in found.rejected)


@pytest.mark.parametrize("name", PACKERS)
def test_a_changed_byte_in_any_compression_is_damage_near_it(tmp_path: Path, name: str) -> None:
    pack = PACKERS[name]
    packed = bytearray(pack(CONTENT) + pack(CONTENT))
    place = len(packed) * 3 // 4
    packed[place] ^= 0xFF
    found = scan(written(tmp_path / "reads", bytes(packed)), header=HeaderPattern())
    (problem,) = found.problems
    assert problem.kind in (f"{name}_corrupt", f"{name}_checksum")
    assert f"starts at byte {len(packed) // 2:,}" in problem.message
    assert problem.byte_offset is not None
    assert len(packed) // 2 <= problem.byte_offset <= len(packed)
    assert found.records >= 2000
    assert not found.complete


def test_a_wrong_checksum_of_zstd_is_damage_behind_all_its_data(tmp_path: Path) -> None:
    packed = bytearray(zstd(CONTENT))
    packed[-1] ^= 1
    found = scan(written(tmp_path / "reads", bytes(packed)), header=HeaderPattern())
    assert [(p.kind, p.byte_offset) for p in found.problems] == [("zstd_checksum", len(packed) - 4)]
    assert found.records == 2000


@pytest.mark.parametrize("name", PACKERS)
def test_garbage_after_any_compression_is_damage(tmp_path: Path, name: str) -> None:
    packed = PACKERS[name](CONTENT)
    found = scan(written(tmp_path / "reads", packed + bytes(20) + b"<html>"), header=HeaderPattern())
    assert [(p.kind, p.byte_offset) for p in found.problems] == [(f"{name}_trailing_garbage", len(packed))]
    assert (found.records, found.accepted, found.bytes_examined) == (2000, 2000, len(packed))


def test_zstd_of_a_window_larger_than_usual_is_refused_with_the_command(tmp_path: Path) -> None:
    settings = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    path = written(tmp_path / "reads", packer.compress(CONTENT) + packer.flush())
    with pytest.raises(DataError, match="zstd -d --long=31"):
        sniff(path)
