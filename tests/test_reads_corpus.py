"""Every file of the corpus: damage at the right place, nothing lost of what is sound."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from reads_corpus import BAD, ODD, REFUSED, Bad, Odd, Refused
from reads_fixtures import written
from reads_reference import fasta_records, fastq_records

from metagene_doctor.cli.main import main
from metagene_train.errors import DataError, InputError, MetageneError
from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.records import Read, iter_reads
from metagene_train.reads.scan import scan

STANDARD = HeaderPattern()


@pytest.fixture(autouse=True)
def no_models_and_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(sys.modules, "pynvml", None)


def doctor(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, list[dict], str]:
    """Exit code, findings and stderr of the command."""
    code = main(["doctor", "--fasta", str(path), "--only", "data", "--json"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, json.loads(captured.out)["findings"] if captured.out else [], captured.err


def handed_out(path: Path) -> tuple[list[Read], MetageneError | None]:
    reads: list[Read] = []
    try:
        for read in iter_reads(path):
            reads.append(read)
    except MetageneError as error:
        return reads, error
    return reads, None


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(BAD) + len(REFUSED) >= 40
    assert len(ODD) >= 20


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_files_are_errors_at_the_right_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: Bad
) -> None:
    path = written(tmp_path / "reads", bad.content)
    found = scan(path, header=STANDARD, index_dir=tmp_path / "index")
    assert found.records == found.accepted + sum(rejection.count for rejection in found.rejected)
    assert found.bytes_present == len(bad.content)
    assert bad.sound in (None, found.accepted)
    problems = [p for p in found.problems if p.kind.startswith(bad.kind)]
    if bad.kind == "header":
        (rejection,) = found.rejected
        assert found.complete
        assert (rejection.kind, rejection.count) == ("header", 1)
        assert (rejection.examples[0].line, rejection.examples[0].record) == (bad.line, bad.record)
    else:
        assert not found.complete
        assert len(found.problems) == len(problems) >= 1
        assert bad.byte in (None, problems[0].byte_offset)
        assert (problems[0].line, problems[0].record) == (bad.line, bad.record)
        reads, error = handed_out(path)
        assert isinstance(error, DataError)
        assert str(error).startswith(f"{path}: ")
        assert bad.record is None or f"line {bad.line:,}, record {bad.record:,}" in str(error)
        assert len(reads) <= found.records
        with pytest.raises(DataError):
            ReadIndex.open_or_build(path, header=STANDARD, index_dir=tmp_path / "index")
    code, findings, _ = doctor(capsys, path)
    assert code == 1
    errors = [finding for finding in findings if finding["severity"] == "error"]
    assert {finding["id"] for finding in errors} == {bad.check}
    places = [(e.get("line"), e.get("record")) for finding in errors for e in finding["examples"]]
    assert (bad.line, bad.record) in places


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_what_is_no_reads_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    path = written(tmp_path / "reads", refused.content)
    for read in (lambda: scan(path, header=STANDARD), lambda: list(iter_reads(path))):
        with pytest.raises(DataError if refused.code == 1 else InputError, match=refused.words):
            read()
    code, findings, err = doctor(capsys, path)
    assert code == refused.code
    titles = [f["title"] for f in findings if (f["id"], f["severity"]) == ("F01", "error")]
    assert refused.words in (titles[0] if code == 1 else err)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_files_give_exactly_their_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: Odd
) -> None:
    path = written(tmp_path / odd.name, odd.content)
    expected = (fasta_records if odd.kind == "fasta" else fastq_records)(odd.unpacked)
    assert len(expected) >= 60
    reads, error = handed_out(path)
    assert error is None
    assert [(read.sequence, read.quality, read.line, read.record) for read in reads] == [
        (record.bases, None if record.quality is None else b"".join(record.quality), record.line, number)
        for number, record in enumerate(expected, start=1)
    ]
    for read, record in zip(reads, expected, strict=True):
        assert record.header in (read.header.encode(), read.header.encode("latin-1", "replace"))
    found = scan(path, header=STANDARD, index_dir=tmp_path / "index")
    assert found.complete
    assert (found.records, found.bytes_examined) == (len(expected), len(odd.content))
    assert tuple(rejection.kind for rejection in found.rejected) == odd.rejected
    index = ReadIndex.open_or_build(path, header=STANDARD, index_dir=tmp_path / "index")
    filled = [record for record in expected if record.bases]
    assert [index.read(i).sequence for i in range(len(index))] == [record.bases for record in filled]
    code, findings, _ = doctor(capsys, path)
    assert code == 0, [f["title"] for f in findings if f["severity"] == "error"]
