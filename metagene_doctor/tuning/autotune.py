"""One autotune: the search, and what lies around its result."""

from __future__ import annotations

from metagene_doctor.tuning.exploration import Exploration, explore
from metagene_doctor.tuning.prediction import predictor
from metagene_doctor.tuning.search import Predict, Recommendation, Request, recommend


def run(
    request: Request, *, around: bool = True, predict: Predict | None = None
) -> tuple[Recommendation, Exploration]:
    """Recommend and, with ``around``, price every knob and map memory. ``predict`` is the dry run."""
    predict = predict or predictor(request)
    recommendation = recommend(request, predict)
    if not around:
        return recommendation, Exploration((), (), None)
    return recommendation, explore(recommendation, predict)
