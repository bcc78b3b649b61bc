"""Small reads files for tests."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def random_reads(count: int, *, length: int = 150, classes: int = 5, seed: int = 0) -> list[tuple[str, str]]:
    """(header, sequence) of reads that follow the guide's template."""
    source = random.Random(seed)
    return [
        (
            f"lbl|{source.randrange(classes)}|{562}|{length}|read{number}/1",
            "".join(source.choices("ACGT", k=length)),
        )
        for number in range(count)
    ]


def fasta(reads: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f">{header}\n{sequence}\n" for header, sequence in reads).encode()


def fastq(reads: Iterable[tuple[str, str]]) -> bytes:
    return "".join(
        f"@{header}\n{sequence}\n+\n{'I' * len(sequence)}\n" for header, sequence in reads
    ).encode()


def bgzf(content: bytes, *, block: int = 5000) -> bytes:
    """Blocked gzip as htslib writes it: members with a BC field, then the empty end block."""
    return b"".join(_bgzf_block(content[i : i + block]) for i in range(0, len(content), block)) + BGZF_END


def _bgzf_block(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    size = len(packed) + 25
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size)
    return head + packed + struct.pack("<II", zlib.crc32(content), len(content))


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
