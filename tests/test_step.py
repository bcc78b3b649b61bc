"""One optimizer step: loss over the real accumulation, clipping, weight decay, shapes without values."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode
from train_fixtures import change, random_batch, tiny_architecture

from metagene_train.config import RunConfig
from metagene_train.model import ReadClassifier, build_model
from metagene_train.training.step import build_optimizer, evaluation_step, forward_loss, training_step


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"dropout": 0.0, "lora": {"dropout": 0.0}},
            "training": {"precision": "32"},
            "optimizer": {"lr": 1e-2, "max_grad_norm": None},
        }
    )


def tiny_model(config: RunConfig, seed: int = 0) -> ReadClassifier:
    """Random weights, also in the adapters."""
    model = build_model(config, 3, encoder_config=tiny_architecture(), weights=False)
    model = model.to_empty(device="cpu")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
        for module in model.modules():
            if hasattr(module, "inv_freq"):
                module.inv_freq.copy_(torch.logspace(0, -3, len(module.inv_freq)))
    return model


def split(batch: dict, *sizes: int) -> list[dict]:
    parts = {key: value.split(sizes) for key, value in batch.items()}
    return [{key: parts[key][number] for key in batch} for number in range(len(sizes))]


def test_accumulation_with_a_smaller_last_micro_batch_equals_one_batch(config):
    batch = random_batch(9, 12, 4, 7, 8)
    states = []
    for micro_batches in ([batch], split(batch, 2, 2, 1)):
        model = tiny_model(config)
        training_step(model, build_optimizer(model, config), micro_batches, config)
        states.append(model.state_dict())
    before = tiny_model(config).state_dict()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)
        trained = "lora" in name or "head" in name
        assert trained == (not torch.equal(value, before[name])), name


def test_micro_batch_losses_add_up_to_the_mean_over_reads(config):
    model = tiny_model(config).eval()
    batch = random_batch(9, 12, 4, 7, 8)
    parts = [forward_loss(model, part, reads=5) for part in split(batch, 3, 2)]
    torch.testing.assert_close(sum(parts), forward_loss(model, batch))


def test_the_gradient_norm_is_clipped(config):
    # With plain SGD the length of the step is the gradient norm.
    batch = random_batch(9, 12)
    model = tiny_model(config)
    before = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    config = change(config, optimizer__max_grad_norm=1e-3)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    training_step(model, optimizer, [batch], config)
    after = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_only_matrices_are_decayed_and_only_trained_weights_are_optimised(config):
    model = tiny_model(config)
    optimizer = build_optimizer(model, change(config, optimizer__weight_decay=0.05))
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert [p is model.head.bias for p in plain["params"]] == [True]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == trained


def test_gradients_are_released_after_the_step(config):
    model = tiny_model(config)
    training_step(model, build_optimizer(model, config), [random_batch(5)], config)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_has_no_dropout_and_no_graph(config):
    model = tiny_model(change(config, model__dropout=0.9)).train()
    batch = random_batch(9, 12)
    logits = evaluation_step(model, batch)
    assert not logits.requires_grad
    torch.testing.assert_close(evaluation_step(model, batch), logits)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_the_step_runs_on_tensors_that_have_only_a_shape(config, checkpointing, pooling):
    config = change(
        config,
        model__gradient_checkpointing=checkpointing,
        model__pooling=pooling,
        training__precision="bf16-mixed",
        optimizer__max_grad_norm=1.0,
    )
    model = build_model(config, 3, encoder_config=tiny_architecture(), weights=False)
    real = random_batch(9, 12)
    with FakeTensorMode() as mode:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = torch.nn.Parameter(
                        torch.empty(parameter.shape, dtype=parameter.dtype), parameter.requires_grad
                    )
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        batch = {key: mode.from_tensor(value) for key, value in real.items()}
        optimizer = build_optimizer(model, config)
        for _ in range(2):
            training_step(model, optimizer, [batch, batch], config)
        assert evaluation_step(model, batch).shape == (2, 3)
