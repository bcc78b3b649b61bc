"""An estimate as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metagene_doctor.memory.costs.estimate import Estimate, TradeOff
from metagene_doctor.memory.costs.measure import Measurement
from metagene_doctor.memory.costs.throughput import DATA_PARALLEL_SHARE, Range, TimeEstimate
from metagene_doctor.memory.profiling import MemoryProfile
from metagene_doctor.report.quantities import duration, file_size, whole_percent


def text(answer: Estimate, origins: Iterable[str]) -> str:
    """The whole answer: verdict first, then memory, time, disk, and what it rests on."""
    sections = [
        [verdict(answer), *_devices(answer)],
        list(_memory(answer.memory)),
        list(_trade_offs(answer.trade_offs)),
        list(_time(answer.time, answer)) if answer.time else [],
        list(_disk(answer)),
        ["Based on", *(f"  {origin}" for origin in origins if origin)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def verdict(answer: Estimate) -> str:
    """One line: does it fit, with the numbers."""
    memory = answer.memory
    needs = f"{memory.device_gib:.2f} GiB on the device, margin {memory.margin_gib:.2f} ({memory.note})"
    if memory.usable_gib is None:
        return f"Needs {needs}"
    word = "FITS" if answer.fits else "DOES NOT FIT"
    card = answer.gpu if answer.devices == 1 else f"{answer.gpu}, each of {answer.devices}"
    return f"{word}  {card}: {needs}, {memory.usable_gib:.2f} GiB usable"


def _devices(answer: Estimate) -> Iterator[str]:
    if answer.devices > 1:
        yield (
            f"{answer.devices} devices by data parallelism: each runs the micro-batches of the config on its "
            f"own reads ({answer.effective_batch:,} in an optimizer step of all), and holds gradient buckets "
            "(in live) and NCCL's buffers (in device)"
        )


def measured(run: Measurement, answer: Estimate) -> str:
    """What the run on the GPU took, beside the prediction."""
    lines = [f"Measured on {run.gpu}, torch {run.torch}, driver {run.driver}"]
    if run.cap_gib is not None:
        lines.append(f"  the allocator was limited to {run.cap_gib:.2f} GiB")
    for name in ("live_gib", "reserved_gib", "device_gib"):
        real, predicted = getattr(run, name), getattr(answer.memory, name)
        lines.append(
            f"  {name.removesuffix('_gib'):10} {real:8.2f} GiB   predicted {predicted:.2f} "
            f"({100 * (predicted / real - 1):+.1f} %)"
        )
    if run.out_of_memory is not None:
        lines.append(f"  RAN OUT OF MEMORY: {run.out_of_memory}")
    elif run.seconds_per_step is not None:
        lines.append(f"  optimizer step {duration(run.seconds_per_step)}")
    return "\n".join(lines)


def _memory(memory: MemoryProfile) -> Iterator[str]:
    yield f"Memory, peak in {memory.phase}"
    yield f"  live       {memory.live_gib:8.2f} GiB   what tensors hold"
    yield f"  reserved   {memory.reserved_gib:8.2f} GiB   what PyTorch's allocator takes for them"
    yield f"  device     {memory.device_gib:8.2f} GiB   what nvidia-smi shows, " + (
        f"-{memory.margin_below_gib:.2f} to +{memory.margin_gib:.2f}"
    )
    if memory.retries:
        yield (
            f"  The card is so full that cached memory is given back {memory.retries} times in two steps "
            "(num_alloc_retries), which costs time."
        )
    yield "  of the live peak: " + ", ".join(
        f"{name} {gib:.2f}" for name, gib in memory.breakdown.items() if gib >= 0.005
    )
    yield "  outside the trace: " + ", ".join(
        f"{term.name} {term.gib:.2f} ({term.low:.2f} to {term.high:.2f})" for term in memory.terms
    )
    last = memory.timeline[-1].step if memory.timeline else 0
    yield "  live by phase: " + ", ".join(
        f"{moment.phase} {moment.live_gib:.2f}"
        for moment in memory.timeline
        if moment.step in (0, last) and moment.live_gib
    )


def _trade_offs(trade_offs: Iterable[TradeOff]) -> Iterator[str]:
    if trade_offs:
        yield "What it costs to save memory, against the same run without it"
    for trade in trade_offs:
        more = "less" if trade.delta_gib <= 0 else "MORE"
        parts = [f"{abs(trade.delta_gib):.2f} GiB {more}"]
        if trade.speed_ratio is not None:
            parts.append(f"{trade.speed_ratio:.2f} times the speed (estimate)")
        if trade.fits_without is not None:
            parts.append(f"without it the run {'fits too' if trade.fits_without else 'does not fit'}")
        yield f"  {trade.key}: {trade.value}   {', '.join(parts)}; {trade.price}"


def _time(time: TimeEstimate, answer: Estimate) -> Iterator[str]:
    reads, several = answer.reads, answer.devices > 1
    yield f"Time, {time.basis}" + (
        f"; {answer.devices} devices at {whole_percent(DATA_PARALLEL_SHARE)} of their sum" if several else ""
    )
    at = f"at {time.padded_tokens:.1f} tokens each"
    if reads is None and time.padded_tokens < answer.token_length:
        at += ", assumed (--fasta takes the reads' own lengths)"
    yield f"  reads per second   {_range(time.reads_per_s, '{:,.1f}')}   {at}"
    yield f"  tokens per second  {_range(time.tokens_per_s, '{:,.0f}')}"
    yield (
        f"  optimizer step     {_span(time.seconds_per_step, 1)}, {time.teraflops_per_step:.3g} TFLOP"
        f"{' on each device' if several else ''}, "
        f"held back by {time.limit}"
    )
    if time.hours_per_epoch is not None:
        yield f"  one epoch          {_span(time.hours_per_epoch, 3600)}"
    if time.hours is not None:
        yield f"  whole run          {_span(time.hours, 3600)}, evaluations not included"


def _disk(answer: Estimate) -> Iterator[str]:
    disk = answer.disk
    yield f"Disk, {file_size(disk.total)}"
    each = f"each {file_size(disk.checkpoint)}, without the encoder"
    yield f"  checkpoints  {file_size(disk.checkpoints)}   {each}"
    yield f"  model        {file_size(disk.model)}"
    if disk.download:
        yield f"  download     {file_size(disk.download)}   the encoder, once"
    if disk.index is not None:
        yield f"  read index   {file_size(disk.index)}"


def _range(value: Range, style: str) -> str:
    return f"{style.format(value.expected)} ({style.format(value.low)} to {style.format(value.high)})"


def _span(value: Range, seconds: float) -> str:
    low, high = sorted((value.low, value.high))
    return f"{duration(value.expected * seconds)} ({duration(low * seconds)} to {duration(high * seconds)})"
