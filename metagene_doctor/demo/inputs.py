"""The demo's input files: reads cut from the bundled genomes, a mapping, and the small encoder."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metagene_doctor.demo.genomes import DATA, Region, organisms, regions

READ_LENGTH = 150
SUBSTITUTION_RATE = 0.005
"""Per base; each is one of the three other bases."""
TRAIN_READS = 10_000
VALIDATION_READS = 2_000
SMALL_GENOME_SHARE = 0.5
"""Reads of a class whose regions are less than half as long as the longest class's (the two viruses),
per read of another class: classes are out of balance in real samples, too."""

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


@dataclass(frozen=True)
class DemoInputs:
    """Paths of everything a user would bring: sequence files, mapping, encoder with tokenizer."""

    train_fasta: Path
    val_fasta: Path
    mapping_tsv: Path
    encoder_dir: Path


def write_demo_inputs(directory: Path, *, seed: int = 1) -> DemoInputs:
    """Write the demo's files into ``directory``; the same seed gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    inputs = DemoInputs(
        train_fasta=directory / "train.fa",
        val_fasta=directory / "val.fa",
        mapping_tsv=directory / "labels.tsv",
        encoder_dir=directory / "encoder",
    )
    _write_reads(inputs.train_fasta, "train", TRAIN_READS, seed)
    _write_reads(inputs.val_fasta, "validation", VALIDATION_READS, seed)
    rows = [f"{organism.class_id}\t{organism.name}\t{organism.tax_id}\n" for organism in organisms()]
    inputs.mapping_tsv.write_text("class_id\tlabel_name\ttax_id\n" + "".join(rows))
    shutil.copytree(DATA / "encoder", inputs.encoder_dir, dirs_exist_ok=True)
    return inputs


def cut_reads(side: str, count: int, seed: int) -> Iterator[tuple[int, str]]:
    """``count`` (class_id, read) pairs of one side of the split, classes in random order.

    A read starts anywhere in a region, comes from either strand, and never crosses a region's end.
    """
    chance = random.Random(f"{side} {seed}")
    of_class: dict[int, list[Region]] = {}
    for region in regions(side):
        if len(region.sequence) >= READ_LENGTH:
            of_class.setdefault(region.class_id, []).append(region)
    sizes = {class_id: sum(len(region.sequence) for region in of_class[class_id]) for class_id in of_class}
    largest = max(sizes.values())
    shares = [1.0 if 2 * size > largest else SMALL_GENOME_SHARE for size in sizes.values()]
    starts = {
        class_id: [len(region.sequence) - READ_LENGTH + 1 for region in of_class[class_id]]
        for class_id in of_class
    }
    for class_id in chance.choices(list(sizes), shares, k=count):
        (region,) = chance.choices(of_class[class_id], starts[class_id])
        start = chance.randrange(len(region.sequence) - READ_LENGTH + 1)
        read = region.sequence[start : start + READ_LENGTH]
        if chance.random() < 0.5:
            read = reverse_complement(read)
        yield class_id, "".join(_substitute(base, chance) for base in read)


def reverse_complement(sequence: str) -> str:
    """The other strand, for upper-case bases; anything but ACGT stays as it is."""
    return sequence.translate(_COMPLEMENT)[::-1]


def _substitute(base: str, chance: random.Random) -> str:
    if chance.random() >= SUBSTITUTION_RATE:
        return base
    return chance.choice([other for other in "ACGT" if other != base])


def _write_reads(path: Path, side: str, count: int, seed: int) -> None:
    tax_ids = {organism.class_id: organism.tax_id for organism in organisms()}
    with path.open("w", newline="\n") as stream:
        for number, (class_id, read) in enumerate(cut_reads(side, count, seed), start=1):
            header = f"lbl|{class_id}|{tax_ids[class_id]}|{len(read)}|{side}-{number}/1"
            stream.write(f">{header}\n{read}\n")
