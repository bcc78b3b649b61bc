"""Lengths and classes of all reads in one pass: the same answers as whole arrays give, in bounded memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from train_fixtures import write_encoder, write_reads, write_tokenizer

from metagene_doctor.memory.costs import read_lengths
from metagene_doctor.memory.costs.read_survey import survey
from metagene_train.config import DatasetConfig, RunConfig
from metagene_train.open_reads import open_reads
from metagene_train.reads.access import joined


@dataclass
class Part:
    lengths: np.ndarray
    class_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass
class Index:
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def lengths(self) -> joined.JoinedColumn:
        return joined.JoinedColumn([part.lengths for part in self.parts])

    @property
    def class_ids(self) -> joined.JoinedColumn:
        return joined.JoinedColumn([part.class_ids for part in self.parts])


def made_up(*sizes: int, seed: int = 0, longest: int = 151, classes: int = 7) -> Index:
    draw = np.random.default_rng(seed)
    return Index(
        tuple(
            Part(
                draw.integers(30, longest, size).astype(np.int32),
                draw.integers(-1, classes, size).astype(np.int32),
            )
            for size in sizes
        )
    )


@pytest.mark.parametrize("sizes", [(1,), (2,), (999,), (5000,), (40, 3000, 1, 700)])
@pytest.mark.parametrize("longest", [151, 10_000_000])
def test_pieces_give_what_whole_arrays_give(sizes, longest, monkeypatch):
    monkeypatch.setattr(joined, "PIECE", 300)
    index = made_up(*sizes, longest=longest)
    lengths, classes = np.asarray(index.lengths), np.asarray(index.class_ids)
    found = survey(index, 50)
    assert found.reads == len(lengths)
    assert found.median == np.median(lengths)
    assert found.classes == len(np.unique(classes))
    # Of equally long reads the first ones.
    expected = np.argsort(-lengths.astype(np.int64), kind="stable")[:50]
    assert found.longest.tolist() == sorted(expected.tolist())


@pytest.mark.parametrize("order", [1, -1])
def test_sorted_lengths_are_no_worse_a_case(order, monkeypatch):
    monkeypatch.setattr(joined, "PIECE", 300)
    lengths = np.arange(30, 5030, dtype=np.int32)[::order]
    found = survey(Index((Part(lengths, np.zeros(5000, np.int32)),)), 50)
    assert sorted(lengths[found.longest].tolist()) == list(range(4980, 5030))
    assert found.median == np.median(lengths)


def test_memory_does_not_grow_with_the_reads():
    peaks = []
    for reads in (4_000_000, 16_000_000):
        index = made_up(reads)
        tracemalloc.start()
        positions, weights = read_lengths.sample(survey(index, read_lengths.LONGEST))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert weights.sum() == pytest.approx(reads)
        assert len(positions) <= read_lengths.SAMPLE
    assert peaks[1] < 1.1 * peaks[0] < 64 * 2**20  # an array of the lengths alone would be 64 MB


def test_the_longest_reads_of_a_large_file_are_always_in_the_sample_and_weigh_one():
    lengths = np.full(100_000, 150, dtype=np.int32)
    lengths[12_345] = 5_000
    positions, weights = read_lengths.sample(survey(Index((Part(lengths, np.zeros_like(lengths)),)), 200))
    assert weights[positions.tolist().index(12_345)] == 1
    assert weights.sum() == pytest.approx(len(lengths))
    assert np.unique(positions).size == len(positions)


def test_the_sample_is_unbiased():
    """Reads that get longer along the file: the weighted mean is that of the file, from end to end."""
    lengths = np.repeat(np.arange(50, 150, dtype=np.int32), 3000)
    positions, weights = read_lengths.sample(survey(Index((Part(lengths, np.zeros_like(lengths)),)), 200))
    mean = (weights * lengths[positions]).sum() / weights.sum()
    assert mean == pytest.approx(lengths.mean(), rel=0.005)


def test_statistics_of_files_are_those_of_their_reads(tmp_path: Path):
    """Through the index, one file and several, with every read tokenized."""
    write_tokenizer(write_encoder(tmp_path / "encoder"))
    files = [
        write_reads(tmp_path / f"{name}.fa", reads, seed=reads) for name, reads in (("a", 70), ("b", 41))
    ]
    config = RunConfig()
    config.model.encoder_path = config.tokenizer.name_or_path = str(tmp_path / "encoder")
    config.dataset = DatasetConfig(
        train_fasta=[str(file) for file in files], index_dir=str(tmp_path / "index")
    )
    found = read_lengths.measure(config, None)
    index = open_reads(config.dataset.train_fasta, config.dataset)
    assert (found.reads, found.classes, found.tokenized) == (111, 3, 111)
    assert found.bases == np.median(np.asarray(index.lengths))
    assert found.token_counts.sum() == pytest.approx(1)
    one = survey(open_reads(str(files[0]), config.dataset), 5)
    assert one.reads == 70 and len(one.longest) == 5
