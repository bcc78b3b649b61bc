"""The four views of `metagene config`: a new file, its problems, its effective values, differences."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_doctor import rulebook
from metagene_doctor.configuration.presets import Preset, preset, preset_names, preset_text
from metagene_train.config import RunConfig
from metagene_train.config_file import LoadedConfig, dump_config, flatten, load_config, set_keys
from metagene_train.errors import ConfigError, InputError


@dataclass(frozen=True)
class Checked:
    """What is wrong with a config file; every line names file and line number."""

    file: Path
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    keys: int

    def lines(self) -> list[str]:
        verdict = f"{len(self.problems)} problems" if len(self.problems) > 1 else "1 problem"
        if not self.problems:
            verdict = f"{self.keys} keys, no problems"
        if self.warnings:
            verdict += f", {len(self.warnings)} warning{'s' if len(self.warnings) > 1 else ''}"
        return [
            *self.problems,
            *(f"{warning} (warning)" for warning in self.warnings),
            f"{self.file}: {verdict}",
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "keys": self.keys,
        }


@dataclass(frozen=True)
class Effective:
    """Every value of a configuration and where it comes from."""

    config: RunConfig
    origins: Mapping[str, str]
    given_only: bool

    def text(self) -> str:
        """YAML that is itself a config, with the origins as comments."""
        if not self.given_only:
            return dump_config(self.config, self.origins)
        values = self.to_dict()
        return set_keys("", {k: v["value"] for k, v in values.items()}, self.origins) if values else ""

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return {
            key: {"value": value, "origin": self.origins[key]}
            for key, value in flatten(self.config).items()
            if not self.given_only or self.origins[key] != "default"
        }


def initial_text(preset_name: str, overrides: Sequence[str], own_rules: Path | None = None) -> str:
    """Commented YAML of a preset with ``key=value`` overrides."""
    rules = rulebook.load(own_rules)
    chosen = preset(preset_name, rules)
    return preset_text(chosen, rules, _with_overrides(chosen, overrides).config if overrides else None)


def write_new(path: Path, text: str, *, force: bool = False) -> None:
    """Write a file that is not there yet. Raises InputError when it is, or cannot be written."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError(f"{path}: exists already; name another file or give --force") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def check_file(path: Path, overrides: Sequence[str] = ()) -> Checked:
    """All problems of a file at once. Raises InputError when it cannot be read at all."""
    try:
        loaded = load_config(path, overrides)
    except ConfigError as error:
        return Checked(path, tuple(sorted(error.problems, key=_line)), (), 0)
    given = sum(1 for key in loaded.lines if key in flatten(loaded.config))
    return Checked(path, (), loaded.warnings, given)


def _line(problem: str) -> int:
    """Line number in ``FILE:LINE: ...``; what has none comes last."""
    found = re.search(r":(\d+): ", problem)
    return int(found.group(1)) if found else sys.maxsize


def effective(source: str, overrides: Sequence[str] = (), *, given: bool = False) -> Effective:
    """The values of a file, or of a preset when no such file exists, with their origins."""
    loaded = read(source, overrides)
    overridden = {override.partition("=")[0].strip() for override in overrides}
    file = loaded.path or f"preset {source}"
    origins = {}
    for key in flatten(loaded.config):
        if key not in loaded.lines:
            origins[key] = "default"
        elif loaded.lines[key]:
            origins[key] = f"{file}:{loaded.lines[key]}"
        else:
            origins[key] = "command line" if key in overridden or loaded.path else str(file)
    return Effective(loaded.config, origins, given)


def differences(a: str, b: str) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value in ``a``, value in ``b``) of the keys that differ."""
    left, right = flatten(read(a).config), flatten(read(b).config)
    return {key: (left[key], right[key]) for key in left if left[key] != right[key]}


def read(source: str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """A config file, or a preset by name when there is no such file."""
    if not Path(source).exists() and source.casefold() in preset_names(rulebook.load()):
        return _with_overrides(preset(source, rulebook.load()), overrides)
    return load_config(source, overrides)


def _with_overrides(chosen: Preset, overrides: Sequence[str]) -> LoadedConfig:
    values = (f"{key}={_yaml(value)}" for key, value in chosen.values.items())
    return load_config(None, [*values, *overrides])


def _yaml(value: Any) -> str:
    from metagene_doctor.advice.changes import shown

    return f'"{value}"' if isinstance(value, str) else shown(value)
