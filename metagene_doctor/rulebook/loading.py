"""The rule book: ``rules/*.yaml``, loaded and validated.

A rule says where it applies, which configuration keys it recommends, why, where it comes from, and
whether the evidence we have bears it out (its verdict). `docs/rules.md` is the guide to writing
one. A laboratory's own directory of rules is laid over the packaged ones: an entry with an id that
exists replaces it, another is added.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metagene_doctor.rulebook.schema import (
    DatasetTier,
    Entry,
    Fix,
    Goal,
    Gpu,
    GpuReserve,
    Hyperparameter,
    MemoryClaim,
    MemoryTier,
    Policy,
    Rule,
    RuleFile,
    Symptom,
)
from metagene_train.errors import ConfigError, InputError


class Rulebook(Entry):
    """Every table of the rule book. ``rules`` holds what is neither a table nor a claim."""

    gpus: tuple[Gpu, ...]
    reserve: GpuReserve
    rules: tuple[Rule, ...]
    hyperparameters: tuple[Hyperparameter, ...]
    memory_tiers: tuple[MemoryTier, ...]
    dataset_tiers: tuple[DatasetTier, ...]
    goals: tuple[Goal, ...]
    symptoms: tuple[Symptom, ...]
    claims: tuple[MemoryClaim, ...]

    def gpu(self, name: str) -> Gpu:
        """The card called ``name`` (case, spaces and vendor words do not matter).

        Raises `InputError` with the nearest names when there is none.
        """
        wanted = _card_key(name)
        names = {_card_key(alias): gpu for gpu in self.gpus for alias in (gpu.name, gpu.title, *gpu.aliases)}
        if wanted in names:
            return names[wanted]
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
        known = sorted({names[key].name for key in near}) or [gpu.name for gpu in self.gpus]
        hint = "did you mean" if near else "known cards:"
        raise InputError(
            f"no card called {name!r}: {hint} {', '.join(known)}"
            f"{'?' if near else ''} (--gpu-mem N takes a size in GB instead)"
        )

    def smallest_gpu(self, marketed_gb: float) -> tuple[Gpu, str]:
        """The card sold as ``marketed_gb`` GB that shows least memory, and a sentence saying so.

        Among equals the slowest is taken. When no card has that size, an unnamed card that shows
        exactly that many GB (1e9 bytes), as slow and as old as the next smaller known card (or the
        smallest one).
        """
        sold = [gpu for gpu in self.gpus if gpu.marketed_gb == marketed_gb]
        if sold:
            card = min(sold, key=lambda gpu: (gpu.visible_mib, gpu.bf16_tflops))
            size = f"{marketed_gb:g} GB"
            others = f" of the {len(sold)} known cards" if len(sold) > 1 else ""
            return card, (
                f"{size} is taken as {card.title}, the smallest{others} sold as {size}: "
                f"{card.visible_mib:,} MiB visible ({card.visible}), {card.usable_gib:.2f} GiB usable"
            )
        smaller = [gpu for gpu in self.gpus if gpu.marketed_gb < marketed_gb]
        like = max(smaller, key=lambda gpu: (gpu.marketed_gb, -gpu.bf16_tflops), default=None) or min(
            self.gpus, key=lambda gpu: (gpu.marketed_gb, gpu.bf16_tflops)
        )
        visible_mib = int(marketed_gb * 1e9 / 2**20)
        card = like.model_copy(
            update={
                "name": f"{marketed_gb:g}gb",
                "title": f"unnamed {marketed_gb:g} GB card",
                "aliases": (),
                "marketed_gb": round(marketed_gb),
                "visible_mib": visible_mib,
                "visible": "estimated",
                "reserve_mib": self.reserve.of(visible_mib),
            }
        )
        return card, (
            f"no known card is sold as {marketed_gb:g} GB: taken as {marketed_gb:g}e9 bytes "
            f"({visible_mib:,} MiB, {card.usable_gib:.2f} GiB usable) at the speed of {like.title}"
        )

    def every(self) -> Iterator[Rule | Fix]:
        """All rules with a verdict, tables first, in the order of the files."""
        yield from self.hyperparameters
        yield from self.memory_tiers
        yield from self.dataset_tiers
        yield from self.goals
        for symptom in self.symptoms:
            yield from symptom.fixes
        yield from self.claims
        yield from self.rules

    def rule(self, rule_id: str) -> Rule | Fix:
        """The rule with this id. Raises `InputError` with the nearest ids when there is none."""
        by_id = {rule.id.casefold(): rule for rule in self.every()}
        if rule_id.casefold() in by_id:
            return by_id[rule_id.casefold()]
        near = difflib.get_close_matches(rule_id.casefold(), by_id, n=3, cutoff=0.5)
        hint = f": did you mean {', '.join(by_id[key].id for key in near)}?" if near else ""
        raise InputError(f"no rule {rule_id!r}{hint} (metagene rules list shows all)")

    def hyperparameter(self, key: str) -> Hyperparameter:
        return next(rule for rule in self.hyperparameters if rule.key == key)

    def symptom(self, symptom_id: str) -> Symptom:
        return next(symptom for symptom in self.symptoms if symptom.id == symptom_id)

    def goal(self, name: str, policy: Policy = "evidence") -> Goal:
        return next(goal for goal in self.goals if (goal.name, goal.policy) == (name, policy))


def load(extra: Path | None = None) -> Rulebook:
    """The packaged rule book with the rules of the directory ``extra`` laid over it.

    Raises `ConfigError` naming file, line and problem of every invalid entry, and `InputError` when
    ``extra`` is no directory with rule files.
    """
    return _load(None if extra is None else Path(extra).resolve())


def packaged_rules() -> Path:
    """The directory of the packaged rules: inside an installed package or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


@functools.lru_cache(maxsize=8)
def _load(extra: Path | None) -> Rulebook:
    directories = [packaged_rules()]
    if extra is not None:
        if not extra.is_dir() or not any(extra.glob("*.yaml")):
            raise InputError(f"{extra}: not a directory with rule files (*.yaml)")
        directories.append(extra)
    tables: dict[str, dict[str, Any]] = {}
    reserve: GpuReserve | None = None
    for directory in directories:
        seen: dict[str, Path] = {}
        for path in sorted(directory.glob("*.yaml")):
            parsed = _read(path)
            reserve = parsed.reserve or reserve
            for section in RuleFile.model_fields:
                if section == "reserve":
                    continue
                for entry in getattr(parsed, section):
                    key = entry.name if isinstance(entry, Gpu) else entry.id
                    if key in seen:
                        raise ConfigError([f"{path}: {key} is already defined in {seen[key]}"])
                    seen[key] = path
                    tables.setdefault(section, {})[key] = entry
    if reserve is None:
        raise ConfigError([f"{packaged_rules()}: no reserve section"])
    cards = [
        card.model_copy(update={"reserve_mib": card.reserve_mib or reserve.of(card.visible_mib)})
        for card in tables.get("gpus", {}).values()
    ]
    sections: dict[str, Any] = {
        name: tuple(tables.get(name, {}).values()) for name in RuleFile.model_fields if name != "reserve"
    }
    return Rulebook(**{**sections, "gpus": tuple(cards), "reserve": reserve})


def _read(path: Path) -> RuleFile:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path) or {}
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        raise ConfigError([f"{path}{place}: not YAML: {getattr(error, 'problem', error)}"]) from None
    try:
        return RuleFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_problems(path, error)) from None


def _problems(path: Path, error: ValidationError) -> list[str]:
    """One line per invalid entry, with the line of the file it stands on."""
    from ruamel.yaml import YAML

    placed = YAML(typ="rt").load(path)
    problems: dict[str, None] = {}
    for problem in error.errors():
        node: Any = placed
        line, where = 1, list[str]()
        for step in problem["loc"]:
            try:
                line = (node.lc.key(step) if isinstance(step, str) else node.lc.item(step))[0] + 1
                node = node[step]
            except (AttributeError, KeyError, IndexError, TypeError):
                break  # pydantic goes on to name the alternatives of a union, which are not in the file
            where.append(str(step))
        dotted = ".".join(where) or "top level"
        said = {"extra_forbidden": "unknown key", "missing": f"has no {problem['loc'][-1]}"}
        problems[f"{path}:{line}: {dotted}: {said.get(problem['type'], problem['msg'])}"] = None
    return list(problems)


def _card_key(name: str) -> str:
    """``NVIDIA GeForce RTX 4090`` -> ``rtx4090``: what is left without vendor words and punctuation."""
    words = re.sub(r"nvidia|geforce|tesla|graphics|generation", "", name.casefold())
    return re.sub(r"[^a-z0-9]", "", words)
