"""How fast this machine's processor is, measured in half a second: what a vendor publishes of a card.

Four things are timed in turn, so that other work on the machine falls on all of them alike: matrix
products, copies of memory, random numbers (dropout), and a training step so small that nothing but the
host's time for each operation is left of it (Python, autograd, dispatch).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from metagene_doctor.memory.workload import Workload
from metagene_doctor.rulebook import Gpu
from metagene_train.config import RunConfig, TrainingConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SECONDS = 0.5
FEWEST_ROUNDS = 5
SIDE = 512
"""Of the square matrices that are multiplied."""
COPIED_BYTES = 32 * 2**20
"""More than the caches of a core hold."""
DRAWN = 2**16
"""Random numbers at once: as many as the dropout of a small micro-batch takes."""


class HostRates(Gpu):
    """A processor in the form of a card: rates at their best, when nothing else took its time."""

    launch_s: float
    """Host time of one operation of a training step."""
    draw_s: float
    """Time of one random number."""
    strain: float
    """How many times as long things took half of the time as at their best: 1 on an idle machine."""


def measure(title: str, memory_mib: int) -> HostRates:
    """Time this machine's processor. ``memory_mib`` is the memory a process may use."""
    import torch

    with torch.random.fork_rng(devices=[]):  # drawing leaves the numbers of a run as they were
        probes = (_matrix(), _memory(), _random(), _step())
        for probe in probes:
            probe.run()
        rounds: list[list[float]] = []
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS or len(rounds) < FEWEST_ROUNDS:
            rounds.append([_timed(probe) for probe in probes])
    taken = list(zip(*rounds, strict=True))
    flop, copied, draw, launch = (
        min(times) / probe.amount for times, probe in zip(taken, probes, strict=True)
    )
    strains = [median(times) / min(times) for times in taken]
    return HostRates(
        name="cpu",
        title=title,
        marketed_gb=0,
        visible_mib=memory_mib,
        visible="reported",
        bf16_tflops=1e-12 / flop,
        fp32_tflops=1e-12 / flop,
        bandwidth_gbs=1e-9 / copied,
        compute_capability="0.0",
        bf16=False,
        source="measured",
        launch_s=launch,
        draw_s=draw,
        strain=math.prod(strains) ** (1 / len(strains)),
    )


class Probe(NamedTuple):
    """What is timed, and how much it does: operations, bytes, numbers, launches."""

    run: Callable[[], Any]
    amount: float


def _timed(probe: Probe) -> float:
    start = time.perf_counter()
    probe.run()
    return time.perf_counter() - start


def _matrix() -> Probe:
    import torch

    left = torch.ones(SIDE, SIDE)
    product = left @ left
    return Probe(lambda: torch.matmul(left, left, out=product), 2 * SIDE**3)


def _memory() -> Probe:
    import torch

    block = torch.ones(COPIED_BYTES // 4)
    copy = block.clone()
    return Probe(lambda: copy.copy_(block), 2 * COPIED_BYTES)


def _random() -> Probe:
    import torch

    kept = torch.empty(DRAWN)
    return Probe(lambda: kept.bernoulli_(0.9), DRAWN)


def _step() -> Probe:
    """A training step on one read of 8 tokens, and its launches as a dry run counts them."""
    from metagene_doctor.memory.measured.probe import with_equal_weights
    from metagene_doctor.memory.tracing import rehearsal
    from metagene_doctor.memory.tracing.recorder import record
    from metagene_doctor.memory.tracing.templates import OLDEST
    from metagene_train.model import build_model
    from metagene_train.training.step import build_optimizer

    rehearsal.import_what_it_needs()
    workload, architecture = _smallest()
    build = functools.partial(rehearsal.build, workload, architecture)
    train = functools.partial(rehearsal.train, workload)
    counted = record(build, train, steps=1, compute_capability=OLDEST)
    config = rehearsal.run_config(workload)
    model = build_model(config, workload.num_labels, encoder_config=architecture, weights=False)
    model = with_equal_weights(model, "cpu")
    step = functools.partial(train, model, build_optimizer(model, config))
    return Probe(step, counted.operations.total())


def _smallest() -> tuple[Workload, PretrainedConfig]:
    """METAGENE-1 with two layers of 64 units: arithmetic that takes no time."""
    from metagene_train.encoder import encoder_architecture

    config = RunConfig(training=TrainingConfig(batch_size=1, grad_accum_steps=1, precision="32"))
    architecture = encoder_architecture(config.model.encoder_path)
    architecture.update(
        {
            "num_hidden_layers": 2,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "vocab_size": 64,
        }
    )
    return Workload.from_config(config, num_labels=2, length=8), architecture
