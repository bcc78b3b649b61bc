"""The dry run of METAGENE-1 at full size beside what PyTorch itself counts, on a CPU.

    python benchmarks/full_size_memory.py [--workloads 1x64 4x128 2x128:checkpointing]

METAGENE-1's 32 layers are built with memory that nobody writes to (the system lends it pages of zeros, so
12 GiB of weights take none), and two optimizer steps really run; PyTorch's profiler counts what is allocated
on top of the weights. The dry run traces four layers for a CPU and repeats them to full depth. A workload is
reads x tokens; it takes 2 minutes (1x64) to 6 (4x128) on two cores. What only a GPU does (its kernels, its
allocator, its context) is not in this: `gpu_memory.py` measures that.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from metagene_doctor.memory.profiling import recorded_sizes
from metagene_doctor.memory.tracing import depth, rehearsal
from metagene_doctor.memory.tracing.recorder import record
from metagene_doctor.memory.tracing.recording import TRACED_LAYERS, Phase
from metagene_doctor.memory.workload import Workload
from metagene_train.config import RunConfig
from metagene_train.encoder import encoder_architecture
from metagene_train.model import build_model
from metagene_train.training.step import build_optimizer, training_step

MIB = 2**20
DEFAULT = ("1x64", "4x128", "2x128:checkpointing")


@dataclass(frozen=True)
class Run:
    """``reads`` x ``tokens``, adapters of the default rank on all linear layers, bf16 autocast, no dropout
    (which a CPU allocates in another way)."""

    reads: int
    tokens: int
    checkpointing: bool

    @classmethod
    def named(cls, name: str) -> Run:
        size, _, option = name.partition(":")
        reads, tokens = size.split("x")
        if option not in ("", "checkpointing"):
            raise SystemExit(f"{name}: reads x tokens, or reads x tokens:checkpointing")
        return cls(int(reads), int(tokens), bool(option))

    @property
    def config(self) -> RunConfig:
        config = RunConfig()
        config.model.lora.dropout = config.model.dropout = 0.0
        config.model.lora.target_modules = "all-linear"
        config.model.gradient_checkpointing = self.checkpointing
        config.training.precision = "bf16-mixed"
        return config

    def build(self) -> tuple[Any, Any]:
        architecture = encoder_architecture(self.config.model.encoder_path, None)
        model = build_model(self.config, 7, encoder_config=architecture, weights=False)
        return model, build_optimizer(model, self.config)

    def step(self, model: Any, optimizer: Any) -> None:
        training_step(model, optimizer, [rehearsal.batch(self.reads, self.tokens)], self.config)


def predicted(run: Run) -> tuple[float, float]:
    """Peak MiB above the loaded model, and the seconds that the answer takes."""
    started = time.perf_counter()
    config = run.config
    layers = encoder_architecture(config.model.encoder_path, None).num_hidden_layers
    recording = record(
        run.build,
        run.step,
        repeated_layers=rehearsal.layers_name(Workload.from_config(config, num_labels=7)),
        keep_layers=TRACED_LAYERS,
        compute_capability=None,
    )
    stream = depth.deepen(recording, layers)
    sizes = recorded_sizes(recording, stream, layers)
    live = np.cumsum(stream.signs * sizes[stream.storages])
    loaded = live[stream.phases == Phase.LOAD].max()
    return float(live.max() - loaded) / MIB, time.perf_counter() - started


def measured(run: Run) -> tuple[float, float]:
    """Peak MiB that PyTorch counts above the loaded model, and the seconds that two steps take."""
    model, _ = run.build()
    model = model.to_empty(device="cpu")
    optimizer = build_optimizer(model, run.config)
    started = time.perf_counter()
    with torch_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(2):
            run.step(model, optimizer)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(np.cumsum(changes)) / MIB, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", default=DEFAULT)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; MiB on top of the weights\n")
    print(
        "| reads x tokens | predicted | PyTorch's count | error | dry run s | two steps s |\n"
        + "|---" * 6
        + "|"
    )
    for name in options.workloads:
        run = Run.named(name)
        (expected, dry), (found, real) = predicted(run), measured(run)
        error = expected / found - 1
        print(
            f"| {name} | {expected:,.2f} | {found:,.2f} | {error:+.1e} | {dry:.1f} | {real:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
