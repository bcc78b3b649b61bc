"""What a repair is to do: which repairs, in which order, on which files, into which ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from metagene_train.errors import DataError, InputError
from metagene_train.reads.access.data_set import title_of
from metagene_train.reads.records.formats import ReadFormat, sniff
from metagene_train.reads.sources.fingerprint import Fingerprint

ORDER = (
    "line-ends",
    "uppercase",
    "u-to-t",
    "iupac-to-n",
    "headers",
    "whole-words",
    "drop-damaged",
    "deduplicate",
    "split",
    "shuffle",
)
"""Every repair, in the order in which they are made, however they were asked for."""

SAFE = ("line-ends", "uppercase", "u-to-t", "headers", "drop-damaged")
"""What ``--fix`` without a name does: repairs that change nothing training would see, and the setting
aside of what it could not use."""

SplitBy = Literal["fragment", "genome"]

GENOME_REGEX = r"(?P<genome>[A-Z]{1,6}_?\d{5,}(?:\.\d+)?)|^(?P<rest>.+)[-_.:|]\d+$"
"""A name's accession (NC_000913.3, CP012345.1, GCF_000005845.2), else all but its running number."""

Role = Literal["train", "val"]

_PLAN_VERSION = 3
_COMPRESSED_SUFFIXES = (".gz", ".bgz", ".bgzf", ".zst", ".xz", ".bz2")
_RESERVED = ("manifest.json", "quarantine.fa", "quarantine.fq", "quarantine.tsv", ".metagene-repair")
_PARTIAL = ".partial"
_LONGEST_NAME = 200
"""Bytes; file systems allow 255, and the suffixes of packed and of unfinished files are added."""


@dataclass(frozen=True)
class Input:
    """A reads file, as it was when the plan was made, and the side it was given for."""

    path: Path
    form: ReadFormat
    fingerprint: Fingerprint
    role: Role = "train"


@dataclass(frozen=True)
class Job:
    """Files whose reads are decided on together, and the names of the files made from them.

    ``apart``: one new file for each input, in their order. Else the reads of all inputs go into one new
    file, or are split into two.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    apart: bool = False

    @property
    def title(self) -> str:
        """What to call the inputs in a sentence."""
        return title_of([each.path for each in self.inputs])

    def outputs_of(self, number: int) -> tuple[str, ...]:
        """The files that reads of an input (from 0) can go to."""
        return self.outputs[number : number + 1] if self.apart else self.outputs


@dataclass(frozen=True)
class Plan:
    """``classes`` are those of the mapping, None without one. ``largest_unknown`` is the share of
    letters read as N from which `drop-damaged` sets a read aside."""

    repairs: tuple[str, ...]
    jobs: tuple[Job, ...]
    header_regex: str
    classes: tuple[int, ...] | None = None
    salvage: bool = False
    largest_unknown: float = 0.1
    split_by: SplitBy = "fragment"
    validation_share: float = 0.1
    genome_regex: str = GENOME_REGEX
    seed: int = 0

    def __contains__(self, repair: str) -> bool:
        return repair in self.repairs

    def key(self) -> str:
        """Equal for plans that make the same files of the same inputs."""
        known = asdict(self)
        known["jobs"] = [
            {
                "inputs": [[each.role, asdict(each.fingerprint)] for each in job.inputs],
                "outputs": job.outputs,
            }
            for job in self.jobs
        ]
        text = json.dumps([_PLAN_VERSION, known], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """The choices, as the manifest states them; the files are stated elsewhere."""
        known = asdict(self)
        del known["jobs"]
        known["classes"] = None if self.classes is None else len(self.classes)
        return known


def in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The repairs asked for, `SAFE` for the empty name. Raises InputError for an unknown one."""
    wanted: set[str] = set()
    for name in names:
        wanted.update(SAFE if not name else (name,))
    unknown = sorted(wanted - set(ORDER))
    if unknown:
        raise InputError(f"no repair {unknown[0]!r}; there are: {', '.join(ORDER)}")
    return tuple(name for name in ORDER if name in wanted)


def look_at(path: Path, file_format: str = "auto") -> Input:
    """Raises InputError if the file cannot be repaired: it is missing, or holds no reads at all."""
    try:
        form = sniff(path, file_format)
        return Input(path, form, Fingerprint.of(path))
    except DataError as error:
        raise InputError(str(error)) from None


def make_jobs(
    sides: Mapping[Role, Sequence[Input]], *, repairs: tuple[str, ...], gzip: bool | None
) -> tuple[Job, ...]:
    """One job for each side, or one for both when they are to be split anew.

    A file gives a new file under its own name, but reads that are split or shuffled together are
    written together. ``gzip=None`` compresses what was compressed, or what of one new file was.
    Raises InputError for a file given twice and for files of two kinds that would have to become one.
    """
    sides = {role: [replace(each, role=role) for each in inputs] for role, inputs in sides.items()}
    _refuse_repetitions([each for inputs in sides.values() for each in inputs])
    if "split" in repairs:
        both = tuple(each for inputs in sides.values() for each in inputs)
        return (Job(both, tuple(_joint_name(role, both, gzip, "split") for role in ("train", "val"))),)
    together: dict[Role, str] = {
        role: _joint_name(role, inputs, gzip, "shuffle")
        for role, inputs in sides.items()
        if "shuffle" in repairs and len(inputs) > 1
    }
    alone = [(role, each.path) for role, inputs in sides.items() if role not in together for each in inputs]
    own = dict(zip(alone, told_apart(alone, together.values()), strict=True))
    return tuple(
        Job(tuple(inputs), (together[role],))
        if role in together
        else Job(
            tuple(inputs),
            tuple(_packed(own[role, each.path], [each], gzip) for each in inputs),
            apart=True,
        )
        for role, inputs in sides.items()
    )


def _refuse_repetitions(inputs: Iterable[Input]) -> None:
    seen: set[tuple[int, int]] = set()
    for each in inputs:
        state = each.path.stat()
        if (state.st_dev, state.st_ino) in seen:
            raise InputError(f"{each.path}: given twice; give it once, with --fasta")
        seen.add((state.st_dev, state.st_ino))


def _joint_name(role: Role, inputs: Sequence[Input], gzip: bool | None, repair: str) -> str:
    kinds = {each.form.kind: each.path for each in inputs}
    if len(kinds) > 1:
        raise InputError(
            f"cannot {repair} FASTA and FASTQ together ({kinds['fasta']} and {kinds['fastq']}); "
            f"{repair} the files of one kind at a time"
        )
    (kind,) = kinds
    return joint_name(role, kind, packed=_is_packed(inputs, gzip))


def joint_name(role: Role, kind: str, *, packed: bool) -> str:
    """The file that the reads of a side are in which were split, or which were shuffled together."""
    return f"{role}.{'fa' if kind == 'fasta' else 'fq'}{'.gz' if packed else ''}"


def _packed(name: str, inputs: Sequence[Input], gzip: bool | None) -> str:
    return f"{name}.gz" if _is_packed(inputs, gzip) else name


def _is_packed(inputs: Sequence[Input], gzip: bool | None) -> bool:
    return any(each.form.compression != "none" for each in inputs) if gzip is None else gzip


def told_apart(files: Sequence[tuple[Role, Path]], taken: Iterable[str]) -> list[str]:
    """Names of new files, without the suffix of a compression: the files' own, and where some share
    one, with what tells them apart before it: the side, the directory, or else a number."""
    plain = [_own_name(path) for _, path in files]
    shared = Counter(map(_key, plain))
    used = {_key(name) for name in taken}
    names = []
    for number, ((role, path), name) in enumerate(zip(files, plain, strict=True), start=1):
        if shared[_key(name)] > 1:
            alike = [file for file, other in zip(files, plain, strict=True) if _key(other) == _key(name)]
            if len({other for other, _ in alike}) == len(alike):
                name = f"{role}-{name}"
            elif len({_key(_directory(other)) for _, other in alike}) == len(alike):
                name = f"{_directory(path)}-{name}"
            else:
                name = f"{number}-{name}"
        while _key(name) in used:
            name = f"{number}-{name}"
        used.add(_key(name))
        names.append(name)
    return names


def _key(name: str) -> str:
    """Equal for names that some file system takes for one, or that are of one file packed and not."""
    return name.removesuffix(".gz").casefold()


def _directory(path: Path) -> str:
    return path.parent.resolve().name


def _own_name(path: Path) -> str:
    """A file's name without the suffix of its compression, and not one that the repair itself uses."""
    name = path.name
    for suffix in (_PARTIAL, *_COMPRESSED_SUFFIXES):
        name = name.removesuffix(suffix)
    raw = os.fsencode(name or "reads")
    if len(raw) > _LONGEST_NAME:
        end = os.fsencode(Path(name).suffix)[-10:]
        name = os.fsdecode(raw[: _LONGEST_NAME - len(end)] + end)
    return f"repaired-{name}" if name.casefold() in _RESERVED else name or "reads"
