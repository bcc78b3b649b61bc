"""Requests for a search, and predictions of a made-up model instead of dry runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metagene_doctor import rulebook
from metagene_doctor.memory.costs import read_lengths as reads
from metagene_doctor.memory.measured import device
from metagene_doctor.rulebook.schema import Policy
from metagene_doctor.tuning import plan, search
from metagene_doctor.tuning.search import Prediction
from metagene_doctor.tuning.speed import Architecture, Speed
from metagene_train.config import RunConfig

BOOK = rulebook.load()
METAGENE = Architecture(
    layers=32, hidden=4096, ffn=11008, query=4096, key_value=4096, context=512, vocabulary=1024
)


@dataclass
class Peak:
    """Memory of a made-up model: weights, adapters, and activations per token."""

    live_gib: float
    margin_gib: float = 0.3
    phase: str = "backward"
    breakdown: dict[str, float] = field(default_factory=dict)

    @property
    def reserved_gib(self) -> float:
        return 1.02 * self.live_gib

    @property
    def device_gib(self) -> float:
        return self.reserved_gib + 0.5


def made_up(configs: Sequence[RunConfig], more_gib: float = 0) -> list[Prediction]:
    """METAGENE-1's orders of magnitude: 12 GiB of weights, 6 MiB a token kept, 0.6 with checkpointing;
    a pass takes 20 ms and a millisecond a read, three passes with checkpointing, otherwise two."""
    found = []
    for config in configs:
        weights = {"none": 12.07, "int8": 6.2, "nf4": 3.2}[config.model.quantization]
        weights *= 2 if config.training.precision == "32" else 1
        per_token = 0.6 if config.model.gradient_checkpointing else 6.0
        tokens = config.training.batch_size * config.tokenizer.max_length
        lora = config.model.lora
        adapters = METAGENE.adapter_parameters(lora.r, lora.target_modules) * 16 / 2**30
        evaluated = (config.training.eval_batch_size or 0) * config.tokenizer.max_length * 0.2
        peak = Peak(more_gib + weights + adapters + max(tokens * per_token, evaluated) / 1024)
        passes = 3 if config.model.gradient_checkpointing else 2
        rate = config.training.batch_size / (passes * (0.02 + 0.001 * config.training.batch_size))
        found.append(Prediction(peak, Speed(rate, 0.7 * rate, 1.2 * rate, 40.0, "arithmetic")))
    return found


def statistics(*lengths: int, number: int | None = 50_000, classes: int = 20) -> reads.ReadStatistics:
    """Reads of these token lengths, equally frequent."""
    counts = np.bincount(lengths) / len(lengths)
    return reads.ReadStatistics(number, classes, 150, counts, "made up", 0)


def planned(policy: Policy, *, number: int = 20_000, hidden: int = 4096) -> plan.Plan:
    """What the rules say of so many reads of 36 tokens on a 24 GB card."""
    found = statistics(36, number=number)
    return plan.make(policy, BOOK, RunConfig(), found, goal="balanced", gpu_gb=24, context=512, hidden=hidden)


def request(gpu_mem: float = 24, gpu: str | None = None, **wishes: object) -> search.Request:
    target = device.choose(BOOK, gpu=gpu) if gpu else device.choose(BOOK, gpu_mem=gpu_mem)
    values = {"base": RunConfig(), "reads": statistics(36, 40), **wishes}
    return search.Request(book=BOOK, device=target, architecture=METAGENE, **values)  # type: ignore[arg-type]
