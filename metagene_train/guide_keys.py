"""Keys of guide-era configurations that are spelled differently here, or that are not needed.

`migrate` turns the tree of a YAML file into the tree that `metagene_train.config` describes. The two
tables are the whole knowledge; a key that is in neither and not in the schema is an error there.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

RENAMED = {
    "lora": "model.lora",
    "early_stopping": "training.early_stopping",
    "checkpoint": "training.checkpoint",
    "encoder.path": "model.encoder_path",
    "encoder.lora": "model.lora",
    "tokenizer.path": "tokenizer.name_or_path",
    "tokenizer.use_hf": "tokenizer.use_hf_tokenizer",
    "training.lr": "optimizer.lr",
    "training.weight_decay": "optimizer.weight_decay",
    "training.warmup_steps": "scheduler.warmup_steps",
    "training.gradient_checkpointing": "model.gradient_checkpointing",
    "memory_optimization.gradient_checkpointing": "model.gradient_checkpointing",
    **{
        f"{section}.{key}": f"training.{key}"
        for section in ("dataset", "dataloader")
        for key in ("num_workers", "prefetch_factor", "persistent_workers", "pin_memory")
    },
}
"""Dotted key of the file -> dotted key of the schema."""

NOT_NEEDED = {
    "tokenizer.pack_short_reads": "reads are batched by length and padded to the longest of their batch",
    "tokenizer.type": "the files in tokenizer.name_or_path say what they are",
    "model.lora.task_type": "the classifier head is our own, so PEFT's task type has no effect",
    "model.classifier_type": "the head is one linear layer on the pooled encoder output",
    "model.classifier_config": "the head is one linear layer on the pooled encoder output",
    "encoder.type": "the encoder is whatever Llama-like model model.encoder_path holds",
    "encoder.freeze": "the encoder is always frozen; LoRA adapters are what is trained",
    "training.torch_compile": "compiled graphs change the memory of a run in ways the dry run cannot see",
    "prediction": "these are options of `metagene predict`",
}
"""Dotted key of the file -> why it has no effect; it is accepted with a warning."""


def migrate(tree: dict[str, Any], lines: dict[str, int]) -> tuple[list[str], list[str]]:
    """Rewrite ``tree`` and ``lines`` (dotted key -> line) in place; return (warnings, problems).

    A key given under both of its names is a problem unless the values agree.
    """
    warnings: list[str] = []
    problems: list[str] = []
    for old, why in NOT_NEEDED.items():
        if take(tree, old) is not ABSENT:
            warnings.append(f"{lines.get(old, 0)}: {old} has no effect: {why}")
    for old, new in RENAMED.items():
        value = take(tree, old)
        if value is ABSENT:
            continue
        line = lines.get(old, 0)
        clashes = _merge(tree, new, value)
        problems += [f"{line}: {old} contradicts {key}, which is given too" for key in clashes]
        for key in [key for key in lines if key == old or key.startswith(old + ".")]:
            lines[new + key[len(old) :]] = lines.pop(key)
    if (use_8bit := take(tree, "optimizer.use_8bit")) is not ABSENT and use_8bit:
        _merge(tree, "optimizer.name", "adamw_8bit", replace=True)
    return warnings, problems


ABSENT = object()


def take(tree: MutableMapping[str, Any], dotted: str) -> Any:
    """Remove and return the value at ``dotted``, or `ABSENT`; parents left empty are removed."""
    head, _, rest = dotted.partition(".")
    if head not in tree:
        return ABSENT
    if not rest:
        return tree.pop(head)
    child = tree[head]
    if not isinstance(child, MutableMapping):
        return ABSENT
    value = take(child, rest)
    if value is not ABSENT and not child:
        del tree[head]
    return value


def _merge(tree: dict[str, Any], dotted: str, value: Any, *, replace: bool = False) -> list[str]:
    """Put ``value`` at ``dotted``, merging mappings; return the keys that already differ."""
    *parents, leaf = dotted.split(".")
    node = tree
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    present = node.get(leaf, ABSENT)
    if isinstance(present, dict) and isinstance(value, dict):
        clashes = [clash for key, item in value.items() for clash in _merge(present, key, item)]
        return [f"{dotted}.{clash}" for clash in clashes]
    if present is not ABSENT and present is not None and present != value and not replace:
        return [dotted]
    node[leaf] = value
    return []
