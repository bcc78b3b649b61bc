"""What the evaluation says that the losses do not: a simple model does better on the same reads."""

from __future__ import annotations

from collections.abc import Sequence

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.advice.symptom import Symptom
from metagene_doctor.finding import Severity


def below_baseline(evidence: Evidence, others: Sequence[Symptom]) -> list[Symptom]:
    """The k-mer regression of ``metagene evaluate`` is right more often, beyond chance.

    ``others`` are the symptoms of fit found so far. A model that overfits is not given the fixes of
    one that learned too little as well: they are opposite.
    """
    record = evidence.evaluation or {}
    kmer = (record.get("baseline") or {}).get("kmer")
    interval = record.get("accuracy_gain")
    if not kmer or not interval or interval[1] >= 0:
        return []
    own = record["model"]
    overfits = any(other.symptom == "overfitting" for other in others)
    return [
        Symptom(
            "A20", "overfitting" if overfits else "underfitting",
            f"A {record['baseline']['k']}-mer regression does better", Severity.WARN,
            round(own["macro_f1"], 4), round(kmer["macro_f1"], 4), "macro-F1",
            f"On the {record['reads']:,} reads of {record['fasta']} the model has macro-F1 "
            f"{own['macro_f1']:.3f}, the regression on the same training reads {kmer['macro_f1']:.3f}; the "
            f"difference in accuracy is {interval[0]:+.3f} to {interval[1]:+.3f} (95 % "
            "interval). Until that turns, the regression is the better and cheaper classifier of these reads",
        )
    ]  # fmt: skip
