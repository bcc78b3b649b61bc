"""The encoder's files: are they here, complete, and what do their headers say.

Only headers are read: a safetensors file starts with the length of a JSON header that gives dtype,
shape and byte range of every tensor, so truncation shows without reading 26 GB. A file whose tail
was overwritten with zeros at the right size cannot be told from a good one this way.
"""

from __future__ import annotations

import json
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from metagene_doctor.facts.machine.disk import hub_cache
from metagene_doctor.finding import Frozen
from metagene_train.config import METAGENE_1
from metagene_train.errors import InputError

METAGENE_1_DOWNLOAD_BYTES = 25_938_674_488
"""Sum of the six weight shards of metagene-ai/METAGENE-1 on the hub (fp32)."""

DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4}
"""Bytes per element by safetensors' dtype names; other (integer) types hold one byte each."""

LFS_POINTER = b"version https://git-lfs"


class Architecture(Frozen):
    """The part of an encoder's config.json that checks need."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int
    pad_token_id: int | None = None

    @property
    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the linear layers of one Llama block, by module name."""
        width, inner = self.hidden_size, self.intermediate_size
        keys = width // self.num_attention_heads * self.num_key_value_heads
        return {
            "q_proj": (width, width),
            "k_proj": (width, keys),
            "v_proj": (width, keys),
            "o_proj": (width, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }


class WeightFile(Frozen):
    """One file of weights. ``expected_bytes`` follows from its header, None when that is unreadable."""

    name: str
    state: Literal["complete", "truncated", "too long", "missing", "pointer", "unreadable"]
    bytes: int = 0
    expected_bytes: int | None = None
    parameters: dict[str, int] = {}
    """dtype -> number of elements."""
    message: str = ""


class EncoderFacts(Frozen):
    name: str
    """As configured: hub id or directory."""
    location: str | None = None
    """Directory that holds the files; None when they are not on this machine."""
    in_hub_cache: bool = False
    incomplete_downloads: tuple[str, ...] = ()
    """Partial downloads left in the hub cache."""
    incomplete_bytes: int = 0
    architecture: Architecture | None = None
    weights: tuple[WeightFile, ...] = ()
    problems: tuple[str, ...] = ()
    """What is wrong with the directory apart from single weight files."""

    @property
    def is_metagene_1(self) -> bool:
        """By name, or by the architecture that a local copy shares with it."""
        return self.name == METAGENE_1 or self.architecture == metagene_1()

    @property
    def weight_bytes_by_dtype(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for file in self.weights:
            for dtype, elements in file.parameters.items():
                totals[dtype] = totals.get(dtype, 0) + elements * DTYPE_BYTES.get(dtype, 1)
        return totals


def metagene_1() -> Architecture:
    """The architecture of METAGENE-1, packaged with `metagene_train`."""
    return _architecture(json.loads((files("metagene_train") / "metagene1.json").read_text()))


def collect(encoder: str, revision: str | None = None, cache: Path | None = None) -> EncoderFacts:
    """Look at a directory, or at what the hub cache holds of a hub id; never at the network.

    Raises InputError for a path that does not exist.
    """
    cache = cache or hub_cache()
    directory = Path(encoder).expanduser()
    if directory.is_dir():
        return _look_into(EncoderFacts(name=encoder, location=str(directory)))
    if not is_hub_id(encoder):
        raise InputError(f"{encoder}: no such encoder directory (a hub id has the form owner/name)")
    repository = cache / f"models--{encoder.replace('/', '--')}"
    partial = sorted(repository.glob("blobs/*.incomplete"))
    facts = EncoderFacts(
        name=encoder,
        in_hub_cache=True,
        incomplete_downloads=tuple(str(path) for path in partial),
        incomplete_bytes=sum(path.stat().st_size for path in partial),
        architecture=metagene_1() if encoder == METAGENE_1 else None,
    )
    snapshot = snapshot_of(repository, revision or "main")
    return facts if snapshot is None else _look_into(facts.model_copy(update={"location": str(snapshot)}))


def is_hub_id(name: str) -> bool:
    """Whether a name can be ``owner/name`` on the hub rather than a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def snapshot_of(repository: Path, revision: str) -> Path | None:
    """The snapshot directory of a branch, tag or commit in a hub cache, when it holds any file."""
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    return snapshot if snapshot.is_dir() and any(snapshot.iterdir()) else None


def _look_into(facts: EncoderFacts) -> EncoderFacts:
    directory = Path(str(facts.location))
    problems = []
    architecture = facts.architecture
    config = directory / "config.json"
    if not config.is_file():
        problems.append("config.json is missing")
    else:
        try:
            architecture = _architecture(json.loads(config.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(
                f"config.json is not that of a Llama-like encoder ({type(error).__name__}: {error})"
            )
    names, listing_problem = _weight_names(directory)
    if listing_problem:
        problems.append(listing_problem)
    return facts.model_copy(
        update={
            "architecture": architecture,
            "weights": tuple(read_weight_file(directory / name) for name in names),
            "problems": tuple(problems),
        }
    )


def _architecture(config: dict[str, Any]) -> Architecture:
    known = {name: config[name] for name in Architecture.model_fields if name in config}
    known.setdefault("num_key_value_heads", config["num_attention_heads"])
    return Architecture.model_validate(known)


def _weight_names(directory: Path) -> tuple[list[str], str | None]:
    """Weight files that must be there: those of the shard index, else those that are there."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            return sorted(set(json.loads(index.read_text())["weight_map"].values())), None
        except (ValueError, KeyError, AttributeError):
            return [], f"{index.name} is damaged: it has no weight_map"
    found = sorted(path.name for path in directory.glob("*.safetensors"))
    if any("-of-" in name for name in found):
        return found, f"{index.name} is missing although the weights are in shards"
    if not found:
        other = sorted(path.name for path in directory.glob("*.bin"))
        return (
            [],
            f"only {other[0]} is there, not safetensors" if other else "there are no weights (*.safetensors)",
        )
    return found, None


def read_weight_file(path: Path) -> WeightFile:
    """Judge a safetensors file by its header: size must be 8 + header + end of the last tensor."""
    if not path.is_file():
        return WeightFile(name=path.name, state="missing")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            return WeightFile(name=path.name, state="pointer", bytes=size)
        if size < 8:
            return WeightFile(name=path.name, state="truncated", bytes=size)
        (header_length,) = struct.unpack("<Q", start[:8])
        if header_length > 100_000_000:  # safetensors' own limit on headers
            message = "does not start with a safetensors header"
            return WeightFile(name=path.name, state="unreadable", bytes=size, message=message)
        if header_length > size - 8:
            return WeightFile(name=path.name, state="truncated", bytes=size, message="ends inside its header")
        stream.seek(8)
        try:
            header = json.loads(stream.read(header_length))
        except ValueError:
            return WeightFile(
                name=path.name, state="unreadable", bytes=size, message="its header is not JSON"
            )
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + header_length + max((entry["data_offsets"][1] for entry in tensors), default=0)
    parameters: dict[str, int] = {}
    for entry in tensors:
        elements = 1
        for extent in entry["shape"]:
            elements *= extent
        parameters[entry["dtype"]] = parameters.get(entry["dtype"], 0) + elements
    return WeightFile(
        name=path.name,
        state="complete" if size == expected else "truncated" if size < expected else "too long",
        bytes=size,
        expected_bytes=expected,
        parameters=parameters,
    )
