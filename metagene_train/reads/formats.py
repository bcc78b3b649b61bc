"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metagene_train.errors import DataError, InputError
from metagene_train.reads.source import GZIP_MAGIC, GzipSource

Kind = Literal["fasta", "fastq"]
Compression = Literal["none", "gzip", "bgzf"]

HEAD_BYTES = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_OTHER_COMPRESSIONS = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"BZh": ("bzip2", "bunzip2 -k"),
    b"\xfd7zXZ\0": ("xz", "xz -dk"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x1f\x9d": ("compress", "uncompress -k"),
}
_OTHER_CONTENTS = (
    (rb"@(HD|SQ|RG|PG|CO)\t", "is SAM; convert it with: samtools fastq"),
    (rb"BAM\x01", "is BAM; convert it with: samtools fastq"),
    (rb"CRAM", "is CRAM; convert it with: samtools fastq"),
    (rb"\s*<(!doctype|html|\?xml|head)", "is an HTML or XML page: a download that failed?"),
    (rb"version https://git-lfs", "is a git-lfs pointer, not the file itself; run: git lfs pull"),
    (rb"LOCUS ", "is GenBank; convert it to FASTA first"),
    (rb"ID   ", "is EMBL; convert it to FASTA first"),
    (rb"(?s).{257}ustar", "is a tar archive; unpack it first: tar -xf"),
    (rb"\s*[{\[]", "looks like JSON"),
    (rb";", "starts with a ; comment line, which is no longer FASTA; remove the lines before the first >"),
)


@dataclass(frozen=True)
class ReadFormat:
    """FASTA or FASTQ, how the file is compressed, and whether it starts with a UTF-8 byte order mark."""

    kind: Kind
    compression: Compression
    byte_order_mark: bool = False

    def __str__(self) -> str:
        return self.kind if self.compression == "none" else f"{self.kind}, {self.compression}"


def sniff(path: str | Path, file_format: str = "auto", gzip: Literal["auto"] | bool = "auto") -> ReadFormat:
    """The format of a reads file; ``file_format`` and ``gzip`` other than auto are what it has to be.

    Raises InputError if there is no such regular, readable, non-empty file, DataError if its
    content is neither FASTA nor FASTQ.
    """
    path = Path(path)
    head = _read_head(path)
    for magic, (name, tool) in _OTHER_COMPRESSIONS.items():
        if head.startswith(magic):
            raise DataError(f"{path}: is compressed with {name}; unpack it first: {tool} {path}")
    compression = _gzip_kind(head)
    if compression != "none":
        head = _inflated_head(path)
    kind = _kind(path, head)
    if file_format not in ("auto", kind):
        raise DataError(
            f"{path}: is {kind.upper()}, but dataset.file_format says {file_format}; set it to {kind} or auto"
        )
    if gzip not in ("auto", compression != "none"):
        found = "not compressed" if gzip else "compressed with gzip"
        raise DataError(f"{path}: is {found}, but dataset.gzip says {str(gzip).lower()}; set it to auto")
    return ReadFormat(kind, compression, head.startswith(BYTE_ORDER_MARK))


def _read_head(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path}: is a directory, not a reads file")
        if not stat.S_ISREG(mode):
            raise InputError(
                f"{path}: is not a regular file; reads are needed more than once, save them first"
            )
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise InputError(f"{path}: is empty (0 bytes)")
    return head


def _gzip_kind(head: bytes) -> Compression:
    if not head.startswith(GZIP_MAGIC):
        return "none"
    has_extra_field = len(head) > 18 and head[3] & 4
    return "bgzf" if has_extra_field and head[12:14] == b"BC" else "gzip"


def _inflated_head(path: Path) -> bytes:
    source = GzipSource(path, blocked=False)
    buffer = bytearray(HEAD_BYTES)
    filled = 0
    try:
        while count := source.readinto(memoryview(buffer)[filled:]):
            filled += count
    finally:
        source.close()
    if filled:
        return bytes(buffer[:filled])
    if source.problems:
        raise DataError(f"{path}: {source.problems[0].message}")
    raise InputError(f"{path}: holds no data (gzip of nothing)")


def _kind(path: Path, head: bytes) -> Kind:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16 text; save it as UTF-8 or ASCII")
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip(b"\r\n")
    if not text:
        raise InputError(f"{path}: holds nothing but blank lines")
    if b"\n" not in text and b"\r" in text[:-1]:
        raise DataError(f"{path}: ends its lines with CR only; convert it with: tr '\\r' '\\n'")
    for pattern, what in _OTHER_CONTENTS:
        if re.match(pattern, text, re.IGNORECASE):
            raise DataError(f"{path}: not FASTA or FASTQ: {what}")
    if text.startswith(b">"):
        _refuse_protein(path, text)
        return "fasta"
    if text.startswith(b"@"):
        return "fastq"
    if b"\0" in text[:1024]:
        raise DataError(f"{path}: not FASTA or FASTQ: is a binary file")
    start = text[:40].split(b"\n")[0].decode("latin-1")
    raise DataError(f"{path}: not FASTA or FASTQ: line 1 starts with {start!r} instead of > or @")


def _refuse_protein(path: Path, text: bytes) -> None:
    """E, F, I, L, P and Q stand for amino acids only: no nucleotide code uses them."""
    lines = text.split(b"\n")[:-1]
    letters = b"".join(line for line in lines if not line.startswith(b">")).upper()
    amino_acids = len(letters) - len(letters.translate(None, b"EFILPQ"))
    if len(letters) >= 20 and amino_acids > 0.1 * len(letters):
        raise DataError(
            f"{path}: holds protein sequences ({amino_acids / len(letters):.0%} of the first letters are "
            "amino acids that no nucleotide code has); reads have to be DNA or RNA"
        )
