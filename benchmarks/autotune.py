"""How fast memory answers come: one answer, a search, and the search against tracing every candidate.

    python benchmarks/autotune.py [--processes 2] [--json FILE]

Times are wall clock after imports, on the machine it runs on; processor time says what they would be on
an idle one. "Separately" is the mean of a few direct traces of all 32 layers, times the number of
candidates.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

LENGTHS = (48, 64, 128, 192, 256, 512)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
RANKS = (4, 8, 16, 64)
TARGETS: tuple[tuple[str, ...] | str, ...] = (
    ("q_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    "all-linear",
)
SEPARATE = 3
"""Direct traces that are timed."""
AGAIN = 20
"""Answers of a structure traced before that are timed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as options.directory:
        measure(options)


def know_nothing(directory: str) -> None:
    """Forget what was traced, in memory and on disk, and any calibration."""
    from metagene_doctor.memory.tracing import templates

    templates.forget()
    os.environ["METAGENE_CACHE"] = tempfile.mkdtemp(dir=directory)


def measure(options: argparse.Namespace) -> None:
    # Imports are not part of any time below.
    import peft  # noqa: F401
    import torch
    from transformers.models.llama import modeling_llama  # noqa: F401

    import metagene_train.training.step  # noqa: F401
    from metagene_doctor import rulebook
    from metagene_doctor.memory import Workload, profile_many, trace
    from metagene_doctor.memory.costs import read_lengths
    from metagene_doctor.memory.measured import device
    from metagene_doctor.tuning import autotune
    from metagene_doctor.tuning.search import Request
    from metagene_doctor.tuning.speed import Architecture
    from metagene_train.config import RunConfig
    from metagene_train.model import encoder_architecture

    torch.set_num_threads(1)
    card = rulebook.load().gpu("rtx4090")
    base = Workload.from_config(RunConfig(), num_labels=1000)
    results: dict[str, float] = {}

    def result(name: str, value: float) -> None:
        results[name] = value
        print(f"{name:28} {value:,.2f}", flush=True)

    know_nothing(options.directory)
    first = replace(base, micro_batch=8, length=128, checkpointing=True)
    start, busy = time.perf_counter(), processor_time()
    trace(first, gpu=card)
    result("single_answer_s", time.perf_counter() - start)
    result("single_answer_processor_s", processor_time() - busy)
    busy = processor_time()
    for micro_batch in range(9, 9 + AGAIN):
        trace(replace(first, micro_batch=micro_batch), gpu=card)
    result("traced_before_processor_s", (processor_time() - busy) / AGAIN)

    candidates = [
        replace(base, length=length, micro_batch=batch, evaluation_batch=batch, rank=rank, targets=targets)
        for length, batch, rank, targets in itertools.product(LENGTHS, BATCHES, RANKS, TARGETS)
    ]
    candidates += [replace(candidate, checkpointing=True) for candidate in candidates]
    know_nothing(options.directory)
    start, busy = time.perf_counter(), processor_time()
    profiles = profile_many(candidates, gpu=card, processes=options.processes)
    result("search_s", time.perf_counter() - start)
    result("search_processor_s", processor_time() - busy)
    result("candidates", len(profiles))
    result("fit", sum(bool(profile.fits) for profile in profiles))

    start, busy = time.perf_counter(), processor_time()
    for candidate in candidates[:: len(candidates) // SEPARATE][:SEPARATE]:
        directly(candidate)
    result("separately_each_s", (time.perf_counter() - start) / SEPARATE)
    result("separately_each_processor_s", (processor_time() - busy) / SEPARATE)
    separately = results["separately_each_processor_s"] * len(candidates)
    result("ratio_in_processor_time", separately / results["search_processor_s"])

    know_nothing(options.directory)
    request = Request(
        base=RunConfig(),
        book=rulebook.load(),
        device=device.of_gpu(card, ""),
        architecture=Architecture.of(encoder_architecture(RunConfig().model.encoder_path)),
        reads=read_lengths.assumed(1000),
    )
    start, busy = time.perf_counter(), processor_time()
    autotune.run(request)
    result("autotune_s", time.perf_counter() - start)
    result("autotune_processor_s", processor_time() - busy)

    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result("memory_gib", usage[0] / 2**20)
    result("memory_of_largest_child_gib", usage[1] / 2**20)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def processor_time() -> float:
    """Seconds of processor that this process and its children have used."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def directly(work: object) -> None:
    """Record and replay one candidate with all its layers and its own sizes."""
    from metagene_doctor.memory.profiling import recorded_sizes, summarise
    from metagene_doctor.memory.tracing import depth, rehearsal
    from metagene_doctor.memory.tracing.recorder import record
    from metagene_doctor.memory.workload import Workload
    from metagene_train.model import encoder_architecture

    assert isinstance(work, Workload)
    recording = record(
        functools.partial(rehearsal.build, work, encoder_architecture(work.encoder_path)),
        functools.partial(rehearsal.train, work),
        evaluate=functools.partial(rehearsal.evaluate, work),
    )
    stream = depth.plain(recording)
    summarise(stream, recorded_sizes(recording, stream, 0), recording.categories, expandable=True)


if __name__ == "__main__":
    main()
