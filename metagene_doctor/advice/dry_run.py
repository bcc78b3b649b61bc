"""Memory effects of a change, from the dry run, at the lengths of the user's own reads."""

from __future__ import annotations

from collections.abc import Callable

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.rulebook.schema import Gpu
from metagene_train.config import RunConfig

Predictor = Callable[[RunConfig], float | None]
"""Device memory of a configuration with its margin, GiB; None where it cannot be told."""

UNKNOWN_CLASSES = 1000
"""Head size assumed when the number of classes is not known: 16 MB of fp32 weights, so hardly a matter."""


def predictor(evidence: Evidence, gpu: Gpu | None) -> Predictor:
    """A function that traces a configuration, each one once. It raises what the dry run raises."""
    known: dict[str, float | None] = {}
    classes = evidence.num_labels or UNKNOWN_CLASSES

    def predict(config: RunConfig) -> float | None:
        from metagene_doctor.memory import Workload, trace

        length = padded_length(config, evidence.longest_read_tokens)
        key = f"{length} {config.model_dump_json(exclude={'dataset', 'scheduler', 'logging', 'metrics'})}"
        if key not in known:
            workload = Workload.from_config(config, num_labels=classes, length=length)
            profile = trace(workload, gpu=gpu)
            known[key] = profile.device_gib + profile.margin_gib
        return known[key]

    return predict


def padded_length(config: RunConfig, longest_read: int | None) -> int:
    """Tokens of the longest batch: max_length, unless batches end with reads that are known shorter."""
    limit = config.tokenizer.max_length
    if config.tokenizer.padding == "max_length" or longest_read is None:
        return limit
    return min(limit, longest_read)
