"""Reads files that are damaged, are no reads files, or are odd but sound, by name.

Every row of the project's table of inputs that other readers get wrong is here. What a file is
expected to give stands beside it, so that the table can be read on its own.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from dataclasses import dataclass

import zstandard
from reads_fixtures import BGZF_END, bgzf, fasta, fastq, random_reads

READS = random_reads(60, length=40, classes=3, seed=8)
FASTA, FASTQ = fasta(READS), fastq(READS)
ONE = len(fastq(READS[:1]))

ZSTD = zstandard.ZstdCompressor(write_checksum=True).compress
GZ, BGZ, ZST, XZ, BZ2 = (pack(FASTA) for pack in (gzip.compress, bgzf, ZSTD, lzma.compress, bz2.compress))
BLOCKS = bgzf(FASTA, block=500)


@dataclass(frozen=True)
class Bad:
    """A damaged file that can be read in part: the kind of damage or rejection, and where it is."""

    content: bytes
    check: str
    kind: str
    byte: int | None = None
    line: int | None = None
    record: int | None = None
    sound: int | None = None
    """Reads that are accepted all the same, where that is certain."""


@dataclass(frozen=True)
class Refused:
    """A file that is not reads, what the message says, and the exit code."""

    content: bytes
    words: str
    code: int = 1


@dataclass(frozen=True)
class Odd:
    """A sound file: its content without compression, its kind, and its rejected records by kind."""

    content: bytes
    unpacked: bytes
    kind: str = "fasta"
    rejected: tuple[str, ...] = ()
    name: str = "reads"


def flipped(content: bytes, place: int) -> bytes:
    place %= len(content)
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def at(content: bytes, record: int, mark: bytes = b">") -> int:
    """Where a record (from 1) starts."""
    place = -1
    for _ in range(record):
        place = content.index(b"\n" + mark, place + 1) if place >= 0 or not content.startswith(mark) else 0
    return place + 1 if place else 0


def with_record(record: int, old: bytes, new: bytes, content: bytes = FASTQ, mark: bytes = b"@") -> bytes:
    """Content with the first ``old`` from a record on replaced."""
    place = content.index(old, at(content, record, mark))
    return content[:place] + new + content[place + len(old) :]


def tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("reads.fa")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("reads.fa", content)
    return file.getvalue()


HALF = gzip.compress(FASTA)[: len(GZ) // 2]
TWO_GZ, TWO_ZST, TWO_XZ, TWO_BZ2 = GZ + GZ, ZST + ZST, XZ + XZ, BZ2 + BZ2
HOLE = FASTA[: at(FASTA, 20) + 30] + bytes(50) + FASTA[at(FASTA, 20) + 80 :]
QUALITY = b"I" * 40

BAD: dict[str, Bad] = {
    "gzip cut at half": Bad(HALF, "F02", "gzip_truncated", byte=len(HALF)),
    "gzip cut in its trailer": Bad(GZ[:-3], "F02", "gzip_truncated", byte=len(GZ) - 3, sound=59),
    "gzip with a wrong checksum": Bad(flipped(GZ, -7), "F02", "gzip_checksum", byte=len(GZ) - 8, sound=59),
    "gzip with a wrong length": Bad(flipped(GZ, -2), "F02", "gzip_checksum", byte=len(GZ) - 8, sound=59),
    "gzip of which the second member is cut": Bad(
        TWO_GZ[:-30], "F02", "gzip_truncated", byte=len(TWO_GZ) - 30
    ),
    "gzip cut in the header of the second member": Bad(
        GZ + GZ[:6], "F02", "gzip_truncated", byte=len(GZ) + 6, sound=59
    ),
    "gzip followed by garbage": Bad(GZ + b"<html>", "F02", "gzip_trailing_garbage", byte=len(GZ), sound=60),
    "gzip with an unknown method in the second member": Bad(
        GZ + flipped(GZ, 2), "F02", "gzip_corrupt", byte=len(GZ), sound=59
    ),
    "BGZF cut between blocks": Bad(
        BLOCKS[: -len(BGZF_END)], "F03", "bgzf_no_end", byte=len(BLOCKS) - 28, sound=59
    ),
    "BGZF cut inside a block": Bad(BLOCKS[:-100], "F02", "gzip_truncated", byte=len(BLOCKS) - 100),
    "BGZF cut inside its end block": Bad(
        BLOCKS[:-9], "F02", "gzip_truncated", byte=len(BLOCKS) - 9, sound=59
    ),
    "BGZF with a changed byte": Bad(flipped(BLOCKS, len(BLOCKS) // 2), "F02", "gzip_"),
    "zstd of which the second frame is cut": Bad(
        TWO_ZST[:-9], "F02", "zstd_truncated", byte=len(TWO_ZST) - 9, sound=59
    ),
    "zstd with a wrong checksum": Bad(flipped(ZST, -1), "F02", "zstd_checksum", byte=len(ZST) - 4, sound=59),
    "zstd with a changed byte": Bad(ZST + flipped(ZST, len(ZST) // 2), "F02", "zstd_"),
    "zstd followed by garbage": Bad(ZST + b"x" * 40, "F02", "zstd_trailing_garbage", byte=len(ZST), sound=60),
    "xz of which the second stream is cut": Bad(TWO_XZ[:-20], "F02", "xz_truncated", byte=len(TWO_XZ) - 20),
    "xz with a changed byte": Bad(XZ + flipped(XZ, len(XZ) // 2), "F02", "xz_corrupt"),
    "xz followed by garbage": Bad(XZ + b"x" * 40, "F02", "xz_trailing_garbage", byte=len(XZ), sound=60),
    "bzip2 of which the second stream is cut": Bad(
        TWO_BZ2[:-20], "F02", "bzip2_truncated", byte=len(TWO_BZ2) - 20, sound=59
    ),
    "bzip2 with a changed byte": Bad(BZ2 + flipped(BZ2, len(BZ2) // 2), "F02", "bzip2_corrupt", sound=59),
    "bzip2 followed by garbage": Bad(
        BZ2 + b"x" * 40, "F02", "bzip2_trailing_garbage", byte=len(BZ2), sound=60
    ),
    "FASTQ with a short quality": Bad(
        with_record(7, QUALITY, QUALITY[:-1]), "F06", "fastq", at(FASTQ, 7, b"@"), 25, 7, 59
    ),
    "FASTQ with a long quality": Bad(
        with_record(7, QUALITY, QUALITY + b"I"), "F06", "fastq", at(FASTQ, 7, b"@"), 25, 7, 59
    ),
    "FASTQ without a quality": Bad(
        with_record(7, QUALITY + b"\n", b""), "F06", "fastq", at(FASTQ, 7, b"@"), 25, 7, 58
    ),
    "FASTQ without a + line": Bad(
        with_record(7, b"\n+\n", b"\n"), "F06", "fastq", at(FASTQ, 7, b"@"), 25, 7, 59
    ),
    "FASTQ without a sequence line": Bad(
        with_record(7, READS[6][1].encode() + b"\n", b""),
        "F06",
        "fastq",
        # An empty read, whose quality is text between records.
        at(FASTQ, 7, b"@") + len(f"@{READS[6][0]}\n+\n"),
        27,
        8,
        59,
    ),
    "FASTQ with stray text": Bad(
        with_record(7, b"@", b"what is this\n@"), "F06", "fastq", at(FASTQ, 7, b"@"), 25, 7, 60
    ),
    "FASTQ cut in the last quality": Bad(FASTQ[:-20], "F06", "fastq", at(FASTQ, 60, b"@"), 237, 60, 59),
    "FASTQ cut in the last sequence": Bad(
        FASTQ[: at(FASTQ, 60, b"@") + 40], "F06", "fastq", at(FASTQ, 60, b"@"), 237, 60, 59
    ),
    "FASTQ cut after the last header": Bad(
        FASTQ[: FASTQ.index(b"\n", at(FASTQ, 60, b"@")) + 1], "F06", "fastq", at(FASTQ, 60, b"@"), 237, 60, 59
    ),
    "FASTQ cut after the last +": Bad(FASTQ[:-41], "F06", "fastq", at(FASTQ, 60, b"@"), 237, 60, 59),
    "FASTQ that goes on as FASTA": Bad(FASTQ + FASTA, "F06", "fastq", len(FASTQ), 241, 61, 60),
    "FASTA that goes on as FASTQ": Bad(
        FASTA + fastq(READS[:1]).replace(b"I", b"A"), "F05", "mixed", at(FASTA, 60), 119, 60
    ),
    "NUL bytes in a sequence": Bad(HOLE, "F05", "nul", at(FASTA, 20), 39, 20),
    "NUL bytes at the end": Bad(FASTA + bytes(512), "F05", "nul", at(FASTA, 60), 119, 60),
    "a header of another tool": Bad(
        with_record(9, b"lbl|", b"SRR1 ", FASTA, b">"), "F07", "header", line=17, record=9, sound=59
    ),
    "a class that is no number": Bad(
        with_record(9, b"lbl|", b"lbl|x", FASTA, b">"), "F07", "header", line=17, record=9, sound=59
    ),
    "a class beyond 32 bits": Bad(
        with_record(9, b"lbl|", b"lbl|99999999999", FASTA, b">"), "F07", "header", line=17, record=9, sound=59
    ),
    "a header with too few fields": Bad(
        with_record(9, b"|562|40|", b"|562|", FASTA, b">"), "F07", "header", line=17, record=9, sound=59
    ),
    "an empty header": Bad(
        with_record(9, READS[8][0].encode(), b"", FASTA, b">"), "F07", "header", line=17, record=9, sound=59
    ),
}

REFUSED: dict[str, Refused] = {
    "UTF-16": Refused(FASTA.decode().encode("utf-16"), "UTF-16"),
    "line ends of CR only": Refused(FASTA.replace(b"\n", b"\r"), "CR only"),
    "SAM": Refused(b"@HD\tVN:1.6\nr1\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\tIIII\n", "SAM"),
    "BAM": Refused(gzip.compress(b"BAM\x01" + bytes(100)), "BAM"),
    "CRAM": Refused(b"CRAM\x03\x00" + bytes(100), "CRAM"),
    "a web page": Refused(b"<!DOCTYPE html><html>404</html>", "HTML"),
    "a git-lfs pointer": Refused(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"
    ),
    "GenBank": Refused(b"LOCUS       AB000001 100 bp DNA\n", "GenBank"),
    "EMBL": Refused(b"ID   X56734; SV 1; linear\n", "EMBL"),
    "JSON": Refused(b'{"error": "not found"}', "JSON"),
    "a comment first": Refused(b"; made by hand\n" + FASTA, "comment"),
    "sequence without a header": Refused(b"ACGTACGTAC\n" * 9, "line 1 starts with"),
    "text before the first header": Refused(b"my reads\n" + FASTA, "line 1 starts with"),
    "protein": Refused(b">p\nMKVLIPEFQLSTWYVMKVLIPEFQ\n" * 9, "protein"),
    "a binary file": Refused(bytes(range(256)), "binary"),
    "a binary file that starts like FASTA": Refused(b">" + bytes(range(1, 256)), "binary"),
    "a binary file that starts like FASTQ": Refused(b"@" + bytes(range(1, 256)), "binary"),
    "tar": Refused(gzip.compress(tar(FASTA)), "tar"),
    "zip": Refused(zipped(FASTA), "unzip"),
    "lz4": Refused(b"\x04\x22\x4d\x18" + bytes(40), "lz4"),
    "zstd that is text": Refused(b"\x28\xb5\x2f\xfd" + FASTA, "cannot be decoded"),
    "bzip2 cut before anything can be read": Refused(BZ2[:200], "inside the bzip2 stream"),
    "an empty file": Refused(b"", "is empty", 2),
    "blank lines only": Refused(b"\n\r\n\n", "blank lines", 2),
    "gzip of nothing": Refused(gzip.compress(b""), "holds no data", 2),
    "zstd of nothing": Refused(ZSTD(b""), "holds no data", 2),
}


def recased(sequence: str, place: int) -> str:
    return sequence.lower().replace("t", "u") + "RYN-."[place % 5]


WRAPPED = "".join(f">{h}\n{s[:7]}\n{s[7:30]}\n{s[30:]}\n" for h, s in READS).encode()
WRAPPED_FASTQ = "".join(f"@{h}\n{s[:9]}\n{s[9:]}\n+\n{'I' * 30}\n{'@' * 10}\n" for h, s in READS).encode()
MIXED_ENDS = "".join(f">{h}\r\n{s[:20]}\n{s[20:]}\r\n" for h, s in READS).encode()
LONG = f">lbl|1|1||{'n' * 70_000}\n{'ACGT' * 60_000}\n".encode()
SKIPPED_FRAME = b"\x50\x2a\x4d\x18\x05\0\0\0hello"
THIRD = at(FASTA, 20)

ODD: dict[str, Odd] = {
    "CR LF": Odd(crlf := FASTA.replace(b"\n", b"\r\n"), crlf),
    "LF and CR LF in one record": Odd(MIXED_ENDS, MIXED_ENDS),
    "no final line end": Odd(FASTA[:-1], FASTA[:-1]),
    "blank lines between records": Odd(blank := FASTA.replace(b"\n>", b"\n\n\n>"), blank),
    "blank lines first": Odd(b"\n\r\n" + FASTA, b"\n\r\n" + FASTA),
    "a byte order mark": Odd(b"\xef\xbb\xbf" + FASTA, b"\xef\xbb\xbf" + FASTA),
    "unevenly wrapped": Odd(WRAPPED, WRAPPED),
    "> inside lines": Odd(inside := FASTA.replace(b"\nA", b"\nA>"), inside),
    "lower case, U, ambiguity codes and gaps": Odd(
        odd := fasta([(h, recased(s, i)) for i, (h, s) in enumerate(READS)]), odd
    ),
    "blanks inside sequences": Odd(spaced := FASTA.replace(b"ACG", b"AC G").replace(b"TTT", b"T\tT"), spaced),
    "an empty read": Odd(
        empty := FASTA + b">lbl|1|562|0|empty/1\n\n" + FASTA[:THIRD].replace(b"read", b"again"),
        empty,
        rejected=("empty",),
    ),
    "an empty read at the end": Odd(last := FASTA + b">lbl|1|562|0|empty/1\n", last, rejected=("empty",)),
    "a header of 70 kB and a line of 240 kB": Odd(FASTA + LONG, FASTA + LONG),
    "headers in Latin-1": Odd(latin := FASTA.replace(b"|read1", b"|r\xe9ad1"), latin),
    "headers in UTF-8": Odd(utf := FASTA.replace(b"|read1", "|réad1".encode()), utf),
    "repeated names": Odd(FASTA + FASTA[:THIRD], FASTA + FASTA[:THIRD]),
    "gzip": Odd(GZ, FASTA),
    "gzip of several members, some empty": Odd(
        gzip.compress(FASTA[:THIRD]) + gzip.compress(b"") + gzip.compress(FASTA[THIRD:]), FASTA
    ),
    "gzip with zero padding": Odd(GZ + bytes(512), FASTA),
    "gzip that is called .fa": Odd(GZ, FASTA, name="reads.fa"),
    "plain that is called .gz": Odd(FASTA, FASTA, name="reads.fa.gz"),
    "BGZF": Odd(BGZ, FASTA),
    "BGZF of small blocks": Odd(BLOCKS, FASTA),
    "zstd of several frames, one to be skipped": Odd(
        ZSTD(FASTA[:THIRD]) + SKIPPED_FRAME + ZSTD(FASTA[THIRD:]), FASTA
    ),
    "zstd without a checksum": Odd(zstandard.compress(FASTA), FASTA),
    "xz of several streams": Odd(lzma.compress(FASTA[:THIRD]) + lzma.compress(FASTA[THIRD:]), FASTA),
    "bzip2 of several streams": Odd(bz2.compress(FASTA[:THIRD]) + bz2.compress(FASTA[THIRD:]), FASTA),
    "FASTQ": Odd(FASTQ, FASTQ, "fastq"),
    "FASTQ with CR LF and no final line end": Odd(ends := FASTQ.replace(b"\n", b"\r\n")[:-2], ends, "fastq"),
    "FASTQ in several lines, qualities like headers": Odd(WRAPPED_FASTQ, WRAPPED_FASTQ, "fastq"),
    "FASTQ with qualities that begin with @": Odd(marks := FASTQ.replace(b"\nIII", b"\n@@I"), marks, "fastq"),
    "FASTQ with the header after +": Odd(
        named := b"".join(
            b"@%s\n%s\n+%s\n%s\n" % (h.encode(), s.encode(), h.encode(), b"I" * 40) for h, s in READS
        ),
        named,
        "fastq",
    ),
    "FASTQ with blank lines": Odd(airy := FASTQ.replace(b"\n@lbl", b"\n\n@lbl"), airy, "fastq"),
}
