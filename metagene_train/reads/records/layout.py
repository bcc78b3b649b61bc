"""Where the parts of records lie in a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SOUND = 0
FAULTS = (
    "",
    "no + line after the sequence",
    "sequence and quality differ in length",
    "text where a record should start with @",
    "the file ends inside the record",
)
"""What can be wrong with a record, by code; code 0 is a sound record. All but the last are of FASTQ."""

MIXED = "FASTQ records stand inside this FASTA record"
"""Damage that the structure of FASTA does not show: its lines are taken for sequence."""

MISSING_PLUS, LENGTHS_DIFFER, STRAY_TEXT, CUT_RECORD = range(1, len(FAULTS))


@dataclass(frozen=True)
class Layout:
    """Records found in the first ``lines`` lines of a window; arrays are [N].

    Record i lies at ``starts[i]`` to ``ends[i]`` with all its line ends, its header line is line
    ``line[i]`` of the window (from 0), its sequence lies at ``sequence_start`` to ``sequence_end``
    and has ``length`` bytes without line ends. Quality arrays are None in FASTA. ``faults`` holds
    codes of ``FAULTS``.
    """

    lines: int
    starts: np.ndarray
    ends: np.ndarray
    line: np.ndarray
    header_start: np.ndarray
    header_end: np.ndarray
    sequence_start: np.ndarray
    sequence_end: np.ndarray
    length: np.ndarray
    quality_start: np.ndarray | None
    quality_end: np.ndarray | None
    faults: np.ndarray
