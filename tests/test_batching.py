"""Batch order (complete, deterministic, resumable, grouped, sharded), padding, and the data set."""

from __future__ import annotations

import pickle
import tracemalloc
from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest
import torch
from train_fixtures import change, tiny_config

from metagene_train.errors import DataError
from metagene_train.labels import LabelMap, read_mapping
from metagene_train.read_order import BLOCK, BLOCKS_FROM, WINDOW, BlockOrder, Permutation, read_order
from metagene_train.reads.access import joined
from metagene_train.reads.access.chosen import ChosenColumn, ChosenReads
from metagene_train.reads.access.joined import JoinedColumn, JoinedIndex
from metagene_train.reads.access.read_index import ReadIndex
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.tokenizer import load_tokenizer
from metagene_train.training import batching
from metagene_train.training.batching import BatchOrder, EvaluationOrder, collate
from metagene_train.training.dataset import ReadDataset


def flatten(batches) -> list[int]:
    return list(chain.from_iterable(batches))


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 1000, 4097])
def test_a_permutation_holds_every_number_once_and_knows_their_places(size):
    permutation = Permutation(size, seed=1, epoch=2)
    numbers = permutation.numbers(0, size)
    assert sorted(numbers) == list(range(size))
    for place in (0, size // 2, size - 1):
        assert permutation.place_of(int(numbers[place])) == place
        assert permutation.numbers(place, place + 1)[0] == numbers[place]


def test_a_permutation_is_shuffled():
    numbers = Permutation(20_000, seed=0, epoch=0).numbers(0, 20_000)
    assert abs(np.corrcoef(numbers, np.arange(20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03
    # A uniform permutation has one fixed point on average.
    assert (numbers == np.arange(20_000)).sum() < 8


@pytest.mark.parametrize("size", [4, 5, 7, 32, 33, 64, 95, 1000, 1003])
def test_a_block_order_holds_every_number_once_and_knows_their_places(size):
    order = BlockOrder(size, seed=1, epoch=2, block=4, window=32)
    numbers = order.numbers(0, size)
    assert sorted(numbers) == list(range(size))
    assert [order.place_of(int(number)) for number in numbers] == list(range(size))
    assert np.concatenate([order.numbers(at, min(at + 7, size)) for at in range(0, size, 7)]).tolist() == (
        numbers.tolist()
    )
    if size > 100:
        assert BlockOrder(size, seed=1, epoch=3, block=4, window=32).numbers(0, size).tolist() != (
            numbers.tolist()
        )


def test_large_files_are_read_in_blocks():
    """4,096 stretches of 64 reads serve 262,144 places, wherever one looks."""
    for size in (BLOCKS_FROM, 558_000_000):
        order = read_order(size, 0, 0)
        window = size // WINDOW // 2
        numbers = order.numbers(window * WINDOW, (window + 1) * WINDOW)
        assert WINDOW // BLOCK <= len(np.unique(numbers // BLOCK)) <= WINDOW // BLOCK + size % BLOCK
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02


def test_a_large_file_that_is_sorted_by_class_comes_out_mixed():
    """Classes of 1/64 of the file each: their numbers in batches of 32 scatter as in random draws."""
    size, classes, batch = 1 << 22, 64, 32
    per_class = size // classes
    order = BatchOrder(size, batch, seed=5)
    batches = list(islice(order.batches(0, start=40_000), 4000))
    drawn = np.array(batches) // per_class
    counts = np.zeros((len(batches), classes))
    np.add.at(counts, (np.repeat(np.arange(len(batches)), batch), drawn.ravel()), 1)
    share = 1 / classes
    assert counts.var(axis=0).mean() == pytest.approx(batch * share * (1 - share), rel=0.03)
    # Blocks make neighbours share a window, so totals scatter more than single draws would.
    totals = counts.sum(axis=0) / counts.sum()
    assert abs(totals / share - 1).max() < 0.5


def test_a_billion_reads_are_ordered_without_an_array_of_them():
    order = BatchOrder(10**9, 32, seed=0)
    batches = list(islice(order.batches(0, start=20_000_000), 3))
    assert [len(batch) for batch in batches] == [32, 32, 32]
    assert len(set(flatten(batches))) == 96


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(("reads", "batch_size"), [(1000, 8), (1001, 8), (7, 8), (1, 4), (3, 1)])
def test_an_epoch_holds_every_read_once(reads, batch_size, grouped):
    lengths = np.random.default_rng(0).integers(50, 300, reads) if grouped else None
    order = BatchOrder(reads, batch_size, seed=3, lengths=lengths)
    batches = list(order)
    assert sorted(flatten(batches)) == list(range(reads))
    assert len(batches) == len(order)
    assert sum(len(batch) < batch_size for batch in batches) <= 1


def test_seed_and_epoch_alone_decide_the_order():
    lengths = np.random.default_rng(0).integers(50, 300, 500)
    first = list(BatchOrder(500, 8, seed=3, lengths=lengths))
    assert list(BatchOrder(500, 8, seed=3, lengths=lengths)) == first
    assert list(BatchOrder(500, 8, seed=4, lengths=lengths)) != first
    order = BatchOrder(500, 8, seed=3, lengths=lengths)
    order.set_epoch(1)
    assert list(order) != first


@pytest.mark.parametrize("start", [0, 1, 49, 50, 51, 124, 125])
def test_an_epoch_can_be_entered_at_any_batch(start):
    lengths = np.random.default_rng(0).integers(50, 300, 1000)
    order = BatchOrder(1000, 8, seed=3, lengths=lengths)
    assert list(order.batches(2, start)) == list(order.batches(2))[start:]


def test_grouping_by_length_reduces_padding_and_puts_the_longest_batch_first():
    lengths = np.random.default_rng(0).integers(50, 300, 4000)

    def padding(batches) -> float:
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        return 1 - lengths.sum() / padded

    grouped = list(BatchOrder(4000, 16, seed=0, lengths=lengths))
    assert padding(grouped) < 0.05 < 0.3 < padding(list(BatchOrder(4000, 16, seed=0)))
    assert lengths[grouped[0]].max() == lengths.max()
    # Grouped, but not sorted: the order of batches still has nothing to do with length.
    means = [lengths[batch].mean() for batch in grouped]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


@pytest.mark.parametrize("reads", [64, 61, 57, 33])
def test_processes_share_every_batch(reads):
    shares = [list(BatchOrder(reads, 4, seed=1, rank=rank, world_size=4)) for rank in range(4)]
    assert len({len(share) for share in shares}) == 1
    assert all(batch for share in shares for batch in share)
    counts = Counter(flatten(flatten(shares)))
    assert set(counts) == set(range(reads))
    assert sum(counts.values()) - reads < 4


def test_strands_change_between_epochs_and_are_even():
    order = BatchOrder(2000, 8, seed=1, strands=True)
    first, second = (
        {number if number >= 0 else ~number: number < 0 for number in flatten(order.batches(epoch))}
        for epoch in (0, 1)
    )
    assert len(first) == 2000
    assert 900 < sum(first.values()) < 1100
    assert 900 < sum(first[number] != second[number] for number in first) < 1100


def test_collate_pads_on_the_right_to_the_longest_read():
    examples = [{"input_ids": [5, 6, 7], "label": 1}, {"input_ids": [8], "label": 0}]
    batch = collate(examples, pad_id=9, padding="longest", max_length=10)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert collate(examples, 9, "max_length", 10)["input_ids"].shape == (2, 10)


def open_dataset(config, path: str | None = None, labels: LabelMap | None = None) -> ReadDataset:
    index = ReadIndex.open_or_build(
        path or config.dataset.train_fasta,
        header=HeaderPattern(config.dataset.header_regex),
        index_dir=config.dataset.index_dir,
    )
    labels = labels or LabelMap.from_mapping(read_mapping(config.dataset.mapping_tsv))
    return ReadDataset(index, labels, load_tokenizer(config.tokenizer), config)


def test_examples_are_tokens_label_and_position(tmp_path):
    config = tiny_config(tmp_path)
    dataset = open_dataset(config)
    assert len(dataset) == 48
    read = dataset.index.read(4)
    assert dataset[4] == {
        "input_ids": load_tokenizer(config.tokenizer).encode([read.sequence])[0],
        "label": 1,
        "read": 4,
    }
    assert pickle.loads(pickle.dumps(dataset))[4] == dataset[4]


def test_the_complement_of_a_number_is_the_other_strand(tmp_path):
    config = tiny_config(tmp_path)
    (tmp_path / "one.fa").write_text(">lbl|10|562|6|a/1\nAACCGN\n")
    dataset = open_dataset(config, str(tmp_path / "one.fa"))
    forward, backward = dataset.__getitems__([0, ~0])
    encode = load_tokenizer(config.tokenizer).encode
    assert forward["input_ids"] == encode(["AACCGN"])[0]
    assert backward["input_ids"] == encode(["NCGGTT"])[0]
    assert backward["read"] == 0


def test_reads_of_unknown_classes_are_an_error_or_counted(tmp_path):
    config = tiny_config(tmp_path)
    labels = LabelMap((10, 12), ("a", "b"), (None, None))
    with pytest.raises(DataError, match=r"not in the mapping: 11 \(16 reads\)"):
        open_dataset(config, labels=labels)
    dataset = open_dataset(change(config, dataset__strict_classes=False), labels=labels)
    assert (len(dataset), dataset.excluded_reads) == (32, 16)
    assert [dataset[number]["read"] for number in range(4)] == [0, 2, 3, 5]
    assert [dataset[number]["label"] for number in range(4)] == [0, 1, 0, 1]
    assert len(dataset.lengths) == 32


@pytest.mark.parametrize("reads", [1, 511, 512, 20_000])
@pytest.mark.parametrize("share", [0.001, 0.5, 1])
def test_chosen_reads_know_their_positions(reads, share):
    draw = np.random.default_rng(reads)
    chosen = draw.random(reads) < share
    chosen[draw.integers(reads)] = True
    found, expected = ChosenReads(np.packbits(chosen)), np.flatnonzero(chosen)
    assert len(found) == len(expected)
    assert np.array_equal(found.positions(np.arange(len(expected))), expected)
    some = draw.integers(0, len(expected), 300)
    assert np.array_equal(found.positions(some), expected[some])
    begin, end = sorted(draw.integers(0, reads + 1, 2).tolist())
    assert np.array_equal(found.mask(begin, end), chosen[begin:end])

    lengths = draw.integers(30, 151, reads).astype(np.int32)
    column = ChosenColumn(JoinedColumn([lengths[: reads // 3], lengths[reads // 3 :]]), found)
    assert np.array_equal(column[some], lengths[expected[some]])
    assert column.argmax() == lengths[expected].argmax()


def test_classes_that_are_left_out_of_several_files_leave_the_others(tmp_path, monkeypatch):
    """Pieces and files end within a byte of the bits that say which reads are left."""
    monkeypatch.setattr(joined, "PIECE", 5)
    config = change(tiny_config(tmp_path), dataset__strict_classes=False)
    path = tmp_path / "second.fa"
    path.write_text("".join(f">lbl|{10 + i % 4}|1|{4 + i}|r{i}/1\n{'ACGT' + 'A' * i}\n" for i in range(21)))
    parts = [open_dataset(config).index, open_dataset(config, str(path)).index]
    labels = LabelMap((10, 12), ("a", "b"), (None, None))
    dataset = ReadDataset(JoinedIndex(parts), labels, load_tokenizer(config.tokenizer), config)
    every = [(part, number, int(c)) for part in parts for number, c in enumerate(part.class_ids)]
    kept = [(n, part.read(number), c) for n, (part, number, c) in enumerate(every) if c in (10, 12)]
    assert len(dataset) == len(kept) and dataset.excluded_reads == len(every) - len(kept)
    encode = load_tokenizer(config.tokenizer).encode
    for number, (position, read, class_id) in enumerate(kept):
        assert dataset[number] == {
            "input_ids": encode([read.sequence])[0],
            "label": (class_id - 10) // 2,
            "read": position,
        }
    assert dataset.label_counts.tolist() == [sum(c == label for *_, c in kept) for label in (10, 12)]


class MappedIndex:
    """An index of many reads that has nothing but the columns of its file."""

    def __init__(self, lengths, class_ids):
        self.lengths, self.class_ids, self.parts = lengths, class_ids, (self,)
        self.path, self.rejection_summary = "reads.fa", ""

    def __len__(self):
        return len(self.lengths)


@pytest.mark.parametrize("classes", [20, 19])
def test_a_data_set_and_its_order_take_no_memory_for_each_read(tmp_path, classes):
    """16 million reads: an array of their labels or lengths would be 64 MB."""
    reads = 16_000_000
    for name, high in (("lengths", 151), ("classes", 20)):
        column = np.random.default_rng(0).integers(0, high, reads, dtype=np.int32)
        column.tofile(tmp_path / name)
    del column
    index = MappedIndex(
        *(
            np.memmap(tmp_path / name, dtype=np.int32, mode="r").view(np.ndarray)
            for name in ("lengths", "classes")
        )
    )
    labels = LabelMap(tuple(range(classes)), ("x",) * classes, (None,) * classes)
    config = change(tiny_config(tmp_path), dataset__strict_classes=False)
    tracemalloc.start()
    dataset = ReadDataset(index, labels, load_tokenizer(config.tokenizer), config)
    order = BatchOrder(len(dataset), 32, seed=1, lengths=dataset.lengths)
    list(islice(order.batches(0), 100))
    list(islice(order.batches(1, start=len(order) // 2), 100))
    list(islice(EvaluationOrder(dataset.lengths, 32), 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 * 2**20
    assert dataset.label_counts.sum() == len(dataset) and len(dataset.label_counts) == classes


@pytest.mark.parametrize("together", [1 << 20, 40])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_evaluation_sees_every_read_once_and_the_longest_first(together, size, monkeypatch):
    monkeypatch.setattr(batching, "SORTED_TOGETHER", together)
    lengths = np.random.default_rng(3).integers(30, 151, 333).astype(np.int32)
    alone = EvaluationOrder(lengths, size)
    batches = list(alone)
    assert len(batches) == len(alone) == -(-333 // size)
    assert sorted(flatten(batches)) == list(range(333))
    assert lengths[batches[0]].max() == lengths.max()
    if together > 333:
        assert flatten(batches) == np.argsort(-lengths.astype(np.int64), kind="stable").tolist()
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    as_they_come = sum(
        int(lengths[start : start + size].max()) * len(lengths[start : start + size])
        for start in range(0, 333, size)
    )
    assert padded <= as_they_come
    shared = [EvaluationOrder(lengths, size, rank=rank, world_size=3) for rank in range(3)]
    assert [list(one) for one in shared] == [batches[rank::3] for rank in range(3)]
    assert [len(one) for one in shared] == [len(batches[rank::3]) for rank in range(3)]


def test_records_without_a_usable_header_are_an_error_when_strict(tmp_path):
    config = tiny_config(tmp_path)
    path = tmp_path / "mixed.fa"
    path.write_text(">lbl|10|562|4|a/1\nACGT\n>nonsense\nACGT\n")
    with pytest.raises(DataError, match="1 record rejected"):
        open_dataset(config, str(path))
    assert len(open_dataset(change(config, dataset__strict_classes=False), str(path))) == 1


def test_a_long_read_is_cut_or_an_error(tmp_path):
    config = change(tiny_config(tmp_path), tokenizer__max_length=8)
    path = tmp_path / "long.fa"
    path.write_text(">lbl|10|562|4|a/1\nACGT\n>lbl|11|563|40|b/1\n" + "AN" * 20 + "\n")
    assert len(open_dataset(config, str(path))[1]["input_ids"]) == 8
    strict = open_dataset(change(config, tokenizer__truncation=False), str(path))
    with pytest.raises(DataError, match=r"record 2 .* has 42 tokens, more than tokenizer\.max_length 8"):
        strict[1]
