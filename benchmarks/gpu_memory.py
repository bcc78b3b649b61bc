"""Predicted against measured GPU memory: METAGENE-1's architecture with random bf16 weights.

    python benchmarks/gpu_memory.py [--limit N] [--results benchmarks/results]

Needs an NVIDIA GPU and nothing else: no weights, no network. Each workload runs in a process of its
own (`metagene_doctor.memory.probe`); running out of memory is a result. Writes
``gpu_memory_<card>.json`` after every workload, so that an interrupted run keeps what it has, and
prints a Markdown table for docs/memory.md. Exit code 1 when a bar is missed: reserved memory within
3 %, nothing above prediction plus margin, and every configuration that ``metagene autotune``
recommends for 24 GB runs under a 24 GB cap.

Not yet measured on a GPU: this program has run against a stand-in for the probe only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_doctor import rulebook
from metagene_doctor.memory import MemoryProfile, Workload, trace
from metagene_doctor.memory.measure import measure
from metagene_doctor.memory.measurement import Measurement
from metagene_doctor.memory.request import choose_card
from metagene_train.config import ATTENTION_PROJECTIONS, RunConfig

BAR = 0.03
"""Largest relative error of reserved memory."""
CLASSES = 1000
GOALS = ("balanced", "max-quality", "max-speed", "min-memory")
CAPS_GB = (24, 40)


@dataclass(frozen=True)
class Case:
    """One workload. ``cap`` is the name of the card whose memory it is limited to, None for all there is."""

    name: str
    config: RunConfig
    length: int
    cap: str | None = None


def configuration(
    batch: int,
    length: int,
    rank: int,
    targets: tuple[str, ...] | str,
    checkpointing: bool,
    *,
    evaluation: int | None = None,
    accumulation: int = 1,
    precision: str = "bf16-mixed",
) -> RunConfig:
    """A configuration of METAGENE-1 with these settings and defaults otherwise."""
    config = RunConfig()
    config.tokenizer.max_length = length
    config.model.gradient_checkpointing = checkpointing
    config.model.lora.r = rank
    config.model.lora.alpha = 2 * rank
    config.model.lora.target_modules = targets if isinstance(targets, str) else list(targets)  # type: ignore[assignment]
    config.training.batch_size = batch
    config.training.eval_batch_size = evaluation
    config.training.grad_accum_steps = accumulation
    config.training.precision = precision  # type: ignore[assignment]
    return config


def grid() -> Iterator[Case]:
    """Lengths 64 to 512, micro-batches 1 to 64, ranks 4 to 64, every target set, both modes, all caps."""
    query_value, attention, linear = ("q_proj", "v_proj"), ATTENTION_PROJECTIONS, "all-linear"
    settings: list[tuple[int, int, int, tuple[str, ...] | str, bool]] = [
        (1, 64, 4, query_value, True),
        (1, 128, 4, query_value, True),
        (1, 512, 8, query_value, True),
        (1, 128, 4, query_value, False),
        (1, 512, 8, query_value, False),
        (4, 128, 16, attention, False),
        (4, 256, 16, attention, True),
        (8, 64, 8, linear, False),
        (8, 128, 8, linear, False),
        (8, 256, 8, linear, True),
        (8, 512, 8, query_value, True),
        (8, 512, 8, query_value, False),
        (16, 64, 16, linear, True),
        (16, 128, 16, linear, False),
        (16, 256, 64, linear, True),
        (32, 64, 16, linear, True),
        (32, 64, 16, attention, False),
        (32, 128, 64, linear, True),
        (64, 64, 16, linear, True),
        (64, 128, 16, linear, True),
        (64, 64, 16, linear, False),
    ]
    for batch, length, rank, targets, checkpointing in settings:
        config = configuration(batch, length, rank, targets, checkpointing)
        yield Case(_name(config), config, length)
    for config in (
        configuration(4, 128, 16, linear, True, evaluation=256),
        configuration(8, 64, 16, linear, True, accumulation=4),
        configuration(8, 128, 16, linear, True, precision="bf16-true"),
    ):
        yield Case(_name(config), config, config.tokenizer.max_length)
    for gigabytes in CAPS_GB:
        card = rulebook.load().smallest_gpu(gigabytes)[0]
        for config in (
            configuration(8, 128, 8, linear, False),
            configuration(32, 128, 16, linear, True),
            configuration(32, 64, 16, linear, False),
        ):
            yield Case(f"{_name(config)}, {gigabytes} GB", config, config.tokenizer.max_length, card.name)
    yield from recommended()


def recommended() -> Iterator[Case]:
    """What autotune recommends for 24 GB, for each goal; these must run."""
    from metagene_doctor.memory import device, read_lengths
    from metagene_doctor.tuning.prediction import predictor
    from metagene_doctor.tuning.search import Request, recommend
    from metagene_doctor.tuning.speed import Architecture
    from metagene_train.model import encoder_architecture

    book = rulebook.load()
    card = book.smallest_gpu(24)[0]
    architecture = Architecture.of(encoder_architecture(RunConfig().model.encoder_path))
    for goal in GOALS:
        request = Request(
            RunConfig(), book, device.of_gpu(card, ""), architecture, read_lengths.assumed(CLASSES), goal=goal
        )
        config = recommend(request, predictor(request)).config
        yield Case(f"recommended, {goal}", config, config.tokenizer.max_length, card.name)


def compare(case: Case) -> dict[str, Any]:
    """Predict and measure one case."""
    card, _ = choose_card(None, None)
    assert card is not None
    if case.cap is not None:
        # The memory of the smaller card, the kernels of this one.
        limited = rulebook.load().gpu(case.cap)
        card = limited.model_copy(update={"compute_capability": card.compute_capability})
    workload = Workload.from_config(case.config, num_labels=CLASSES, length=case.length)
    predicted = trace(workload, gpu=card)
    cap = None if case.cap is None else card.usable_gib - (predicted.device_gib - predicted.reserved_gib)
    measured = measure(case.config, num_labels=CLASSES, length=case.length, cap_gib=cap)
    return {
        "case": case.name,
        "cap": case.cap,
        "predicted": {name: getattr(predicted, name) for name in PREDICTED},
        "measured": measured.to_dict(),
        "problems": problems(case, predicted, measured),
    }


PREDICTED = (
    *("live_gib", "allocated_gib", "reserved_gib", "device_gib", "margin_gib", "phase", "fits", "retries"),
)


def problems(case: Case, predicted: MemoryProfile, measured: Measurement) -> list[str]:
    """Which bars this case misses."""
    found = []
    if measured.out_of_memory is not None:
        if case.name.startswith("recommended") or predicted.fits:
            found.append("ran out of memory, although it was said to fit")
        return found
    error = predicted.reserved_gib / measured.reserved_gib - 1
    if abs(error) > BAR and not measured.retries:
        found.append(f"reserved is off by {error:+.1%}")
    if measured.device_gib > predicted.device_gib + predicted.margin_gib:
        found.append("takes more than prediction and margin")
    return found


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| workload | live | reserved (predicted) | device (predicted ± margin) | step |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        measured, predicted = result["measured"], result["predicted"]
        step = measured["seconds_per_step"]
        lines.append(
            f"| {result['case']} | {measured['live_gib']:.2f} ({predicted['live_gib']:.2f}) "
            f"| {measured['reserved_gib']:.2f} ({predicted['reserved_gib']:.2f}) "
            f"| {measured['device_gib']:.2f} ({predicted['device_gib']:.2f} + {predicted['margin_gib']:.2f}) "
            f"| {'out of memory' if step is None else f'{step:.3f} s'} |"
        )
    return "\n".join(lines)


def _name(config: RunConfig) -> str:
    training, model = config.training, config.model
    targets = model.lora.target_modules
    shown = targets if isinstance(targets, str) else ",".join(name.removesuffix("_proj") for name in targets)
    parts = [f"{training.batch_size} x {config.tokenizer.max_length}", f"r {model.lora.r} {shown}"]
    parts += ["checkpointing"] * model.gradient_checkpointing
    parts += [f"evaluation {training.eval_batch_size}"] * bool(training.eval_batch_size)
    parts += [f"{training.grad_accum_steps} accumulated"] * (training.grad_accum_steps > 1)
    parts += [training.precision] * (training.precision != "bf16-mixed")
    return ", ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, help="stop after this many workloads")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("gpu_memory: no CUDA GPU on this machine; nothing was measured", file=sys.stderr)
        return 2
    card = re.sub(r"\W+", "_", torch.cuda.get_device_name(0).removeprefix("NVIDIA ").lower())
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"gpu_memory_{card}.json"
    results: list[dict[str, Any]] = []
    for case in list(grid())[: options.limit]:
        results.append(compare(case))
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{case.name}: {'; '.join(results[-1]['problems']) or 'ok'}", file=sys.stderr)
    print(table(results))
    return 1 if any(result["problems"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
