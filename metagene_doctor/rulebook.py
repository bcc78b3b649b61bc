"""The rule book: ``rules/*.yaml``, loaded and validated.

A rule says where it applies, which configuration keys it recommends, why, where it comes from, and
whether the evidence we have bears it out (its verdict). The YAML files are these models, spelled
out; `docs/rules.md` is the guide to writing one. A laboratory's own directory of rules is laid over
the packaged ones: an entry with an id that exists replaces it, another is added.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metagene_train.errors import ConfigError, InputError

MIB_PER_GIB = 1024
Verdict = Literal["holds", "contradicted", "unverified"]
Policy = Literal["evidence", "guide"]
Scalar = bool | int | float | str


class Entry(BaseModel):
    """Part of a rule file: unknown keys are errors and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(Entry):
    """A card. ``marketed_gb`` is the size on the box; ``visible_mib`` is nvidia-smi's total."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    marketed_gb: int
    visible_mib: int
    visible: Literal["reported", "estimated"]
    """``estimated``: no report of such a card was at hand, see ``rules/gpus.yaml``."""
    reserve_mib: int = 0
    """What the driver keeps for itself, filled in by the rule at the top of ``rules/gpus.yaml``."""
    bf16_tflops: float
    """Dense 16-bit matrix rate with fp32 accumulation (fp16 where ``bf16`` is false), 10^12/s."""
    bandwidth_gbs: float
    """Memory bandwidth, 10^9 bytes per second."""
    compute_capability: str
    bf16: bool
    source: str

    @property
    def visible_gib(self) -> float:
        return self.visible_mib / MIB_PER_GIB

    @property
    def usable_gib(self) -> float:
        """GiB that one process may use on an otherwise idle card, CUDA context included."""
        return (self.visible_mib - self.reserve_mib) / MIB_PER_GIB


class GpuReserve(Entry):
    """Memory that nvidia-smi counts and no process gets: fixed + share of the total."""

    fixed_mib: int
    share_of_visible: float
    source: str

    def of(self, visible_mib: int) -> int:
        return round(self.fixed_mib + self.share_of_visible * visible_mib)


class Band(Entry):
    """A span of values: ``from`` and ``to`` are both included."""

    low: float = Field(alias="from")
    high: float = Field(alias="to")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def clamp(self, value: float) -> float:
        return min(max(value, self.low), self.high)


class OneOf(Entry):
    """Any of these values."""

    one_of: tuple[Scalar, ...]


Recommended = Band | OneOf | Scalar | tuple[Scalar, ...]
"""A value, a list that is the value, a span of values, or alternatives."""


class Where(Entry):
    """Where a rule applies; a condition that is not given holds everywhere.

    ``reads`` counts training reads and ``read_bases`` is their length in bases; both include the
    lower end and exclude the upper one.
    """

    gpu_gb: tuple[int, ...] = ()
    reads_from: int = 0
    reads_below: int | None = None
    bases_from: int = 0
    bases_below: int | None = None
    goal: str | None = None
    note: str = ""

    def reads(self, count: int) -> bool:
        return self.reads_from <= count and (self.reads_below is None or count < self.reads_below)

    def read_bases(self, bases: float) -> bool:
        return self.bases_from <= bases and (self.bases_below is None or bases < self.bases_below)


class Rule(Entry):
    """What to set, where, why, on whose word, and whether the evidence agrees."""

    id: str
    title: str
    where: Where = Where()
    recommends: Mapping[str, Recommended] = {}
    """Configuration key -> what it should be."""
    why: str = ""
    source: str
    verdict: Verdict
    evidence: str = ""
    """The number or fact behind the verdict and where it comes from."""


class Advice(Entry):
    """One band of advice for one key."""

    where: Where
    value: Recommended


class Hyperparameter(Rule):
    """One key of the configuration: defaults, permitted range, and advice by circumstance."""

    key: str
    standard: Recommended
    """Default of the guide's standard profile."""
    rtx4090: Recommended
    """Default of the guide's 24 GB profile."""
    span: Recommended
    """What the guide permits."""
    advice: tuple[Advice, ...] = ()


class MemoryTier(Rule):
    """What the guide runs on a card of ``gpu_gb`` (marketed GB)."""

    gpu_gb: int


class DatasetTier(Rule):
    """What the guide runs on a data set of this many reads (``where``)."""


class Change(Entry):
    """A direction for one key: ``set`` it to ``value``, or ``raise``/``lower`` it.

    ``raise`` and ``lower`` go to ``value`` when it is given, otherwise by ``factor``; never past
    ``limit``. ``keeps`` names what must stay as it was, so that another key moves along.
    """

    key: str
    action: Literal["raise", "lower", "set"]
    value: Recommended | None = None
    factor: float | None = None
    limit: float | None = None
    keeps: Literal["effective_batch"] | None = None


class Goal(Rule):
    """A training goal of the guide and the changes it asks for."""

    name: str
    changes: tuple[Change, ...]


class Fix(Change):
    """One remedy for a symptom. ``guide_order`` is its place in the guide's list, from 1."""

    id: str
    text: str
    why: str
    source: str
    verdict: Verdict
    evidence: str = ""
    guide_order: int | None = None


class Symptom(Entry):
    """What goes wrong, and its fixes in the order to try them (evidence first)."""

    id: Literal["oom", "slow", "overfitting", "underfitting", "instability"]
    title: str
    source: str
    sign: str
    """How it shows in a run."""
    fixes: tuple[Fix, ...]

    def ordered(self, policy: Policy) -> tuple[Fix, ...]:
        """``evidence``: all fixes in our order; ``guide``: the guide's own, in its order."""
        if policy == "evidence":
            return self.fixes
        listed = [fix for fix in self.fixes if fix.guide_order is not None]
        return tuple(sorted(listed, key=lambda fix: fix.guide_order or 0))


class MemoryClaim(Rule):
    """A statement about memory that the dry run can check.

    ``sets`` is the configuration it speaks of, on top of the guide's 24 GB profile; exactly one of
    ``claimed_gb`` (peak, GB = 1e9 bytes), ``fits_gb`` (a card of that marketed size runs it) and
    ``claimed_ratio`` (peak relative to the workload ``relative_to``) says what is claimed.
    """

    sets: Mapping[str, Scalar | tuple[Scalar, ...]]
    relative_to: Mapping[str, Scalar | tuple[Scalar, ...]] = {}
    claimed_gb: float | None = None
    fits_gb: int | None = None
    claimed_ratio: float | None = None
    tolerance: Annotated[float, Field(gt=0)] = 0.05
    """Relative difference up to which a claimed number counts as right."""


class RuleFile(Entry):
    """One YAML file of the rule book: any of these sections."""

    reserve: GpuReserve | None = None
    gpus: tuple[Gpu, ...] = ()
    rules: tuple[Rule, ...] = ()
    hyperparameters: tuple[Hyperparameter, ...] = ()
    memory_tiers: tuple[MemoryTier, ...] = ()
    dataset_tiers: tuple[DatasetTier, ...] = ()
    goals: tuple[Goal, ...] = ()
    symptoms: tuple[Symptom, ...] = ()
    claims: tuple[MemoryClaim, ...] = ()


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
            others = f" of the {len(sold)} known cards" if len(sold) > 1 else ""
            return card, (
                f"{marketed_gb:g} GB is taken as {card.title}, the smallest{others} sold as {marketed_gb:g} GB: "
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

    def goal(self, name: str) -> Goal:
        return next(goal for goal in self.goals if goal.name == name)


def load(extra: Path | None = None) -> Rulebook:
    """The packaged rule book with the rules of the directory ``extra`` laid over it.

    Raises `ConfigError` naming file, line and problem of every invalid entry, and `InputError` when
    ``extra`` is no directory with rule files.
    """
    return _load(None if extra is None else Path(extra).resolve())


def packaged_rules() -> Path:
    """The directory of the packaged rules: inside an installed package or beside it in a checkout."""
    package = Path(__file__).resolve().parent
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
    sections = {
        name: tuple(tables.get(name, {}).values()) for name in RuleFile.model_fields if name != "reserve"
    }
    return Rulebook.model_construct(**{**sections, "gpus": tuple(cards), "reserve": reserve})


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
        node, line, where = placed, 1, []
        for step in problem["loc"]:
            try:
                line = (node.lc.key(step) if isinstance(node, dict) else node.lc.item(step))[0] + 1
                node = node[step]
            except (AttributeError, KeyError, IndexError, TypeError):
                break  # pydantic goes on to name the alternatives of a union, which are not in the file
            where.append(str(step))
        dotted = ".".join(where) or "top level"
        missing = f" {problem['loc'][-1]!r}" if problem["type"] in ("missing", "extra_forbidden") else ""
        problems[f"{path}:{line}: {dotted}: {problem['msg']}{missing}"] = None
    return list(problems)


def _card_key(name: str) -> str:
    """``NVIDIA GeForce RTX 4090`` -> ``rtx4090``: what is left without vendor words and punctuation."""
    words = re.sub(r"nvidia|geforce|tesla|graphics|generation", "", name.casefold())
    return re.sub(r"[^a-z0-9]", "", words)
