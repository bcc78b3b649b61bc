"""Bases: what a sequence is made of, and the form of it that a tokenizer is given."""

from __future__ import annotations

from dataclasses import dataclass, fields

WHITESPACE = b" \t\n\v\f\r"
_ACGT = b"ACGT"
_IUPAC = b"RYSWKMBDHV"


def _normal_table() -> bytes:
    table = bytearray(b"N" * 256)
    for base in b"ACGTN":
        table[base] = base
        table[base + 32] = base
    table[ord("U")] = table[ord("u")] = ord("T")
    return bytes(table)


_NORMAL = _normal_table()
_COMPLEMENT = bytes.maketrans(
    b"ACGTURYSWKMBDHVNacgturyswkmbdhvn",
    b"TGCAAYRSWMKVHDBNtgcaayrswmkvhdbn",
)


@dataclass(frozen=True)
class BaseCounts:
    """Letters of sequences by kind; the kinds are disjoint and add up to every letter there is.

    ``lower`` counts a, c, g and t (soft-masked), ``u`` and ``n`` either case, ``iupac`` the other
    ambiguity codes of either case, ``whitespace`` blanks inside sequence lines, ``other`` the rest:
    gaps, stops, protein letters, control characters.
    """

    acgt: int = 0
    lower: int = 0
    u: int = 0
    n: int = 0
    iupac: int = 0
    whitespace: int = 0
    other: int = 0

    def __add__(self, more: BaseCounts) -> BaseCounts:
        return BaseCounts(*(getattr(self, f.name) + getattr(more, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))


KINDS = tuple(kind.name for kind in fields(BaseCounts))


def _kind_of() -> bytes:
    table = bytearray([KINDS.index("other")] * 256)
    for kind, letters in (
        ("acgt", _ACGT),
        ("lower", _ACGT.lower()),
        ("u", b"Uu"),
        ("n", b"Nn"),
        ("iupac", _IUPAC + _IUPAC.lower()),
        ("whitespace", WHITESPACE),
    ):
        for letter in letters:
            table[letter] = KINDS.index(kind)
    return bytes(table)


KIND_OF = _kind_of()
"""For each byte the place in ``KINDS`` of the kind of letter that it is."""


def count_bases(sequence: bytes) -> BaseCounts:
    """Letters of one sequence by kind."""
    unusual = sequence.translate(None, _ACGT)
    if not unusual:
        return BaseCounts(acgt=len(sequence))
    kinds = unusual.translate(KIND_OF)
    return BaseCounts(len(sequence) - len(unusual), *(kinds.count(kind) for kind in range(1, len(KINDS))))


def normalise(sequence: bytes) -> bytes:
    """The sequence in the alphabet A, C, G, T, N: upper case, U as T, blanks gone, the rest N.

    The tokenizer of METAGENE-1 knows these five letters only; anything else would become [UNK],
    and a blank would silently split the read.
    """
    return sequence.translate(_NORMAL, WHITESPACE)


def reverse_complement(sequence: bytes) -> bytes:
    """The other strand, 5' to 3'. Ambiguity codes are complemented, case is kept, U becomes A."""
    return sequence.translate(_COMPLEMENT)[::-1]
