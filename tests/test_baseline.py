"""The k-mer baseline: counts by hand, strand symmetry, and a classifier that learns composition."""

import numpy as np
import pytest

from metagene_train.evaluation.baseline import kmer_baseline, kmer_frequencies

COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


def reader(sequences):
    return lambda positions: [sequences[i] for i in positions]


def composition_reads(count, seed=0):
    """Reads of 100 bases, class 0 rich in A and T, class 1 even."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    weights = ([0.4, 0.1, 0.1, 0.4], [0.25] * 4)
    return labels, [bytes(rng.choice(list(b"ACGT"), 100, p=weights[label]).tolist()) for label in labels]


def test_canonical_features():
    assert kmer_frequencies([b"ACGT"], 4).shape == (1, 136)
    assert kmer_frequencies([b"ACGT"], 2).shape == (1, 10)
    assert kmer_frequencies([b"ACGT"], 4, canonical=False).shape == (1, 256)


def test_counts_by_hand():
    # AA, AC, CG of 3 windows; canonical: AA(=TT), AC(=GT), CG(=CG).
    row = kmer_frequencies([b"AACG"], 2, canonical=False)[0].reshape(4, 4)
    assert row[0, 0] == row[0, 1] == row[1, 2] == pytest.approx(1 / 3)
    assert row.sum() == pytest.approx(1)


def test_windows_with_n_and_across_reads_are_left_out():
    apart = kmer_frequencies([b"ACGTN", b"GGCCA", b"", b"ACG", b"NNNNN"], 4)
    alone = [kmer_frequencies([read], 4)[0] for read in (b"ACGT", b"GGCCA")]
    assert (apart[:2] == alone).all()
    assert (apart[2:] == 0).all()


def test_a_read_and_its_reverse_complement_are_the_same():
    _, reads = composition_reads(20)
    other = [read.translate(COMPLEMENT)[::-1] for read in reads]
    assert np.allclose(kmer_frequencies(reads), kmer_frequencies(other))
    assert not np.allclose(kmer_frequencies(reads, canonical=False), kmer_frequencies(other, canonical=False))


def test_more_reads_than_one_block(monkeypatch):
    _, reads = composition_reads(50)
    whole = kmer_frequencies(reads)
    monkeypatch.setattr("metagene_train.evaluation.baseline.COUNTED_AT_ONCE", 7)
    assert (kmer_frequencies(reads) == whole).all()


def test_learns_composition_and_beats_chance():
    train_labels, train = composition_reads(600)
    labels, reads = composition_reads(300, seed=1)
    found = kmer_baseline(train_labels, reader(train), labels, reader(reads), 2)
    assert found.kmer["macro_f1"] > 0.9
    assert 0.3 < found.random["macro_f1"] < 0.7
    majority = np.bincount(train_labels).argmax()
    assert found.majority["accuracy"] == pytest.approx(np.mean(labels == majority))
    assert found.majority["mcc"] == 0
    assert (found.training_reads, found.classes_seen, found.converged) == (600, 2, True)


def test_sample_is_capped_seeded_and_leaves_out_unlabelled_reads():
    train_labels, train = composition_reads(300)
    train_labels[::3] = -1
    labels, reads = composition_reads(100, seed=1)
    asked = []

    def spy(positions):
        asked.append(positions)
        return [train[i] for i in positions]

    for _ in range(2):
        found = kmer_baseline(train_labels, spy, labels, reader(reads), 2, max_training_reads=50)
        assert (found.training_reads, found.training_reads_available) == (50, 200)
    assert (asked[0] == asked[1]).all() and len(set(asked[0])) == 50
    assert (train_labels[asked[0]] >= 0).all()


def test_one_class_only():
    _, reads = composition_reads(10)
    ones = np.ones(10, int)
    found = kmer_baseline(ones, reader(reads), ones, reader(reads), 3)
    assert found.kmer["accuracy"] == 1 and found.classes_seen == 1


def test_solver_that_stops_early_is_reported(monkeypatch):
    monkeypatch.setattr("metagene_train.evaluation.baseline.MAX_ITERATIONS", 1)
    labels, reads = composition_reads(200)
    found = kmer_baseline(labels, reader(reads), labels, reader(reads), 2)
    assert not found.converged
