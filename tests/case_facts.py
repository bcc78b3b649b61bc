"""Facts with numbers of real runs, for the cases of findings: one read, some, hundreds of millions."""

from __future__ import annotations

from typing import Any

from doctor_fixtures import (
    facts,
    reads,
)

from metagene_doctor.facts.facts import Facts, RunFacts
from metagene_doctor.facts.model.tokens import TokenFacts
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts
from metagene_doctor.facts.reads.facts import Bases, ReadsFacts
from metagene_doctor.finding import Example
from metagene_train.config import RunConfig

Case = tuple[str, Facts]

MANY = 558_000_000
"""Reads of the largest training set that is known to have been used."""

SNAPSHOT = "/home/lab/.cache/huggingface/hub/models--metagene-ai--METAGENE-1/snapshots/1f3a9c4be7d2"
OTHER_HEADER = r"^(?P<name>\S+) class=(?P<class_id>\d+)$"
PLACE = Example(file="train.fa", line=4_817_644, record=1_204_411, text="lbl|17|562|150|ecoli_17/1")


def large(role: str = "train", **changes: Any) -> ReadsFacts:
    """Reads as many as anybody has trained on, in 3,507 classes."""
    values = {
        "records": MANY, "accepted": MANY, "lengths": {150: MANY}, "bases": Bases(acgt=150 * MANY),
        "bytes": 106_000_000_000, "bytes_examined": 106_000_000_000, "lines": 2 * MANY,
        "class_counts": dict.fromkeys(range(3507), MANY // 3507), "seconds": 840.0,
    }  # fmt: skip
    return reads(role, **(values | changes))


def glance(role: str = "train", places: int = 0, **changes: Any) -> ReadsFacts:
    """What level quick sees of a large file: its start, or many places."""
    estimated = {"places": places, "estimated_reads": MANY} if places else {}
    return reads(role, partial=True, bytes=106_000_000_000, **(estimated | changes))


def several(*parts: ReadsFacts) -> ReadsFacts:
    records = sum(part.records for part in parts)
    return parts[0].model_copy(update={"parts": parts, "records": records, "accepted": records})


def with_config(changes: dict[str, Any], path: str | None = "run.yaml", **sections: Any) -> Facts:
    warnings = sections.pop("warnings", ())
    run = RunFacts(config=RunConfig.model_validate(changes), path=path, warnings=warnings)
    return facts(run=run, **sections)


def tokens(**changes: Any) -> TokenFacts:
    values = {
        "source": "metagene-ai/METAGENE-1", "vocab_size": 1024, "is_metagene_1": True,
        "golden_ids": (252, 77, 290, 4), "special_tokens": 1, "pad_id": 3, "unknown_id": 0,
        "reads": 100_000, "lengths": {36: 60_000, 40: 39_900, 46: 100}, "tokens": 3_760_600,
        "bases": 15_000_000, "raw_tokens": 3_760_600,
    }  # fmt: skip
    return TokenFacts.model_validate(values | changes)


def memory(device_gib: float, margin_gib: float = 0.9) -> MemoryFacts:
    return MemoryFacts(
        live_gib=device_gib - 2, reserved_gib=device_gib - 1, device_gib=device_gib, margin_gib=margin_gib,
        phase="backward", breakdown={"weights": 12.1, "activations": 3.2, "temporaries": 0.4, "adapters": 0.1},
        length=48, classes=3507,
    )  # fmt: skip


SPEED = SpeedFacts(reads_per_s=212, slowest=120, fastest=300, limit="arithmetic")
