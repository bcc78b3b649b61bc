"""Headers: fields of the template, and reasons that can be counted."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from reads_fixtures import written

from metagene_train.reads.headers import HeaderFields, HeaderPattern
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
