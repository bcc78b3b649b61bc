"""The rule book: the entries of ``rules/*.yaml`` (`schema`), how they are loaded (`loading`) and shown
(`views`)."""

from metagene_doctor.rulebook.loading import Rulebook, load, packaged_rules
from metagene_doctor.rulebook.schema import Change, Fix, Goal, Gpu, MemoryClaim, Rule, Symptom

__all__ = [
    "Change",
    "Fix",
    "Goal",
    "Gpu",
    "MemoryClaim",
    "Rule",
    "Rulebook",
    "Symptom",
    "load",
    "packaged_rules",
]
