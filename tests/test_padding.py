"""The padding that is foretold is that of the trainer's own batches."""

import numpy as np
import pytest
from train_fixtures import tiny_config, write_reads

from metagene_doctor.facts.model import tokens
from metagene_doctor.memory.costs import read_lengths
from metagene_doctor.padding import padding_share
from metagene_train.open_reads import open_reads
from metagene_train.tokenizer import load_tokenizer
from metagene_train.training.batching import BatchOrder


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 4, 32])
def test_padding_is_that_of_the_batches_that_training_takes(tmp_path, monkeypatch, grouped, micro_batch):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))
    changes = {"training__group_by_length": grouped, "training__batch_size": micro_batch}
    config = tiny_config(tmp_path, **changes)
    write_reads(tmp_path / "train.fa", 3000, seed=1, length=120)
    index = open_reads(config.dataset.train_fasta, config.dataset)
    sequences = index.sequences(np.arange(len(index)))
    counts = np.array(
        [len(ids) for ids in load_tokenizer(config.tokenizer).encode([s.decode() for s in sequences])]
    )
    counts = np.minimum(counts, config.tokenizer.max_length)
    order = BatchOrder(len(index), micro_batch, seed=1, lengths=index.lengths if grouped else None)
    computed = sum(counts[batch].max() * len(batch) for batch in order)
    share = 1 - counts.sum() / computed

    statistics = read_lengths.measure(config, 3)
    padded = statistics.padded_tokens(config.tokenizer.max_length, micro_batch, grouped=grouped)
    assert 1 - counts.mean() / padded == pytest.approx(share, abs=0.01)

    facts = tokens.collect(config, config.tokenizer.name_or_path, tuple(sequences))
    assert padding_share(facts.lengths, config, facts.by_bases) == pytest.approx(share, abs=0.01)
    if micro_batch == 32:
        assert share > 0.02


def test_reads_that_are_assumed_differ_in_tokens_so_that_larger_passes_pad_more():
    statistics = read_lengths.assumed(None)
    assert statistics.longest == 64 and statistics.token_counts.sum() == pytest.approx(1)
    alone, few, many = (statistics.padded_tokens(64, reads, grouped=True) for reads in (1, 8, 32))
    assert alone == pytest.approx(statistics.mean_tokens) == pytest.approx(36.3, abs=0.1)
    assert alone < few < many < 41
