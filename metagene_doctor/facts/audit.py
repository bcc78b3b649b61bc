"""What reads show besides their sequence, collected while others stream them: shortcuts, drift, groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.facts.reads.first_words import FirstWordFacts
from metagene_doctor.facts.reads.shortcuts import Shortcut
from metagene_doctor.facts.split.drift import Drift
from metagene_doctor.facts.split.name_groups import GroupFacts
from metagene_doctor.finding import Frozen

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.reads.first_words import FirstWordTally
    from metagene_doctor.facts.reads.shared_headers import SharedHeaderTally
    from metagene_doctor.facts.reads.traits import TraitSample
    from metagene_train.reads.headers.columns import HeaderColumns
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.reads.records.batches import RecordBatch


class AuditFacts(Frozen):
    train_reads: int = 0
    """Reads in the training sample."""
    val_reads: int = 0
    """Reads in the validation sample; 0 where the two files were not compared."""
    shortcuts: tuple[Shortcut, ...] = ()
    drift: tuple[Drift, ...] = ()
    groups: GroupFacts | None = None
    first_words: dict[Literal["train", "val"], FirstWordFacts] = {}


class Audit:
    """Looks at the reads of one side as they stream by (see `reads.hashes.Look`)."""

    def __init__(self, reads: ReadsFacts, header: HeaderPattern):
        from metagene_doctor.facts.reads.first_words import FirstWordTally
        from metagene_doctor.facts.reads.shared_headers import SharedHeaderTally
        from metagene_doctor.facts.reads.traits import TraitSample

        self.reads = reads
        self.traits: TraitSample = TraitSample(header, reads.records)
        self.first_words: FirstWordTally = FirstWordTally()
        self.headers: SharedHeaderTally | None = SharedHeaderTally(reads) if reads.parts else None

    def look(self, batch: RecordBatch, kept: np.ndarray, columns: HeaderColumns) -> None:
        self.traits.look(batch, kept, columns)
        self.first_words.look(batch, kept, columns)
        if self.headers:
            self.headers.look(batch)


def conclude(train: Audit, val: Audit | None) -> AuditFacts:
    """What was seen; ``val`` None when no validation reads were compared."""
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
            "drift": drift.measure(ours, theirs, train.reads.class_counts, val.reads.class_counts),
            "groups": name_groups.find(ours.names, ours.class_ids.tolist(), theirs.names),
            "first_words": facts.first_words | {"val": val.first_words.result()},
        }
    )
