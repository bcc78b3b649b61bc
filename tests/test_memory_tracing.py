"""The dry run against what PyTorch itself allocates, and its handling of CUDA's differences."""

from __future__ import annotations

import functools

import pytest
import torch
from memory_fixtures import allocation_peak, run_config, tiny_llama
from torch import nn

from metagene_doctor.memory.tracing.recorder import record
from metagene_doctor.memory.tracing.recording import Category, Phase
from metagene_train.errors import ConfigError
from metagene_train.model import build_model
from metagene_train.training.step import build_optimizer, evaluation_step, training_step

READS, TOKENS, CLASSES = 8, 256, 7


def build(config):
    model = build_model(config, CLASSES, encoder_config=tiny_llama(), weights=False)
    return model, build_optimizer(model, config)


def train(config, model, optimizer):
    batch = {
        "input_ids": torch.zeros(READS, TOKENS, dtype=torch.long),
        "attention_mask": torch.ones(READS, TOKENS, dtype=torch.long),
        "labels": torch.zeros(READS, dtype=torch.long),
    }
    training_step(model, optimizer, [batch] * config.training.grad_accum_steps, config)


def traced(config, **options):
    return record(functools.partial(build, config), functools.partial(train, config), **options)


def live(recording):
    """Live bytes after each event."""
    total, curve = 0, []
    for event in recording.events:
        total += recording.sizes[event.storage] if event.storage >= 0 else -recording.sizes[~event.storage]
        curve.append((event.phase, total))
    return curve


@pytest.mark.parametrize(
    "changes",
    [
        {"training__precision": "32"},
        {"training__precision": "bf16-mixed", "model__lora__target_modules": "all-linear"},
        {"training__precision": "bf16-true", "model__gradient_checkpointing": True},
        {"training__precision": "32", "training__grad_accum_steps": 2},
        {"training__precision": "bf16-mixed", "model__lora__enabled": False},
    ],
    ids=["fp32", "autocast", "checkpointing", "accumulation", "linear probe"],
)
def test_the_trace_equals_the_memory_profile_of_a_real_run(changes):
    config = run_config(model__lora__dropout=0.0, model__dropout=0.0, **changes)
    model, _ = build(config)
    model = model.to_empty(device="cpu")
    optimizer = build_optimizer(model, config)

    def two_steps():
        train(config, model, optimizer)
        train(config, model, optimizer)

    measured = allocation_peak(two_steps)

    curve = live(traced(config, compute_capability=None))
    loaded = max(total for phase, total in curve if phase is Phase.LOAD)
    predicted = max(total for _, total in curve) - loaded
    assert predicted == pytest.approx(measured, rel=0.01)


def test_everything_but_weights_and_state_is_released():
    recording = traced(
        run_config(),
        evaluate=lambda model, _: evaluation_step(
            model,
            {
                "input_ids": torch.zeros(2, 9, dtype=torch.long),
                "attention_mask": torch.ones(2, 9, dtype=torch.long),
            },
        ),
    )
    held = {event.storage for event in recording.events if event.storage >= 0}
    held -= {~event.storage for event in recording.events if event.storage < 0}
    left = {recording.categories[storage] for storage in held}
    assert left == {Category.WEIGHTS, Category.ADAPTERS, Category.OPTIMIZER, Category.TEMPORARIES}
    # What stays of the temporaries are the two cuBLAS workspaces.
    workspaces = [recording.sizes[s] for s in held if recording.categories[s] is Category.TEMPORARIES]
    assert workspaces == [8_519_680] * 2


def test_categories_hold_what_the_parameters_say():
    config = run_config(model__lora__r=4)
    model, _ = build(config)
    recording = traced(config)

    def total(category):
        return sum(s for s, c in zip(recording.sizes, recording.categories, strict=True) if c is category)

    trained = [p for p in model.parameters() if p.requires_grad]
    adapters = sum(p.numel() * p.itemsize for p in trained)
    frozen = sum(p.numel() * p.itemsize for p in model.parameters() if not p.requires_grad)
    assert total(Category.ADAPTERS) == adapters
    assert total(Category.GRADIENTS) == 2 * adapters  # one set for each of the two steps
    assert total(Category.OPTIMIZER) == 2 * adapters + 4 * len(trained)  # two moments, a step count
    assert frozen <= total(Category.WEIGHTS) <= frozen + 1024  # and the rotary frequencies


def test_adapters_of_16_bit_inputs_are_not_copied_to_fp32():
    """PEFT's default copies every adapter's input; the model switches that off."""
    config = run_config(model__lora__target_modules="all-linear", model__lora__dropout=0.0)

    def build_with_copies(enabled):
        model, optimizer = build(config)
        for module in model.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = enabled
        return model, optimizer

    def peak(enabled):
        recording = record(
            functools.partial(build_with_copies, enabled),
            functools.partial(train, config),
            compute_capability=None,
        )
        return max(total for _, total in live(recording))

    assert peak(True) > 1.15 * peak(False)


def recorded(module_step, **options):
    def make():
        module = nn.Linear(64, 64)
        return module, torch.optim.SGD(module.parameters())

    return record(make, module_step, **options)


def test_cuda_dropout_keeps_a_byte_per_value_where_the_cpu_keeps_a_float():
    def step(module, _):
        nn.functional.dropout(module(torch.zeros(1000, 64)), 0.5).sum().backward()

    def saved(recording):
        # Of the dropout: its mask; the product saves its input and the weight.
        return sorted(
            size
            for size, category in zip(recording.sizes, recording.categories, strict=True)
            if category is Category.ACTIVATIONS
        )

    assert 64_000 in saved(recorded(step))
    assert 64_000 not in saved(recorded(step, compute_capability=None))
    assert 256_000 in saved(recorded(step, compute_capability=None))


def test_cuda_autocast_runs_softmax_and_powers_in_fp32():
    dtypes = []

    def step(module, _):
        with torch.autocast("cuda", torch.bfloat16):
            hidden = module(torch.zeros(8, 64))
            dtypes.extend([hidden.dtype, hidden.softmax(-1).dtype, hidden.pow(2).dtype, (hidden * 2).dtype])

    recorded(step, steps=1)
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]


@pytest.mark.parametrize(("heads", "scores_kept"), [(4, False), (2, True)])
def test_allowing_grouped_queries_costs_the_scores_only_where_heads_differ(heads, scores_kept):
    """transformers 5.0 passes ``enable_gqa`` to every call; the memory-efficient kernel minds fewer heads."""

    def step(module, optimizer):
        query = module(torch.zeros(2, 4, 100, 64))
        few = query[:, :heads]
        nn.functional.scaled_dot_product_attention(query, few, few, enable_gqa=True).sum().backward()

    assert (2 * 4 * 100 * 100 * 4 in recorded(step, steps=1).sizes) is scores_kept


def test_attention_takes_the_kernel_of_the_card():
    shapes = {}

    def attention(module, _, mask=None):
        query = module(torch.zeros(2, 4, 100, 64)).to(torch.bfloat16)
        nn.functional.scaled_dot_product_attention(
            query, query, query, attn_mask=mask
        ).float().sum().backward()

    def largest(capability, step):
        recording = recorded(step, compute_capability=capability, steps=1)
        shapes[capability] = max(size for size in recording.sizes if size != 32 << 20 and size != 8_519_680)
        return shapes[capability]

    def masked(module, optimizer):
        attention(module, optimizer, torch.ones(2, 1, 100, 100, dtype=torch.bool))

    scores = 2 * 4 * 100 * 100 * 2
    accumulator = 2 * 4 * 128 * 64 * 4
    # Flash: no scores, but dQ in fp32 over padded tokens. bf16 on Turing: the scores themselves.
    assert largest((8, 9), attention) == accumulator
    assert largest((7, 5), attention) >= scores
    assert 2 * 1 * 100 * 112 * 2 in recorded(masked, steps=1).sizes  # the padded additive mask


def test_a_step_that_looks_at_values_is_an_error_that_says_so():
    def step(module, _):
        module(torch.zeros(8, 64)).sum().item()

    with pytest.raises(ConfigError, match=r"looks at a value"):
        recorded(step)


def test_a_wrong_name_of_the_layers_lists_the_right_ones():
    with pytest.raises(ConfigError, match=r"encoder\.base_model\.model\.layers"):
        traced(run_config(), repeated_layers="encoder.layers_")
