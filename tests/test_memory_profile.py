"""`metagene_doctor.memory.profile`: any model, and the exact extension to full depth."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
import torch
from memory_fixtures import tiny_llama
from torch import nn
from transformers import LlamaForCausalLM

from metagene_doctor.memory import profile
from metagene_train.errors import ConfigError, InputError


def build(layers=9, checkpointing=False, foreach=None):
    model = LlamaForCausalLM(tiny_llama(layers)).to(torch.bfloat16)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model, torch.optim.AdamW(model.parameters(), foreach=foreach)


def step(model, optimizer):
    tokens = torch.zeros(4, 96, dtype=torch.long)
    model(input_ids=tokens, labels=tokens).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("foreach", [None, False])
def test_four_layers_extend_to_all_layers_exactly(checkpointing, foreach):
    make = functools.partial(build, checkpointing=checkpointing, foreach=foreach)
    assert profile(make, step, repeated_layers="model.layers") == profile(make, step)


class KeptInput(torch.autograd.Function):
    """A product that holds its input itself: out of autograd's sight, until the graph is gone."""

    @staticmethod
    def forward(ctx, input, weight):
        ctx.kept, ctx.weight = input, weight
        return input @ weight.t()

    @staticmethod
    def backward(ctx, gradient):
        return gradient @ ctx.weight, None


class KeepingLinear(nn.Linear):
    def forward(self, input):
        return KeptInput.apply(input, self.weight)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_graph_holds_after_the_backward_pass_is_released_in_every_layer(checkpointing):
    def make():
        model, optimizer = build(checkpointing=checkpointing)
        for layer in model.model.layers:
            layer.mlp.down_proj.__class__ = KeepingLinear
            layer.mlp.down_proj.requires_grad_(False)
        return model, optimizer

    assert profile(make, step, repeated_layers="model.layers") == profile(make, step)


def test_the_parts_of_the_peak_add_up_and_the_levels_are_ordered():
    answer = profile(build, step, gpu="rtx4090", repeated_layers="model.layers")
    assert sum(answer.breakdown.values()) == pytest.approx(answer.live_gib)
    assert answer.live_gib <= answer.allocated_gib <= answer.reserved_gib < answer.device_gib
    assert answer.margin_gib > 0
    assert answer.fits
    assert answer.phase in {moment.phase for moment in answer.timeline}
    assert max(moment.live_gib for moment in answer.timeline) == answer.live_gib
    assert "not yet measured on a GPU" in answer.note


def test_a_card_that_is_too_small_is_told_so():
    def wide():
        module = nn.Linear(65_536, 32_768, dtype=torch.float32)
        return module, torch.optim.SGD(module.parameters())

    def one_step(module, optimizer):
        module(torch.zeros(2, 65_536)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert profile(wide, one_step, gpu="rtx4090").fits
    small = profile(wide, one_step, gpu="rtx3070")
    assert small.fits is False
    assert small.live_gib > 16  # weight and gradient, 8 GiB each
    assert profile(wide, one_step).fits is None


def test_layers_that_differ_are_refused_rather_than_guessed():
    class Uneven(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(32, 32, bias=index == 2) for index in range(6))

        def forward(self, hidden):
            for layer in self.layers:
                hidden = layer(hidden)
            return hidden

    def make():
        module = Uneven()
        return module, torch.optim.SGD(module.parameters())

    def one_step(module, optimizer):
        module(torch.zeros(3, 32)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    with pytest.raises(ConfigError, match="do not allocate alike"):
        profile(make, one_step, repeated_layers="layers")


def test_an_unknown_card_is_an_input_error():
    with pytest.raises(InputError, match="rtx4090"):
        profile(build, step, gpu="rtx4091")


def test_importing_the_package_imports_no_torch():
    code = "import sys, metagene_doctor.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
