"""What a repair is to do: which repairs, in which order, on which files, into which ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from metagene_train.errors import DataError, InputError
from metagene_train.reads.formats import Kind, ReadFormat, sniff
from metagene_train.reads.index_files import Fingerprint

ORDER = (
    "line-ends",
    "uppercase",
    "u-to-t",
    "iupac-to-n",
    "headers",
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

_PLAN_VERSION = 1
_COMPRESSED_SUFFIXES = (".gz", ".bgz", ".bgzf", ".zst", ".xz", ".bz2")
_RESERVED = ("manifest.json", "quarantine.fa", "quarantine.fq", "quarantine.tsv")


@dataclass(frozen=True)
class Input:
    """A reads file, as it was when the plan was made."""

    path: Path
    form: ReadFormat
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Job:
    """Files that are read one after the other as one, and the names of the files made from them."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    @property
    def kind(self) -> Kind:
        return self.inputs[0].form.kind


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
            {"inputs": [asdict(each.fingerprint) for each in job.inputs], "outputs": job.outputs}
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


def make_jobs(inputs: tuple[Input, ...], *, split: bool, gzip: bool | None) -> tuple[Job, ...]:
    """One job for each file, or one for all when they are to be split anew.

    ``gzip=None`` compresses what was compressed. Raises InputError for a file given twice and for
    files of two kinds that would have to become one.
    """
    for number, each in enumerate(inputs):
        if any(each.path.samefile(other.path) for other in inputs[:number]):
            raise InputError(f"{each.path}: given twice; give it once, with --fasta")
    if split:
        if len({each.form.kind for each in inputs}) > 1:
            raise InputError("cannot split FASTA and FASTQ together; split them one by one")
        suffix = "fa" if inputs[0].form.kind == "fasta" else "fq"
        names = (f"train.{suffix}", f"val.{suffix}")
        return (Job(inputs, tuple(_named(name, inputs[0], gzip) for name in names)),)
    plain = [_without_compression(each.path.name) for each in inputs]
    if len(set(plain)) < len(plain):
        plain = [f"{role}-{name}" for role, name in zip(("train", "val"), plain, strict=True)]
    return tuple(Job((each,), (_named(name, each, gzip),)) for name, each in zip(plain, inputs, strict=True))


def _without_compression(name: str) -> str:
    for suffix in _COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return f"repaired-{name}" if name in _RESERVED else name


def _named(name: str, like: Input, gzip: bool | None) -> str:
    compressed = like.form.compression != "none" if gzip is None else gzip
    return f"{name}.gz" if compressed else name
