"""Running a workload on the GPU of this machine, and remembering what it took.

The measurement runs in a subprocess (`metagene_doctor.memory.measured.probe`); running out of memory there is
a result. Its ratio to the prediction calibrates later answers for the same card with the same torch
on this machine: ``calibration.json`` in ``$METAGENE_CACHE`` or ``~/.cache/metagene``.

This module is not yet measured on a GPU: it has run against a stand-in for the subprocess only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial

from metagene_doctor.memory.costs.estimate import Estimate
from metagene_doctor.memory.measured.calibration import remember
from metagene_doctor.memory.measured.measurement import Measurement
from metagene_doctor.memory.measured.probe import Job, to_json
from metagene_train.config import RunConfig
from metagene_train.errors import InputError, RunError

LONGEST_S = 1800
"""A probe that takes longer has hung: loading 26 GB and four steps take minutes."""


Runner = Callable[[str], str]
"""Runs a probe: job as JSON in, result as JSON out."""


def measure(
    config: RunConfig,
    *,
    num_labels: int,
    length: int,
    cap_gib: float | None = None,
    runner: Runner | None = None,
    longest_s: float = LONGEST_S,
) -> Measurement:
    """Run the workload on GPU 0, where the allocator may reserve at most ``cap_gib``.

    Raises InputError without a CUDA GPU and RunError when the probe fails for another reason than
    memory, or takes longer than ``longest_s``.
    """
    job = Job(config.model_dump(mode="json"), num_labels, length, cap_gib)
    answer = json.loads((runner or partial(_subprocess, longest_s=longest_s))(to_json(job)))
    known = {field.name for field in fields(Measurement)}
    return Measurement(cap_gib=cap_gib, **{name: value for name, value in answer.items() if name in known})


def measure_and_remember(answer: Estimate, config: RunConfig) -> Measurement:
    """Measure what was estimated, capped to the estimate's card when this one is larger."""
    usable = answer.memory.usable_gib
    outside = answer.memory.device_gib - answer.memory.reserved_gib
    measured = measure(
        config,
        num_labels=answer.num_labels,
        length=answer.token_length,
        cap_gib=None if usable is None else usable - outside,
    )
    remember(measured, answer.memory)
    return measured


def _subprocess(job: str, longest_s: float) -> str:
    import torch

    if not torch.cuda.is_available():
        raise InputError("--measure: no CUDA GPU on this machine; leave it out for the dry run alone")
    return run_probe([sys.executable, "-m", "metagene_doctor.memory.measured.probe"], job, longest_s)


def run_probe(command: Sequence[str], job: str, longest_s: float) -> str:
    """The last line that the probe prints. Raises RunError when it fails or takes too long."""
    try:
        done = subprocess.run(
            command, input=job, capture_output=True, text=True, timeout=longest_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"--measure: the probe was ended after {longest_s:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunError(f"--measure: the probe failed: {reason}")
    return lines[-1]
