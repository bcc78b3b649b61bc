"""What ties reads together: one sequence on either strand, and the name of a pair."""

from __future__ import annotations

import re

import numpy as np

from metagene_doctor.facts.reads.hashes import hash_strings, pair_key, read_name
from metagene_doctor.repair.draft import Draft
from metagene_train.reads.records.records import decode_header


def hashes_of(draft: Draft) -> np.ndarray:
    """Strand-neutral hashes [N] of the sequences as training sees them; 0 where there are no bases."""
    places, hashed = draft.hashed
    hashes = np.zeros(len(draft), dtype=np.uint64)
    hashes[places] = hashed.sequences
    return hashes


def names_of(draft: Draft) -> np.ndarray:
    """Hashes [N] of what both reads of a pair are called, in their repaired headers."""
    places, hashed = draft.hashed
    names = np.zeros(len(draft), dtype=np.uint64)
    names[places] = hashed.names
    without_bases = set(range(len(draft))) - set(places.tolist())
    for record in sorted(without_bases | set(draft.headers)):
        names[record] = pair_key(draft.pattern, decode_header(draft.header(record)))
    return names


def genomes_of(draft: Draft, regex: re.Pattern[str]) -> np.ndarray:
    """Hashes [N] of the genomes that names tell of: the first group of the pattern that matched.

    A name of which it matches nothing is a genome of its own.
    """
    tokens = []
    for record in range(len(draft)):
        header = decode_header(draft.header(record))
        fields = draft.pattern.parse(header)
        name = fields.name if fields is not None and fields.name is not None else header
        match = regex.search(name)
        token = next((group for group in match.groups() if group), None) if match else None
        tokens.append((token or read_name(draft.pattern, header)[0]).encode())
    return hash_strings(tokens)
