"""Letters by kind: no byte value slips through, however long the reads are and however they lie in the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
from reads_fixtures import written
from reads_reference import base_kind

from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan

ODD_BYTES = [byte for byte in range(256) if byte not in b"\n\r"]


def wrapped(sequence: bytes, end: bytes = b"\n") -> bytes:
    return end.join(sequence[start : start + 20] for start in range(0, len(sequence), 20))


LAYOUTS = {
    "one line": lambda number, sequence: b">lbl|1|2|3|%d/1\n%s\n" % (number, sequence),
    "wrapped": lambda number, sequence: b">lbl|1|2|3|%d/1\n%s\n" % (number, wrapped(sequence)),
    "CRLF": lambda number, sequence: b">lbl|1|2|3|%d/1\r\n%s\r\n" % (number, sequence),
    "wrapped, CRLF": lambda number, sequence: (
        b">lbl|1|2|3|%d/1\r\n%s\r\n" % (number, wrapped(sequence, b"\r\n"))
    ),
    "blank lines": lambda number, sequence: b">lbl|1|2|3|%d/1\n%s\n\n" % (number, sequence),
    "FASTQ": lambda number, sequence: (
        b"@lbl|1|2|3|%d/1\n%s\n+\n%s\n" % (number, sequence, b"I" * len(sequence))
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lengths", [[40], [40, 41, 79], [1, 3, 40, 200], [7, 60, 3000], [600_000]])
def test_every_byte_value_is_counted_as_what_it_is(tmp_path: Path, layout: str, lengths: list[int]) -> None:
    sequences = []
    for number, odd in enumerate(ODD_BYTES if max(lengths) < 10_000 else b"NacgU@"):
        length = lengths[number % len(lengths)]
        place = number * 7 % length
        place -= place % 20 == 0 and place > 0  # where a wrapped line starts > would start a record
        usual = (b"ACGT" * length)[number % 4 :][: length - 1]
        sequences += [usual[:place] + bytes([odd]) + usual[place:], usual + b"T"]
    # Nor must they at the start of a sequence.
    sequences = [
        b"ACGT" + sequence if sequence[:1] in (b">", b"@", b"+") else sequence for sequence in sequences
    ]
    content = b"".join(LAYOUTS[layout](number, sequence) for number, sequence in enumerate(sequences))
    kind = "fastq" if layout == "FASTQ" else "fasta"
    path = written(tmp_path / "reads", content)
    expected = Counter(base_kind(byte) for sequence in sequences for byte in sequence)
    for chunk_bytes in (1 << 21, 1500):
        found = scan(path, header=HeaderPattern(), file_format=kind, chunk_bytes=chunk_bytes)
        assert found.records == found.accepted == len(sequences)
        assert {kind: getattr(found.bases, kind) for kind in expected} == expected
        assert found.bases.total == found.total_bases == expected.total()


def test_one_odd_letter_among_many_reads_is_found(tmp_path: Path) -> None:
    reads = [b">lbl|1|2|30|%d/1\n%s\n" % (number, b"GATTACA" * 6) for number in range(20_000)]
    reads[17_003] = reads[17_003].replace(b"TACAGATT", b"TACaGATT", 1)
    found = scan(written(tmp_path / "reads.fa", b"".join(reads)), header=HeaderPattern())
    assert (found.bases.lower, found.bases.acgt) == (1, 20_000 * 42 - 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shortest", [90, 30])
@pytest.mark.parametrize("share", [0.003, 0.05, 0.6])
def test_few_and_many_unusual_reads_are_counted_alike(
    tmp_path: Path, layout: str, shortest: int, share: float
) -> None:
    chance = Random(layout)
    sequences, of_class = [], {1: Counter[str](), 2: Counter[str]()}
    content = []
    for number in range(2000):
        sequence = bytes(chance.choices(b"ACGT", k=chance.randint(shortest, 90)))
        if chance.random() < share:
            odd = chance.choice([b"N", b"n", b"acgt", b"U", b"RYswk", b"-*", b"ACGTNacgtu"])
            first, last = sorted(chance.choices(range(1, len(sequence) + 1), k=2))
            sequence = sequence[:first] + bytes(chance.choices(odd, k=last - first)) + sequence[last:]
        sequences.append(sequence)
        class_id = 1 + number % 2
        of_class[class_id].update(base_kind(byte) for byte in sequence)
        content.append(LAYOUTS[layout](number, sequence).replace(b"lbl|1", b"lbl|%d" % class_id, 1))
    found = scan(written(tmp_path / "reads", b"".join(content)), header=HeaderPattern())
    assert found.accepted == len(sequences)
    for class_id, expected in of_class.items():
        counted = asdict(found.class_bases[class_id])
        assert {kind: count for kind, count in counted.items() if count} == expected
    assert found.bases == found.class_bases[1] + found.class_bases[2]
