"""One pass over a file: nothing is lost without a count, and the numbers are the file's."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from reads_fixtures import fasta, fastq, random_reads, written

from metagene_train.errors import DataError, InputError
from metagene_train.reads.counts.bases import BaseCounts
from metagene_train.reads.counts.class_tally import ClassTally
from metagene_train.reads.counts.sample import SAMPLE_SIZE, Sample
from metagene_train.reads.counts.tallies import Histogram
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.problems import Place
from metagene_train.reads.scan import scan

READS = random_reads(1000)
STANDARD = HeaderPattern()


def test_rejected_records_are_counted_by_reason_with_the_first_places(tmp_path: Path) -> None:
    reads = [
        ("lbl|1|2|4|a", "ACGT"),
        *[(f"SRR{i}", "ACGT") for i in range(7)],
        ("lbl|x|2|4|b", "ACGT"),
        ("lbl|1|2|4|c", ""),
        ("z" * 100, "ACGT"),
    ]
    found = scan(written(tmp_path / "reads.fa", fasta(reads)), header=STANDARD)
    assert [(r.kind, r.reason, r.count) for r in found.rejected] == [
        ("header", "does not start with lbl|", 8),
        ("header", "class_id is not a whole number", 1),
        ("empty", "the read has no bases", 1),
    ]
    assert found.rejected[0].examples == tuple(Place(3 + 2 * i, 2 + i, f"SRR{i}") for i in range(5))
    assert (found.records, found.accepted, found.empty_reads) == (11, 1, 1)
    assert found.complete
    only_long = scan(written(tmp_path / "long.fa", fasta([("z" * 100, "A")])), header=STANDARD)
    assert only_long.rejected[0].examples[0].text == "z" * 79 + "…"


def test_damaged_fastq_records_are_rejections_and_damage(tmp_path: Path) -> None:
    content = fastq(READS[:3]) + b"@lbl|1|||short\nACGT\n+\nIII\n" + fastq(READS[3:6]) + b"@lbl|1|||cut\nACG"
    found = scan(written(tmp_path / "reads.fq", content), header=STANDARD)
    assert (found.records, found.accepted) == (8, 6)
    assert {(r.reason, r.count, r.examples[0].record) for r in found.rejected} == {
        ("sequence and quality differ in length", 1, 4),
        ("the file ends inside the record", 1, 8),
    }
    assert [(p.kind, p.line, p.record, p.byte_offset) for p in found.problems] == [
        ("fastq", 13, 4, len(fastq(READS[:3]))),
        ("fastq", 29, 8, content.index(b"@lbl|1|||cut")),
    ]
    assert not found.complete


def test_statistics_of_a_sound_file(tmp_path: Path) -> None:
    reads = [
        ("lbl|3|30|5|a/1", "ACGTN"),
        ("lbl|3|30|5|a/2", "acgun"),
        ("lbl|3|31|9|b", "RYACG"),
        ("lbl|7||3|é", "A-C"),
        ("lbl|7||3|é", "ACGTACGTAC"),
    ]
    found = scan(written(tmp_path / "reads.fa", fasta(reads).replace(b"\n", b"\r\n")), header=STANDARD)
    assert found.class_counts == {3: 3, 7: 2}
    assert found.tax_ids == {3: {30: 2, 31: 1}}
    assert found.mates == {0: 3, 1: 1, 2: 1}
    assert found.lengths.tolist() == [0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 1]
    assert (found.total_bases, found.longest) == (28, 10)
    assert (found.lines, found.crlf_lines) == (10, 10)
    assert (found.duplicate_headers, found.duplicate_examples) == (1, ((4, 5),))
    assert found.non_ascii_headers == 2
    assert found.readlen_mismatches == 2
    assert found.readlen_examples == (Place(5, 3, "lbl|3|31|9|b"), Place(9, 5, "lbl|7||3|é"))
    assert found.bases.total == found.total_bases
    assert (found.bases.lower, found.bases.u, found.bases.iupac, found.bases.other) == (3, 1, 2, 1)
    assert found.bytes_examined == found.bytes_present


def test_reads_of_any_header(tmp_path: Path) -> None:
    found = scan(written(tmp_path / "reads.fa", b">a\nAC\n>lbl|1|||b\nG\n"), header=None)
    assert (found.accepted, found.class_counts, found.class_order) == (2, {}, None)


def test_json_holds_everything_but_the_sample(tmp_path: Path) -> None:
    found = scan(written(tmp_path / "reads.fq", fastq(READS) + b"@x\nA\n+\nI\n"), header=STANDARD)
    document = json.loads(json.dumps(found.to_dict()))
    assert document["lengths"] == {"1": 1, "150": 1000}
    assert document["format"]["kind"] == "fastq"
    assert document["rejected"][0]["examples"][0] == {"line": 4001, "record": 1001, "text": "x"}
    assert document["sample"] == 1001
    assert document["complete"] is True
    assert document["quality_range"] == [73, 73]
    assert sum(document["class_counts"].values()) == document["accepted"] == 1000


@pytest.mark.parametrize("paired", [False, True])
def test_class_order_tells_sorted_from_shuffled(tmp_path: Path, paired: bool) -> None:
    reads = random_reads(3000, length=10)
    if paired:
        reads = [read for read in reads for _ in range(2)]
    ordered = sorted(reads, key=lambda read: int(read[0].split("|")[1]))
    shuffled = scan(written(tmp_path / "shuffled.fa", fasta(reads)), header=STANDARD)
    sorted_file = scan(written(tmp_path / "sorted.fa", fasta(ordered)), header=STANDARD)
    assert shuffled.class_order == pytest.approx(0, abs=0.05)
    assert sorted_file.class_order == pytest.approx(1, abs=0.02)


def test_the_same_reads_in_another_order_have_the_same_headers_digest(tmp_path: Path) -> None:
    mixed = random.Random(1).sample(READS, len(READS))
    one = scan(written(tmp_path / "a.fa", fasta(READS)), header=STANDARD)
    other = scan(written(tmp_path / "b.fq", fastq(mixed)), header=STANDARD)
    less = scan(written(tmp_path / "c.fa", fasta(READS[:-1])), header=STANDARD)
    assert one.headers_digest == other.headers_digest != less.headers_digest
    assert one.digest != other.digest


def test_progress_counts_bytes_of_the_file_on_disk(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa.gz", gzip.compress(fasta(READS)))
    calls: list[tuple[int, int]] = []
    scan(path, header=STANDARD, progress=lambda done, total: calls.append((done, total)), chunk_bytes=10_000)
    assert len(calls) > 5
    assert calls == sorted(calls)
    assert calls[-1] == (path.stat().st_size, path.stat().st_size)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))

    def append(_done: int, _total: int) -> None:
        with path.open("ab") as file:
            file.write(b">more\nA\n")

    found = scan(path, header=STANDARD, progress=append, index_dir=tmp_path / "index")
    assert [problem.kind for problem in found.problems] == ["changed"]
    assert not list((tmp_path / "index").iterdir())


def test_a_file_that_vanishes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))
    found = scan(path, header=STANDARD, progress=lambda _done, _total: path.unlink(missing_ok=True))
    assert [problem.kind for problem in found.problems] == ["changed"]


def test_nul_bytes_are_damage(tmp_path: Path) -> None:
    content = fasta(READS[:10]) + b">lbl|1|||hole\nAC" + bytes(50) + b"GT\n" + fasta(READS[10:])
    found = scan(written(tmp_path / "reads.fa", content), header=STANDARD)
    assert [(p.kind, p.record, p.line, p.count) for p in found.problems] == [("nul", 11, 21, 1)]
    assert found.records == 1001


def test_a_record_that_is_no_read_ends_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metagene_train.reads.records.window.LONGEST_RECORD", 5000)
    content = fasta(READS[:10]) + b">lbl|1|||chromosome\n" + b"A" * 20_000 + b"\n"
    found = scan(written(tmp_path / "reads.fa", content), header=STANDARD, chunk_bytes=1000)
    assert [problem.kind for problem in found.problems] == ["record_too_long"]
    assert found.records == 10


def test_nothing_to_scan_raises(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        scan(tmp_path / "absent.fa", header=STANDARD)
    with pytest.raises(DataError):
        scan(written(tmp_path / "page.fa", b"<html></html>"), header=STANDARD)


def test_inputs_are_not_written_to(tmp_path: Path) -> None:
    path = written(tmp_path / "reads.fa", fasta(READS))
    path.chmod(0o444)
    before = path.stat().st_mtime_ns
    scan(path, header=STANDARD)
    assert path.stat().st_mtime_ns == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["reads.fa"]


def test_the_sample_is_uniform_and_does_not_depend_on_chunks_or_ranges() -> None:
    stream = [str(number).encode() for number in range(1000)]
    offsets = np.arange(1000) * 190
    hits = np.zeros(1000)

    def offer(sample: Sample, start: int, stop: int) -> None:
        sample.offer(offsets[start:stop], lambda wanted: [stream[start + i] for i in wanted.tolist()])

    for seed in range(400):
        chunked, at_once, first, rest = (Sample(size=100, seed=seed) for _ in range(4))
        for start in range(0, 1000, 125):
            offer(chunked, start, start + 125)
        offer(at_once, 0, 1000)
        offer(first, 0, 300)
        offer(rest, 300, 1000)
        first.merge(rest)
        assert chunked.items == at_once.items == first.items
        assert len(set(at_once.items)) == 100
        hits[[int(sequence) for sequence in at_once.items]] += 1
    # Each of ten parts of the stream is expected to hold 4,000 of the 40,000 draws (sd about 57).
    assert np.abs(hits.reshape(10, 100).sum(axis=1) - 4000).max() < 5 * 60
    # And each read 40 of 400 (sd 6).
    assert abs(hits.std() - 6) < 0.6


def test_the_sample_of_a_file_has_at_most_its_size(tmp_path: Path) -> None:
    reads = random_reads(SAMPLE_SIZE + 500, length=12)
    found = scan(written(tmp_path / "reads.fa", fasta(reads)), header=STANDARD)
    assert len(found.sample) == SAMPLE_SIZE
    assert set(found.sample) <= {sequence.encode() for _, sequence in reads}


def test_huge_numbers_are_counted_too() -> None:
    histogram = Histogram()
    histogram.add(np.array([3, 2**31 - 1, 3, 2**20]))
    histogram.add(np.array([5, 2**20]))
    assert histogram.as_dict() == {3: 2, 5: 1, 2**20: 2, 2**31 - 1: 1}
    assert histogram.clipped()[[3, 5, 2**20]].tolist() == [2, 1, 3]
    classes, later = ClassTally(), ClassTally()
    classes.add(np.array([1, 2**30, 1]), np.array([-1, 7, 9]), np.array([10, 20, 30]))
    later.add(np.array([1, 2**30, 5]), np.array([8, 7, -1]), np.array([1, 1, 1]))
    later.add(np.array([2**30, 2**16]), np.array([-1, 4]), np.array([50, 60]))
    later.add_unusual(np.array([2**30, 2**16]), np.array([[0, 0, 0, 2, 0, 0, 0], [0, 5, 0, 1, 0, 0, 0]]))
    classes.merge(later)
    assert classes.reads() == {1: 3, 5: 1, 2**16: 1, 2**30: 3}
    assert classes.tax_ids() == {1: {9: 1, 8: 1}, 2**16: {4: 1}, 2**30: {7: 2}}
    assert classes.bases() == {
        1: BaseCounts(acgt=41),
        5: BaseCounts(acgt=1),
        2**16: BaseCounts(acgt=54, lower=5, n=1),
        2**30: BaseCounts(acgt=69, n=2),
    }
