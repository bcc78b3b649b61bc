"""Reads files watched while they are scanned, as the doctor does it."""

from pathlib import Path

from metagene_doctor.facts.side_watch import Hashing, SideWatch
from metagene_doctor.facts.split.held_reads import HeldReads
from metagene_doctor.facts.split.leakage import Comparison, SplitFacts, ValSegments
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan

PATTERN = HeaderPattern()


def watched(watch: SideWatch, *paths: Path, header: HeaderPattern = PATTERN, **settings) -> tuple[bytes, ...]:
    """Let a watch see all reads of some files; a sample of the sequences of the last one."""
    sample: tuple[bytes, ...] = ()
    for path in paths:
        watch.begin_file()
        sample = scan(path, header=header, watcher=watch, **settings).sample
    return sample


def compare(
    train: Path,
    val: Path,
    header: HeaderPattern = PATTERN,
    *,
    segments: bool = True,
    most_bases: int = 10**6,
    sieve: bool = False,
    **settings,
) -> SplitFacts:
    """What the reads of two files have in common."""
    held = HeldReads(prefixes=sieve)
    sample = watched(SideWatch([held]), val, header=header, **settings)
    comparison = Comparison(held, ValSegments.of(sample, most_bases) if segments else None)
    hashing = Hashing(comparison.segment_step, comparison.sieve() if sieve else None)
    watch = SideWatch([comparison], hashing=hashing)
    watched(watch, train, header=header, **settings)
    assert not watch.spoilt
    return comparison.result()
