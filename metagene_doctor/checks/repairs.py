"""The command that makes a repaired copy, for the findings that have one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from shlex import quote

from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_train.config import HEADER_REGEX, DatasetConfig

DIRECTORY = "repaired"
_STREAMS = ("-", "standard input")
_COLUMNS = ("class_column", "label_column", "tax_column")


def fix(facts: Facts, reads: ReadsFacts, *repairs: str, options: str = "") -> tuple[str, ...]:
    """For a file, or for all files of a side; no command for what came through a pipe."""
    return _command(facts, {"--fasta": (reads, _names(facts, reads))}, repairs, options)


def split_anew(facts: Facts, options: str = "", without: Collection[str] = ()) -> tuple[str, ...]:
    """For training and validation reads together, but for the validation files ``without``, whose
    reads are training reads."""
    named: dict[str, tuple[ReadsFacts, Sequence[str]]] = {}
    for option, side in (("--fasta", facts.train), ("--val", facts.val)):
        if side is not None:
            left = [file.path for file in side.files if file.path not in without]
            named[option] = (side, _names(facts, side) if option == "--fasta" or not without else left)
    return _command(facts, named, ("split",), options)


def _names(facts: Facts, reads: ReadsFacts) -> Sequence[str]:
    """What a file is called, or how the files of a side were named: a pattern is shorter than its files."""
    if not reads.parts:
        return [reads.path]
    dataset = facts.config.dataset
    named = dataset.train_fasta if reads.role == "train" else dataset.val_fasta
    if named is None:
        return [file.path for file in reads.parts]
    return [named] if isinstance(named, str) else named


def _command(
    facts: Facts,
    named: dict[str, tuple[ReadsFacts, Sequence[str]]],
    repairs: tuple[str, ...],
    options: str,
) -> tuple[str, ...]:
    if any(side.stream or side.path in _STREAMS for side, _ in named.values()):
        return ()
    words = ["metagene doctor"]
    words += [f"{option} {quote(name)}" for option, (_, names) in named.items() for name in names]
    dataset = facts.config.dataset
    if "drop-damaged" in repairs and facts.mapping is not None:
        if any(getattr(dataset, column) != DatasetConfig.model_fields[column].default for column in _COLUMNS):
            # Only a config can say what the columns are called, and it would name other files too.
            return ()
        words.append(f"--mapping {quote(facts.mapping.path)}")
    if dataset.header_regex != HEADER_REGEX:
        words.append(f"--header-regex {quote(dataset.header_regex)}")
    words += [f"--fix {repair}" for repair in repairs]
    if options:
        words.append(options)
    return (" ".join([*words, f"-o {DIRECTORY}"]),)
