"""Quarantine: records that cannot be kept, as they stand in the input, and a table that says why."""

from __future__ import annotations

from pathlib import Path

from metagene_doctor.repair.draft import Draft
from metagene_doctor.repair.outputs import Output
from metagene_doctor.repair.plan import Input
from metagene_train.reads.problems import shorten
from metagene_train.reads.records.formats import Kind
from metagene_train.reads.records.records import decode_header

TABLE = "quarantine.tsv"
_COLUMNS = ("file", "record", "line", "reason", "header")


class Quarantine:
    """``quarantine.fa`` or ``.fq`` and ``quarantine.tsv``; files are made when they are needed."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._records: dict[Kind, Output] = {}
        self._table: Output | None = None

    def take(self, each: Input, draft: Draft) -> None:
        """The records of a draft that are set aside."""
        batch = draft.batch
        for record, reason in draft.reasons.items():
            header = shorten(decode_header(batch.header(record)))
            row = (
                _on_one_line(str(each.path)),
                str(batch.first_record + record),
                str(batch.line(record)),
                reason,
                " ".join(header.replace("\0", " ").split()),
            )
            self._rows().take(("\t".join(row) + "\n").encode(errors="surrogateescape"))
            self._file(draft.kind).take(draft.raw(record))

    def close(self) -> list[Output]:
        """The files that were made, whole and on disk."""
        files = [*self._records.values(), *([self._table] if self._table else [])]
        for file in files:
            file.close()
        return files

    def _rows(self) -> Output:
        if self._table is None:
            self._table = Output(self._directory, TABLE)
            self._table.take(("\t".join(_COLUMNS) + "\n").encode())
        return self._table

    def _file(self, kind: Kind) -> Output:
        if kind not in self._records:
            suffix = "fa" if kind == "fasta" else "fq"
            self._records[kind] = Output(self._directory, f"quarantine.{suffix}")
        return self._records[kind]


def _on_one_line(path: str) -> str:
    """A file name with escapes for what would end a cell or a line of the table."""
    for letter, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        path = path.replace(letter, escape)
    return path
