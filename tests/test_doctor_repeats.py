"""Repeated reads and sequences of several classes, compared with counting strings."""

import random
from collections import Counter

import pytest
from doctor_fixtures import opposite, sequences
from watched_sides import watched

from metagene_doctor.facts.reads import repeats
from metagene_doctor.facts.side_watch import SideWatch


def write(path, reads):
    path.write_text("".join(f">lbl|{label}|||r{n}/1\n{read}\n" for n, (label, read) in enumerate(reads)))
    return path


def counted(path, tally=None):
    tally = tally or repeats.RepeatTally()
    watched(SideWatch([tally]), path)
    return tally.result()


def test_counts_agree_with_strings(tmp_path):
    source = random.Random(2)
    pool = sequences(60, length=80)
    drawn = [(source.randrange(3), source.choice(pool)) for _ in range(500)]
    reads = [(label, opposite(read) if source.random() < 0.5 else read) for label, read in drawn]
    facts = counted(write(tmp_path / "r.fa", reads))
    by_sequence = {}
    for label, read in drawn:
        by_sequence.setdefault(read, Counter())[label] += 1
    shared = [classes for classes in by_sequence.values() if len(classes) > 1]
    distinct = sum(map(len, by_sequence.values()))
    assert (facts.reads, facts.distinct, facts.kept_one_in) == (500, distinct, 1)
    assert facts.repeated == 500 - distinct
    assert (facts.shared_sequences, facts.shared_reads) == (len(shared), sum(c.total() for c in shared))
    assert facts.best_correct == sum(max(classes.values()) for classes in by_sequence.values())


def test_shares_stay_right_when_sequences_are_dropped(tmp_path):
    pool = sequences(4000, length=60)
    reads = [(0, read) for read in pool] + [(n % 2, read) for n, read in enumerate(pool[:1000])]
    facts = counted(write(tmp_path / "r.fa", reads), repeats.RepeatTally(capacity=1500))
    assert facts.kept_one_in == 4 and facts.reads <= 1500
    assert facts.repeated / facts.reads == pytest.approx(0.1, abs=0.03)
    assert facts.shared_reads / facts.reads == pytest.approx(0.2, abs=0.04)


def test_reads_without_a_class_do_not_count(tmp_path):
    path = tmp_path / "r.fa"
    path.write_text(">other\nACGTACGT\n>other2\nACGTACGT\n>lbl|1|||a/1\nACGTACGT\n")
    assert counted(path).reads == 1
