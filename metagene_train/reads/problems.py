"""What can be wrong with a reads file: damage of the file, and records that had to be rejected."""

from __future__ import annotations

from dataclasses import dataclass

EXAMPLES_KEPT = 5
EXAMPLE_WIDTH = 80


@dataclass(frozen=True)
class Place:
    """Where something was seen, and its text cut to 80 characters. Lines and records count from 1."""

    line: int
    record: int
    text: str


@dataclass(frozen=True)
class Problem:
    """Damage: the file is not what its writer wrote, so numbers taken from it are not the data's.

    ``byte_offset`` counts in the file as it lies on disk (compressed, if it is compressed).
    ``count`` is how often this kind of damage was met; line, record and offset are of the first.
    """

    kind: str
    message: str
    line: int | None = None
    record: int | None = None
    byte_offset: int | None = None
    count: int = 1


@dataclass(frozen=True)
class Rejection:
    """Records left out for one reason: how many, and the first five of them.

    ``kind`` is ``header``, ``empty``, ``fastq`` (its structure) or ``cut`` (the last record of FASTA that
    ends early); ``reason`` is the sentence for the user.
    """

    kind: str
    reason: str
    count: int
    examples: tuple[Place, ...] = ()


def shorten(text: str) -> str:
    """At most 80 characters, the last one an ellipsis if something was cut."""
    return text if len(text) <= EXAMPLE_WIDTH else text[: EXAMPLE_WIDTH - 1] + "…"
