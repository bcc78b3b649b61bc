"""Level quick on large files: samples from everywhere, bounds instead of claims."""

import gzip
import random
import re

import pytest
from doctor_fixtures import facts, reads, sequences, write_reads
from reads_fixtures import bgzf, fasta, fastq, random_reads

from metagene_doctor.checks.reads import data, integrity, letters
from metagene_doctor.checks.reads.unseen import largest_share
from metagene_doctor.facts.reads import places, quick_look
from metagene_doctor.facts.reads.collect import collect
from metagene_doctor.facts.reads.quick_look import look_quickly, peek
from metagene_doctor.report.quantities import percent
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.records import iter_reads

PATTERN = HeaderPattern()


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(places, "ROUNDS", 12)


def quickly(path):
    return look_quickly("train", path, PATTERN, "auto")


def in_full(path):
    _, found, _ = collect("train", path, header=PATTERN, file_format="auto", index_dir=None, quick=False)
    return found


def wrapped(records, width=60):
    lines = (
        f">{h}\r\n" + "".join(f"{s[i : i + width]}\r\n" for i in range(0, len(s), width)) for h, s in records
    )
    return "".join(lines).encode()


def at_signs(records):
    """FASTQ in which every quality line starts with @, as a record does."""
    return "".join(f"@{h}\n{s}\n+\n@{'+' * (len(s) - 1)}\n" for h, s in records).encode()


@pytest.mark.parametrize("write", [fasta, fastq, wrapped, at_signs])
def test_every_record_of_a_sample_is_one_of_the_file(tmp_path, write):
    path = tmp_path / "reads"
    path.write_bytes(write(random_reads(3000)))
    known = {(read.header, read.sequence) for read in iter_reads(path)}
    pieces = places.read_pieces(path, "fasta" if write in (fasta, wrapped) else "fastq")
    assert pieces.places >= places.PLACES_PER_ROUND
    joined = tmp_path / "joined"
    joined.write_bytes(b"".join(piece.records for piece in pieces.pieces))
    sampled = [(read.header, read.sequence) for read in iter_reads(joined)]
    assert set(sampled) <= known and len(sampled) > 1000
    content = path.read_bytes()
    assert all(content.startswith(piece.records, piece.offset) for piece in pieces.pieces)


def test_the_sample_is_spread_over_the_file_and_representative(tmp_path):
    """A file sorted by class, of which a start would show one class only."""
    path = tmp_path / "sorted.fa"
    path.write_text(
        "".join(
            f">lbl|{number // 4000}|1|{len(sequence)}|r{number}\n{sequence}\n"
            for number, sequence in enumerate(sequences(20_000, 60))
        )
    )
    found, sample = quickly(path)
    assert found.partial and not found.whole and found.places >= places.PLACES_PER_ROUND
    assert found.class_counts.keys() == {0, 1, 2, 3, 4}
    assert all(abs(n / found.accepted - 0.2) < 0.03 for n in found.class_counts.values())
    assert found.class_order > 0.9
    assert abs(found.estimated_reads / 20_000 - 1) < 0.02
    assert len(sample) == min(10_000, found.accepted)


def test_what_a_sample_shows_is_where_it_says(tmp_path):
    path = write_reads(tmp_path / "r.fa", sequences(4000))
    content = path.read_bytes()
    cut = content.index(b">", len(content) // 2)
    path.write_bytes(content[:cut] + b">strange one\nACGT\n" * 40 + content[cut:])
    found, _ = quickly(path)
    (rejected,) = found.rejected
    offsets = [int(re.search(r"byte ([\d,]+)", e.text)[1].replace(",", "")) for e in rejected.examples]
    assert offsets and all(path.read_bytes().startswith(b">strange one", offset) for offset in offsets)
    (finding,) = data.header_matches(facts(train=found))
    assert finding.confidence == "sampled" and "byte " in finding.why


def test_damage_in_a_sample_has_its_byte(tmp_path):
    path = tmp_path / "r.fq"
    path.write_bytes(fastq(random_reads(2000)))
    content = bytearray(path.read_bytes())
    begin = content.index(b"@lbl", len(content) // 2)
    content[begin + 60 : begin + 70] = bytes(10)
    path.write_bytes(content)
    found, _ = quickly(path)
    assert [damage.byte_offset for damage in found.damage if damage.kind == "nul"] == [begin]


def test_a_cut_last_record_is_seen(tmp_path):
    path = tmp_path / "r.fq"
    path.write_bytes(fastq(random_reads(3000))[:-100])
    found, _ = quickly(path)
    assert any(rejected.kind == "fastq" for rejected in found.rejected)
    assert [str(f.severity) for f in integrity.fastq_structure(facts(train=found))].count("error") == 1


def test_a_bound_holds_as_often_as_it_says(tmp_path, monkeypatch):
    """Lower-case reads at twice the bound's share, in one run: the worst case for neighbours."""
    monkeypatch.setattr(places, "ROUNDS", 1)
    source, missed = random.Random(1), 0
    pool = [sequence.encode() for sequence in sequences(6000, 80)]
    share = 2 * largest_share(64)
    for _ in range(20):
        start = source.randrange(int(6000 * (1 - share)))
        stop = start + int(6000 * share)
        path = tmp_path / "r.fa"
        path.write_bytes(
            b"".join(
                b">r\n" + (read.lower() if start <= number < stop else read) + b"\n"
                for number, read in enumerate(pool)
            )
        )
        found, _ = quickly(path)
        missed += found.bases.lower == 0
    assert missed <= 1


@pytest.mark.parametrize(("places_seen", "share"), [(64, 0.0457), (3000, 0.000998)])
def test_the_bound_is_that_of_clopper_and_pearson(places_seen, share):
    assert largest_share(places_seen) == pytest.approx(share, rel=0.01)
    assert (1 - largest_share(places_seen)) ** places_seen == pytest.approx(0.05)


def test_nothing_found_is_a_bound_for_a_sample_and_unknown_for_a_start():
    sampled = facts(train=reads(partial=True, places=300, class_counts={0: 1000}))
    (bound,) = letters.letter_case(sampled)
    assert bound.severity == "pass" and "at most 1.0 %" in bound.title and bound.confidence == "sampled"
    start = facts(train=reads(partial=True, compression="gzip"))
    for judge in (letters.letter_case, letters.unknown_bases, data.header_matches, data.read_lengths):
        assert [str(f.severity) for f in judge(start)] == ["skip"], judge
    for known in (sampled, start):
        assert [str(f.severity) for f in data.duplicate_names(known)] == ["skip"]
    assert [str(f.severity) for f in integrity.compression_whole(start)] == ["skip"]


@pytest.mark.parametrize("write", [fasta, fastq, wrapped, at_signs])
def test_every_record_of_a_sample_of_blocks_is_one_of_the_file(tmp_path, write):
    path = tmp_path / "reads.gz"
    path.write_bytes(bgzf(write(random_reads(3000)), block=3001))
    known = {(read.header, read.sequence) for read in iter_reads(path)}
    pieces = places.read_pieces(path, "fasta" if write in (fasta, wrapped) else "fastq", blocked=True)
    assert pieces.places >= places.PLACES_PER_ROUND and not pieces.damage
    joined = tmp_path / "joined"
    joined.write_bytes(b"".join(piece.records for piece in pieces.pieces))
    sampled = [(read.header, read.sequence) for read in iter_reads(joined)]
    assert set(sampled) <= known and len(sampled) > 1000
    reads = list(iter_reads(path))
    assert sampled[0] == (reads[0].header, reads[0].sequence)
    assert sampled[-1] == (reads[-1].header, reads[-1].sequence)
    content = path.read_bytes()
    assert all(content.startswith(b"\x1f\x8b\x08\x04", piece.offset) for piece in pieces.pieces)


def test_a_sample_of_blocks_is_spread_over_the_file_and_bounded(tmp_path):
    rows = [(f"lbl|{n // 4000}|1|60|r{n}", s) for n, s in enumerate(sequences(20_000, 60))]
    path = tmp_path / "sorted.fa.gz"
    path.write_bytes(bgzf(fasta(rows), block=20_000))
    found, sample = quickly(path)
    assert found.partial and found.compression == "bgzf" and found.places >= places.PLACES_PER_ROUND
    assert found.class_counts.keys() == {0, 1, 2, 3, 4} and found.class_order > 0.9
    assert all(abs(n / found.accepted - 0.2) < 0.03 for n in found.class_counts.values())
    assert abs(found.estimated_reads / 20_000 - 1) < 0.02
    assert len(sample) == min(10_000, found.accepted) and found.bytes_examined <= found.bytes
    known = facts(train=found)
    (bound,) = letters.letter_case(known)
    share = largest_share(found.places)
    assert bound.severity == "pass" and bound.measured == share
    assert "of the compressed bytes (95 %)" in bound.title
    (whole,) = integrity.compression_whole(known)
    assert whole.severity == "pass" and "no damaged block" in whole.title
    assert not list(integrity.blocks_whole(known))
    (plan,) = data.plan(known)
    assert "about 20,000 reads" in plan.title or "about 19,9" in plan.title or "about 20,1" in plan.title
    assert "of the compressed bytes" in plan.why


def flipped_block(content, number):
    """BGZF with one wrong byte inside the data of a block."""
    place = -1
    for _ in range(number + 1):
        place = content.index(b"\x1f\x8b\x08\x04", place + 1)
    return content[: place + 40] + bytes([content[place + 40] ^ 0xFF]) + content[place + 41 :], place


def test_damage_of_a_block_that_is_met_is_an_error_with_its_byte(tmp_path):
    content, place = flipped_block(bgzf(fasta(random_reads(4000)), block=20_000), 20)
    path = tmp_path / "r.fa.gz"
    path.write_bytes(content)
    found, _ = quickly(path)
    (damage,) = found.damage
    assert damage.kind in ("gzip_corrupt", "gzip_checksum") and damage.byte_offset == place
    assert f"byte {place:,}" in damage.message
    assert [str(f.severity) for f in integrity.compression_whole(facts(train=found))] == ["error"]
    assert "before it" not in next(iter(integrity.compression_whole(facts(train=found)))).why


@pytest.mark.parametrize(("cut", "kinds"), [(28, ["bgzf_no_end"]), (100, ["gzip_truncated", "bgzf_no_end"])])
def test_the_end_of_a_file_of_blocks_is_looked_at(tmp_path, cut, kinds):
    path = tmp_path / "r.fa.gz"
    path.write_bytes(bgzf(fasta(random_reads(4000)), block=20_000)[:-cut])
    found, _ = quickly(path)
    assert [damage.kind for damage in found.damage] == kinds


def test_what_is_found_in_blocks_is_where_it_says(tmp_path):
    rows = random_reads(4000)
    content = fasta(rows[:2000]) + b">strange one\nACGT\n" * 200 + fasta(rows[2000:])
    path = tmp_path / "r.fa.gz"
    path.write_bytes(bgzf(content, block=2000))
    found, _ = quickly(path)
    (rejected,) = found.rejected
    (finding,) = data.header_matches(facts(train=found))
    assert "block at byte " in finding.why
    offsets = {int(re.search(r"byte ([\d,]+)", e.text)[1].replace(",", "")) for e in rejected.examples}
    packed = path.read_bytes()
    for offset in offsets:
        # In the block, or in one of the next few: a piece may start a little later.
        assert b"strange" in gzip.decompress(packed[offset:])[:20_000]


def test_other_gzip_between_blocks_is_read_from_the_start(tmp_path):
    path = tmp_path / "r.fa.gz"
    path.write_bytes(bgzf(fasta(random_reads(50))) + gzip.compress(fasta(random_reads(4000))) + bgzf(b""))
    found, _ = quickly(path)
    assert (found.partial, found.places, found.records, found.damage) == (True, 0, 4050, ())


def test_how_much_of_a_file_its_start_is_is_said(tmp_path):
    path = tmp_path / "r.fa.gz"
    path.write_bytes(gzip.compress(fasta(random_reads(20_000)), 1))
    found, _ = peek("train", path, PATTERN, "auto", limit=2000)
    assert 0.09 < found.front_bytes / found.bytes < 0.3
    share = percent(found.front_bytes / found.bytes)
    (plan,) = data.plan(facts(train=found))
    (skipped,) = letters.letter_case(facts(train=found))
    assert share in plan.why and "of the rest nothing is known" in plan.why
    assert f"the first reads ({share}" in skipped.why


def test_a_slow_disk_ends_the_sampling_after_a_round(tmp_path):
    path = write_reads(tmp_path / "r.fa", sequences(3000))
    times = iter(range(0, 10_000, 100))
    pieces = places.read_pieces(path, "fasta", clock=lambda: next(times))
    assert pieces.places == places.PLACES_PER_ROUND


def test_records_longer_than_a_piece_are_found_whole(tmp_path):
    path = write_reads(tmp_path / "long.fa", sequences(60, 40_000))
    found, _ = quickly(path)
    assert set(found.lengths) == {40_000} and not found.rejected


def test_compressed_and_wrapped_fastq_files_are_read_from_their_start(tmp_path):
    path = write_reads(tmp_path / "r.fa", sequences(50))
    zipped = tmp_path / "r.fa.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    multi = tmp_path / "wrapped.fq"
    multi.write_text(
        "".join(f"@lbl|1|1|20|r{n}\nACGTACGTAC\nACGTACGTAC\n+\nIIIIIIIIII\nIIIIIIIIII\n" for n in range(99))
    )
    for file, number in ((zipped, 50), (multi, 99)):
        found, _ = quickly(file)
        assert (found.partial, found.places, found.records) == (True, 0, number)
        (plan,) = data.plan(facts(train=found))
        assert plan.title.startswith(f"{file.name}: at least {number} reads") and "index" not in plan.title


def test_the_start_agrees_with_the_scan_on_a_file_that_is_all_seen(tmp_path):
    path = write_reads(tmp_path / "r.fa", sequences(50))
    peeked, _ = peek("train", path, PATTERN, "auto")
    scanned = in_full(path)
    for name in ("records", "accepted", "lengths", "bases", "class_counts", "tax_ids", "mates"):
        assert getattr(peeked, name) == getattr(scanned, name), name
    assert peeked.partial and not peeked.whole and scanned.whole


def test_the_start_is_limited_in_reads_and_time(tmp_path, monkeypatch):
    path = write_reads(tmp_path / "r.fa", sequences(3000, 20))
    peeked, sample = peek("train", path, PATTERN, "auto", limit=10)
    assert peeked.records == len(sample) == 10
    monkeypatch.setattr(quick_look, "SECONDS", 0.0)
    assert peek("train", path, PATTERN, "auto")[0].records == 1000


def test_bgzf_without_its_end_is_seen_without_reading_it(tmp_path):
    content = bgzf(fasta(random_reads(500)))
    path = tmp_path / "r.fa.gz"
    path.write_bytes(content)
    assert not quickly(path)[0].damage
    path.write_bytes(content[:-28])
    found, _ = peek("train", path, PATTERN, "auto", limit=10)
    assert [damage.kind for damage in found.damage] == ["bgzf_no_end"]
