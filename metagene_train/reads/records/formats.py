"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metagene_train.errors import DataError, InputError
from metagene_train.reads.sources.gzip import GZIP_MAGIC
from metagene_train.reads.sources.raw import STANDARD_INPUT, Stream
from metagene_train.reads.sources.source import ByteSource, decompressed, open_source
from metagene_train.reads.sources.whole_streams import BZIP2_MAGIC, XZ_MAGIC
from metagene_train.reads.sources.zstd import starts_frame

Kind = Literal["fasta", "fastq"]
Compression = Literal["none", "gzip", "bgzf", "zstd", "xz", "bzip2"]

CONTROL_SHARE = 0.05
"""Share of control characters among the first bytes from which a file is no text."""
_CONTROL_CHARACTERS = bytes(byte for byte in (*range(1, 32), 127) if bytes([byte]) not in b"\t\n\v\f\r")
HEAD_BYTES = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_PEEKED_BYTES = 1 << 21
"""Of a stream, before anything is taken from it: a block of bzip2 has up to 900 kB."""

_OTHER_COMPRESSIONS = {
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x1f\x9d": ("compress", "uncompress -k"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dk"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x"),
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


def is_stream(path: str | Path) -> bool:
    """Whether this is standard input or a pipe, which can be read only once."""
    if str(path) == STANDARD_INPUT:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def name_of(path: str | Path) -> str:
    """What messages call a reads file."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def short_name_of(path: str | Path) -> str:
    """Without its directories; whole where the name alone would be a number, as of ``<(zcat x.fa.gz)``."""
    return str(path) if Path(path).parent == Path("/dev/fd") else Path(path).name


def sniff(path: str | Path, file_format: str = "auto", gzip: Literal["auto"] | bool = "auto") -> ReadFormat:
    """The format of a reads file; ``file_format`` and ``gzip`` other than auto are what it has to be.

    Raises InputError if there is no such regular, readable, non-empty file, DataError if its
    content is neither FASTA nor FASTQ.
    """
    path = Path(path)
    if is_stream(path):
        raise InputError(
            f"{name_of(path)}: is not a regular file and can be read only once; reads are needed more than "
            "once here, save them to a file first"
        )
    head = _read_head(path)
    found = _format(str(path), head, lambda compression: open_source(path, compression))
    _must_be(str(path), found, file_format, gzip)
    return found


def sniff_stream(
    stream: Stream, name: str, file_format: str = "auto", gzip: Literal["auto"] | bool = "auto"
) -> ReadFormat:
    """As `sniff` of a file; nothing is taken from the stream. ``name`` is for messages."""
    try:
        head = stream.peek(_PEEKED_BYTES)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    if not head:
        raise InputError(f"{name}: is empty (0 bytes)")
    found = _format(name, head, lambda compression: decompressed(Stream(io.BytesIO(head)), compression))
    _must_be(name, found, file_format, gzip)
    return found


def _format(name: str, head: bytes, unpack: Callable[[str], ByteSource]) -> ReadFormat:
    for magic, (other, tool) in _OTHER_COMPRESSIONS.items():
        if head.startswith(magic):
            raise DataError(f"{name}: is compressed with {other}; unpack it first: {tool} {name}")
    compression = _compression(head)
    if compression != "none":
        head = _unpacked_head(name, unpack(compression), compression)
    return ReadFormat(_kind(name, head[:HEAD_BYTES]), compression, head.startswith(BYTE_ORDER_MARK))


def _must_be(name: str, found: ReadFormat, file_format: str, gzip: Literal["auto"] | bool) -> None:
    if file_format not in ("auto", found.kind):
        raise DataError(
            f"{name}: is {found.kind.upper()}, but dataset.file_format says {file_format}; "
            f"set it to {found.kind} or auto"
        )
    if gzip not in ("auto", found.compression in ("gzip", "bgzf")):
        if found.compression == "none":
            how = "not compressed"
        else:
            how = f"compressed with {'gzip' if found.compression == 'bgzf' else found.compression}"
        raise DataError(f"{name}: is {how}, but dataset.gzip says {str(gzip).lower()}; set it to auto")


def _read_head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(
                f"{path}: is a directory, not a reads file; name its files, also by a pattern in quotes "
                f"('{path}/*.fa')"
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


def _compression(head: bytes) -> Compression:
    if head.startswith(GZIP_MAGIC):
        has_extra_field = len(head) > 18 and head[3] & 4
        return "bgzf" if has_extra_field and head[12:14] == b"BC" else "gzip"
    if starts_frame(head):
        return "zstd"
    if head.startswith(XZ_MAGIC):
        return "xz"
    return "bzip2" if head.startswith(BZIP2_MAGIC) else "none"


def _unpacked_head(name: str, source: ByteSource, compression: Compression) -> bytes:
    buffer = bytearray(HEAD_BYTES)
    filled = 0
    with closing(source):
        while count := source.readinto(memoryview(buffer)[filled:]):
            filled += count
    if filled:
        return bytes(buffer[:filled])
    if source.problems:
        raise DataError(f"{name}: {source.problems[0].message}")
    raise InputError(f"{name}: holds no data ({compression} of nothing)")


def _kind(name: str, head: bytes) -> Kind:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: is UTF-16 text; save it as UTF-8 or ASCII")
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip(b"\r\n")
    if not text:
        raise InputError(f"{name}: holds nothing but blank lines")
    if b"\n" not in text and b"\r" in text[:-1]:
        raise DataError(f"{name}: ends its lines with CR only; convert it with: tr '\\r' '\\n'")
    for pattern, what in _OTHER_CONTENTS:
        if re.match(pattern, text, re.IGNORECASE):
            raise DataError(f"{name}: not FASTA or FASTQ: {what}")
    if text.startswith((b">", b"@")) and not _is_binary(text):
        if text.startswith(b"@"):
            return "fastq"
        _refuse_protein(name, text)
        return "fasta"
    if _is_binary(text) or b"\0" in text[:1024]:
        raise DataError(f"{name}: not FASTA or FASTQ: is a binary file")
    start = text[:40].split(b"\n")[0].decode("latin-1")
    raise DataError(f"{name}: not FASTA or FASTQ: line 1 starts with {start!r} instead of > or @")


def _is_binary(text: bytes) -> bool:
    """Control characters other than NUL (holes of a failed copy, which the scan places) are a tenth of
    compressed or binary data; in text they are rare, even where ^A separates the names of a header."""
    control = len(text) - len(text.translate(None, _CONTROL_CHARACTERS))
    return control > CONTROL_SHARE * len(text)


def _refuse_protein(name: str, text: bytes) -> None:
    """E, F, I, L, P and Q stand for amino acids only: no nucleotide code uses them."""
    # Behind a line with @ there may be FASTQ, whose qualities are no letters of anything.
    lines = text.partition(b"\n@")[0].split(b"\n")[:-1]
    letters = b"".join(line for line in lines if not line.startswith(b">")).upper()
    amino_acids = len(letters) - len(letters.translate(None, b"EFILPQ"))
    if len(letters) >= 20 and amino_acids > 0.1 * len(letters):
        raise DataError(
            f"{name}: holds protein sequences ({100 * amino_acids / len(letters):.0f} % of the first letters "
            "are amino acids that no nucleotide code has); reads have to be DNA or RNA"
        )
