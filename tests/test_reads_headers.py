"""Headers: fields of the template, and reasons that can be counted."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from reads_fixtures import written
from reads_reference import statistics

from metagene_train.reads.headers.pattern import HEADER_REGEX, HeaderFields, HeaderPattern
from metagene_train.reads.scan import scan

STANDARD = HeaderPattern()


@pytest.mark.parametrize(
    "header, expected",
    [
        ("lbl|17|562|150|NC_000913.3-12/1", HeaderFields(17, 562, 150, "NC_000913.3-12", 1)),
        ("lbl|0|||x", HeaderFields(0, None, None, "x", None)),
        ("lbl|3||126|a|b/2", HeaderFields(3, None, 126, "a|b", 2)),
        ("lbl|2147483647|1|1|x", HeaderFields(2147483647, 1, 1, "x")),
    ],
)
def test_the_template_is_parsed(header: str, expected: HeaderFields) -> None:
    assert STANDARD.parse(header) == expected


@pytest.mark.parametrize(
    "header, reason",
    [
        ("", "is empty"),
        ("SRR1.1 length=150", "does not start with lbl|"),
        ("lbl|1|2|x", "has fewer than the five fields"),
        ("lbl||2|150|x", "class_id is empty"),
        ("lbl|a|2|150|x", "class_id is not a whole number"),
        ("lbl|-1|2|150|x", "class_id is not a whole number"),
        ("lbl|1|Escherichia|coli|x", "tax_id is not a whole number"),
        ("lbl|1|2|150bp|x", "readlen is not a whole number"),
        ("lbl|1|2|150|Azorhizobium caulinodans/1", "name contains a blank"),
        ("lbl|1|2|150|", "name is empty"),
        ("lbl|1|2|150|/1", "name is empty"),
        ("lbl|1|2|150|x/", "not one mate number"),
        ("lbl|1|2|150|x/1/2", "not one mate number"),
        ("lbl|2147483648|2|150|x", "class_id is larger than"),
        ("lbl|" + "9" * 5000 + "|2|150|x", "class_id is larger than"),
    ],
)
def test_what_does_not_match_is_explained_without_values(header: str, reason: str) -> None:
    assert STANDARD.parse(header) is None
    assert reason in STANDARD.explain(header)


def test_usual_headers_are_parsed_together(tmp_path: Path) -> None:
    class Together(HeaderPattern):
        def parse_numbers(self, header: str) -> tuple[int, ...] | None:
            raise AssertionError(f"{header} was parsed alone")

    headers = ["lbl|17|562|150|NC_1.3-12/1", "lbl|0|||x", "lbl|1234567||1|a|b/2", "lbl|3|9999999|4|y/2"]
    content = "".join(f">{header}\nACGT\n" for header in headers)
    found = scan(written(tmp_path / "reads.fa", content), header=Together())
    assert found.class_counts == {0: 1, 3: 1, 17: 1, 1234567: 1}
    assert found.tax_ids == {3: {9999999: 1}, 17: {562: 1}}
    assert found.mates == {0: 1, 1: 1, 2: 2}
    assert found.readlen_mismatches == 2


PREFIXES = [
    *(f"lbl|{class_id}|{1000 + class_id}|4|" for class_id in range(40)),
    *("lbl|7|1007|150|", "lbl|07|1007|4|", "lbl|7||4|", "lbl|7|1007||", "lbl|7|||", "lbl|70|0|4|"),
    *(
        "lbl|1234567|1234567|1234567|",
        "lbl|1234567|1234568|4|",
        "lbl|12345678|1|4|",
        "lbl|7|x|4|",
        "lbl|7|1007|",
    ),
    *(
        "lbl||1|4|",
        "lbL|7|1007|4|",
        "lbl|7 |1007|4|",
        "",
        "lbl|2147483648|1|4|",
        "lbl|7|1007|4|lbl|8|1008|4|",
    ),
]
TAILS = [
    "read1/1",
    "x",
    "x/2",
    "read 1/1",
    "",
    "/1",
    "x/1/2",
    "x/12",
    "x/",
    "a|b/1",
    "\u00e9/1",
    "r" * 60,
    "9/9",
]


@pytest.mark.parametrize("seed", range(12))
def test_what_earlier_headers_teach_changes_nothing(tmp_path: Path, seed: int) -> None:
    """The second half has prefixes that the first half does not have, and most batches have several."""
    chance = random.Random(seed)
    few = chance.sample(PREFIXES, 8)
    headers = [
        chance.choice(few if number < 300 or chance.random() < 0.5 else PREFIXES)
        + chance.choice(TAILS if chance.random() < 0.1 else TAILS[:3])
        for number in range(600)
    ]
    content = "".join(f">{header}\nACGT\n" for header in headers).encode()
    expected = statistics(content, "fasta", HEADER_REGEX)
    found = scan(written(tmp_path / "reads.fa", content), header=STANDARD, chunk_bytes=1 << 10)
    for number in ("accepted", "class_counts", "tax_ids", "mates", "readlen_mismatches"):
        assert getattr(found, number) == expected[number]


def test_a_file_may_have_any_number_of_prefixes(tmp_path: Path) -> None:
    reads = 20_000
    content = "".join(f">lbl|{number % 10_000}|{number}|4|x/1\nACGT\n" for number in range(reads))
    found = scan(written(tmp_path / "reads.fa", content), header=STANDARD, chunk_bytes=1 << 16)
    assert found.class_counts == dict.fromkeys(range(10000), 2)
    assert found.tax_ids == {class_id: {class_id: 1, class_id + 10_000: 1} for class_id in range(10_000)}


def test_another_pattern_names_its_own_groups() -> None:
    pattern = HeaderPattern(r"class=(?P<class_id>\w+)")
    assert pattern.parse("read7 class=12 x") == HeaderFields(12)
    assert pattern.parse("read7 class=x12") is None
    assert pattern.explain("read7 class=x12") == "class_id is not a whole number"
    assert "dataset.header_regex" in pattern.explain("read7")
    assert (pattern.is_standard, STANDARD.is_standard) == (False, True)


def test_patterns_travel_to_other_processes() -> None:
    copy = pickle.loads(pickle.dumps(STANDARD))
    assert copy == STANDARD
    assert copy.parse("lbl|1|||x") == HeaderFields(1, name="x")
