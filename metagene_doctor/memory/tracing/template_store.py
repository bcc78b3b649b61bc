"""Templates on disk: a structure that was traced once on this machine is not traced again.

The key of a file covers everything a trace depends on: the structure, the encoder's architecture, the
versions of the packages that build the model, and the source of this package and of the trainer.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metagene_doctor.memory.sizes import Formulas
from metagene_doctor.memory.tracing.recording import Category, Stream
from metagene_doctor.memory.tracing.template import Capability, Template
from metagene_train.config import METAGENE_1

if TYPE_CHECKING:
    from metagene_doctor.memory.workload import Workload

PACKAGES = ("torch", "transformers", "peft", "accelerate")
CODE = (
    *("metagene_train", "metagene_train.training"),
    *("metagene_doctor.memory", "metagene_doctor.memory.tracing", "metagene_doctor.memory.replay"),
)
MOST_FILES = 300
"""Newest templates kept, about 100 KB each."""
_FORMULAS = ("sizes", "flops", "traffic", "drawn")
_ARRAYS = ("growth", "launch_of", "launches", "phases")


def load(structure: Workload, capability: Capability) -> Template | None:
    """The stored template; None when there is none, or none that can be read."""
    path = _path(structure, capability)
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as data:
            stream = Stream(
                origin=data["origin"],
                events=data["events"].tolist(),
                phases=data["event_phases"],
                steps=data["event_steps"],
            )
            named: dict[str, Any] = {name: data[name] for name in _ARRAYS}
            named |= {
                name: Formulas(*(data[f"{name}_{part}"] for part in ("constants", "kinds", "powers")))
                for name in _FORMULAS
            }
            categories = tuple(Category(value) for value in data["categories"].tolist())
            return Template(stream=stream, categories=categories, **named)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Cut short or of another making: tracing again replaces it.
        return None


def save(structure: Workload, capability: Capability, template: Template) -> None:
    """Store a template. A cache that cannot be written only makes the next answer slower."""
    path = _path(structure, capability)
    if path is None:
        return
    stream = template.stream
    arrays = {
        "origin": stream.origin.astype(np.int32),
        "events": np.array(stream.events, dtype=np.int32),
        "event_phases": stream.phases.astype(np.int8),
        "event_steps": stream.steps.astype(np.int8),
        "categories": np.array(template.categories, dtype=np.int8),
        **{name: getattr(template, name) for name in _ARRAYS},
    }
    for name in _FORMULAS:
        formulas = getattr(template, name)
        for part in ("constants", "kinds", "powers"):
            arrays[f"{name}_{part}"] = getattr(formulas, part)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        temporary.replace(path)
        stored = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)
        for old in stored[:-MOST_FILES]:
            old.unlink(missing_ok=True)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()


def directory() -> Path:
    cache = os.environ.get("METAGENE_CACHE")
    return (Path(cache) if cache else Path("~/.cache/metagene").expanduser()) / "traces"


def _path(structure: Workload, capability: Capability) -> Path | None:
    architecture = _architecture(structure.encoder_path)
    if architecture is None:
        return None
    parts = [asdict(structure), capability, architecture, _code()]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return directory() / f"{key[:32]}.npz"


def _architecture(encoder_path: str) -> str | None:
    """The text that describes an encoder; None for one on the hub, which may change behind its name."""
    if encoder_path == METAGENE_1:
        return (files("metagene_train") / "metagene1.json").read_text()
    config = Path(encoder_path).expanduser() / "config.json"
    return config.read_text() if config.is_file() else None


@functools.cache
def _code() -> str:
    """Digest of the packages' versions and of the source that builds, runs and records the model."""
    digest = hashlib.sha256(json.dumps([version(package) for package in PACKAGES]).encode())
    for package in CODE:
        for source in sorted(Path(str(files(package))).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
