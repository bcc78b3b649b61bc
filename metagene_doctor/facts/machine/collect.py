"""Everything about the machine: GPUs, packages, host, disks, and where the encoder's files are."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from metagene_doctor.facts.collection import ONLY_DEEP, Collection, Request
from metagene_doctor.facts.facts import Section
from metagene_doctor.facts.machine import disk, disk_speed, environment, gpu, gpu_load, host, kernel_log
from metagene_doctor.facts.model import encoder


def collect_machine(found: Collection, request: Request, index_dir: Path) -> None:
    """Fill the sections of GPU, environment, host, disk and encoder."""
    from metagene_train.reads.access.data_set import distinct_files
    from metagene_train.reads.records.formats import is_stream

    config = request.run.config
    graphics = found.add("gpu", gpu.collect)
    if graphics is not None and not graphics.devices:
        absent = graphics.state in ("ok", "no library", "driver not loaded") and not graphics.device_nodes
        found.skip(
            "devices",
            "no NVIDIA GPU was found on this machine"
            if absent
            else f"the GPUs cannot be looked at: {graphics.message} (E03)",
        )
    _collect_software(found, request, has_gpu=graphics is not None and bool(graphics.devices))
    _collect_gpu_history(found, request)
    found.add("host", host.collect)
    directories: dict[disk.Role, Path] = {
        "hub cache": disk.hub_cache(),
        "output directory": Path(config.training.output_dir),
        "index directory": index_dir,
        "temporary directory": Path(tempfile.gettempdir()),
    }
    if config.dataset.train_fasta is not None:
        files = [file for file in distinct_files(config.dataset.train_fasta) if not is_stream(file)]
        if files:
            directories["training reads"] = files[0].absolute().parent
    found.add("disk", lambda: disk.collect(directories))
    encoder_files = found.add(
        "encoder", lambda: encoder.collect(config.model.encoder_path, config.model.revision)
    )
    if encoder_files is not None and encoder_files.location is None:
        found.skip("weights", f"{encoder_files.name} is not on this machine (M01)")


def _collect_software(found: Collection, request: Request, has_gpu: bool) -> None:
    quantization, deep = request.run.config.model.quantization, request.level == "deep"
    ask_torch = has_gpu and request.level != "quick"
    wanted = quantization if ask_torch and quantization != "none" else None
    software = found.add(
        "environment",
        lambda: environment.collect(
            ask_torch=ask_torch, compute=deep and has_gpu, try_imports=deep, quantization=wanted
        ),
    )
    probes: tuple[tuple[Section, Any, str], ...] = (
        ("probe", software.probe if software else None, "standard"),
        ("compute", software.compute if software else None, "deep"),
        ("quantized", software.quantized if software else None, "standard"),
    )
    for section, probe, level in probes:
        if probe is not None:
            continue
        if "devices" in found.gaps:
            found.gaps[section] = found.gaps["devices"]
        elif section == "quantized" and quantization == "none":
            found.skip(section, "the config does not quantise the encoder")
        else:
            found.skip(section, "torch is not asked at this level", f"use --level {level}")


def _collect_gpu_history(found: Collection, request: Request) -> None:
    """What the kernel has said about the GPUs, and how one behaves under load."""
    if "devices" in found.gaps or "gpu" in found.gaps:
        for section in ("kernel log", "gpu load"):
            found.gaps[section] = found.gaps.get("devices") or found.gaps["gpu"]
        return
    log = found.add("kernel log", kernel_log.collect)
    if log is not None:
        found.known["kernel_log"] = found.known.pop("kernel log")
    if request.level != "deep":
        found.skip("gpu load", *ONLY_DEEP)
        return
    software = found.known.get("environment")
    visible = software.variables.get("CUDA_VISIBLE_DEVICES") if software is not None else None
    device = gpu.first_visible(found.known["gpu"].devices, visible)
    if device is None:
        found.skip("gpu load", "CUDA_VISIBLE_DEVICES hides the GPUs (E09)")
    elif found.add("gpu load", lambda: gpu_load.collect(device.index)) is not None:
        found.known["gpu_load"] = found.known.pop("gpu load")


def collect_disk_speed(found: Collection, request: Request) -> None:
    """Time the disk of the training reads; the section ``disk speed``."""
    train = found.known.get("train")
    if request.level != "deep":
        found.skip("disk speed", *ONLY_DEEP)
        return
    if train is None:
        found.gaps["disk speed"] = found.gaps["train"]
        return
    plain = [file for file in train.files if not file.stream and file.compression == "none"]
    if not plain:
        found.skip("disk speed", f"{train.name} is unpacked elsewhere before training reads it")
    else:
        largest = max(plain, key=lambda file: file.bytes)
        timed = found.add("disk speed", lambda: disk_speed.collect(Path(largest.path)))
        if timed is not None:
            found.known["disk_speed"] = found.known.pop("disk speed")
        elif found.known.pop("disk speed", timed) is None and "disk speed" not in found.gaps:
            found.skip("disk speed", "this system cannot be told to forget its page cache")
