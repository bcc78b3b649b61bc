"""Facts: everything the checks may know, as one frozen document that can be saved and replayed."""

from __future__ import annotations

from typing import Literal

from metagene_doctor.facts.audit import AuditFacts
from metagene_doctor.facts.machine.disk import DiskFacts
from metagene_doctor.facts.machine.disk_speed import DiskSpeedFacts
from metagene_doctor.facts.machine.environment import EnvironmentFacts
from metagene_doctor.facts.machine.gpu import GpuFacts
from metagene_doctor.facts.machine.gpu_load import GpuLoadFacts
from metagene_doctor.facts.machine.host import HostFacts
from metagene_doctor.facts.machine.kernel_log import KernelLogFacts
from metagene_doctor.facts.mapping import ClassRow, MappingFacts
from metagene_doctor.facts.model.encoder import EncoderFacts
from metagene_doctor.facts.model.tokens import TokenFacts
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts, TargetGpu
from metagene_doctor.facts.previous_run import PreviousRun
from metagene_doctor.facts.reads.facts import InputFile, ReadsFacts, Role
from metagene_doctor.facts.reads.repeats import RepeatFacts
from metagene_doctor.facts.reads.second_reader import SecondReaderFacts
from metagene_doctor.facts.reads.shared_headers import SharedHeaders
from metagene_doctor.facts.split.leakage import SplitFacts
from metagene_doctor.finding import Frozen
from metagene_train.config import RunConfig

Level = Literal["quick", "standard", "deep"]

Section = Literal[
    "config file",
    "previous run",
    "environment",
    "probe",
    "compute",
    "gpu",
    "devices",
    "host",
    "disk",
    "encoder",
    "weights",
    "tokens",
    "files",
    "train",
    "val",
    "mapping",
    "classes",
    "split",
    "repeats",
    "audit",
    "shared headers",
    "second reader",
    "kernel log",
    "gpu load",
    "quantized",
    "disk speed",
    "target",
    "memory",
    "speed",
]
"""The parts of `Facts`, and of its parts, that can be absent, each with a `Gap` that says why."""


class Gap(Frozen):
    """Why a section is absent. ``failed``: its collector crashed, otherwise nobody asked for it."""

    reason: str
    enable: str = ""
    """The option or step that would fill the gap."""
    failed: bool = False
    details: str = ""
    """Where the collector crashed, for a bug report."""


class RunFacts(Frozen):
    """What the run is told to do: the effective configuration, and what was said about the file."""

    config: RunConfig
    path: str | None = None
    """The config file; None when only options and defaults count."""
    overridden: tuple[str, ...] = ()
    """Keys that an option of the command has set instead of the file."""
    warnings: tuple[str, ...] = ()


class Facts(Frozen):
    """Input of every check. Sections that could not be collected are None and have a gap."""

    schema_version: int = 1
    tool_version: str
    argv: tuple[str, ...] = ()
    level: Level = "standard"
    run: RunFacts
    previous_run: PreviousRun | None = None
    """In the config's output directory."""
    environment: EnvironmentFacts | None = None
    gpu: GpuFacts | None = None
    kernel_log: KernelLogFacts | None = None
    gpu_load: GpuLoadFacts | None = None
    host: HostFacts | None = None
    disk: DiskFacts | None = None
    disk_speed: DiskSpeedFacts | None = None
    encoder: EncoderFacts | None = None
    tokens: TokenFacts | None = None
    files: tuple[InputFile, ...] = ()
    train: ReadsFacts | None = None
    val: ReadsFacts | None = None
    mapping: MappingFacts | None = None
    classes: tuple[ClassRow, ...] = ()
    """Rows of a mapping without problems."""
    split: SplitFacts | None = None
    repeats: RepeatFacts | None = None
    audit: AuditFacts | None = None
    shared_headers: dict[Role, SharedHeaders] = {}
    """Of sides of several files."""
    second_reader: dict[str, SecondReaderFacts] = {}
    """Files, by path, that pyfastx has read too (level deep)."""
    target: TargetGpu | None = None
    memory: MemoryFacts | None = None
    speed: SpeedFacts | None = None
    gaps: dict[Section, Gap] = {}
    seconds: dict[str, float] = {}
    """How long each collector took."""

    @property
    def config(self) -> RunConfig:
        return self.run.config

    @property
    def reads(self) -> tuple[ReadsFacts, ...]:
        """Each read file whose content is known, training first."""
        return tuple(file for side in self.sides for file in side.files)

    @property
    def sides(self) -> tuple[ReadsFacts, ...]:
        """All training reads, all validation reads: what is known of the two."""
        return tuple(reads for reads in (self.train, self.val) if reads is not None)
