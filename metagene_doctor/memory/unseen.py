"""What no trace can see, as named terms: each with its size, its bounds and where it comes from.

Sizes are in GiB. None of these was measured on a GPU by this project yet; a machine that has run
``metagene estimate --measure`` replaces the context term by its own measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

from metagene_doctor.report.quantities import whole_percent

NOT_MEASURED = "not yet measured on a GPU"


@dataclass(frozen=True)
class Term:
    """Memory outside the trace: ``gib`` expected, ``low`` to ``high`` possible."""

    name: str
    gib: float
    low: float
    high: float
    source: str


CONTEXT = Term(
    "CUDA context",
    gib=0.42,
    low=0.27,
    high=0.55,
    source="426 MiB on an RTX 6000 Ada with torch 2.10 and CUDA 13 (unsloth-zoo#1053), 287 MB with lazy "
    "loading (pytorch#86509), 300-400 MB (pytorch#107667, pytorch#109888)",
)
KERNELS = Term(
    "kernels loaded during the run",
    gib=0.15,
    low=0.05,
    high=0.35,
    source="CUDA_MODULE_LOADING=LAZY loads each module at its first launch, tens of MB each (cuBLAS, "
    "attention, element-wise); 666 MB when all are loaded at once (pytorch#86509)",
)
QUANTIZATION_KERNELS = Term(
    "bitsandbytes kernels",
    gib=0.05,
    low=0.0,
    high=0.15,
    source="size of its CUDA libraries; they hold workspaces of their own (igemmlt)",
)
COMMUNICATION = Term(
    "NCCL buffers",
    gib=0.4,
    low=0.1,
    high=1.5,
    source="4 MiB for each connection of each channel (nccl#285, nccl#1450), up to 32 channels on NVLink; "
    "users saw 110 MB (nccl#34) to 1.6 GB (nccl#864)",
)
"""Of a process that trains with others; NCCL takes them outside PyTorch's allocator."""
ALLOCATOR_SHARE = 0.03
"""Bound on the error of reserved bytes beyond the static ones, as a share of them: what kernels keep
for themselves (reductions, split matrix products) and orders of release that differ. The bar that
``benchmarks/gpu_memory.py`` holds the prediction to."""
ALLOCATOR_FLOOR_GIB = 0.05
"""The same bound for small workloads: two large-pool pages."""


OUTSIDE = (CONTEXT, KERNELS)
"""What adds to reserved memory to give what nvidia-smi shows for the process."""


def outside_the_allocator(quantized: bool) -> tuple[Term, ...]:
    """`OUTSIDE`, with the kernels of bitsandbytes where the encoder is quantised."""
    return (*OUTSIDE, QUANTIZATION_KERNELS) if quantized else OUTSIDE


def of_data_parallelism(devices: int) -> tuple[Term, ...]:
    """What several devices add outside the allocator of each."""
    return (COMMUNICATION,) if devices > 1 else ()


def allocator_term(dynamic_gib: float, underestimated_gib: float = 0.0) -> Term:
    """The error bound of the replay, for the reserved memory that is not weights or optimizer state.

    ``underestimated_gib`` is what measurements on this machine add to the reserved memory.
    """
    bound = max(ALLOCATOR_FLOOR_GIB, ALLOCATOR_SHARE * dynamic_gib)
    return Term(
        "kernel workspaces and order of release",
        gib=0.0,
        low=-bound,
        high=max(bound, underestimated_gib),
        source=f"{whole_percent(ALLOCATOR_SHARE)} of what comes and goes, at least {ALLOCATOR_FLOOR_GIB} GiB"
        + (", and the worst underestimate measured here" if underestimated_gib > bound else ""),
    )
