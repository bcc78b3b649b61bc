"""The mapping table and the labels that a classifier uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reads_fixtures import written

from metagene_train.errors import DataError, InputError
from metagene_train.labels import LabelMap, MappingRow, read_mapping


@pytest.mark.parametrize(
    "content, delimiter",
    [
        ("class_id\tlabel_name\ttax_id\n3\tE. coli, K-12\t562\n1\tB. subtilis\t\n", "\t"),
        ('class_id,label_name,tax_id\n3,"E. coli, K-12",562\n1,B. subtilis,\n', ","),
        ("class_id;label_name;tax_id\n3;E. coli, K-12;562\n1;B. subtilis;NA\n", ";"),
        ("\ufeffclass_id\tlabel_name\ttax_id\r\n3\tE. coli, K-12\t562\r\n\r\n1\tB. subtilis\t-\r\n", "\t"),
        (" class_id \tlabel_name\tnotes\ttax_id\n 3 \tE. coli, K-12 \tx,y;z\t562\n1\tB. subtilis\t\t", "\t"),
    ],
)
def test_tables_of_every_separator_are_read(tmp_path: Path, content: str, delimiter: str) -> None:
    mapping = read_mapping(written(tmp_path / "labels.tsv", content))
    assert mapping.delimiter == delimiter
    assert [(row.class_id, row.label_name, row.tax_id) for row in mapping.rows] == [
        (3, "E. coli, K-12", 562),
        (1, "B. subtilis", None),
    ]


def test_columns_have_the_names_that_were_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "labels.tsv", "taxon\tid\n562\t7\n")
    mapping = read_mapping(path, class_column="id", label_column="taxon", tax_column="taxon")
    assert mapping.rows == (MappingRow(7, "562", 562, 2),)
    assert read_mapping(path, class_column="id", label_column="taxon").rows[0].tax_id is None


def test_every_problem_is_reported_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path / "labels.tsv",
        "class_id\tlabel_name\ttax_id\n"
        "1\ta\t10\n"
        "2\tb\n"
        "x\tc\t12\n"
        "12.0\tdd\t12\n"
        "\n"
        "1\td\t13\n"
        "5\t\t14\n"
        "6\tA\t15\n"
        "7\te\tabc\n"
        "-8\tf\t16\n",
    )
    with pytest.raises(DataError) as caught:
        read_mapping(path)
    assert str(caught.value).splitlines() == [
        f"{path}:3: has 2 columns, the header has 3 (separator: tab)",
        f"{path}:4: class_id 'x' is not a whole number ≥ 0",
        f"{path}:5: class_id '12.0' is not a whole number ≥ 0",
        f"{path}:7: class_id 1 is already on line 2",
        f"{path}:8: label_name is empty",
        f"{path}:9: label_name 'A' is already on line 2 as 'a'",
        f"{path}:10: tax_id 'abc' is not a whole number ≥ 0",
        f"{path}:11: class_id '-8' is not a whole number ≥ 0",
    ]


@pytest.mark.parametrize(
    "content, words",
    [
        (
            "id\tname\n1\ta\n",
            r":1: no column class_id and no column label_name; found: id, name \(separator: tab\)",
        ),
        ("class_id\tname\n1\ta\n", r"no column label_name; found: class_id, name"),
        (
            "562\tE. coli\n287\tP. aeruginosa\n",
            r":1: is a class and not the names .* class_id and label_name above",
        ),
        ("class_id label_name\n1 a\n", r"found: class_id label_name"),
        ("class_id\tclass_id\tlabel_name\n1\t1\ta\n", "column class_id occurs 2 times"),
        ("class_id\tlabel_name\n", "has a header but no classes"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ('class_id,label_name\n1,"a\n', "cannot be split into columns"),
        (b"class_id\tlabel_name\n1\t\xe9\n", r":2: is not UTF-8 text \(byte 0xe9\)"),
        (b"class_id\tlabel_name\n1\ta\0\n", ":2: holds a NUL byte"),
        ("class_id\tlabel_name\n1\ta\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_mapping(written(tmp_path / "labels.tsv", content))


def test_a_missing_table_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_mapping(tmp_path / "absent.tsv")
    with pytest.raises(InputError, match="cannot be read"):
        read_mapping(tmp_path)


@pytest.fixture
def labels(tmp_path: Path) -> LabelMap:
    path = written(tmp_path / "labels.tsv", "class_id\tlabel_name\ttax_id\n40\tc\t\n7\ta\t562\n12\tλ b\t\n")
    return LabelMap.from_mapping(read_mapping(path))


def test_labels_are_contiguous_in_the_order_of_class_ids(labels: LabelMap) -> None:
    assert labels == LabelMap((7, 12, 40), ("a", "λ b", "c"), (562, None, None))
    assert len(labels) == 3


def test_labels_of_many_reads(labels: LabelMap) -> None:
    found = labels.labels_of(np.array([40, 7, 8, -1, 2**31 - 1, 12], dtype=np.int32))
    assert found.tolist() == [2, 0, -1, -1, -1, 1]
    assert found.dtype == np.int64


def test_saved_labels_are_loaded_alike(labels: LabelMap, tmp_path: Path) -> None:
    labels.save(tmp_path / "labels.json")
    labels.save(tmp_path / "labels.json")
    assert LabelMap.load(tmp_path / "labels.json") == labels
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["labels.json", "labels.tsv"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"labels": [{"label": 0}]}', '{"labels": [1]}'])
def test_other_files_are_not_labels(tmp_path: Path, damage: str) -> None:
    with pytest.raises(DataError, match="is not a label table"):
        LabelMap.load(written(tmp_path / "labels.json", damage))


def test_edited_labels_are_refused(labels: LabelMap, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    labels.save(path)
    document = json.loads(path.read_text())
    document["labels"].reverse()
    with pytest.raises(DataError, match="ascending order"):
        LabelMap.load(written(path, json.dumps(document)))


def test_missing_labels_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is this a run directory"):
        LabelMap.load(tmp_path / "labels.json")
