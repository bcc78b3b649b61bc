"""Counting repetitions, in memory and over runs on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metagene_train.errors import InputError
from metagene_train.reads.counts.distinct import RepeatCounter


def hashes(count: int, distinct: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 2**64, distinct, dtype=np.uint64)
    return np.random.default_rng(seed + 1).choice(values, count)


@pytest.mark.parametrize("capacity", [7, 100, 1000, 10**6])
@pytest.mark.parametrize("count, distinct", [(0, 1), (1, 1), (5000, 2000), (5000, 1), (5000, 10**6)])
def test_repetitions_are_counted_exactly(tmp_path: Path, capacity: int, count: int, distinct: int) -> None:
    values = hashes(count, distinct)
    counter = RepeatCounter(tmp_path, capacity)
    for part in np.array_split(values, 13):
        counter.add(part)
    assert counter.repeats().count == count - len(set(values.tolist()))


def test_runs_on_disk_have_no_name_that_a_killed_process_could_leave(tmp_path: Path) -> None:
    counter = RepeatCounter(tmp_path, 100)
    counter.add(hashes(1000, 500))
    assert not list(tmp_path.iterdir())
    assert counter.repeats().count > 0


def test_examples_are_the_first_of_a_value_and_its_first_repetition() -> None:
    counter = RepeatCounter()
    counter.add(np.array([9, 4, 7, 4], dtype=np.uint64))
    counter.add(np.array([4, 9, 1], dtype=np.uint64))
    repeats = counter.repeats()
    assert repeats.count == 3
    assert repeats.examples == ((0, 5), (1, 3))


def test_no_room_is_an_input_error(tmp_path: Path) -> None:
    counter = RepeatCounter(tmp_path / "absent", 10)
    with pytest.raises(InputError, match="TMPDIR"):
        counter.add(hashes(11, 11))
