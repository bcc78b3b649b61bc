"""Starting points for a configuration, as the guide has them: two profiles and six GPU-memory tiers.

All values come from the rule book; so does the verdict on each, which becomes its comment. A preset is
what the guide says, not what the evidence says: `metagene autotune` is for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metagene_doctor.configuration.field_docs import field_docs
from metagene_doctor.rulebook import Rulebook
from metagene_doctor.rulebook.schema import (
    Band,
    Hyperparameter,
    MemoryTier,
    Multiple,
    OneOf,
    Recommended,
    Rule,
)
from metagene_train.config import RunConfig
from metagene_train.config_file import dump_config, flatten
from metagene_train.errors import InputError

PROFILES = {"default": "the guide's standard profile", "rtx4090": "the guide's RTX 4090 (24 GB) profile"}
RTX4090_GB = 24


@dataclass(frozen=True)
class Preset:
    """A named starting point. ``notes`` says, per key, where its value comes from and what became of it."""

    name: str
    title: str
    values: Mapping[str, Any]
    notes: Mapping[str, str]
    remark: str = ""

    def config(self) -> RunConfig:
        tree: dict[str, Any] = {}
        for dotted, value in self.values.items():
            *parents, leaf = dotted.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
        return RunConfig.model_validate(tree)


def preset_names(rulebook: Rulebook) -> list[str]:
    """The profiles, then one tier per card size of the rule book, ascending."""
    return [*PROFILES, *(f"{tier.gpu_gb}gb" for tier in _tiers(rulebook))]


def preset(name: str, rulebook: Rulebook) -> Preset:
    """The preset called ``name``. Raises InputError with all names when there is none."""
    wanted = name.casefold().replace(" ", "")
    if wanted in PROFILES:
        return _profile(wanted, rulebook)
    for tier in _tiers(rulebook):
        if wanted == f"{tier.gpu_gb}gb":
            return _tier(tier, rulebook)
    raise InputError(f"no preset {name!r}: there are {', '.join(preset_names(rulebook))}")


def preset_text(chosen: Preset, rulebook: Rulebook, config: RunConfig | None = None) -> str:
    """A commented YAML file of the preset; ``config`` when overrides changed some of its values."""
    base = chosen.config()
    config = config or base
    changed = {key for key, value in flatten(config).items() if value != flatten(base)[key]}
    titles = {rule.key: rule.title for rule in rulebook.hyperparameters}
    comments = {key: text or titles.get(key, "") for key, text in field_docs().items()}
    for key, note in chosen.notes.items():
        if key not in changed:
            comments[key] = f"{comments[key]} [{note}]" if comments.get(key) else note
    header = f"{chosen.title}.\n{chosen.remark}".strip()
    return dump_config(config, {key: text for key, text in comments.items() if text}, header)


def _profile(name: str, rulebook: Rulebook) -> Preset:
    values: dict[str, Any] = {}
    notes: dict[str, str] = {}
    known = flatten(RunConfig())
    for rule in rulebook.hyperparameters:
        if rule.key not in known:
            continue  # derived quantities (the effective batch) are no keys
        recommended = rule.standard if name == "default" else rule.rtx4090
        values[rule.key], note = _one_value(recommended)
        notes[rule.key] = _joined(note or _span(rule), rule)
    if name == "rtx4090":
        _add_recipe(values, notes, rulebook, RTX4090_GB)
    return Preset(
        name,
        f"metagene config, preset {name}: {PROFILES[name]}",
        values,
        notes,
        "`metagene doctor --config` judges it for your data and card; `metagene autotune` finds better.",
    )


def _add_recipe(values: dict[str, Any], notes: dict[str, str], rulebook: Rulebook, gpu_gb: int) -> None:
    """What the guide says of cards of this size beside its tables."""
    for rule in rulebook.rules:
        if rule.policy == "guide" and gpu_gb in rule.where.gpu_gb:
            for key, recommended in rule.recommends.items():
                values[key], note = _one_value(recommended)
                notes[key] = _joined(note, rule)


def _tier(tier: MemoryTier, rulebook: Rulebook) -> Preset:
    base = _profile("default", rulebook)
    values, notes = dict(base.values), dict(base.notes)
    _add_recipe(values, notes, rulebook, tier.gpu_gb)
    for key, recommended in tier.recommends.items():
        values[key], note = _one_value(recommended)
        notes[key] = "; ".join(part for part in (note, f"rule {tier.id}") if part)
    for rule in rulebook.hyperparameters:
        for advice in rule.advice:
            if isinstance(advice.value, Multiple) and advice.value.of in tier.recommends:
                values[rule.key] = advice.value.times * values[advice.value.of]
                notes[rule.key] = f"guide: {advice.value.times:g} x {advice.value.of}; rule {rule.id}"
    return Preset(
        f"{tier.gpu_gb}gb",
        f"metagene config, preset {tier.gpu_gb}gb: the guide's row for {tier.gpu_gb} GB cards",
        values,
        notes,
        f"Rule {tier.id} is {tier.verdict}: {tier.evidence}.\n"
        f"`metagene autotune --gpu-mem {tier.gpu_gb}` finds settings that fit and use the card.",
    )


def _one_value(recommended: Recommended) -> tuple[Any, str]:
    """One value of a recommendation and, if it was a choice, which was taken: of a range the lower end,
    which is what needs least memory."""
    if isinstance(recommended, Band):
        low = int(recommended.low) if recommended.low == int(recommended.low) else recommended.low
        return low, f"guide: {recommended.low:g}-{recommended.high:g}, the lower end"
    if isinstance(recommended, OneOf):
        options = ", ".join(map(str, recommended.one_of))
        return recommended.one_of[0], f"guide: {options}, the first"
    return (list(recommended) if isinstance(recommended, tuple) else recommended), ""


def _span(rule: Hyperparameter) -> str:
    span = rule.span
    if isinstance(span, Band):
        return f"guide's range: {span.low:g}-{span.high:g}"
    return ""


def _joined(note: str, rule: Rule) -> str:
    verdict = f"rule {rule.id}, {rule.verdict}"
    return f"{note}; {verdict}" if note else verdict


def _tiers(rulebook: Rulebook) -> list[MemoryTier]:
    return sorted(rulebook.memory_tiers, key=lambda tier: tier.gpu_gb)
