"""How a run ended, when neither memory nor a broken loss ended it."""

from __future__ import annotations

from shlex import quote

from metagene_doctor.advice.evidence import Evidence, not_finite
from metagene_doctor.advice.symptom import Symptom
from metagene_doctor.finding import Severity


def ending(evidence: Evidence) -> list[Symptom]:
    """A failure that no other symptom explains, or a run that never said that it ended."""
    if evidence.device_failures or evidence.host_failures or not_finite(evidence):
        return []
    if evidence.error is not None and evidence.status != "interrupted":
        return [
            Symptom(
                "A19", "ending", "The run failed", Severity.ERROR, None, None, None,
                evidence.error[:400],
            )
        ]  # fmt: skip
    if evidence.status == "running":
        last = evidence.training[-1].step if evidence.training else 0
        return [
            Symptom(
                "A19", "ending", "The run has not ended", Severity.WARN, last, evidence.total_steps, "steps",
                f"run.json says `running` and the last logged step is {last:,}: it is still going, or was "
                "killed (by the kernel for its memory, or at a time limit)",
                "If it was killed, go on with it", f"metagene train --config "
                f"{quote(f'{evidence.source}/config.yaml')} --resume",
            )
        ]  # fmt: skip
    return []
