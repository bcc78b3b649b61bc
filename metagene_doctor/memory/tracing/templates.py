"""What workloads of the same structure have in common: one recording, with sizes as formulas.

A structure is traced once. Its template is kept in memory, and in the cache directory for later commands
(`template_store`); several that are missing are traced in processes of their own.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metagene_doctor.memory import sizes
from metagene_doctor.memory.tracing import depth, template_store
from metagene_doctor.memory.tracing.recording import TRACED_LAYERS, with_second_step
from metagene_doctor.memory.tracing.template import Capability, Template
from metagene_doctor.memory.workload import Workload
from metagene_train.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OLDEST: Capability = (7, 0)
"""Compute capability that stands for every older one, and for a processor, which has none."""
MOST_KEPT = 64
"""Templates kept in memory, a megabyte each."""

_known: dict[tuple[Workload, Capability], Template] = {}


def template_of(structure: Workload, capability: Capability) -> Template:
    """The template of a structure (`Workload.structure`) on cards of this compute capability."""
    return templates([structure], capability)[0]


def templates(structures: Sequence[Workload], capability: Capability, processes: int = 1) -> list[Template]:
    """The template of each structure; what is not known yet is traced, in up to ``processes`` processes.

    Raises InputError (no such encoder) and ConfigError (target modules or layers that it lacks).
    """
    capability = _alike(capability)
    found: dict[Workload, Template] = {}
    missing = []
    for structure in dict.fromkeys(structures):
        known = _known.get((structure, capability)) or template_store.load(structure, capability)
        if known is None:
            missing.append(structure)
        else:
            found[structure] = known
    for structure, traced in zip(missing, _trace_all(missing, capability, processes), strict=True):
        found[structure] = traced
        template_store.save(structure, capability, traced)
    for structure, template in found.items():
        _keep(structure, capability, template)
    return [found[structure] for structure in structures]


def _alike(capability: Capability) -> Capability:
    """The oldest compute capability whose kernels allocate alike: attention changes with 8.0, cuBLAS's
    workspaces with 9.0 (`metagene_doctor.memory.tracing.cuda_semantics`)."""
    return max((known for known in (OLDEST, (8, 0), (9, 0)) if known <= capability), default=OLDEST)


def forget() -> None:
    """Drop the templates kept in memory (not those in the cache directory)."""
    _known.clear()


def _keep(structure: Workload, capability: Capability, template: Template) -> None:
    _known[structure, capability] = template
    if len(_known) > MOST_KEPT:
        del _known[next(iter(_known))]


def _trace_all(structures: Sequence[Workload], capability: Capability, processes: int) -> list[Template]:
    if structures:
        from metagene_doctor.memory.tracing import rehearsal

        rehearsal.import_what_it_needs()
    if len(structures) > 1 and processes > 1 and _may_fork():
        workers = min(processes, len(structures))
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            return list(pool.map(_trace, structures, [capability] * len(structures)))
    return [_trace(structure, capability) for structure in structures]


def _may_fork() -> bool:
    """Whether a forked process can run torch's autograd engine.

    It cannot once the engine has started threads for devices here: for a GPU, and in some builds (Debian's
    has Vulkan) without one.
    """
    import torch

    return not torch.cuda.is_available() and not any(
        name.read_text().startswith("pt_autograd") for name in Path("/proc/self/task").glob("*/comm")
    )


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _trace(structure: Workload, capability: Capability) -> Template:
    """Record a structure at prime dimensions, four layers of it, and repeat the layers to full depth."""
    from metagene_doctor.memory.tracing import rehearsal
    from metagene_doctor.memory.tracing.recorder import record
    from metagene_train.encoder import encoder_architecture

    architecture = encoder_architecture(structure.encoder_path, structure.revision)
    dimensions = sizes.prime_dimensions(_numbers(architecture))
    layers = structure.encoder_layers or architecture.num_hidden_layers
    if layers > architecture.num_hidden_layers:
        raise ConfigError(
            [
                f"model.encoder_layers: {layers} layers asked for, {structure.encoder_path} has "
                f"{architecture.num_hidden_layers}"
            ]
        )
    traced = min(layers, TRACED_LAYERS)
    workload = replace(
        structure,
        encoder_layers=traced,
        micro_batch=dimensions.micro_batch,
        length=dimensions.tokens,
        rank=dimensions.rank,
        num_labels=dimensions.labels,
        evaluation_batch=dimensions.evaluation_batch,
    )
    one_step = record(
        functools.partial(rehearsal.build, workload, architecture),
        functools.partial(rehearsal.train, workload),
        steps=1,
        evaluate=functools.partial(rehearsal.evaluate, workload),
        repeated_layers=rehearsal.layers_name(workload) if layers > TRACED_LAYERS else None,
        compute_capability=capability,
    )
    recording = with_second_step(one_step)
    stream = depth.deepen(recording, layers) if layers > TRACED_LAYERS else depth.plain(recording)
    growth = np.zeros(len(recording.sizes), dtype=np.int64)
    for storage, per_layer in recording.growth.items():
        growth[storage] = per_layer * (layers - traced)
    operations = list(recording.operations.items())
    tensors = [(at, size) for at, (operation, _) in enumerate(operations) for size in operation.tensors]
    return Template(
        stream=stream,
        categories=tuple(recording.categories),
        sizes=sizes.formulas(recording.sizes, dimensions),
        growth=growth,
        flops=sizes.formulas([operation.flops for operation, _ in operations], dimensions),
        traffic=sizes.formulas([size for _, size in tensors], dimensions),
        drawn=sizes.formulas([operation.drawn for operation, _ in operations], dimensions),
        launch_of=np.array([at for at, _ in tensors], dtype=np.int64),
        launches=np.array(
            [
                count * (depth.multiplicity(operation.layer, layers) if layers > TRACED_LAYERS else 1)
                for operation, count in operations
            ],
            dtype=np.int64,
        ),
        phases=np.array([operation.phase for operation, _ in operations]),
    )


def _numbers(architecture: PretrainedConfig) -> list[int]:
    """Every integer of the architecture, and the head size, which is not always among them."""
    numbers = [value for value in architecture.to_dict().values() if type(value) is int]
    return [*numbers, architecture.hidden_size // architecture.num_attention_heads]
