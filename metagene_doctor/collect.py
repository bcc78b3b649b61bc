"""Runs the collectors and the dry run, fills `Facts`; what cannot be known is a gap with its reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

from metagene_doctor import padding
from metagene_doctor.facts import mapping, previous_run
from metagene_doctor.facts.collection import Collection, Request, StartStage, silent
from metagene_doctor.facts.comparisons import Comparisons, collect_second_reader
from metagene_doctor.facts.facts import Facts, Section
from metagene_doctor.facts.machine.collect import collect_disk_speed, collect_machine
from metagene_doctor.facts.model import tokens
from metagene_doctor.facts.reads import collect as reads
from metagene_doctor.facts.reads.facts import InputFile, ReadsFacts, Role
from metagene_doctor.facts.reads.joined import join, join_samples
from metagene_doctor.facts.side_watch import SideWatch
from metagene_train import __version__
from metagene_train.config import ReadsFiles
from metagene_train.errors import DataError

__all__ = ["Request", "collect"]

NAMED_BY_CONFIG: tuple[Section, ...] = ("config file", "previous run")
"""What only a config can tell."""
KINDS: dict[Role, str] = {"train": "training", "val": "validation"}


def collect(request: Request, stage: StartStage = silent) -> Facts:
    """Everything that can be known at the requested level. Reads inputs, writes only the read index.

    Raises InputError when a named file, directory or card does not exist.
    """
    config, level = request.run.config, request.level
    found = Collection(request)
    if request.run.path is None:
        for section in NAMED_BY_CONFIG:
            found.skip(section, "no config", "give --config FILE")
    elif found.add("previous run", lambda: previous_run.collect(config)) is not None:
        found.known["previous_run"] = found.known.pop("previous run")
    index_dir = request.index_dir or index_directory(config.dataset.index_dir)
    collect_machine(found, request, index_dir)
    samples = _collect_reads(found, request, index_dir, stage)
    _collect_labels(found, request)
    collect_second_reader(found, request, stage)
    collect_disk_speed(found, request)
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
    from metagene_train.reads.index.files import default_index_dir

    return Path(configured).expanduser() if configured else default_index_dir()


def _collect_reads(
    found: Collection, request: Request, index_dir: Path, stage: StartStage
) -> tuple[bytes, ...]:
    """Scan the read files of both sides, and compare them; the sample of training sequences.

    The validation reads come first: the training reads are compared with them while they are scanned.
    """
    from metagene_train.reads.access.data_set import distinct_files
    from metagene_train.reads.records.formats import is_stream, sniff

    dataset = request.run.config.dataset
    named: tuple[tuple[Role, ReadsFiles | None, str], ...] = (
        ("train", dataset.train_fasta, "--fasta FILE"),
        ("val", dataset.val_fasta, "--val FILE"),
    )
    paths = {role: distinct_files(names) for role, names, _ in named if names is not None}
    for role, _, option in named:
        if role not in paths:
            found.skip(role, f"no {KINDS[role]} reads", f"give {option}")
    for path in chain.from_iterable(paths.values()):
        # One that is missing is told before the others are read; what is no reads file is a finding.
        if not is_stream(path):
            with suppress(DataError):
                sniff(path, dataset.file_format)
    comparisons = Comparisons(request, paths)
    files: dict[Role, list[InputFile]] = {}
    train_sample: tuple[bytes, ...] = ()
    for role in sorted(paths, key=("val", "train").index):
        watch = comparisons.watch(role)
        scanned = found.add(role, partial(_scan, found, request, index_dir, stage, role, paths[role], watch))
        if scanned is None:
            continue
        files[role] = [file for file, _, _ in scanned]
        refused = [file.path for file, facts, _ in scanned if facts is None]
        if refused:
            del found.known[role]
            found.skip(role, f"{refused[0]} could not be read (F01)")
            continue
        each = [facts for _, facts, _ in scanned]
        found.known[role] = join(each)
        sample = join_samples(each, [sample for _, _, sample in scanned])
        comparisons.scanned(found.known[role], sample, stage)
        if role == "train":
            train_sample = sample
    if files:
        found.known["files"] = tuple(file for role in paths for file in files.get(role, ()))
    else:
        found.gaps["files"] = found.gaps["train"]
    comparisons.conclude(found)
    return train_sample


def _scan(
    found: Collection,
    request: Request,
    index_dir: Path,
    stage: StartStage,
    role: Role,
    paths: Sequence[Path],
    watch: SideWatch | None,
) -> list[tuple[InputFile, ReadsFacts | None, tuple[bytes, ...]]]:
    """What `reads.collect` finds in each file of one side."""
    from metagene_train.reads.headers.pattern import HeaderPattern

    dataset = request.run.config.dataset
    places = found.known.get("disk")
    can_index = places is None or places.place("index directory").writable
    scanned = []
    for number, path in enumerate(paths, start=1):
        if watch:
            watch.begin_file()
        scanned.append(
            reads.collect(
                role,
                path,
                header=HeaderPattern(dataset.header_regex),
                file_format=dataset.file_format,
                # Reads can be judged without writing their index; S06 says that it cannot be written.
                index_dir=index_dir if can_index else None,
                quick=request.level == "quick",
                watcher=watch,
                progress=stage(
                    f"Reading {KINDS[role]} reads"
                    + (f" ({number} of {len(paths)} files)" if len(paths) > 1 else "")
                ),
            )
        )
    return scanned


def _collect_labels(found: Collection, request: Request) -> None:
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


def _collect_tokens(found: Collection, request: Request, sample: tuple[bytes, ...]) -> None:
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


def _collect_prediction(found: Collection, request: Request) -> None:
    from metagene_doctor import forecast

    config = request.run.config
    software = found.known.get("environment")
    visible = software.variables.get("CUDA_VISIBLE_DEVICES") if software is not None else None
    chosen = forecast.target_gpu(request.gpu, request.gpu_mem, found.known.get("gpu"), visible)
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
    longest, padded = padding.expected_lengths(config, found.known.get("tokens"), found.known.get("train"))
    classes = len(found.known.get("classes", ())) or classes_in(found.known.get("train")) or 2
    found.add("memory", lambda: forecast.predict_memory(config, classes=classes, length=longest, card=card))
    found.add(
        "speed",
        lambda: forecast.predict_speed(config, classes=classes, padded_tokens=padded, card=card),
    )


def classes_in(train: ReadsFacts | None) -> int:
    return 0 if train is None else len(train.class_counts)
