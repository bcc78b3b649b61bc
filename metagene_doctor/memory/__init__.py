"""The dry run: peak GPU memory of a training run, known before it starts, on any machine.

``profile`` answers for any module and step, ``trace`` and ``profile_many`` for workloads of this
project, ``estimate`` adds time and disk. Importing this package imports no torch; using it does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metagene_doctor.memory.answer import profile_many, trace
    from metagene_doctor.memory.profiling import MemoryProfile, profile
    from metagene_doctor.memory.workload import Workload

__all__ = ["MemoryProfile", "Workload", "profile", "profile_many", "trace"]

_HOMES = {
    "MemoryProfile": "profiling",
    "profile": "profiling",
    "Workload": "workload",
    "profile_many": "answer",
    "trace": "answer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
