"""A recommendation as text: what to run, what else would fit, what each knob costs, and why."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metagene_doctor.report import quantities
from metagene_doctor.report.terminal import print_table
from metagene_doctor.tuning.autotune import Result
from metagene_doctor.tuning.exploration import GuideRow, HeatMap, Neighbour
from metagene_doctor.tuning.recommended import duration_of
from metagene_doctor.tuning.search import Candidate, Recommendation
from metagene_train.config import RunConfig

SHOWN = 6
"""Candidates in the table."""


def render(result: Result, console: Console) -> None:
    recommendation, exploration = result.recommendation, result.exploration
    request, best = recommendation.request, recommendation.best
    _say(console, f"Device: {request.device.origin}" + _times(request.devices))
    _say(console, f"Reads:  {request.reads.origin}")
    for note in recommendation.notes:
        _say(console, f"Note:   {note}", "yellow")
    console.print()
    print_table(console, _candidates(recommendation))
    console.print()
    if recommendation.fits:
        _say(console, verdict(recommendation), "bold green")
        _say(console, f"{duration_of(recommendation)}; limited by {best.speed.limit} (estimate)")
        if reason := _spare(recommendation):
            _say(console, reason)
        _say(console, _disk(result.disk))
    else:
        _say(console, verdict(recommendation), "bold red")
        fitting = [neighbour for neighbour in exploration.neighbours if neighbour.candidate.fits]
        if fitting:
            _say(console, _one_change(fitting))
        elif exploration.layers is not None:
            _say(console, _fewer_layers(exploration.layers, request.architecture.layers))
        if request.policy == "guide":
            _say(console, "--policy evidence searches for the best that fits.")
    console.print()
    print_table(console, _neighbours(exploration.neighbours, best))
    for heat_map in exploration.heat_maps:
        console.print()
        print_table(console, _heat_map(heat_map))
    if exploration.heat_maps:
        place = "on the device" if request.device.gpu else "of the process (Python with torch included)"
        _say(
            console,
            f"GiB {place} with margin, every read of the batch that long and evaluation as in training; "
            "[ ] recommended, x does not fit.",
            "dim",
        )
    if exploration.guide is not None:
        console.print()
        _guide(exploration.guide, console)
    _say(
        console,
        "Memory is a dry run under fake tensors, speed an estimate from the device's rates; "
        "not measured on this device.",
        "dim",
    )


def verdict(recommendation: Recommendation) -> str:
    """The answer in one line."""
    request, best = recommendation.request, recommendation.best
    needed, usable = f"{best.needed_gib:.2f} GiB", f"{request.device.usable_gib:.2f} GiB"
    if not recommendation.fits and request.policy == "guide":
        return f"The guide's row does not fit: it needs {needed} of {usable} usable ({summary(best)})"
    if not recommendation.fits:
        return f"Nothing fits {usable}: tightest feasible is {needed} ({summary(best)})"
    return (
        f"Recommended: {summary(best)}; {best.needed_gib:.2f} of {request.device.usable_gib:.2f} GiB usable "
        f"({_parts(recommendation)} + margin {best.memory.margin_gib:.2f}), "
        f"about {quantities.rate(best.speed.reads_per_s)} reads/s"
    )


def _parts(recommendation: Recommendation) -> str:
    memory = recommendation.best.memory
    if recommendation.request.device.gpu is not None:
        return f"device {memory.device_gib:.2f}"
    process = memory.device_gib - memory.live_gib
    return f"tensors {memory.live_gib:.2f} + Python with torch {process:.2f}"


def summary(candidate: Candidate) -> str:
    """``16 x 2 reads of 64 tokens, rank 16 on all-linear, no checkpointing, bf16-mixed``."""
    config = candidate.config
    lora, model = config.model.lora, config.model
    adapters = f"rank {lora.r} on {names(lora.target_modules)}" if lora.enabled else "head only"
    parts = [
        f"{config.training.batch_size} x {config.training.grad_accum_steps} reads of "
        f"{config.tokenizer.max_length} tokens",
        adapters,
        "checkpointing" if model.gradient_checkpointing else "no checkpointing",
        _precision(config),
    ]
    if model.quantization != "none":
        parts.append(f"{model.quantization} weights")
    if config.optimizer.name != "adamw":
        parts.append(config.optimizer.name)
    return ", ".join(parts)


def _precision(config: RunConfig) -> str:
    """In words of its own, where the key's value ``32`` would be one more bare number."""
    return "fp32" if config.training.precision == "32" else config.training.precision


def names(targets: list[str] | str) -> str:
    return targets if isinstance(targets, str) else ",".join(name.removesuffix("_proj") for name in targets)


def _spare(recommendation: Recommendation) -> str:
    """Why much of a large card stays empty; nothing where that was asked for, or is not so."""
    request, best = recommendation.request, recommendation.best
    spare = request.device.usable_gib - best.needed_gib
    single = best.config.training.grad_accum_steps == 1
    if (
        request.device.gpu is None
        or request.goal == "min-memory"
        or not single
        or spare < request.device.usable_gib / 2
    ):
        return ""
    reads = best.config.training.effective_batch * request.devices
    return (
        f"{spare:.1f} GiB stay free: all {reads} reads of an optimizer step are one pass, and larger steps "
        "learn less from each read (EV-EFFECTIVE-BATCH)"
    )


def _disk(disk: Mapping[str, int | None]) -> str:
    parts = (
        ("checkpoints", "checkpoints"),
        ("model", "trained model"),
        ("download", "encoder download"),
        ("index", "read index"),
    )
    listed = [f"{quantities.file_size(disk[key] or 0)} {name}" for key, name in parts if disk[key]]
    return f"Disk: {', '.join(listed)}"


def _one_change(neighbours: list[Neighbour]) -> str:
    """What alone would make a row fit that does not."""
    listed = (
        f"{_knob(neighbour.knob)} {_value(neighbour.value)} ({neighbour.candidate.needed_gib:.2f} GiB)"
        for neighbour in neighbours
    )
    return f"One change would make it fit: {', or '.join(listed)}."


def _fewer_layers(candidate: Candidate, layers: int) -> str:
    kept = candidate.config.model.encoder_layers
    return (
        f"With model.encoder_layers: {kept} (the first {kept} of {layers}) it would fit: "
        f"{candidate.needed_gib:.2f} GiB, {summary(candidate)}. The upper layers are dropped; what that "
        "costs in quality is not known."
    )


def _candidates(recommendation: Recommendation) -> Table:
    usable = recommendation.request.device.usable_gib
    table = _table("Candidates", "reads x steps", "checkpointing", "rank", "weights", "GiB", "+ margin")
    table.add_column("of usable", justify="right", overflow="fold")
    table.add_column("reads/s (range)", justify="right", overflow="fold")
    shown = recommendation.candidates[:SHOWN]
    misfits = [candidate for candidate in recommendation.candidates[SHOWN:] if not candidate.fits]
    for number, candidate in enumerate((*shown, *misfits[:1])):
        config, speed = candidate.config, candidate.speed
        weights = config.model.quantization if config.model.quantization != "none" else _precision(config)
        if config.optimizer.name != "adamw":
            weights += f", {config.optimizer.name}"
        chosen = number == 0 and recommendation.fits
        table.add_row(
            f"{config.training.batch_size} x {config.training.grad_accum_steps}",
            "yes" if config.model.gradient_checkpointing else "no",
            str(config.model.lora.r) if config.model.lora.enabled else "-",
            weights,
            f"{candidate.memory.device_gib:.2f}",
            f"{candidate.memory.margin_gib:.2f}",
            quantities.whole_percent(candidate.needed_gib / usable) + ("" if candidate.fits else " x"),
            f"{quantities.rate_in_table(speed.reads_per_s)} "
            f"({quantities.rate_in_table(speed.slow)}-{quantities.rate_in_table(speed.fast)})",
            style="bold" if chosen else "" if candidate.fits else "dim",
        )
    return table


def _neighbours(neighbours: tuple[Neighbour, ...], best: Candidate) -> Table:
    table = _table("What each knob costs, one at a time", "knob", "from", "to", "GiB", "speed")
    table.add_column("", overflow="fold")
    for neighbour in neighbours:
        table.add_row(
            _knob(neighbour.knob),
            _value(neighbour.was),
            _value(neighbour.value),
            quantities.gib_change(neighbour.delta_gib) + ("" if neighbour.candidate.fits else " x"),
            quantities.whole_percent(neighbour.speed_ratio - 1, "+"),
            neighbour.remark,
            style="" if neighbour.candidate.fits else "dim",
        )
    return table


def _knob(key: str) -> str:
    """The last part of a key, with its section where that alone says nothing."""
    return key if key.endswith(".name") else key.rsplit(".", 1)[-1]


def _heat_map(heat_map: HeatMap) -> Table:
    heading = f"{heat_map.row_name} \\ {heat_map.column_name}"
    table = _table(heat_map.title, heading, *(str(column) for column in heat_map.columns))
    for row, values in zip(heat_map.rows, heat_map.gib, strict=True):
        cells = [
            _cell(value, heat_map.usable_gib, (row, column) == heat_map.recommended)
            for column, value in zip(heat_map.columns, values, strict=True)
        ]
        table.add_row(str(row), *cells)
    return table


def _cell(gib: float, usable: float, recommended: bool) -> Text:
    share = gib / usable
    style = "red" if share > 1 else "yellow" if share > 0.9 else "green"
    text = f"{gib:.1f}" + (" x" if share > 1 else "  ")
    return Text(f"[{text.strip()}]" if recommended else text, style=f"bold {style}" if recommended else style)


def _guide(guide: GuideRow, console: Console) -> None:
    taken = "taken" if guide.taken else "not taken"
    row = guide.candidate
    _say(
        console,
        f"The guide's {guide.title[:1].lower()}{guide.title[1:]} ({guide.rule}), {taken}: {summary(row)}; "
        f"{row.needed_gib:.2f} GiB, about {quantities.rate(row.speed.reads_per_s)} reads/s",
        "bold",
    )
    for reason in guide.reasons:
        _say(console, f"  - {reason}")


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    # On a narrow terminal words are broken, not cut off.
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return names(value) if isinstance(value, list) else str(value)


def _times(devices: int) -> str:
    return f"; {devices} of them" if devices > 1 else ""


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=not console.is_terminal, highlight=False)
