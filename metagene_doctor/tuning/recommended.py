"""The recommendation as a configuration file: value, reason and source on each line."""

from __future__ import annotations

import os
from pathlib import Path

from metagene_doctor.configuration.field_docs import field_docs
from metagene_doctor.report import quantities
from metagene_doctor.tuning.plan import Setting
from metagene_doctor.tuning.search import Recommendation
from metagene_train import __version__
from metagene_train.config import RunConfig
from metagene_train.config_file import dump_config, flatten
from metagene_train.errors import InputError


def must_be_new(path: Path, *, force: bool) -> None:
    """Raise InputError before the search rather than after it, when the file could not be written."""
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; name another file or give --force")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: there is no directory {path.absolute().parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: Permission denied")


def to_yaml(recommendation: Recommendation, given: frozenset[str] = frozenset()) -> str:
    """YAML text that `metagene train` runs as it is. ``given`` are keys the user set."""
    return dump_config(
        recommendation.config, comments(recommendation, given), header("metagene autotune", recommendation)
    )


def comments(recommendation: Recommendation, given: frozenset[str] = frozenset()) -> dict[str, str]:
    """Dotted key -> why it has its value; what it means where that is the default or the user's."""
    meanings = field_docs()
    defaults, values = flatten(RunConfig()), flatten(recommendation.config)
    lines = {}
    for key, value in values.items():
        setting = recommendation.settings.get(key)
        if setting is not None and setting.rule:
            lines[key] = setting.comment(doubt(recommendation, setting))
            if key in given and flatten(recommendation.request.base)[key] != value:
                lines[key] += f" (given as {flatten(recommendation.request.base)[key]})"
        elif setting is not None and setting.why != "as given":
            lines[key] = setting.comment()
        else:
            origin = "given" if key in given or value != defaults[key] else "default"
            lines[key] = f"{origin}: {meanings[key]}" if meanings[key] else origin
    return lines


def doubt(recommendation: Recommendation, setting: Setting) -> str:
    """The verdict of the rule behind a setting where the evidence does not support it, otherwise nothing."""
    if not setting.rule:
        return ""
    verdict = recommendation.request.book.rule(setting.rule).verdict
    return "" if verdict == "holds" else verdict


def header(command: str, recommendation: Recommendation) -> str:
    """What the configuration is for and what it is predicted to take."""
    request, best = recommendation.request, recommendation.best
    memory, speed = best.memory, best.speed
    lines = [
        f"{command} {__version__}: {request.policy} policy, goal {request.goal}",
        f"Device: {request.device.origin}" + (f"; {request.devices} of them" if request.devices > 1 else ""),
        f"Reads: {request.reads.origin}",
        f"Predicted peak: {peak(recommendation)} in {memory.phase}, margin {memory.margin_gib:.2f} GiB; "
        f"{'fits' if best.fits else 'DOES NOT FIT'} {request.device.usable_gib:.2f} GiB usable",
        f"Predicted speed: {quantities.rate(speed.reads_per_s)} reads/s "
        f"(range {quantities.rate(speed.slow)}-{quantities.rate(speed.fast)}), "
        f"{duration_of(recommendation)}",
        "Memory is a dry run under fake tensors and speed an estimate from the device's rates; "
        "neither was measured on this device.",
        *(f"Note: {note}" for note in recommendation.notes),
    ]
    return "\n".join(lines)


def peak(recommendation: Recommendation) -> str:
    """Device memory and what it is made of; on a CPU memory of the process."""
    memory = recommendation.best.memory
    if recommendation.request.device.gpu is None:
        process = memory.device_gib - memory.live_gib
        return (
            f"{memory.device_gib:.2f} GiB of the process ({memory.live_gib:.2f} tensors, "
            f"{process:.2f} Python with torch)"
        )
    return (
        f"{memory.device_gib:.2f} GiB on the device ({memory.reserved_gib:.2f} reserved, "
        f"{memory.live_gib:.2f} live)"
    )


def passes(recommendation: Recommendation) -> float:
    """Passes that the run makes over its reads, of which there are taken to be a million where their number
    is not known; ``max_steps`` ends it, where given."""
    request, training = recommendation.request, recommendation.config.training
    if training.max_steps is None:
        return training.max_epochs
    return training.max_steps * training.effective_batch * request.devices / (request.reads.reads or 1e6)


def duration_of(recommendation: Recommendation) -> str:
    """``4 h 10 min for 3 epochs (3 h ... 6 h)``, per million reads when their number is not known."""
    request, rate = recommendation.request, recommendation.best.speed
    training, reads = recommendation.config.training, request.reads.reads
    epochs = passes(recommendation) if reads or training.max_steps else 1
    expected, best, worst = (quantities.duration(hours * 3600) for hours in rate.hours(reads or 1e6, epochs))
    what = "each pass over a million reads"
    if training.max_steps:
        size = training.effective_batch * request.devices
        what = f"{training.max_steps:,} optimizer steps of {quantities.count(size, 'read')}"
    elif reads:
        what = f"{epochs:g} {'epoch' if epochs == 1 else 'epochs'} of {quantities.count(reads, 'read')}"
    return f"{expected} for {what} (range {best} to {worst}), without evaluations"
