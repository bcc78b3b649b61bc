"""Runs the collectors and fills `Facts`; what cannot be known becomes a gap with its reason."""

from __future__ import annotations

import importlib.util
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metagene_doctor.facts import (
    disk,
    encoder,
    environment,
    gpu,
    host,
    mapping,
    prediction,
    reads,
    repeats,
    split,
    tokens,
)
from metagene_doctor.facts.facts import Facts, Gap, Level, RunFacts, Section
from metagene_train import __version__
from metagene_train.errors import InputError, MetageneError


@dataclass(frozen=True)
class Request:
    """What the doctor is asked to look at."""

    run: RunFacts
    level: Level = "standard"
    gpu: str | None = None
    gpu_mem: float | None = None
    index_dir: Path | None = None
    """Where read indexes are kept; None is the configured or default place."""
    argv: tuple[str, ...] = ()
    sections: frozenset[Section] | None = None
    """Sections that the chosen checks need; costly others are not collected. None is all."""

    def wants(self, section: Section) -> bool:
        return self.sections is None or section in self.sections


NAMED_BY_USER: frozenset[Section] = frozenset({"train", "val", "mapping", "encoder", "tokens"})
"""Sections made from a file or directory that was named: when it is not there, nothing is judged."""

StartStage = Callable[[str], Callable[[int, int], None]]
"""Told the name of a stage that takes long, gives what to call with bytes done and to be done."""


def silent(stage: str) -> Callable[[int, int], None]:
    return lambda done, total: None


@dataclass
class _Collection:
    """Facts while they are being collected."""

    request: Request
    known: dict[str, Any] = field(default_factory=dict)
    gaps: dict[Section, Gap] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, section: Section, collector: Callable[[], Any]) -> Any:
        """Run one collector. Missing inputs end the doctor; anything else that breaks is a gap."""
        if not self.request.wants(section):
            self.skip(section, "no chosen check needs it")
            return None
        started = time.perf_counter()
        try:
            self.known[section] = collector()
        except MetageneError as error:
            if isinstance(error, InputError) and section in NAMED_BY_USER:
                raise
            self.gaps[section] = Gap(reason=str(error))
        except Exception as error:
            place = "".join(traceback.format_tb(error.__traceback__)[-2:]).strip()
            reason = f"the {section} facts could not be collected ({type(error).__name__}: {error})"
            self.gaps[section] = Gap(reason=reason, failed=True, details=place)
        self.seconds[section] = time.perf_counter() - started
        return self.known.get(section)

    def skip(self, section: Section, reason: str, enable: str = "") -> None:
        self.gaps[section] = Gap(reason=reason, enable=enable)


def collect(request: Request, stage: StartStage = silent) -> Facts:
    """Everything that can be known at the requested level. Reads inputs, writes only the read index.

    Raises InputError when a named file, directory or card does not exist.
    """
    config, level = request.run.config, request.level
    found = _Collection(request)
    if request.run.path is None:
        found.skip("config file", "no config", "give --config FILE")
    index_dir = request.index_dir or index_directory(config.dataset.index_dir)
    _collect_machine(found, request, index_dir)
    samples = _collect_reads(found, request, index_dir, stage)
    _collect_labels(found, request)
    _collect_comparisons(found, request, stage)
    _collect_tokens(found, request, samples)
    _collect_prediction(found, request)
    return Facts(
        tool_version=__version__,
        argv=request.argv,
        level=level,
        run=request.run,
        gaps=found.gaps,
        seconds=found.seconds,
        **found.known,
    )


def index_directory(configured: str | None) -> Path:
    """Where training keeps read indexes."""
    from metagene_train.reads.index_files import default_index_dir

    return Path(configured).expanduser() if configured else default_index_dir()


def _collect_machine(found: _Collection, request: Request, index_dir: Path) -> None:
    from metagene_train.reads.formats import is_stream

    config, deep = request.run.config, request.level == "deep"
    graphics = found.add("gpu", gpu.collect)
    if graphics is not None and not graphics.devices:
        absent = graphics.state in ("ok", "no library", "driver not loaded") and not graphics.device_nodes
        found.skip(
            "devices",
            "no NVIDIA GPU was found on this machine"
            if absent
            else f"the GPUs cannot be looked at: {graphics.message} (E03)",
        )
    has_gpu = graphics is not None and bool(graphics.devices)
    ask_torch = has_gpu and request.level != "quick"
    software = found.add(
        "environment",
        lambda: environment.collect(ask_torch=ask_torch, compute=deep and has_gpu, try_imports=deep),
    )
    probes: tuple[tuple[Section, Any, str], ...] = (
        ("probe", software.probe if software else None, "standard"),
        ("compute", software.compute if software else None, "deep"),
    )
    for section, probe, level in probes:
        if probe is not None:
            continue
        if "devices" in found.gaps:
            found.gaps[section] = found.gaps["devices"]
        else:
            found.skip(section, "torch is not asked at this level", f"use --level {level}")
    found.add("host", host.collect)
    directories: dict[disk.Role, Path] = {
        "hub cache": disk.hub_cache(),
        "output directory": Path(config.training.output_dir),
        "index directory": index_dir,
    }
    if config.dataset.train_fasta is not None and not is_stream(config.dataset.train_fasta):
        directories["training reads"] = Path(config.dataset.train_fasta).absolute().parent
    found.add("disk", lambda: disk.collect(directories))
    files = found.add("encoder", lambda: encoder.collect(config.model.encoder_path, config.model.revision))
    if files is not None and files.location is None:
        found.skip("weights", f"{files.name} is not on this machine (M01)")


def _collect_reads(
    found: _Collection, request: Request, index_dir: Path, stage: StartStage
) -> tuple[bytes, ...]:
    """Scan both read files; the sample of training sequences."""
    from metagene_train.reads.headers import HeaderPattern

    dataset = request.run.config.dataset
    places = found.known.get("disk")
    can_index = places is None or places.place("index directory").writable
    named: tuple[tuple[reads.Role, str | None, str], ...] = (
        ("train", dataset.train_fasta, "--fasta FILE"),
        ("val", dataset.val_fasta, "--val FILE"),
    )
    files: list[reads.InputFile] = []
    train_sample: tuple[bytes, ...] = ()
    for role, path, option in named:
        kind = "training" if role == "train" else "validation"
        if path is None:
            found.skip(role, f"no {kind} reads", f"give {option}")
            continue

        def scan(role: reads.Role = role, path: str = path, kind: str = kind) -> Any:
            return reads.collect(
                role,
                Path(path),
                header=HeaderPattern(dataset.header_regex),
                file_format=dataset.file_format,
                # Reads can be judged without writing their index; S06 says that it cannot be written.
                index_dir=index_dir if can_index else None,
                quick=request.level == "quick",
                progress=stage(f"Reading {kind} reads"),
            )

        result = found.add(role, scan)
        if result is None:
            continue
        file, facts, sample = result
        files.append(file)
        if facts is None:
            del found.known[role]
            found.skip(role, f"{path} could not be read (F01)")
            continue
        found.known[role] = facts
        if role == "train":
            train_sample = sample
    if files:
        found.known["files"] = tuple(files)
    else:
        found.gaps["files"] = found.gaps["train"]
    return train_sample


def _collect_labels(found: _Collection, request: Request) -> None:
    dataset = request.run.config.dataset
    table = dataset.mapping_tsv
    if table is None:
        for section in ("mapping", "classes"):
            found.skip(section, "no mapping table", "give --mapping FILE")
        return
    result = found.add("mapping", lambda: mapping.collect(table, dataset))
    if result is None:
        found.gaps["classes"] = found.gaps["mapping"]
        return
    found.known["mapping"], found.known["classes"] = result
    if found.known["mapping"].problems:
        del found.known["classes"]
        found.skip("classes", f"{table} cannot be used (L01)")


def _collect_comparisons(found: _Collection, request: Request, stage: StartStage) -> None:
    """What training reads share with validation reads and among each other, in one pass over them."""
    from metagene_train.reads.headers import HeaderPattern

    dataset = request.run.config.dataset
    header, tally = HeaderPattern(dataset.header_regex), repeats.RepeatTally()
    train, val = found.known.get("train"), found.known.get("val")
    if train is None or train.stream or not train.whole:
        reason = _not_comparable(train) if train is not None else found.gaps["train"]
        found.gaps["split"] = found.gaps["repeats"] = reason
        return
    if val is None:
        found.gaps["split"] = found.gaps["val"]
    elif not val.stream and Path(train.path).samefile(val.path):
        found.known["split"] = split.SplitFacts(same_file=True)
    elif val.stream or not val.whole:
        found.gaps["split"] = _not_comparable(val)
    elif request.wants("split"):
        advance = stage("Comparing training and validation reads")
        compared = found.add(
            "split",
            lambda: split.collect(
                Path(train.path),
                Path(val.path),
                header,
                dataset.file_format,
                segments=request.level == "deep" or train.records <= split.SEGMENTS_AT_STANDARD,
                watch=tally.add,
                progress=advance,
            ),
        )
        if compared is not None:
            found.known["repeats"] = tally.result()
            return
    else:
        found.skip("split", "no chosen check needs it")
    if request.wants("repeats"):
        advance = stage("Looking for repeated reads")
        found.add("repeats", lambda: repeats.collect(Path(train.path), header, dataset.file_format, advance))
    else:
        found.skip("repeats", "no chosen check needs it")


def _not_comparable(file: reads.ReadsFacts) -> Gap:
    if file.damage:
        return Gap(reason=f"{file.name} is damaged; what could not be read cannot be compared")
    if file.stream:
        return Gap(
            reason=f"{file.name} can be read only once, and comparing reads takes a second pass",
            enable="save the reads to a file",
        )
    return Gap(reason="large files are not compared at this level", enable="use --level standard")


def _collect_tokens(found: _Collection, request: Request, sample: tuple[bytes, ...]) -> None:
    config = request.run.config
    location = tokens.locate(config)
    if location is None:
        found.skip(
            "tokens",
            f"the tokenizer {config.tokenizer.name_or_path} is not on this machine",
            "give --tokenizer DIR",
        )
        return
    found.add("tokens", lambda: tokens.collect(config, location, sample))


def _collect_prediction(found: _Collection, request: Request) -> None:
    config = request.run.config
    software = found.known.get("environment")
    visible = software.variables.get("CUDA_VISIBLE_DEVICES") if software is not None else None
    chosen = prediction.target_gpu(request.gpu, request.gpu_mem, found.known.get("gpu"), visible)
    predicted: tuple[Section, Section] = ("memory", "speed")
    if chosen is None:
        for section in ("target", *predicted):
            found.skip(section, "no GPU to judge for", "name one: --gpu NAME or --gpu-mem GB")
        return
    found.known["target"], card = chosen
    if request.level == "quick" or importlib.util.find_spec("torch") is None:
        for section in predicted:
            if request.level == "quick":
                found.skip(section, "nothing is predicted at level quick", "use --level standard")
            else:
                found.skip(section, "predictions need torch", "install it")
        return
    longest, padded = tokens.expected_lengths(config, found.known.get("tokens"), found.known.get("train"))
    classes = len(found.known.get("classes", ())) or classes_in(found.known.get("train")) or 2
    found.add("memory", lambda: prediction.predict_memory(config, classes=classes, length=longest, card=card))
    found.add(
        "speed",
        lambda: prediction.predict_speed(config, classes=classes, padded_tokens=padded, card=card),
    )


def classes_in(train: reads.ReadsFacts | None) -> int:
    return 0 if train is None else len(train.class_counts)
