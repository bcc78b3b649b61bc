"""Repairs of files as nasty as can be made up: nothing is lost, nothing is twice, and the result is sound."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reads_reference import Record, fasta_records, fastq_records
from test_reads_scan_property import CUSTOM_REGEX, fasta_files, fastq_files

from metagene_doctor.cli.main import main
from metagene_doctor.repair import batches
from metagene_train.config import HEADER_REGEX
from metagene_train.reads.bases import WHITESPACE, normalise
from metagene_train.reads.headers import HeaderPattern
from metagene_train.reads.scan import scan

NOT_REPAIRABLE = ("none of", "no read can be held out", "leaves no place for a number", "all of its bases")
"""What a file can be beyond repair for; anything else has to end with exit code 0."""

many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
extras = st.lists(st.sampled_from(["iupac-to-n", "deduplicate", "split", "shuffle"]), unique=True)
chunk_sizes = st.sampled_from([700, 1500, 1 << 21])
patterns = st.sampled_from([HEADER_REGEX, HEADER_REGEX, CUSTOM_REGEX])


POOL = ["ACGTTGCATT", "AATGCAACGT", "GATTACAGATTACA", "CCCCCCCC", "acgttgcatt", "GGATCCGGAUCC"]
"""The second is the reverse complement of the first, the fifth the same in lower case."""

companions = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(POOL), st.sampled_from("abc"), st.sampled_from([1, 2])),
    min_size=2,
    max_size=12,
)
"""Class, sequence, name and mate of records that are nearly sound and belong together in many ways."""


@many
@given(fasta_files(), companions, extras, chunk_sizes, patterns, st.booleans())
def test_fasta(content: bytes, good: list, extra: list[str], chunk: int, regex: str, packed: bool) -> None:
    more = "".join(f">{named(one, regex)}\n{one[1]}\n" for one in good).encode()
    check(ended(content) + more, "fasta", extra, chunk, regex, packed)


@many
@given(fastq_files(), companions, extras, chunk_sizes, patterns, st.booleans())
def test_fastq(content: bytes, good: list, extra: list[str], chunk: int, regex: str, packed: bool) -> None:
    more = "".join(f"@{named(one, regex)}\n{one[1]}\n+\n{'F' * len(one[1])}\n" for one in good).encode()
    check(ended(content) + more, "fastq", extra, chunk, regex, packed)


def named(one: tuple[int, str, str, int], regex: str) -> str:
    class_id, sequence, name, mate = one
    if regex == CUSTOM_REGEX:
        return f"{name}/{mate} c={class_id}"
    return f"lbl|{class_id}|56{class_id}|{len(sequence)}|{name}/{mate}"


def check(content: bytes, kind: str, extra: list[str], chunk: int, regex: str, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "reads.txt", Path(name) / "made"
        given_bytes = gzip.compress(content, 1, mtime=0) if packed else content
        source.write_bytes(given_bytes)
        arguments = ["doctor", "--fasta", str(source), "--header-regex", regex, "--fix", "-o", str(made)]
        for repair in extra:
            arguments += ["--fix", repair]
        out, err = io.StringIO(), io.StringIO()
        small = partial(batches.iter_batches, chunk_bytes=chunk)
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            mock.patch.object(batches, "iter_batches", small),
            mock.patch("os.fsync"),  # thousands of small files
        ):
            code = main(arguments)
        assert "Traceback" not in err.getvalue() and "internal error" not in err.getvalue()
        assert source.read_bytes() == given_bytes
        if code:
            assert code == 1 and any(reason in err.getvalue() for reason in NOT_REPAIRABLE), err.getvalue()
            assert not (made / "manifest.json").exists()
            return
        accounted_for(content, kind, extra, regex, made)


def accounted_for(content: bytes, kind: str, extra: list[str], regex: str, made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    given_records = records_of(content, kind)
    aside = set_aside(made)
    assert all(1 <= number <= len(given_records) for number in aside)
    kept = [record for number, record in enumerate(given_records, start=1) if number not in aside]
    outputs = [unpacked(made / one["name"]) for one in manifest["outputs"]]
    written = [record for output in outputs for record in records_of(output, kind)]

    (balance,) = manifest["inputs"]
    assert balance["balances"]
    assert balance["read"] == {
        "records": len(given_records),
        "bases": sum(len(record.bases) for record in given_records),
    }
    assert balance["written"]["records"] == len(written)
    assert balance["set_aside"]["records"] == len(aside)
    copies = len(kept) - len(written)
    assert balance["copies"]["records"] == copies
    if "deduplicate" not in extra:
        assert copies == 0
    before, after = [contents(record) for record in kept], [contents(record) for record in written]
    if "split" in extra or "shuffle" in extra or copies:
        gone = Counter(before)
        gone.subtract(after)
        assert min(gone.values(), default=0) >= 0 and gone.total() == copies
    else:
        assert after == before
    if aside:
        (quarantine,) = (name for name in manifest["quarantine"] if name != "quarantine.tsv")
        raw = [given_records[number - 1] for number in aside]
        expected = b"".join(ended(content[record.offset : record.end]) for record in raw)
        assert (made / quarantine).read_bytes() == expected
    else:
        assert manifest["quarantine"] == []
    for output, one in zip(outputs, manifest["outputs"], strict=True):
        sound(output, one, extra, regex, made)


def records_of(content: bytes, kind: str) -> list[Record]:
    return fasta_records(content) if kind == "fasta" else fastq_records(content)


def ended(piece: bytes) -> bytes:
    return piece if piece.endswith(b"\n") else piece + b"\n"


def contents(record: Record) -> tuple[bytes, bytes | None]:
    """The sequence as training sees it, and the qualities of its bases."""
    if record.quality is None:
        return normalise(record.bases), None
    pairs = zip(record.bases, b"".join(record.quality), strict=True)
    return normalise(record.bases), bytes(value for base, value in pairs if base not in WHITESPACE)


def set_aside(made: Path) -> list[int]:
    table = made / "quarantine.tsv"
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert all(row["reason"] and int(row["line"]) > 0 for row in rows)
    return [int(row["record"]) for row in rows]


def unpacked(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw


def sound(output: bytes, one: dict, extra: list[str], regex: str, made: Path) -> None:
    path = made / "plain"
    path.write_bytes(output)
    found = scan(path, header=HeaderPattern(regex))
    assert (found.records, found.total_bases) == (one["records"], one["bases"])
    assert not found.problems and not found.rejected
    assert found.crlf_lines == found.bases.whitespace == found.bases.lower == found.bases.u == 0
    assert found.readlen_mismatches == found.duplicate_headers == 0
    assert b"\r" not in output and b"\n\n" not in output
    if "iupac-to-n" in extra:
        assert found.bases.iupac == found.bases.other == 0
    path.unlink()
