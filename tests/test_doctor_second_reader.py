"""The deep level's second reader: pyfastx agrees on sound files, and a difference has its place."""

import gzip

import pytest
from doctor_fixtures import facts, reads
from reads_fixtures import bgzf, fasta, fastq, random_reads

from metagene_doctor.checks.reads.second_reader import readers_agree
from metagene_doctor.collect import Request, collect
from metagene_doctor.facts.facts import RunFacts
from metagene_doctor.facts.reads import second_reader
from metagene_train.config import RunConfig

RECORDS = random_reads(300)
WRAPPED = "".join(f">{h} note\r\n{s[:70].lower()}\r\n{s[70:]}\r\n" for h, s in RECORDS).encode()


@pytest.mark.parametrize(
    "content",
    [
        fasta(RECORDS),
        fastq(RECORDS),
        gzip.compress(fasta(RECORDS)),
        bgzf(fastq(RECORDS)),
        WRAPPED,
        fasta(RECORDS).rstrip(b"\n"),
        fasta([*RECORDS, ("lbl|1|1|0|empty", ""), RECORDS[0]]),
        b"@a 1\nACGT\nAC\n+\nIIII\nII\n" * 20,
    ],
    ids=["fasta", "fastq", "gzip", "bgzf", "wrapped CRLF", "no last line end", "empty read", "wrapped fastq"],
)
def test_both_readers_agree_on_sound_files(tmp_path, content):
    path = tmp_path / "reads"
    path.write_bytes(content)
    run = RunFacts(
        config=RunConfig.model_validate(
            {"dataset": {"train_fasta": str(path), "header_regex": r"(?P<class_id>\d+)"}}
        )
    )
    known = collect(
        Request(run=run, level="deep", index_dir=tmp_path, sections=frozenset({"train", "second reader"}))
    )
    found = known.second_reader[str(path)]
    assert (found.difference, found.stopped) == (None, None)
    assert found.records == known.train.records > 0
    (finding,) = readers_agree(known)
    assert finding.severity == "pass" and f"{found.records:,} records" in finding.title


def test_the_first_record_that_differs_is_named(tmp_path):
    """In FASTA, a sequence line that starts with + is the start of a quality to pyfastx, which
    then drops the record."""
    path = tmp_path / "odd.fa"
    path.write_bytes(b">lbl|1|1|4|a\nACGT\n>lbl|1|1|9|b\nACGT\n+ACGT\n>lbl|1|1|4|c\nGGGG\n")
    found = second_reader.collect(path)
    assert found.records == 1
    assert (found.difference.record, found.difference.line) == (2, 3)
    assert "pyfastx has no such record" in found.difference.what
    (finding,) = readers_agree(facts(train=reads(), second_reader={reads().path: found}))
    assert finding.severity == "error" and "record 2 differently (line 3)" in finding.title


def test_what_differs_is_said():
    described = second_reader._described(("a", "ACGT", None), ("a", "ACG", None))
    assert described == "the sequence is 'ACGT' (4 letters) here and 'ACG' (3 letters) to pyfastx"


def test_a_reader_that_stops_is_no_agreement(tmp_path):
    path = tmp_path / "latin.fa"
    path.write_bytes(b">lbl|1|1|4|a\nACGT\n>lbl|1|1|4|\xe9t\xe9\nACGT\n")
    found = second_reader.collect(path)
    assert found.records == 1 and "UnicodeDecodeError" in found.stopped
    (finding,) = readers_agree(facts(train=reads(), second_reader={reads().path: found}))
    assert finding.severity == "skip" and "after 1 record" in finding.why


def test_counts_have_to_be_those_of_the_scan():
    short = second_reader.SecondReaderFacts(version="2", records=999, bases=149_850)
    (finding,) = readers_agree(facts(train=reads(), second_reader={reads().path: short}))
    assert finding.severity == "error" and "999 records" in finding.title
    for odd in (reads(partial=True), reads(compression="zstd"), reads(stream=True)):
        assert [str(f.severity) for f in readers_agree(facts(train=odd))] == ["skip"]
