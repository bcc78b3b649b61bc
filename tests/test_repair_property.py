"""Repairs of files as nasty as can be made up: nothing is lost, nothing is twice, and the result is sound."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tempfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from unittest import mock

import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reads_fixtures import bgzf
from reads_reference import Record, fasta_records, fastq_records
from test_reads_scan_property import CUSTOM_REGEX, fasta_files, fastq_files

from metagene_doctor.cli.main import main
from metagene_doctor.repair import batches
from metagene_doctor.repair.plan import SAFE
from metagene_train.config import HEADER_REGEX
from metagene_train.reads.counts.bases import WHITESPACE, normalise
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan

NOT_REPAIRABLE = ("none of", "no read can be held out", "leaves no place for a number", "all of its bases")
"""What a file can be beyond repair for; anything else has to end with exit code 0."""

many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
some = settings(many, max_examples=40)
PACKERS = {
    "none": bytes,
    "gzip": partial(gzip.compress, compresslevel=1, mtime=0),
    "bgzf": partial(bgzf, block=300),
    "zstd": zstandard.ZstdCompressor(level=1).compress,
    "xz": partial(lzma.compress, preset=0),
    "bzip2": partial(bz2.compress, compresslevel=1),
}
packings = st.sampled_from(sorted(PACKERS))
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
@given(fasta_files(), companions, extras, chunk_sizes, patterns, packings)
def test_fasta(content: bytes, good: list, extra: list[str], chunk: int, regex: str, packing: str) -> None:
    check(with_companions(content, good, "fasta", regex), "fasta", extra, chunk, regex, packing)


@many
@given(fastq_files(), companions, extras, chunk_sizes, patterns, packings)
def test_fastq(content: bytes, good: list, extra: list[str], chunk: int, regex: str, packing: str) -> None:
    check(with_companions(content, good, "fastq", regex), "fastq", extra, chunk, regex, packing)


def with_companions(content: bytes, good: list, kind: str, regex: str) -> bytes:
    """A file with records after it that are nearly sound."""
    more = ""
    for one in good:
        header = named(one, regex)
        more += (
            f">{header}\n{one[1]}\n" if kind == "fasta" else f"@{header}\n{one[1]}\n+\n{'F' * len(one[1])}\n"
        )
    return ended(content) + more.encode()


def named(one: tuple[int, str, str, int], regex: str) -> str:
    class_id, sequence, name, mate = one
    if regex == CUSTOM_REGEX:
        return f"{name}/{mate} c={class_id}"
    return f"lbl|{class_id}|56{class_id}|{len(sequence)}|{name}/{mate}"


def check(content: bytes, kind: str, extra: list[str], chunk: int, regex: str, packing: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "reads.txt", Path(name) / "made"
        given_bytes = PACKERS[packing](content)
        source.write_bytes(given_bytes)
        repaired = repair([source], extra, regex, made, chunk)
        assert source.read_bytes() == given_bytes
        if repaired:
            accounted_for(content, kind, extra, regex, made)


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), mock.patch("os.fsync"):  # thousands of small files
        code = main(list(arguments))
    assert "Traceback" not in err.getvalue() and "internal error" not in err.getvalue()
    return code, out.getvalue(), err.getvalue()


def repair(paths: list[Path], extra: list[str], regex: str, made: Path, chunk: int = 1 << 21) -> bool:
    """Whether the files were repaired; if not, they have to be beyond repair."""
    arguments = ["doctor", *(word for path in paths for word in ("--fasta", str(path)))]
    arguments += ["--header-regex", regex, "--fix", "-o", str(made)]
    for name in extra:
        arguments += ["--fix", name]
    with mock.patch.object(batches, "iter_batches", partial(batches.iter_batches, chunk_bytes=chunk)):
        code, _, err = run(*arguments)
    if code:
        assert code == 1 and any(reason in err for reason in NOT_REPAIRABLE), err
        assert not (made / "manifest.json").exists()
    return not code


@some
@given(
    st.lists(st.tuples(fasta_files() | fastq_files(), companions, packings), min_size=1, max_size=3),
    st.lists(st.sampled_from(["iupac-to-n", "whole-words", "deduplicate"]), unique=True),
    patterns,
    chunk_sizes,
)
def test_several_files(
    files: list[tuple[bytes, list, str]], extra: list[str], regex: str, chunk: int
) -> None:
    """Records in are records written, set aside and left out; the result needs none of the repairs
    that were made, and making them again changes nothing."""
    kinds = [kind_of(content) for content, _, _ in files]
    contents = [
        with_companions(content, good, kind, regex)
        for (content, good, _), kind in zip(files, kinds, strict=True)
    ]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        paths = [place / f"{number}.reads" for number in range(len(files))]
        packed = [PACKERS[packing](content) for (_, _, packing), content in zip(files, contents, strict=True)]
        for path, raw in zip(paths, packed, strict=True):
            path.write_bytes(raw)
        repaired = repair(paths, extra, regex, place / "made", chunk)
        assert [path.read_bytes() for path in paths] == packed
        if not repaired:
            return
        manifest = json.loads((place / "made" / "manifest.json").read_text())
        assert manifest["total"]["balances"] and all(each["balances"] for each in manifest["inputs"])
        rows = quarantined(place / "made")
        written = {one["name"]: one["records"] for one in manifest["outputs"]}
        for path, content, kind, each in zip(paths, contents, kinds, manifest["inputs"], strict=True):
            assert each["read"]["records"] == len(records_of(content, kind))
            assert each["set_aside"]["records"] == sum(row["file"] == str(path) for row in rows)
            assert each["written"]["records"] == sum(written[output] for output in each["outputs"])
            parts = ("written", "set_aside", "copies")
            assert each["read"]["records"] == sum(each[part]["records"] for part in parts)
        outputs = [place / "made" / output for output in written]
        needs_nothing_that_was_done(outputs, extra, regex, place)
        assert repair(outputs, extra, regex, place / "again")
        again = json.loads((place / "again" / "manifest.json").read_text())
        done = {what for job in again["repairs"] for counts in job["counts"].values() for what in counts}
        assert not {what for what in done if not what.startswith("left, ")}
        for output in outputs:
            assert (place / "again" / output.name).read_bytes() == output.read_bytes()


def kind_of(content: bytes) -> str:
    return "fasta" if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b">") else "fastq"


def needs_nothing_that_was_done(outputs: list[Path], extra: list[str], regex: str, place: Path) -> None:
    """No finding about the new files gives the command of a repair that was made."""
    arguments = [word for path in outputs for word in ("--fasta", str(path))]
    with mock.patch.dict("os.environ", {"METAGENE_CACHE": str(place / "cache")}):
        _, out, _ = run("doctor", *arguments, "--header-regex", regex, "--only", "data", "--json")
    for finding in json.loads(out)["findings"]:
        for command in (finding["remedy"] or {"commands": ()})["commands"]:
            named = set(re.findall(r"--fix (\S+)", command))
            # F12 asks for fewer N than were asked for here.
            if finding["id"] != "F12":
                assert not named or not named <= {*SAFE, *extra}, finding


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
    return [int(row["record"]) for row in quarantined(made)]


def quarantined(made: Path) -> list[dict[str, str]]:
    """The rows of the table of records that were set aside."""
    table = made / "quarantine.tsv"
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert all(row["reason"] and int(row["line"]) > 0 for row in rows)
    return rows


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
