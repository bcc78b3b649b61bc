"""Small models for the memory tests, and PyTorch's own count of what they allocate on a CPU."""

from __future__ import annotations

from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile
from transformers import LlamaConfig

from metagene_train.config import RunConfig


def tiny_llama(layers: int = 2) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=64,
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        use_cache=False,
    )


def run_config(**changes) -> RunConfig:
    """A configuration with dotted keys set (dots written as two underscores)."""
    config = RunConfig()
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        section = config
        for parent in parents:
            section = getattr(section, parent)
        setattr(section, leaf, value)
    return config


def allocation_peak(run) -> int:
    """Highest sum of live CPU allocations during ``run()`` above what was live before, in bytes."""
    with torch_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    live = peak = 0
    for event in sorted(
        (e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"),
        key=lambda e: e.start_ns(),
    ):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
