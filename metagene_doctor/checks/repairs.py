"""The command that makes a repaired copy, for the findings that have one."""

from __future__ import annotations

from shlex import quote

from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_train.config import HEADER_REGEX

DIRECTORY = "repaired"
_STREAMS = ("-", "standard input")


def fix(facts: Facts, reads: ReadsFacts, *repairs: str, options: str = "") -> tuple[str, ...]:
    """For one file; no command for what came through a pipe, or lies in several files."""
    return _command(facts, (reads,), repairs, options)


def split_anew(facts: Facts, options: str = "") -> tuple[str, ...]:
    """For training and validation reads together, or for one file of which both are names."""
    both = facts.sides
    if facts.split is not None and facts.split.same_file:
        both = both[:1]
    return _command(facts, both, ("split",), options)


def _command(
    facts: Facts, files: tuple[ReadsFacts, ...], repairs: tuple[str, ...], options: str
) -> tuple[str, ...]:
    if any(reads.path in _STREAMS or reads.parts for reads in files):
        return ()
    words = ["metagene doctor", f"--fasta {quote(files[0].path)}"]
    words += [f"--val {quote(reads.path)}" for reads in files[1:]]
    dataset = facts.config.dataset
    if "drop-damaged" in repairs and facts.mapping is not None:
        words.append(f"--mapping {quote(facts.mapping.path)}")
    if dataset.header_regex != HEADER_REGEX:
        words.append(f"--header-regex {quote(dataset.header_regex)}")
    words += [f"--fix {repair}" for repair in repairs]
    if options:
        words.append(options)
    return (" ".join([*words, f"-o {DIRECTORY}"]),)
