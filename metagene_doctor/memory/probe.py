"""The child process of a measurement: one workload, run for real on a CUDA device.

``python -m metagene_doctor.memory.probe`` reads a job (`Job` as JSON) from stdin and writes the
result as one line of JSON to stdout. It is a process of its own so that the allocator is configured
before torch starts, memory use starts from nothing, and running out of memory harms nobody.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from metagene_train.config import RunConfig

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


def run(job: Job) -> dict[str, Any]:
    """Build the model with random weights, train, evaluate, and read the peaks (GiB, seconds)."""
    from metagene_train.allocator import configure_allocator

    config = RunConfig.model_validate(job.config)
    configure_allocator(config.memory_optimization)
    import pynvml
    import torch

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    before = _used(handle)
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    context = _used(handle) - before - torch.cuda.memory_reserved()
    if job.cap_gib is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.cap_gib * GIB / total))
    result: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        "context_gib": context / GIB,
        "out_of_memory": None,
        "seconds_per_step": None,
    }
    try:
        result["seconds_per_step"] = train_and_evaluate(config, job, "cuda")
    except torch.cuda.OutOfMemoryError as error:
        result["out_of_memory"] = str(error).splitlines()[0]
    torch.cuda.synchronize()
    reserved = torch.cuda.memory_reserved()
    stats = torch.cuda.memory_stats()
    return result | {
        "live_gib": stats["requested_bytes.all.peak"] / GIB,
        "allocated_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
        # Outside the allocator: the context and the kernels that were loaded on the way.
        "outside_gib": (_used(handle) - before - reserved) / GIB,
        "retries": stats["num_alloc_retries"],
    }


def train_and_evaluate(config: RunConfig, job: Job, device: str) -> float:
    """Run the job's steps on ``device``; seconds of the last training step."""
    import torch

    from metagene_train.training.step import build_optimizer, evaluation_step, training_step

    def settled() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    model = _model(config, job.num_labels, device)
    optimizer = build_optimizer(model, config)
    micro_batches = [
        _batch(config.training.batch_size, job, device) for _ in range(config.training.grad_accum_steps)
    ]
    seconds = 0.0
    for _ in range(STEPS):
        start = settled()
        training_step(model, optimizer, micro_batches, config)
        seconds = settled() - start
    if job.evaluate:
        reads = config.training.eval_batch_size or config.training.batch_size
        evaluation_step(model, _batch(reads, job, device))
    return seconds


def _model(config: RunConfig, num_labels: int, device: str) -> Any:
    """Random weights in the dtypes of training; a quantised encoder needs the real ones."""
    import torch

    from metagene_train.model import build_model

    if config.model.quantization != "none":
        return build_model(config, num_labels, device=device).to(device)
    model = build_model(config, num_labels, weights=False)
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


def _batch(reads: int, job: Job, device: str) -> dict[str, Any]:
    import torch

    tokens = torch.randint(6, 12, (reads, job.length), device=device)
    labels = torch.randint(0, job.num_labels, (reads,), device=device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def _used(handle: Any) -> int:
    import pynvml

    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def main() -> None:
    job = Job(**json.load(sys.stdin))
    print(json.dumps(run(job)))


def to_json(job: Job) -> str:
    return json.dumps(asdict(job))


if __name__ == "__main__":
    main()
