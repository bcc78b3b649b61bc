"""The commands that make repaired copies, for the findings that have one.

A report gives one command for all that needs mending: commands run one after the other would each
start from the same files, and each would undo what the one before had done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import reduce
from itertools import count
from pathlib import PurePath
from shlex import quote

from pydantic import Field

from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.repair.plan import ORDER
from metagene_train.config import HEADER_REGEX, DatasetConfig

DIRECTORY = "repaired"
_STREAMS = ("-", "standard input")
_COLUMNS = ("class_column", "label_column", "tax_column")
_JOINING = ("split", "shuffle")
"""Repairs that write reads of several files into one."""


class Purpose(StrEnum):
    """What a repair is for, which decides what else its command mends."""

    NEEDED = "needed"
    """Training is better for it: the commands of a report all do it."""
    CHOICE = "choice"
    """One of several ways out, for somebody to choose: what is needed is done with it."""
    COPY = "copy"
    """A copy for other programs, and nothing but that."""


@dataclass(frozen=True)
class Repair:
    """What a command repairs: the files as they are named, by option, and the repairs in their order.

    Without ``whole_val`` validation files are left out whose reads are training reads, and which no
    command is to take for others.
    """

    named: tuple[tuple[str, tuple[str, ...]], ...]
    repairs: tuple[str, ...]
    options: tuple[str, ...] = ()
    mapping: str | None = None
    header_regex: str | None = None
    purpose: Purpose = Purpose.NEEDED
    whole_val: bool = True

    def __add__(self, other: Repair) -> Repair:
        """Both in one command. Where one of them leaves validation files out, so does the sum."""
        files: dict[str, tuple[str, ...]] = {}
        for one in (self, other):
            for option, names in one.named:
                files[option] = tuple(dict.fromkeys((*files.get(option, ()), *names)))
        partial = [one for one in (self, other) if not one.whole_val]
        if partial:
            files["--val"] = dict(partial[0].named).get("--val", ())
        return Repair(
            named=tuple((option, names) for option, names in sorted(files.items()) if names),
            repairs=tuple(name for name in ORDER if name in (*self.repairs, *other.repairs)),
            options=tuple(dict.fromkeys((*self.options, *other.options))),
            mapping=self.mapping or other.mapping,
            header_regex=self.header_regex or other.header_regex,
            purpose=other.purpose,
            whole_val=not partial,
        )

    @property
    def parts(self) -> frozenset[str]:
        """Its repairs and options, without the files."""
        return frozenset((*self.repairs, *self.options))

    def command(self, directory: str) -> str:
        words = ["metagene doctor"]
        words += [f"{option} {quote(name)}" for option, names in self.named for name in names]
        if self.mapping is not None:
            words.append(f"--mapping {quote(self.mapping)}")
        if self.header_regex is not None:
            words.append(f"--header-regex {quote(self.header_regex)}")
        words += [f"--fix {name}" for name in self.repairs]
        return " ".join([*words, *self.options, f"-o {directory}"])


class RepairRemedy(Remedy):
    """A remedy whose command `in_one_command` makes, once all findings are known."""

    repair: Repair = Field(exclude=True)


def mend(advice: str, repair: Repair | None) -> Remedy:
    """Advice, and the repair that follows it where there is one."""
    if repair is None:
        return Remedy(text=f"{advice}.")
    return RepairRemedy(text=f"{advice}:", commands=(repair.command(DIRECTORY),), repair=repair)


def fix(
    facts: Facts,
    reads: ReadsFacts,
    *repairs: str,
    options: str = "",
    purpose: Purpose = Purpose.NEEDED,
) -> Repair | None:
    """For a file, or for all files of a side; none for what came through a pipe."""
    option = "--val" if reads.role == "val" else "--fasta"
    return _repair(facts, {option: (reads, _names(facts, reads))}, repairs, options, purpose)


def split_anew(
    facts: Facts,
    options: str = "",
    without: Collection[str] = (),
    purpose: Purpose = Purpose.NEEDED,
) -> Repair | None:
    """For training and validation reads together, but for the validation files ``without``, whose
    reads are training reads."""
    named: dict[str, tuple[ReadsFacts, Sequence[str]]] = {}
    for option, side in (("--fasta", facts.train), ("--val", facts.val)):
        if side is not None:
            left = [file.path for file in side.files if file.path not in without]
            named[option] = (side, _names(facts, side) if option == "--fasta" or not without else left)
    repair = _repair(facts, named, ("split",), options, purpose)
    return repair and replace(repair, whole_val=not without)


def _names(facts: Facts, reads: ReadsFacts) -> Sequence[str]:
    """What a file is called, or how the files of a side were named: a pattern is shorter than its files."""
    if not reads.parts:
        return [reads.path]
    dataset = facts.config.dataset
    named = dataset.train_fasta if reads.role == "train" else dataset.val_fasta
    if named is None:
        return [file.path for file in reads.parts]
    return [named] if isinstance(named, str) else named


def _repair(
    facts: Facts,
    named: dict[str, tuple[ReadsFacts, Sequence[str]]],
    repairs: tuple[str, ...],
    options: str,
    purpose: Purpose,
) -> Repair | None:
    if any(side.stream or side.path in _STREAMS for side, _ in named.values()):
        return None
    kinds = {file.kind for side, names in named.values() if names for file in side.files}
    if len(kinds) > 1 and any(name in _JOINING for name in repairs):
        return None
    dataset = facts.config.dataset
    mapping = None
    if "drop-damaged" in repairs and facts.mapping is not None:
        if any(getattr(dataset, column) != DatasetConfig.model_fields[column].default for column in _COLUMNS):
            # Only a config can say what the columns are called, and it would name other files too.
            return None
        mapping = facts.mapping.path
    return Repair(
        named=tuple((option, tuple(names)) for option, (_, names) in named.items() if names),
        repairs=repairs,
        options=(options,) if options else (),
        mapping=mapping,
        header_regex=dataset.header_regex if dataset.header_regex != HEADER_REGEX else None,
        purpose=purpose,
    )


def in_one_command(findings: Iterable[Finding], files: Iterable[str]) -> tuple[Finding, ...]:
    """The findings of a report on ``files`` with commands that can be run in any order, and none twice.

    What is needed for a warning or an error is in one command, the same for all of them, and in those
    that are a choice. Each command has a directory of its own, in which none of the files lies.
    """
    findings = tuple(findings)
    asked = _asked(findings)
    needed = _needed(asked)
    taken = _parts(files)
    return tuple(
        finding.model_copy(update={"remedy": Remedy(text=remedy.text, commands=(_command(
            finding, remedy.repair, needed, asked, taken),))})
        if (remedy := _repaired(finding))
        else finding
        for finding in findings
    )  # fmt: skip


def needed_repair(findings: Iterable[Finding], files: Iterable[str]) -> tuple[Repair, str] | None:
    """What `in_one_command` puts into the one command that all warnings and errors need, and its
    directory; None where they need none."""
    needed = _needed(_asked(findings))
    return None if needed is None else (needed, _free(DIRECTORY, _parts(files)))


def _parts(files: Iterable[str]) -> set[str]:
    return {part for file in files for part in PurePath(file).parts}


def _asked(findings: Iterable[Finding]) -> list[tuple[Finding, Repair]]:
    return [(finding, remedy.repair) for finding in findings if (remedy := _repaired(finding))]


def _needed(asked: Iterable[tuple[Finding, Repair]]) -> Repair | None:
    needed = [repair for finding, repair in asked if _is_needed(finding, repair)]
    return reduce(Repair.__add__, needed) if needed else None


def _repaired(finding: Finding) -> RepairRemedy | None:
    return finding.remedy if isinstance(finding.remedy, RepairRemedy) else None


def _is_needed(finding: Finding, repair: Repair) -> bool:
    serious = finding.severity in (Severity.WARN, Severity.ERROR) and finding.ignored is None
    return serious and repair.purpose is Purpose.NEEDED


def _command(
    finding: Finding,
    repair: Repair,
    needed: Repair | None,
    asked: Sequence[tuple[Finding, Repair]],
    taken: Collection[str],
) -> str:
    if _is_needed(finding, repair):
        assert needed
        return needed.command(_free(DIRECTORY, taken))
    # Both sides of a copy, and of a choice, go into one directory.
    alike = [
        other
        for found, other in asked
        if other.parts == repair.parts
        and not _is_needed(found, other)
        and (other.purpose is Purpose.COPY) == (repair.purpose is Purpose.COPY)
    ]
    whole = reduce(Repair.__add__, alike)
    if needed and repair.purpose is not Purpose.COPY:
        whole = needed + whole
        if whole.parts == needed.parts and whole.named == needed.named:
            return needed.command(_free(DIRECTORY, taken))
    by = [option.split()[-1] for option in repair.options if option.startswith("--split-by")]
    name = "-".join([DIRECTORY, *repair.repairs, *(f"by-{what}" for what in by)])
    return whole.command(_free(name, taken))


def _free(name: str, taken: Collection[str]) -> str:
    """A directory for copies of files that may lie in one of that name, which an earlier repair made."""
    if name not in taken:
        return name
    return next(f"{name}-{number}" for number in count(2) if f"{name}-{number}" not in taken)
