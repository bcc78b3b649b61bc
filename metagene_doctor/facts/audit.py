"""What reads show besides their sequence: shortcuts, drift, groups, cut names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from metagene_doctor.facts.reads.first_words import FirstWordFacts
from metagene_doctor.facts.reads.shortcuts import Shortcut
from metagene_doctor.facts.split.drift import Drift
from metagene_doctor.facts.split.name_groups import GroupFacts
from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    from metagene_doctor.facts.reads.first_words import BlankHeaders, FirstWordTally
    from metagene_doctor.facts.reads.traits import Row, TraitSample
    from metagene_train.reads.counts.sample import Picked
    from metagene_train.reads.watching import Watched


class AuditFacts(Frozen):
    train_reads: int = 0
    """Reads in the training sample."""
    val_reads: int = 0
    """Reads in the validation sample; 0 where the two files were not compared."""
    shortcuts: tuple[Shortcut, ...] = ()
    drift: tuple[Drift, ...] = ()
    groups: GroupFacts | None = None
    first_words: dict[Literal["train", "val"], FirstWordFacts] = {}


class SeenInBatch(NamedTuple):
    traits: Picked[Row]
    first_words: BlankHeaders | None


class Audit:
    """Of the reads of one side, batch by batch (see `metagene_train.reads.watching.Watcher`)."""

    def __init__(self, expected: int | None):
        """Of about so many ``expected`` reads; None if that is not known."""
        from metagene_doctor.facts.reads.first_words import FirstWordTally
        from metagene_doctor.facts.reads.traits import TraitSample

        self.traits: TraitSample = TraitSample(expected)
        self.first_words: FirstWordTally = FirstWordTally()

    def begin_file(self) -> None:
        self.traits.begin_file()

    def see(self, watched: Watched) -> SeenInBatch:
        return SeenInBatch(self.traits.see(watched), self.first_words.see(watched))

    def take(self, seen: SeenInBatch) -> None:
        self.traits.take(seen.traits)
        self.first_words.take(seen.first_words)


def conclude(
    train: Audit, val: Audit | None, train_classes: Mapping[int, int], val_classes: Mapping[int, int]
) -> AuditFacts:
    """What was seen, and how many reads each class has; ``val`` None when no validation reads were
    compared."""
    from metagene_doctor.facts.reads import shortcuts
    from metagene_doctor.facts.split import drift, name_groups

    ours = train.traits.result()
    facts = AuditFacts(
        train_reads=len(ours.class_ids),
        shortcuts=shortcuts.find(ours),
        first_words={"train": train.first_words.result()},
    )
    if val is None:
        return facts
    theirs = val.traits.result()
    return facts.model_copy(
        update={
            "val_reads": len(theirs.class_ids),
            "drift": drift.measure(ours, theirs, train_classes, val_classes),
            "groups": name_groups.find(ours.names, ours.class_ids.tolist(), theirs.names),
            "first_words": facts.first_words | {"val": val.first_words.result()},
        }
    )
