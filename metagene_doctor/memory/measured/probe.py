"""The child process of a measurement: one workload, run for real on a CUDA device.

``python -m metagene_doctor.memory.measured.probe`` reads a job (`Job` as JSON) from stdin and writes the
result as one line of JSON to stdout. It is a process of its own so that the allocator is configured
before torch starts, memory use starts from nothing, and running out of memory harms nobody.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from metagene_train.config import RunConfig

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from metagene_train.model import ReadClassifier

GIB = 2**30
STEPS = 4
"""Training steps: the first fills caches and state, the last is timed."""


@dataclass(frozen=True)
class Job:
    """``config`` as `RunConfig.model_dump` gives it; ``cap_gib`` limits what the allocator may reserve."""

    config: dict[str, Any]
    num_labels: int
    length: int
    cap_gib: float | None = None
    evaluate: bool = True


class Card(Protocol):
    """The card a probe runs on, so that its bookkeeping can be tested without one."""

    device: str
    """What torch calls it."""
    name: str
    driver: str

    def used(self) -> int:
        """Bytes in use on the card, by whatever process."""

    def open(self) -> None:
        """Create the context."""

    def limit(self, gib: float) -> None:
        """Have the allocator reserve no more than this."""

    def stats(self) -> Mapping[str, int]:
        """`torch.cuda.memory_stats`."""

    def forget_peaks(self) -> None: ...

    def settle(self) -> None:
        """Wait until what was launched has run."""


class CudaCard:
    """The card that torch calls ``cuda:0``, its use in all as the driver tells it.

    Without NVML (a container that lacks it) the use is taken from CUDA, which knows it only once there
    is a context: what was in use before is then taken as nothing.
    """

    device = "cuda"

    def __init__(self) -> None:
        from metagene_doctor.facts.machine import gpu

        facts = gpu.collect()
        first = gpu.first_visible(facts.devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._handle = None
        if first is not None:
            import pynvml

            pynvml.nvmlInit()
            # A slice of a card (MIG) has a UUID and memory of its own, and the index of the card.
            is_slice = first.uuid.startswith("MIG-")
            self._handle = (
                pynvml.nvmlDeviceGetHandleByUUID(first.uuid)
                if is_slice
                else pynvml.nvmlDeviceGetHandleByIndex(first.index)
            )
        self.driver = facts.driver_version or f"unknown (NVML: {facts.message or facts.state})"
        self.name = "" if first is None else first.name
        self._opened = False

    def used(self) -> int:
        if self._handle is not None:
            import pynvml

            return int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        if not self._opened:
            return 0
        import torch

        free, total = torch.cuda.mem_get_info()
        return total - free

    def open(self) -> None:
        import torch

        torch.zeros(1, device=self.device)
        self.settle()
        # Not before: torch may create the context when it is asked, and that is what is measured.
        self.name = torch.cuda.get_device_name(0)
        self._opened = True

    def limit(self, gib: float) -> None:
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / total))

    def stats(self) -> Mapping[str, int]:
        import torch

        return torch.cuda.memory_stats()

    def forget_peaks(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def settle(self) -> None:
        import torch

        torch.cuda.synchronize()


PEAKS = {
    "live_gib": "requested_bytes.all.peak",
    "allocated_gib": "allocated_bytes.all.peak",
    "reserved_gib": "reserved_bytes.all.peak",
}
"""Our names of what `torch.cuda.memory_stats` calls so."""
OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""How CUDA's libraries, which allocate for themselves, say it; torch's allocator has an error of its own."""


def run(job: Job, card: Card | None = None) -> dict[str, Any]:
    """Build the model with random weights, train, evaluate, and read the peaks (GiB, seconds).

    ``moments`` has the peaks of loading, of each step and of the evaluation.
    """
    from metagene_train.allocator import configure_allocator

    config = RunConfig.model_validate(job.config)
    configure_allocator(config.memory_optimization)
    import torch

    card = card or CudaCard()
    before = card.used()
    card.open()
    context = card.used() - before - card.stats()["reserved_bytes.all.current"]
    if job.cap_gib is not None:
        card.limit(job.cap_gib)
    moments: list[dict[str, Any]] = []

    def note(what: str) -> None:
        card.settle()
        stats = card.stats()
        moments.append({"after": what} | {name: stats[key] / GIB for name, key in PEAKS.items()})
        card.forget_peaks()

    seconds = failure = None
    try:
        seconds = train_and_evaluate(config, job, card.device, note)
    except RuntimeError as error:
        failure = str(error).splitlines()[0]
        is_memory = isinstance(error, torch.cuda.OutOfMemoryError)
        if not is_memory and not any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise
        note("running out of memory")
    stats = card.stats()
    outside = card.used() - before - stats["reserved_bytes.all.current"]
    return {
        "gpu": card.name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": card.driver,
        "out_of_memory": failure,
        "seconds_per_step": seconds,
        "context_gib": context / GIB,
        # Outside the allocator: the context and the kernels that were loaded on the way.
        "outside_gib": outside / GIB,
        "in_use_before_gib": before / GIB,
        "retries": stats["num_alloc_retries"],
        **{name: max(moment[name] for moment in moments) for name in PEAKS},
        "moments": moments,
    }


def train_and_evaluate(
    config: RunConfig, job: Job, device: str, note: Callable[[str], None] = lambda what: None
) -> float:
    """Run the job's steps on ``device``; seconds of the last training step. ``note`` hears what is done."""
    import torch

    from metagene_train.training.step import build_optimizer, evaluation_step, training_step

    def settled() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    model = _model(config, job.num_labels, device)
    optimizer = build_optimizer(model, config)
    note("loading")
    micro_batches = [
        _batch(config.training.batch_size, job, device) for _ in range(config.training.grad_accum_steps)
    ]
    seconds = 0.0
    for number in range(1, STEPS + 1):
        start = settled()
        training_step(model, optimizer, micro_batches, config)
        seconds = settled() - start
        note(f"step {number}")
    if job.evaluate:
        reads = config.training.eval_batch_size or config.training.batch_size
        evaluation_step(model, _batch(reads, job, device))
        note("evaluation")
    return seconds


def _model(config: RunConfig, num_labels: int, device: str) -> Any:
    """Weights that are all alike, in the dtypes of training and packed where the config says so."""
    import torch

    from metagene_train.model import build_model

    if config.model.quantization != "none":
        return build_model(
            config, num_labels, make_encoder=partial(_packed, config, torch.device(device)), device=device
        )
    return with_equal_weights(build_model(config, num_labels, weights=False), device)


def with_equal_weights(model: ReadClassifier, device: str) -> ReadClassifier:
    """A model of the meta device on a real one."""
    import torch

    model.to_empty(device=device)
    with torch.no_grad():
        for parameter in model.parameters():
            # One value for all: no fp32 temporary, no overflow, and gradients that are not zero.
            parameter.fill_(0.01)
        for name, buffer in model.named_buffers():
            if name.endswith("inv_freq"):
                exponents = torch.arange(buffer.numel(), device=device) / buffer.numel()
                buffer.copy_(10_000.0**-exponents)
    return model


def _packed(config: RunConfig, device: torch.device, architecture: PretrainedConfig) -> PreTrainedModel:
    from metagene_train.encoder import empty_encoder
    from metagene_train.quantized import pack_alike

    encoder = empty_encoder(config, architecture)
    pack_alike(encoder, config, device)
    return encoder


def _batch(reads: int, job: Job, device: str) -> dict[str, Any]:
    import torch

    tokens = torch.randint(6, 12, (reads, job.length), device=device)
    labels = torch.randint(0, job.num_labels, (reads,), device=device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def main() -> None:
    job = Job(**json.load(sys.stdin))
    print(json.dumps(run(job)))


def to_json(job: Job) -> str:
    return json.dumps(asdict(job))


if __name__ == "__main__":
    main()
