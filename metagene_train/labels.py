"""Labels: the mapping table of a data set, and the contiguous label ids that a classifier uses."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_train.errors import DataError, InputError

if TYPE_CHECKING:
    import numpy as np

_DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon"}
_NO_TAX_ID = frozenset({"", "NA", "-"})
_FORMAT_VERSION = 1
_GUESSED_FROM = 1000
"""Rows of a table without the columns that are looked at to say which of its columns are meant."""


class MissingColumnsError(DataError):
    """A mapping table does not have the columns of class ids and names. ``likely`` are its columns that
    may hold them, where there are such."""

    def __init__(self, message: str, likely: tuple[str, str] | None):
        super().__init__(message)
        self.likely = likely


@dataclass(frozen=True)
class MappingRow:
    """One class of the mapping table, and the line that names it (from 1)."""

    class_id: int
    label_name: str
    tax_id: int | None
    line: int


@dataclass(frozen=True)
class Mapping:
    """A mapping table without contradictions: every class id and every name occurs once."""

    path: str
    delimiter: str
    rows: tuple[MappingRow, ...]

    def __len__(self) -> int:
        return len(self.rows)


def read_mapping(
    path: str | Path,
    *,
    class_column: str = "class_id",
    label_column: str = "label_name",
    tax_column: str = "tax_id",
) -> Mapping:
    """Read a mapping table separated by tabs, commas or semicolons; the first row names the columns.

    ``tax_column`` may be absent; other columns are ignored. Raises InputError if the file is
    missing, DataError with one line per problem (file:line) if the table is not usable.
    """
    path = Path(path)
    text = _read_text(path)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    if not header_line:
        raise DataError(f"{path}: is empty; a mapping needs the columns {class_column} and {label_column}")
    delimiter = _sniff_delimiter(header_line, (class_column, label_column))
    numbered = _numbered_rows(path, text, delimiter)
    header_number, header = next(numbered)
    columns = [name.strip() for name in header]
    if (class_column not in columns) or (label_column not in columns):
        body = [cells for _, cells in islice(numbered, _GUESSED_FROM)]
        raise _missing(path, header_number, columns, delimiter, (class_column, label_column), body)
    for name in (class_column, label_column, tax_column):
        if columns.count(name) > 1:
            raise DataError(f"{path}:{header_number}: column {name} occurs {columns.count(name)} times")

    problems: list[tuple[int, str]] = []
    rows: list[MappingRow] = []
    for line, cells in numbered:
        if len(cells) != len(columns):
            problems.append(
                (
                    line,
                    f"has {len(cells)} columns, the header has {len(columns)} "
                    f"(separator: {_DELIMITERS[delimiter]})",
                )
            )
            continue
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        class_id = _whole_number(row[class_column])
        tax_text = row.get(tax_column, "")
        tax_id = None if tax_text in _NO_TAX_ID else _whole_number(tax_text)
        if class_id is None:
            problems.append((line, f"{class_column} {row[class_column]!r} is not a whole number ≥ 0"))
        if tax_id is None and tax_text not in _NO_TAX_ID:
            problems.append((line, f"{tax_column} {tax_text!r} is not a whole number ≥ 0"))
        if not row[label_column]:
            problems.append((line, f"{label_column} is empty"))
        if class_id is not None:
            rows.append(MappingRow(class_id, row[label_column], tax_id, line))

    problems += _repeated(rows, class_column, label_column)
    if problems:
        raise DataError("\n".join(f"{path}:{line}: {what}" for line, what in sorted(problems)))
    if not rows:
        raise DataError(f"{path}: has a header but no classes")
    return Mapping(str(path), delimiter, tuple(rows))


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (dataset.mapping_tsv)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16 text (a spreadsheet's export?); save it as UTF-8")
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise DataError(f"{path}:{line}: holds a NUL byte; this is not a text table")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: is not UTF-8 text (byte 0x{raw[error.start]:02x})") from None


def _sniff_delimiter(header_line: str, required: tuple[str, ...]) -> str:
    """The separator under which most required columns appear, then the one that splits most."""

    def score(delimiter: str) -> tuple[int, int]:
        cells = [cell.strip().strip('"') for cell in header_line.split(delimiter)]
        return sum(name in cells for name in required), len(cells)

    return max(_DELIMITERS, key=score)


def _numbered_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the line on which each starts."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: cannot be split into columns ({error})") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells
        line = reader.line_num + 1


def _missing(
    path: Path,
    line: int,
    columns: list[str],
    delimiter: str,
    required: tuple[str, str],
    body: list[list[str]],
) -> MissingColumnsError:
    likely = _likely_columns(columns, body)
    if likely and _whole_number(likely[0].strip()) is not None:
        # Taken for the names of columns it would be a class that is lost without a word.
        return MissingColumnsError(
            f"{path}:{line}: is a class and not the names of the columns ({', '.join(columns)}); put a line "
            f"with {' and '.join(required)} above it (separator: {_DELIMITERS[delimiter]})",
            None,
        )
    names = [f": {_as_yaml(name)}" for name in likely] if likely else ["", ""]
    lacking = " and no column ".join(name for name in required if name not in columns)
    return MissingColumnsError(
        f"{path}:{line}: no column {lacking}; found: {', '.join(columns)} "
        f"(separator: {_DELIMITERS[delimiter]}). Rename the columns, or set dataset.class_column{names[0]} "
        f"and dataset.label_column{names[1]}",
        likely,
    )


def _likely_columns(columns: list[str], body: list[list[str]]) -> tuple[str, str] | None:
    """The columns of class ids (whole numbers) and of names (other text), each without repetitions;
    of several the one whose name says so, else the first."""
    rows = [cells for cells in body if len(cells) == len(columns)]
    ids: list[str] = []
    names: list[str] = []
    for number, name in enumerate(columns):
        values = [cells[number].strip() for cells in rows]
        if not name or columns.count(name) > 1 or not all(values) or len(set(values)) < len(values):
            continue
        kind = ids if all(_whole_number(value) is not None for value in values) else names
        kind.append(name)
    if not (rows and ids and names):
        return None

    def telling(words: tuple[str, ...]) -> Callable[[str], bool]:
        return lambda name: not any(word in name.casefold() for word in words)

    return min(ids, key=telling(("class", "label"))), min(names, key=telling(("name", "label")))


def _as_yaml(name: str) -> str:
    return name if name.replace("_", "").isalnum() and not name[0].isdigit() else json.dumps(name)


def _whole_number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _repeated(rows: list[MappingRow], class_column: str, label_column: str) -> list[tuple[int, str]]:
    """Class ids and names that occur twice; names are compared without case and spacing."""
    problems = []
    ids: dict[int, int] = {}
    names: dict[str, MappingRow] = {}
    for row in rows:
        first_line = ids.setdefault(row.class_id, row.line)
        if first_line != row.line:
            problems.append((row.line, f"{class_column} {row.class_id} is already on line {first_line}"))
        if not row.label_name:
            continue
        first = names.setdefault(" ".join(row.label_name.casefold().split()), row)
        if first is not row:
            spelled = "" if first.label_name == row.label_name else f" as {first.label_name!r}"
            problems.append(
                (row.line, f"{label_column} {row.label_name!r} is already on line {first.line}{spelled}")
            )
    return problems


@dataclass(frozen=True)
class LabelMap:
    """Label ids 0..K-1 of a classifier: label ``i`` is class ``class_ids[i]``, named ``names[i]``.

    ``class_ids`` ascend. What a model learned is meaningless without this table, so it is saved
    with every run (labels.json).
    """

    class_ids: tuple[int, ...]
    names: tuple[str, ...]
    tax_ids: tuple[int | None, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping) -> LabelMap:
        """Labels in ascending order of class id."""
        rows = sorted(mapping.rows, key=lambda row: row.class_id)
        return cls(
            tuple(row.class_id for row in rows),
            tuple(row.label_name for row in rows),
            tuple(row.tax_id for row in rows),
        )

    def __len__(self) -> int:
        return len(self.class_ids)

    def labels_of(self, class_ids: np.ndarray | list[int]) -> np.ndarray:
        """Labels [N] int64 of class ids [N]; -1 where the mapping does not have the class."""
        import numpy as np

        known = np.asarray(self.class_ids, dtype=np.int64)
        asked = np.asarray(class_ids, dtype=np.int64)
        place = np.searchsorted(known, asked)
        found = known[np.minimum(place, len(known) - 1)] == asked
        return np.where(found, place, -1)

    def save(self, path: str | Path) -> None:
        """Write labels.json; a reader sees the old file or the new one, never half of it."""
        path = Path(path)
        rows = [
            {"label": label, "class_id": class_id, "name": name, "tax_id": tax_id}
            for label, (class_id, name, tax_id) in enumerate(
                zip(self.class_ids, self.names, self.tax_ids, strict=True)
            )
        ]
        document = {"format_version": _FORMAT_VERSION, "labels": rows}
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> LabelMap:
        """Read labels.json. Raises InputError if it is missing, DataError if it is not one."""
        path = Path(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            rows = document["labels"]
            labels = cls(
                tuple(int(row["class_id"]) for row in rows),
                tuple(str(row["name"]) for row in rows),
                tuple(None if row["tax_id"] is None else int(row["tax_id"]) for row in rows),
            )
            numbers = [row["label"] for row in rows]
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; is this a run directory?") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is not a label table of metagene ({error!r})") from None
        if numbers != list(range(len(rows))) or list(labels.class_ids) != sorted(set(labels.class_ids)):
            raise DataError(f"{path}: labels are not 0..K-1 in ascending order of class id; it was edited")
        return labels
