"""What a run has left, and how to interrupt one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metagene_train.training import training_loop


def metrics(directory: Path, phase: str) -> list[dict]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["phase"] == phase]


def checkpoints(directory: Path) -> list[int]:
    return sorted(int(entry.name.split("-")[1]) for entry in (directory / "checkpoints").iterdir())


def adapter(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "adapter_model.safetensors") | load_file(directory / "head.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    expected = adapter(second)
    for name, tensor in adapter(first).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)


def stop_after(monkeypatch: pytest.MonkeyPatch, forward_passes: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal during a forward pass of training."""
    original = training_loop.forward_loss
    calls = iter(range(1, 10_000))

    def forward_loss(*arguments):
        if next(calls) == forward_passes:
            os.kill(os.getpid(), number)
        return original(*arguments)

    monkeypatch.setattr(training_loop, "forward_loss", forward_loss)
