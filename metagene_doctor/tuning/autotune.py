"""One autotune: the search, what lies around its result, and the disk it will need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from metagene_doctor.tuning.exploration import Exploration, explore
from metagene_doctor.tuning.prediction import predictor
from metagene_doctor.tuning.search import Predict, Recommendation, Request, recommend


@dataclass(frozen=True)
class Result:
    recommendation: Recommendation
    exploration: Exploration
    disk: Mapping[str, int | None]
    """Bytes of `metagene_doctor.memory.costs.disk.DiskEstimate`, and their ``total``."""


def run(request: Request, *, around: bool = True, predict: Predict | None = None) -> Result:
    """Recommend and, with ``around``, price every knob and map memory. ``predict`` is the dry run."""
    predict = predict or predictor(request)
    recommendation = recommend(request, predict)
    exploration = explore(recommendation, predict) if around else Exploration((), (), None)
    return Result(recommendation, exploration, _disk(recommendation))


def _disk(recommendation: Recommendation) -> dict[str, int | None]:
    from metagene_doctor.memory import Workload
    from metagene_doctor.memory.costs.disk import disk

    request, config = recommendation.request, recommendation.config
    workload = Workload.from_config(config, num_labels=request.reads.classes)
    found = disk(config, workload, gpu=request.device.gpu, reads=request.reads.reads)
    return {**asdict(found), "total": found.total}
