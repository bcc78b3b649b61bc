"""How long the batches of a run are, in tokens: the longest decides memory, their mean decides time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metagene_train.config import RunConfig
from metagene_train.errors import DataError, InputError

if TYPE_CHECKING:
    from metagene_doctor.memory.costs.read_lengths import ReadStatistics


@dataclass(frozen=True)
class Batches:
    """``origin`` says in a sentence where ``longest`` comes from; ``statistics`` has its own."""

    statistics: ReadStatistics
    longest: int
    """Tokens."""
    padded_tokens: float
    """Mean tokens of a read with its padding."""
    origin: str


def batches_of(
    config: RunConfig,
    classes: int | None,
    progress: Callable[[int, int], None] | None = None,
    *,
    asked: bool = False,
) -> Batches:
    """Of the run's training reads; of assumed ones, as in a search, when none are named, or when those of
    the config are on another machine or damaged. Reads that were ``asked`` for have to be there: what
    opening them raises is then raised."""
    statistics = _statistics(config, classes, progress, asked=asked)
    longest, origin = _longest(config, statistics)
    limit = config.tokenizer.max_length
    padded = (
        float(limit)
        if config.tokenizer.padding == "max_length"
        else statistics.padded_tokens(
            limit, config.training.batch_size, grouped=config.training.group_by_length
        )
    )
    return Batches(statistics, longest, padded, origin)


def _statistics(
    config: RunConfig,
    classes: int | None,
    progress: Callable[[int, int], None] | None,
    *,
    asked: bool,
) -> ReadStatistics:
    from metagene_doctor.memory.costs import read_lengths
    from metagene_train.reads.access.data_set import distinct_files

    named = config.dataset.train_fasta
    if named is None:
        return read_lengths.assumed(classes)
    if not asked:
        try:
            absent = [file for file in distinct_files(named) if not file.exists()]
        except InputError as error:  # a pattern without files
            return read_lengths.assumed(classes, because=str(error))
        if absent:
            return read_lengths.assumed(classes, because=f"{absent[0]} is not on this machine")
    try:
        return read_lengths.measure(config, classes, progress)
    except DataError as error:
        if asked:
            raise
        return read_lengths.assumed(classes, because=str(error))


def _longest(config: RunConfig, statistics: ReadStatistics) -> tuple[int, str]:
    """Tokens of the longest batch, and where that comes from."""
    limit = config.tokenizer.max_length
    if config.tokenizer.padding == "max_length":
        return limit, f"every batch padded to {limit} tokens (tokenizer.padding: max_length)"
    if statistics.reads is None:
        return limit, f"longest batch taken as tokenizer.max_length, {limit} tokens (--fasta would tell)"
    longest = statistics.longest_batch(limit)
    return longest, f"longest batch {longest} tokens (longest read {statistics.longest:,}, limit {limit})"
