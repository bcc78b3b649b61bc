"""Do names tell what genome or sample a read is from, and is that on both sides of the split?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from metagene_doctor.finding import Frozen

ACCESSION = re.compile(
    r"(?<![A-Za-z0-9])("
    r"GC[AF]_\d{9}(?:\.\d+)?"  # assemblies
    r"|[A-Z]{2}_[A-Z]{0,6}\d{6,9}(?:\.\d+)?"  # RefSeq
    r"|[A-Z]{4,6}\d{8,10}(?:\.\d+)?"  # whole-genome shotgun contigs
    r"|[SED]R[RSX]\d{5,9}"  # sequencing runs, samples, experiments
    r"|[A-Z]{1,2}\d{5,8}(?:\.\d+)?"  # GenBank
    r")(?![A-Za-z0-9])"
)
"""Accession numbers of NCBI, ENA and DDBJ by their published formats."""

ILLUMINA = re.compile(r"^([\w-]+:\d+:[\w-]+):\d+:\d+:\d+:\d+")
"""instrument:run:flow cell, before lane, tile and position."""

_PART = re.compile(r"[-_|:;,./#\s]+")
_LONGEST_PREFIX = 4
READS_PER_GROUP = 5
"""Mean reads of a value below which a part of a name counts as a running number, not a group."""

GroupKind = Literal["accession", "flow cell", "name prefix"]


class GroupFacts(Frozen):
    """Groups that names show, on samples of both sides. The training sample may have missed some of
    its groups, so what is shared is a lower limit."""

    kind: GroupKind
    train_groups: int
    val_groups: int
    shared_groups: int
    val_reads: int
    shared_val_reads: int
    """Of those, reads of a group that is also in training."""
    classes_per_group: float
    groups_per_class: float
    """Means over the training sample."""
    examples: tuple[str, ...] = ()
    """Shared groups, the largest in validation first."""


def find(
    train_names: Sequence[str], train_classes: Sequence[int], val_names: Sequence[str]
) -> GroupFacts | None:
    """The finest group that names show; None when they show none."""
    for kind, key in _keys(train_names):
        train, val = [key(name) for name in train_names], [key(name) for name in val_names]
        known, seen = set(filter(None, train)), Counter(filter(None, val))
        if len(known) < 2 or not seen:
            continue
        pairs = {(group, label) for group, label in zip(train, train_classes, strict=True) if group}
        shared = [group for group, _ in seen.most_common() if group in known]
        return GroupFacts(
            kind=kind,
            train_groups=len(known),
            val_groups=len(seen),
            shared_groups=len(shared),
            val_reads=seen.total(),
            shared_val_reads=sum(seen[group] for group in shared),
            classes_per_group=len(pairs) / len(known),
            groups_per_class=len(pairs) / len({label for _, label in pairs}),
            examples=tuple(shared[:5]),
        )
    return None


Key = Callable[[str], str]


def _keys(names: Sequence[str]) -> list[tuple[GroupKind, Key]]:
    """Ways to take a group from a name that suit these names, best first."""
    keys: list[tuple[GroupKind, Key]] = []
    numbered = Counter(filter(None, map(accession, names)))
    # A running number such as R00012 may look like an accession, but occurs once.
    if numbered.total() > max(0.5 * len(names), 1.5 * len(numbered)):
        keys.append(("accession", accession))
    if sum(bool(flow_cell(name)) for name in names) > 0.5 * len(names):
        return [*keys, ("flow cell", flow_cell)]
    for parts in range(_LONGEST_PREFIX, 0, -1):
        found = Counter(filter(None, (prefix(name, parts) for name in names)))
        if len(found) > 1 and found.total() >= max(READS_PER_GROUP * len(found), 0.5 * len(names)):
            keys.append(("name prefix", lambda name, parts=parts: prefix(name, parts)))  # type: ignore[misc]
            break
    return keys


def accession(name: str) -> str:
    """The first accession number of a name, empty without one."""
    match = ACCESSION.search(name)
    return match[1] if match else ""


def flow_cell(name: str) -> str:
    match = ILLUMINA.match(name)
    return match[1] if match else ""


def prefix(name: str, parts: int) -> str:
    """The name up to its so-many-th part; empty where it has no more parts than that."""
    ends = list(_PART.finditer(name))
    return name[: ends[parts - 1].start()] if len(ends) >= parts else ""
