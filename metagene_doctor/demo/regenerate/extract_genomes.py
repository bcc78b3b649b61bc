"""Cut the bundled genome excerpts out of genomes that Debian packages carry.

    python -m metagene_doctor.demo.regenerate.extract_genomes UNPACKED_PACKAGES

``UNPACKED_PACKAGES`` holds one folder per package of `SOURCES`, made with ``apt-get download PACKAGE``
and ``dpkg -x PACKAGE*.deb UNPACKED_PACKAGES/PACKAGE``. Writes ``data/genomes.fa.xz`` and
``data/SOURCES.tsv`` beside this package.
"""

from __future__ import annotations

import gzip
import lzma
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
EXCERPT = 1_000_000
"""Longest excerpt of one organism, in bases: seven of them pack to about 1.8 MB."""


@dataclass(frozen=True)
class Source:
    """An organism and the file its sequence comes from.

    ``accessions`` are taken from their start, in order, until `EXCERPT` bases are reached.
    ``first_base`` is where the file's sequence begins in its accession, counting from 1.
    """

    organism: str
    tax_id: int
    accessions: tuple[str, ...]
    package: str
    file: str
    first_base: int = 1


SOURCES = (
    Source(
        "Escherichia coli",
        562,
        ("NC_008253.1",),
        "bowtie-examples",
        "usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz",
    ),
    Source(
        "Klebsiella pneumoniae",
        573,
        ("CP003200.1",),
        "kleborate-examples",
        "usr/share/doc/kleborate/examples/data/Klebs_HS11286.fna.xz",
    ),
    Source(
        "Vibrio cholerae",
        666,
        ("AE003852.1",),
        "ragout-examples",
        "usr/share/doc/ragout/examples/V.Cholerae/references/O1_biovar.fasta.gz",
    ),
    Source(
        "Helicobacter pylori",
        210,
        ("NC_011333.1",),
        "ragout-examples",
        "usr/share/doc/ragout/examples/H.Pylori/references/G27.fasta.gz",
    ),
    Source(
        "Staphylococcus aureus",
        1280,
        ("NC_002745.2",),
        "ragout-examples",
        "usr/share/doc/ragout/examples/S.Aureus/references/N315.fasta.gz",
    ),
    Source(
        "Leptospira kirschneri",
        29507,
        ("NZ_AHMY02000051.1", "NZ_AHMY02000040.1", "NZ_AHMY02000010.1"),
        "any2fasta-examples",
        "usr/share/doc/any2fasta/examples/test.gbk.gz",
    ),
    Source(
        "Mycobacterium tuberculosis",
        1773,
        ("NC_000962.3",),
        "ariba",
        "usr/lib/python3/dist-packages/ariba/tb_data/NC_000962.3.fa.gz",
    ),
    Source(
        "Human alphaherpesvirus 3",
        10335,
        ("NC_001348.1",),
        "ssake-examples",
        "usr/share/doc/ssake/examples/Herpesvirus_3.60kb.reference.fa.gz",
        first_base=41_500,  # by the file's header
    ),
    Source(
        "Enterobacteria phage lambda",
        10710,
        ("NC_001416.1",),
        "bowtie2-examples",
        "usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz",
    ),
)


def read_text(path: Path) -> str:
    """Text of a gzip or xz file."""
    packed = path.read_bytes()
    return (lzma.decompress(packed) if path.suffix == ".xz" else gzip.decompress(packed)).decode()


def fasta_records(text: str) -> Iterator[tuple[str, str]]:
    """(header, upper-case sequence) pairs."""
    for entry in text.split(">")[1:]:
        header, _, sequence = entry.partition("\n")
        yield header, "".join(sequence.split()).upper()


def genbank_records(text: str) -> Iterator[tuple[str, str]]:
    """(accession with version, upper-case sequence) pairs."""
    for entry in text.split("\n//"):
        head, _, origin = entry.partition("\nORIGIN")
        version = head.partition("\nVERSION")[2].split()
        if version:
            yield version[0], "".join(filter(str.isalpha, origin)).upper()


def excerpts(source: Source, root: Path) -> Iterator[tuple[str, int, str]]:
    """(accession, first base counting from 1, sequence) of each excerpt of one source."""
    path = root / source.package / source.file
    parse = genbank_records if ".gbk" in path.name else fasta_records
    records = list(parse(read_text(path)))
    wanted = EXCERPT
    for accession in source.accessions:
        sequence = next(sequence for header, sequence in records if accession in header)
        yield accession, source.first_base, sequence[:wanted]
        wanted -= min(wanted, len(sequence))
        if not wanted:
            return


def main() -> None:
    root = Path(sys.argv[1])
    fasta: list[str] = []
    table = ["class_id\tlabel_name\ttax_id\taccession\tfirst_base\tbases\tpackage\tfile"]
    for class_id, source in enumerate(SOURCES):
        for accession, first, sequence in excerpts(source, root):
            fasta.append(f">{class_id} {accession}:{first}-{first + len(sequence) - 1}\n{sequence}\n")
            table.append(
                f"{class_id}\t{source.organism}\t{source.tax_id}\t{accession}\t{first}\t{len(sequence)}"
                f"\t{source.package}\t{source.file}"
            )
    DATA.mkdir(exist_ok=True)
    packed = lzma.compress("".join(fasta).encode(), preset=9 | lzma.PRESET_EXTREME)
    (DATA / "genomes.fa.xz").write_bytes(packed)
    (DATA / "SOURCES.tsv").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
