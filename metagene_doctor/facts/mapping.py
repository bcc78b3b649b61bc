"""The mapping table as the checks see it: everything that is wrong with it, or its classes."""

from __future__ import annotations

from metagene_doctor.finding import Frozen
from metagene_train.config import DatasetConfig
from metagene_train.errors import DataError


class ClassRow(Frozen):
    class_id: int
    label_name: str
    tax_id: int | None
    line: int


class MappingFacts(Frozen):
    path: str
    problems: tuple[str, ...] = ()
    """One sentence each, with file and line."""
    likely_columns: tuple[str, str] | None = None
    """Of class ids and of names, where the table lacks the configured ones and others may be meant."""


def collect(path: str, dataset: DatasetConfig) -> tuple[MappingFacts, tuple[ClassRow, ...]]:
    """Read the table with the configured column names: its problems, or else its classes.

    Raises InputError when it is missing.
    """
    from metagene_train.labels import MissingColumnsError, read_mapping

    try:
        mapping = read_mapping(
            path,
            class_column=dataset.class_column,
            label_column=dataset.label_column,
            tax_column=dataset.tax_column,
        )
    except DataError as error:
        likely = error.likely if isinstance(error, MissingColumnsError) else None
        return MappingFacts(path=path, problems=tuple(str(error).splitlines()), likely_columns=likely), ()
    return MappingFacts(path=path), tuple(
        ClassRow(class_id=row.class_id, label_name=row.label_name, tax_id=row.tax_id, line=row.line)
        for row in mapping.rows
    )
