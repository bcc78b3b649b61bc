"""Leakage: what training and validation reads share, compared with sets of strings."""

import gzip
import random

import pytest
from doctor_fixtures import opposite, sequences, write_reads
from hypothesis import given, settings
from hypothesis import strategies as st
from watched_sides import PATTERN, compare, watched

from metagene_doctor.facts.reads.hashes import split_mate
from metagene_doctor.facts.side_watch import SideWatch
from metagene_doctor.facts.split.held_reads import HeldReads
from metagene_train.errors import DataError
from metagene_train.reads.counts.bases import normalise, reverse_complement
from metagene_train.reads.headers.pattern import HeaderPattern


def hashes(path):
    held = HeldReads()
    watched(SideWatch([held]), path)
    return held.release()


def test_counts_agree_with_sets(tmp_path):
    source = random.Random(3)
    pool = ["".join(source.choices("ACGTN", k=source.randint(20, 700))) for _ in range(300)]
    train = pool[:200]
    val = [*pool[200:], *train[:15], *(opposite(read) for read in train[20:31]), train[0], "ACGT" * 10]
    facts = compare(
        write_reads(tmp_path / "t.fa", [*train, "ACGT" * 10]),
        write_reads(tmp_path / "v.fa", val, name="v"),
        PATTERN,
    )
    known = set(train) | {"ACGT" * 10}
    assert facts.same_strand == sum(read in known for read in val)
    assert facts.other_strand == sum(read not in known and opposite(read) in known for read in val)
    assert (facts.train_reads, facts.val_reads) == (201, len(val))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("ACGTNacgtuRY- ", min_size=1, max_size=90).filter(str.strip), min_size=1, max_size=12),
    st.integers(1, 80),
)
def test_a_sequence_has_one_hash_however_it_is_written(tmp_path_factory, reads, width):
    directory = tmp_path_factory.mktemp("hashes")
    plain, wrapped = directory / "plain.fa", directory / "wrapped.fa"
    turned = directory / "turned.fa"
    normal = [normalise(read.encode()).decode() for read in reads]
    plain.write_text("".join(f">r{n}\n{read}\n" for n, read in enumerate(normal)))
    wrapped.write_text(
        "".join(
            f">r{n}\r\n" + "".join(f"{read[i : i + width]}\r\n" for i in range(0, len(read), width))
            for n, read in enumerate(reads)
        )
    )
    turned.write_text(
        "".join(f">r{n}\n{reverse_complement(r.encode()).decode()}\n" for n, r in enumerate(normal))
    )
    first, second, third = hashes(plain), hashes(wrapped), hashes(turned)
    assert (first.sequences == second.sequences).all()
    assert (first.strands == second.strands).all()
    assert (first.sequences == third.sequences).all()
    same = dict(zip(normal, first.sequences.tolist(), strict=True))
    canonical = {min(read, reverse_complement(read.encode()).decode()) for read in normal}
    assert len(set(same.values())) == len(canonical)


LETTERS = st.text("ACGT", min_size=14, max_size=40)
SPOILT = st.tuples(LETTERS, st.integers(0, 20), st.text("NEaRu- ", min_size=1, max_size=2)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
)
SHORT = st.text("ACGTN", min_size=1, max_size=17)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(LETTERS | SPOILT | SHORT, min_size=1, max_size=12),
    st.lists(LETTERS | SPOILT | SHORT, min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.booleans()), max_size=6),
    st.integers(10, 50),
    st.integers(0, 400),
)
def test_the_sieve_loses_no_copy(tmp_path_factory, train, val, copies, width, others):
    for place, turned, lower in copies:
        read = normalise(train[place % len(train)].encode())
        copy = (reverse_complement(read) if turned else read).decode()
        val = [*val, copy.lower() if lower else copy]
    directory = tmp_path_factory.mktemp("sieve")
    train = [*train, *sequences(others, length=40)]
    wrapped = ["\n".join(read[i : i + width] for i in range(0, len(read), width)) for read in train]
    paths = (
        write_reads(directory / "t.fa", wrapped),
        write_reads(directory / "v.fa", val, name="v"),
        PATTERN,
    )
    plainly = compare(*paths, segments=False)
    assert compare(*paths, segments=False, sieve=True) == plainly
    known = {normalise(read.encode()) for read in train}
    assert plainly.same_strand == sum(normalise(read.encode()) in known for read in val)


@pytest.mark.parametrize("letter", ["E", "e", "a", "N", "R", "u", " ", "-"])
def test_the_sieve_knows_letters_that_training_changes(tmp_path, letter):
    reads = [read[:5] + letter + read[5:] for read in sequences(40, length=60)]
    train = write_reads(tmp_path / "t.fa", reads)
    same = [normalise(read.encode()).decode() for read in reads]
    val = write_reads(tmp_path / "v.fa", [*same[:20], *map(opposite, same[20:])], name="v")
    facts = compare(train, val, segments=False, sieve=True)
    assert (facts.same_strand, facts.other_strand) == (20, 20)


def test_all_of_a_file_is_compared_not_only_its_first_chunk(tmp_path):
    reads = sequences(30_000, length=150)
    write_reads(tmp_path / "v.fa", [reads[29_990], opposite(reads[10])], name="v")
    (tmp_path / "t.fa.gz").write_bytes(gzip.compress(write_reads(tmp_path / "t.fa", reads).read_bytes(), 1))
    facts = compare(tmp_path / "t.fa.gz", tmp_path / "v.fa", PATTERN)
    assert (facts.same_strand, facts.other_strand) == (1, 1)
    assert [example.train_record for example in facts.sequence_examples] == [29_991, 11]


def headers(path, *names):
    path.write_text(
        "".join(f">{name}\n{read}\n" for name, read in zip(names, sequences(len(names)), strict=True))
    )
    return path


def test_a_mate_is_found_although_its_length_differs(tmp_path):
    train = headers(
        tmp_path / "t.fa", "lbl|1|9|120|a/1", "lbl|1|9|120|b/1", "lbl|2|9|120|c/1", "lbl|1|9|120|d/1"
    )
    val = headers(tmp_path / "v.fa", "lbl|1|9|99|a/2", "lbl|1||98|b/1", "lbl|1|9|97|c/2", "lbl|1|9|97|e/2")
    facts = compare(train, val, PATTERN)
    assert facts.paired_val_reads == 4
    assert facts.split_pairs == 1, "b is the same mate, c another class, e is not in training"
    assert [(e.val_record, e.train_record) for e in facts.pair_examples] == [(1, 1)]


def test_mates_of_other_headers_are_found_too(tmp_path):
    pattern = HeaderPattern(r"class=(?P<class_id>\d+)")
    train = headers(tmp_path / "t.fa", "a/1", "b 1:N:0:AC")
    val = headers(tmp_path / "v.fa", "a/2", "b 2:N:0:AC", "c/2")
    assert compare(train, val, pattern).split_pairs == 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("r/1", ("r", 1)),
        ("r/3", ("r/3", 0)),
        ("r 2:Y:0:A", ("r", 2)),
        ("r", ("r", 0)),
        ("/2", ("", 2)),
        ("", ("", 0)),
    ],
)
def test_mate_numbers(header, expected):
    assert split_mate(header) == expected


def test_repeated_names_do_not_identify_pairs(tmp_path):
    val = headers(tmp_path / "v.fa", *["lbl|1|9|120|genome/1"] * 10)
    assert not compare(headers(tmp_path / "t.fa", "lbl|1|9|120|genome/2"), val, PATTERN).names_identify


def test_damage_is_not_compared(tmp_path):
    whole = gzip.compress(write_reads(tmp_path / "t.fa", sequences(2000)).read_bytes())
    (tmp_path / "cut.fa.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut"):
        SideWatch([HeldReads()]).read(tmp_path / "cut.fa.gz", PATTERN, "auto")


def test_overlaps_of_46_bases_are_found_on_either_strand(tmp_path):
    source = random.Random(11)
    genome = "".join(source.choices("ACGT", k=4000))
    train = [genome[start : start + 150] for start in range(0, 3800, 150)]
    overlapping = []
    for read in train:
        start = source.randint(0, 104)
        shared = read[start : start + 46]
        left, right = ("".join(source.choices("ACGT", k=60)) for _ in range(2))
        overlapping.append(left + (opposite(shared) if len(overlapping) % 2 else shared) + right)
    unrelated = sequences(40, seed=77)
    facts = compare(
        write_reads(tmp_path / "t.fa", train),
        write_reads(tmp_path / "v.fa", overlapping + unrelated, name="v"),
        PATTERN,
    )
    assert facts.segment_val_reads == len(overlapping) + 40
    assert facts.sharing_val_reads == len(overlapping)
    assert facts.same_strand == facts.other_strand == 0


def test_unknown_bases_and_short_reads_are_no_overlap(tmp_path):
    train = write_reads(tmp_path / "t.fa", ["N" * 100, "ACGTACGTAC", "A" * 30 + "N" * 60])
    val = write_reads(tmp_path / "v.fa", ["N" * 99, "ACGTACGTACG", "N" * 60 + "A" * 30], name="v")
    assert compare(train, val, PATTERN).sharing_val_reads == 0


def test_of_many_validation_reads_an_even_sample_is_looked_for_in_parts(tmp_path):
    reads = sequences(16_000, length=40)
    train = write_reads(tmp_path / "t.fa", reads[::2])
    val = write_reads(tmp_path / "v.fa", [*reads[:8000], *sequences(8000, length=40, seed=5)], name="v")
    facts = compare(train, val)
    assert facts.segment_val_reads == 10_000
    assert facts.sharing_val_reads / facts.segment_val_reads == pytest.approx(0.25, abs=0.02)
    assert compare(train, val, segments=False).segment_val_reads == 0


def test_long_reads_are_compared_in_bounded_memory(tmp_path):
    """More bases than may be held: fewer reads are looked for in parts, but never none."""
    genome = sequences(40, length=1000)
    train = write_reads(tmp_path / "t.fa", [read[100:400] for read in genome])
    facts = compare(train, write_reads(tmp_path / "v.fa", genome, name="v"), most_bases=5000)
    assert 0 < facts.segment_val_reads < 20
    assert facts.sharing_val_reads == facts.segment_val_reads
    one = compare(train, write_reads(tmp_path / "o.fa", ["".join(genome)], name="o"), most_bases=5000)
    assert (one.segment_val_reads, one.sharing_val_reads) == (1, 1)


def test_mates_are_found_whichever_way_their_headers_are_parsed(tmp_path):
    """A tax id of nine digits is not parsed together with the rest; names must hash alike all the same."""
    train = headers(tmp_path / "t.fa", "lbl|1|9|120|a/1", "lbl|1|123456789|120|b/1", "lbl|1|9|120|c/3")
    val = headers(tmp_path / "v.fa", "lbl|1|123456789|99|a/2", "lbl|1|9|99|b/2", "lbl|1|9|99|c/2")
    facts = compare(train, val, PATTERN)
    assert [(e.val_record, e.train_record) for e in facts.pair_examples] == [(1, 1), (2, 2)]
    assert facts.split_pairs == 2, "c/3 is no mate of c/2"
