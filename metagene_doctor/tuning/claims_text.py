"""Recomputed memory claims as text and as JSON, for ``metagene rules verify``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from metagene_doctor.tuning.claims import Check


def text(checked: Sequence[Check]) -> str:
    """Claimed against computed, a line per claim."""
    width = max((len(check.claim.id) for check in checked), default=0)
    lines = [
        f"{'same' if check.agrees else 'DIFFERS':<8}{check.verdict:<13} {check.claim.id:<{width}}  "
        f"{check.claim.title}: {check.measured}"
        for check in checked
    ]
    wrong = [check for check in checked if not check.agrees]
    summary = f"{len(checked)} memory claims recomputed by the dry run, not measured on a GPU; "
    summary += (
        "all verdicts as recorded" if not wrong else f"{len(wrong)} verdicts differ from those recorded"
    )
    return "\n".join([*lines, summary])


def as_json(checked: Sequence[Check]) -> str:
    return json.dumps(
        [
            {
                "id": check.claim.id,
                "title": check.claim.title,
                "recorded": check.claim.verdict,
                "computed": check.verdict,
                "agrees": check.agrees,
                "live_gb": check.live_gb,
                "device_gb": check.device_gb,
                "measured": check.measured,
            }
            for check in checked
        ],
        indent=1,
    )
