"""What one entry of the rule book looks like: the YAML files of ``rules/`` are these models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MIB_PER_GIB = 1024
Verdict = Literal["holds", "contradicted", "unverified"]
Policy = Literal["evidence", "guide"]
Scalar = bool | int | float | str | None


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
    fp32_tflops: float
    """fp32 rate without tensor cores, 10^12/s."""
    bandwidth_gbs: float
    """Memory bandwidth, 10^9 bytes per second."""
    compute_capability: str
    bf16: bool
    source: str

    @property
    def int8(self) -> bool:
        """It multiplies in 8 bits: compute capability 7.5 or more (installation guide of bitsandbytes)."""
        return tuple(map(int, self.compute_capability.split("."))) >= (7, 5)

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


class Multiple(Entry):
    """``times`` the value of another key."""

    times: float
    of: str


Recommended = Band | OneOf | Multiple | Scalar | tuple[Scalar, ...]
"""A value, a list that is the value, a span of values, alternatives, or a multiple of another key."""


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
    note: str = ""

    def holds(self, *, gpu_gb: int | None, reads: int | None, bases: float) -> bool:
        """Whether the rule applies; an unknown number of reads meets no condition on it."""
        return (
            (not self.gpu_gb or gpu_gb in self.gpu_gb)
            and (self.reads(reads) if reads is not None else not self.reads_from and self.reads_below is None)
            and self.read_bases(bases)
        )

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
    policy: Policy | None = None
    """The autotune policy that applies it; None is for reading only."""


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
    """A training goal and the changes it asks for under one policy."""

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

    id: Literal[
        "oom", "host-memory", "host-growth", "disk", "slow", "overfitting", "underfitting", "instability"
    ]
    title: str
    source: str
    sign: str
    """How it shows in a run."""
    fixes: tuple[Fix, ...]


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
