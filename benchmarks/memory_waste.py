"""What common habits cost in GPU memory: METAGENE-1, each habit traced with and without.

    python benchmarks/memory_waste.py

Prints the table of docs/memory.md. Dry runs only: not yet measured on a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from metagene_doctor.memory import Workload, profile
from metagene_doctor.memory.replay.allocator import replay
from metagene_doctor.memory.tracing import rehearsal
from metagene_doctor.memory.tracing.template import Template
from metagene_doctor.memory.tracing.templates import template_of
from metagene_train.config import RunConfig
from metagene_train.model import encoder_architecture

LAYERS = "encoder.base_model.model.layers"
Change = Callable[[Any], None]


def workload(**changes: object) -> Workload:
    base = Workload.from_config(RunConfig(), num_labels=1000, length=128)
    base = replace(base, micro_batch=16, evaluation_batch=16, rank=16, targets="all-linear")
    return replace(base, **changes)  # type: ignore[arg-type]


def peak(
    work: Workload, change: Change | None = None, optimizer: Change | None = None, evaluates: bool = False
) -> float:
    """Live GiB of two training steps, or of an evaluation alone.

    ``change`` alters the model, ``optimizer`` the optimizer.
    """
    from metagene_train.training.step import evaluation_step, training_step

    def build() -> tuple[Any, Any]:
        model, update = rehearsal.build(work, encoder_architecture(work.encoder_path))
        if change:
            change(model)
        if optimizer:
            optimizer(update)
        return model, update

    def step(model: Any, update: Any) -> None:
        if evaluates:
            evaluation_step(model, rehearsal.batch(work.evaluation_batch, work.length))
            return
        training_step(
            model, update, [rehearsal.batch(work.micro_batch, work.length)], rehearsal.run_config(work)
        )

    return profile(build, step, repeated_layers=LAYERS).live_gib


def cast_inputs(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = True


def own_norms_and_mlps(model: Any) -> None:
    """Llama's modules as transformers has them."""
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    from metagene_train.lean import LeanMLP, LeanNorm

    for module in model.modules():
        if isinstance(module, LeanNorm | LeanMLP):
            module.__class__ = LlamaRMSNorm if isinstance(module, LeanNorm) else LlamaMLP


def own_dropouts(model: Any) -> None:
    """A mask and a copy for each adapter, as PEFT has it."""
    from torch.nn import Dropout

    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = Dropout(0.1)


def as_peft_has_it(model: Any) -> None:
    own_norms_and_mlps(model)
    own_dropouts(model)
    cast_inputs(model)


def keep_inputs(model: Any) -> None:
    """8-bit products hold their inputs, as bitsandbytes does for a weight that might be trained."""
    from metagene_doctor.memory.tracing.quantized import QuantizedLinear

    def hold(_: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if output.grad_fn is not None:
            output.grad_fn.input = inputs[0].detach()

    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.register_forward_hook(hold)


def keep_cache(model: Any) -> None:
    model.encoder.base_model.model.config.use_cache = True


def attention(name: str, model: Any) -> None:
    """Another attention implementation, with the mask that transformers builds for padded batches."""
    encoder = model.encoder.base_model.model
    encoder.config._attn_implementation = name
    original = encoder.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        import torch

        tokens = kwargs["input_ids"]
        reads, length = tokens.shape
        mask = torch.ones(reads, 1, length, length, dtype=torch.bool)
        if name == "eager":
            mask = torch.zeros(reads, 1, length, length, dtype=encoder.dtype)
        return original(*args, **{**kwargs, "attention_mask": mask})

    encoder.forward = forward


def foreach(update: Any) -> None:
    for group in update.param_groups:
        group["fused"], group["foreach"] = False, True


def varying_lengths(work: Workload, lengths: tuple[int, ...], expandable: bool) -> float:
    """Reserved GiB after steps at these lengths, one after another."""
    template = template_of(work.structure(), (8, 0))
    events, sizes = several_steps(template, work, lengths)
    return replay(events, sizes, expandable=expandable).reserved / 2**30


def several_steps(
    template: Template, work: Workload, lengths: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """The recording's first step at the first length, then its second step once for each other length."""
    stream = template.stream
    at = {length: template.storage_sizes(work.dimensions._replace(tokens=length)) for length in lengths}
    from metagene_doctor.memory.tracing.recording import Phase

    training = stream.phases <= Phase.OPTIMIZER
    parts = [(np.flatnonzero((stream.steps <= 1) & training), lengths[0])]
    parts += [(np.flatnonzero((stream.steps == 2) & training), length) for length in lengths[1:]]
    events: list[int] = []
    sizes: list[int] = []
    number: dict[int, int] = {}
    for positions, length in parts:
        for position in positions:
            event = stream.events[position]
            if event >= 0:
                number[event] = len(sizes)
                events.append(len(sizes))
                sizes.append(int(at[length][event]))
            elif ~event in number:
                events.append(~number.pop(~event))
    return events, sizes


def main() -> None:
    plain, checkpointed = workload(checkpointing=False), workload(checkpointing=True)
    long = workload(micro_batch=8, length=512, checkpointing=False)
    rows: list[tuple[str, str, float, float]] = []

    def row(habit: str, where: str, without: float, with_it: float) -> None:
        rows.append((habit, where, without, with_it))
        print(
            f"| {habit} | {where} | {without:.2f} | {with_it:.2f} | {100 * (with_it / without - 1):+.0f} % |",
            flush=True,
        )

    print("| habit | workload | without | with | cost |\n|---|---|---|---|---|")
    base = {work: peak(work) for work in (plain, checkpointed, long)}
    names = {plain: "16 x 128", checkpointed: "16 x 128, checkpointing", long: "8 x 512"}
    for work in base:
        bare = replace(work, lora_dropout=False)
        without = peak(bare)
        row(
            "PEFT copies adapter inputs to fp32",
            f"{names[work]}, no dropout",
            without,
            peak(bare, cast_inputs),
        )
        row("LoRA dropout above 0", names[work], without, base[work])
        row("a dropout for each adapter", names[work], base[work], peak(work, own_dropouts))
        row("Llama's own norms and MLPs", names[work], base[work], peak(work, own_norms_and_mlps))
        row("plain PEFT: all of these", names[work], base[work], peak(work, as_peft_has_it))
    evaluation = replace(plain, evaluation_batch=128)
    lean = peak(evaluation, evaluates=True)
    row("KV cache left on", "evaluation, 128 x 128", lean, peak(evaluation, keep_cache, evaluates=True))
    for work in (plain, long):
        masked = peak(work, functools.partial(attention, "sdpa"))
        row("an attention mask for padding", names[work], base[work], masked)
    for work in (plain, long):
        eager = peak(work, functools.partial(attention, "eager"))
        row("eager attention", names[work], base[work], eager)
    row("fp32 weights (precision 32)", names[plain], base[plain], peak(replace(plain, precision="32")))
    rank = replace(checkpointed, rank=64)
    row(
        "for-each AdamW instead of fused",
        "16 x 128, r 64, checkpointing",
        peak(rank),
        peak(rank, None, foreach),
    )
    for work in (checkpointed, replace(long, checkpointing=True)):
        packed = replace(work, quantization="int8")
        row(
            "8-bit products keep their inputs",
            f"{work.micro_batch} x {work.length}, int8, checkpointing",
            peak(packed),
            peak(packed, keep_inputs),
        )
    row("padding 36-token reads to 128", "16 reads", peak(replace(plain, length=36)), base[plain])
    rising, falling = (100, 207, 333, 481, 512), (512, 100, 333, 207, 481)
    for expandable in (False, True):
        segments = "expandable segments" if expandable else "default segments"
        row(
            f"longest batch last, reserved, {segments}",
            "8 x 100-512",
            varying_lengths(long, falling, expandable),
            varying_lengths(long, rising, expandable),
        )


if __name__ == "__main__":
    main()
