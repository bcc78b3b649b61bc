"""Tables written a piece at a time: CSV, TSV (plain or gzip) or Parquet by the suffix of their name.

A table appears under its name only when it is complete; one that could not be finished leaves nothing.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_train.errors import InputError, RunError

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")

WriteRows = Callable[["pyarrow.Table"], None]


def check_table_path(path: Path) -> None:
    """Raise InputError unless a table can be written at ``path``."""
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: the name of a table must end in one of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file in it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the directory {path.absolute().parent} does not exist")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{path}: the directory {path.absolute().parent} cannot be written")


@contextmanager
def open_table(path: Path, schema: pyarrow.Schema) -> Iterator[WriteRows]:
    """Yield a function that appends rows, tables of ``schema``.

    In CSV and TSV numbers with a fraction have six significant digits, null is an empty field, and
    only fields that need quotes have them. Raises InputError as `check_table_path` does and RunError
    when the disk refuses.
    """
    check_table_path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with ExitStack() as stack:
            write = _write_parquet if path.suffix == ".parquet" else _write_text
            yield write(unfinished, path.name, schema, stack)
        unfinished.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _write_parquet(unfinished: Path, name: str, schema: pyarrow.Schema, stack: ExitStack) -> WriteRows:
    from pyarrow import parquet

    writer = parquet.ParquetWriter(unfinished, schema, compression="zstd")
    return stack.enter_context(writer).write_table


def _write_text(unfinished: Path, name: str, schema: pyarrow.Schema, stack: ExitStack) -> WriteRows:
    import gzip

    from pyarrow import types

    opener = gzip.open if name.endswith(".gz") else open
    stream = stack.enter_context(opener(unfinished, "wt", encoding="utf-8", newline=""))
    delimiter = "," if name.removesuffix(".gz").endswith(".csv") else "\t"
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(schema.names)

    def write(rows: pyarrow.Table) -> None:
        columns = [
            [None if value is None else f"{value:.6g}" for value in column.to_pylist()]
            if types.is_floating(column.type)
            else column.to_pylist()
            for column in rows.columns
        ]
        writer.writerows(zip(*columns, strict=True))

    return write
