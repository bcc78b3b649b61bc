"""A recommendation as JSON-serialisable data. Memory in GiB (2^30 bytes)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from metagene_doctor.tuning.autotune import Result
from metagene_doctor.tuning.recommended import passes
from metagene_doctor.tuning.report import verdict
from metagene_doctor.tuning.search import Candidate, Memory, Recommendation
from metagene_train import __version__
from metagene_train.config_file import flatten


def text(result: Result, argv: Sequence[str]) -> str:
    return json.dumps(document(result, argv), indent=1)


def document(result: Result, argv: Sequence[str]) -> dict[str, Any]:
    """Everything the terminal shows, and the whole recommended configuration."""
    recommendation, exploration = result.recommendation, result.exploration
    request, best = recommendation.request, recommendation.best
    reads = request.reads
    expected, fastest, slowest = best.speed.hours(reads.reads or 1e6, passes(recommendation))
    guide = exploration.guide
    return {
        "schema_version": 1,
        "tool_version": __version__,
        "argv": list(argv),
        "verdict": verdict(recommendation),
        "fits": recommendation.fits,
        "policy": request.policy,
        "goal": request.goal,
        "device": {
            "kind": request.device.kind,
            "title": request.device.title,
            "usable_gib": request.device.usable_gib,
            "origin": request.device.origin,
            "count": request.devices,
        },
        "reads": {
            "reads": reads.reads,
            "classes": reads.classes,
            "median_bases": reads.bases,
            "mean_tokens": reads.mean_tokens,
            "longest_tokens": reads.longest,
            "tokenized": reads.tokenized,
            "cut": reads.cut(best.config.tokenizer.max_length),
            "origin": reads.origin,
        },
        "recommended": {
            "config": best.config.model_dump(mode="json"),
            "settings": [
                {"key": key, "value": value, **_reason(recommendation, key)}
                for key, value in flatten(best.config).items()
            ],
            **_candidate(best),
        },
        "time": {
            "basis": "estimate from the device's rates, not measured",
            "hours": expected,
            "hours_at_best": fastest,
            "hours_at_worst": slowest,
            "reads": reads.reads or 1_000_000,
            "epochs": passes(recommendation),
        },
        "disk_bytes": dict(result.disk),
        "candidates": [
            {**_choice(candidate), **_candidate(candidate)} for candidate in recommendation.candidates
        ],
        "neighbours": [
            {
                "key": neighbour.knob,
                "from": neighbour.was,
                "to": neighbour.value,
                "delta_gib": neighbour.delta_gib,
                "speed_ratio": neighbour.speed_ratio,
                "remark": neighbour.remark,
                "fits": neighbour.candidate.fits,
            }
            for neighbour in exploration.neighbours
        ],
        "heat_maps": [
            {
                "title": heat_map.title,
                "row": heat_map.row_name,
                "rows": list(heat_map.rows),
                "column": heat_map.column_name,
                "columns": list(heat_map.columns),
                "gib": [list(row) for row in heat_map.gib],
                "usable_gib": heat_map.usable_gib,
            }
            for heat_map in exploration.heat_maps
        ],
        "guide": None
        if guide is None
        else {
            "rule": guide.rule,
            "taken": guide.taken,
            "reasons": list(guide.reasons),
            **_choice(guide.candidate),
            **_candidate(guide.candidate),
        },
        "notes": list(recommendation.notes),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "fits": candidate.fits,
        "needed_gib": candidate.needed_gib,
        "memory": _memory(candidate.memory),
        "reads_per_s": {
            "expected": candidate.speed.reads_per_s,
            "slow": candidate.speed.slow,
            "fast": candidate.speed.fast,
            "limit": candidate.speed.limit,
            "padded_tokens": candidate.speed.padded_tokens,
        },
    }


def _choice(candidate: Candidate) -> dict[str, Any]:
    values = flatten(candidate.config)
    return {
        key: values[key]
        for key in (
            "training.batch_size",
            "training.grad_accum_steps",
            "tokenizer.max_length",
            "model.lora.r",
            "model.lora.target_modules",
            "model.gradient_checkpointing",
            "model.quantization",
            "training.precision",
            "optimizer.name",
        )
    }


def _memory(memory: Memory) -> dict[str, Any]:
    return {
        "live_gib": memory.live_gib,
        "reserved_gib": memory.reserved_gib,
        "device_gib": memory.device_gib,
        "margin_gib": memory.margin_gib,
        "phase": str(memory.phase),
        "breakdown": {str(name): value for name, value in memory.breakdown.items()},
    }


def _reason(recommendation: Recommendation, key: str) -> dict[str, str]:
    setting = recommendation.settings.get(key)
    if setting is None or setting.why == "as given":
        return {"why": "default or given", "rule": "", "source": "", "verdict": ""}
    verdict = recommendation.request.book.rule(setting.rule).verdict if setting.rule else ""
    return {"why": setting.why, "rule": setting.rule, "source": setting.source, "verdict": verdict}
