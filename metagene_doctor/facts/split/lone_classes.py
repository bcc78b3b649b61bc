"""Which classes without validation reads have one fragment, and so cannot be split."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metagene_train.reads.headers.pattern import ABSENT

if TYPE_CHECKING:
    import numpy as np

    from metagene_doctor.facts.reads.hashes import ReadHashes


class Undecided(NamedTuple):
    """Reads [M] of classes of which it is not yet known."""

    class_ids: np.ndarray
    names: np.ndarray
    sequences: np.ndarray
    hashed: np.ndarray


class LoneClasses:
    """All reads of such a class share the pair's name, or the sequence, with the first of them."""

    def __init__(self, validated: set[int]):
        """But for these classes, which have validation reads."""
        self._done = validated | {ABSENT}
        self._first: dict[int, tuple[int, int | None]] = {}
        """Class -> name and sequence of its first read; None where the sequence was not hashed."""

    def find(self, hashes: ReadHashes) -> Undecided | None:
        """Those of a batch; changes nothing."""
        import numpy as np

        open_classes = set(np.unique(hashes.class_ids).tolist()) - self._done
        if not open_classes:
            return None
        here = np.isin(hashes.class_ids, sorted(open_classes))
        columns = (hashes.class_ids, hashes.names, hashes.sequences, hashes.hashed)
        return Undecided(*(column[here] for column in columns))

    def note(self, found: Undecided | None) -> None:
        """Those of the next batch."""
        import numpy as np

        if found is None:
            return
        for class_id in set(np.unique(found.class_ids).tolist()) - self._done:
            here = found.class_ids == class_id
            names, sequences, hashed = (column[here] for column in found[1:])
            unknown = (int(names[0]), int(sequences[0]) if hashed[0] else None)
            name, sequence = self._first.setdefault(class_id, unknown)
            tied = names == name
            if sequence is not None:
                tied |= hashed & (sequences == sequence)
            if not tied.all():
                self._done.add(class_id)
                del self._first[class_id]

    def result(self) -> tuple[int, ...]:
        """Those classes, ascending, if all reads were seen."""
        return tuple(sorted(self._first))
