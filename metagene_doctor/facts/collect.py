"""Runs the collectors and fills `Facts`; what cannot be known becomes a gap with its reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from metagene_doctor.facts import mapping, prediction
from metagene_doctor.facts.collection import Collection, Request, StartStage, silent
from metagene_doctor.facts.comparisons import collect_comparisons, collect_second_reader
from metagene_doctor.facts.facts import Facts, Section
from metagene_doctor.facts.machine.collect import collect_disk_speed, collect_machine
from metagene_doctor.facts.model import tokens
from metagene_doctor.facts.reads import collect as reads
from metagene_doctor.facts.reads.facts import InputFile, ReadsFacts, Role
from metagene_train import __version__

__all__ = ["Request", "collect"]


def collect(request: Request, stage: StartStage = silent) -> Facts:
    """Everything that can be known at the requested level. Reads inputs, writes only the read index.

    Raises InputError when a named file, directory or card does not exist.
    """
    config, level = request.run.config, request.level
    found = Collection(request)
    if request.run.path is None:
        found.skip("config file", "no config", "give --config FILE")
    index_dir = request.index_dir or index_directory(config.dataset.index_dir)
    collect_machine(found, request, index_dir)
    samples = _collect_reads(found, request, index_dir, stage)
    _collect_labels(found, request)
    collect_comparisons(found, request, stage)
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
    from metagene_train.reads.index_files import default_index_dir

    return Path(configured).expanduser() if configured else default_index_dir()


def _collect_reads(
    found: Collection, request: Request, index_dir: Path, stage: StartStage
) -> tuple[bytes, ...]:
    """Scan both read files; the sample of training sequences."""
    from metagene_train.reads.headers import HeaderPattern

    dataset = request.run.config.dataset
    places = found.known.get("disk")
    can_index = places is None or places.place("index directory").writable
    named: tuple[tuple[Role, str | None, str], ...] = (
        ("train", dataset.train_fasta, "--fasta FILE"),
        ("val", dataset.val_fasta, "--val FILE"),
    )
    files: list[InputFile] = []
    train_sample: tuple[bytes, ...] = ()
    for role, path, option in named:
        kind = "training" if role == "train" else "validation"
        if path is None:
            found.skip(role, f"no {kind} reads", f"give {option}")
            continue

        def scan(role: Role = role, path: str = path, kind: str = kind) -> Any:
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


def classes_in(train: ReadsFacts | None) -> int:
    return 0 if train is None else len(train.class_counts)
