"""The environment of torch's CUDA allocator; it must be set before the first use of CUDA."""

from __future__ import annotations

import os
from importlib.metadata import version

from metagene_train.config import MemoryConfig

NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Current name, and the only one that torch before 2.9 reads (later ones warn about it)."""


def configure_allocator(settings: MemoryConfig) -> None:
    """Set the allocator as ``memory_optimization`` says, unless the environment has its own setting.

    Expandable segments and ``max_split_size_mb`` exclude each other; the former win.
    """
    if any(name in os.environ for name in NAMES):
        return
    if settings.expandable_segments:
        value = "expandable_segments:True"
    elif settings.max_split_size_mb is not None:
        value = f"max_split_size_mb:{settings.max_split_size_mb}"
    else:
        return
    major, minor = (int(part) for part in version("torch").split(".")[:2])
    os.environ[NAMES[0] if (major, minor) >= (2, 9) else NAMES[1]] = value
