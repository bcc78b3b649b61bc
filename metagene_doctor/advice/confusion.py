"""Errors that lie between few classes: a matter of the classes more than of the settings."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from metagene_doctor.advice.evidence import Evidence
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, percent

CONCENTRATED = 0.5
"""Share of all errors that few pairs of classes have to hold; a judgement, like the others here."""
FEW_PAIRS = 0.1
"""At most so many pairs for each class are few (one pair at least)."""
LEAST_CLASSES = 5
"""With fewer classes any error is between few of them."""
LEAST_ERRORS = 100
LEAST_ERROR_RATE = 0.05


def concentrated_errors(evidence: Evidence) -> list[Finding]:
    """Half of the errors of ``metagene evaluate`` lie between few pairs of classes, either way round."""
    record = evidence.evaluation or {}
    accuracy, reads = (record.get("model") or {}).get("accuracy"), record.get("reads")
    classes = record.get("classes_with_reads") or 0
    if accuracy is None or not reads or classes < LEAST_CLASSES:
        return []
    errors = round((1 - accuracy) * reads)
    if errors < max(LEAST_ERRORS, LEAST_ERROR_RATE * reads):
        return []
    between: Counter[tuple[str, str]] = Counter()
    for pair in record.get("confused_pairs") or ():
        first, second = sorted((pair["true"], pair["predicted"]))
        between[first, second] += pair["reads"]
    worst = between.most_common(max(1, int(FEW_PAIRS * classes)))
    held = list(accumulate(number for _, number in worst))
    needed = next((place for place, sum_ in enumerate(held) if sum_ >= CONCENTRATED * errors), None)
    if needed is None:
        return []
    pairs = [f"{first} and {second}" for (first, second), _ in worst[: needed + 1]]
    named = "; ".join(pairs[:3]) + ("; ..." if len(pairs) > 3 else "")
    return [
        Finding(
            id="A12",
            title=f"{percent(held[needed] / errors)} of the errors lie between "
            f"{count(len(pairs), 'pair')} of classes: {named}",
            severity=Severity.INFO,
            scope="run",
            measured=round(held[needed] / errors, 4),
            threshold=CONCENTRATED,
            unit="fraction of errors",
            why="Genomes that are nearly alike look like that, and wrong labels; settings change little."
            + _known_to_share(evidence),
            remedy=Remedy(text="Look at their reads, or merge these classes where a coarser answer does."),
        )
    ]


def _known_to_share(evidence: Evidence) -> str:
    """What doctor said of sequences that several classes have (L09)."""
    shared = next((f for f in (evidence.doctor or {}).get("findings", []) if f.get("id") == "L09"), None)
    if shared is None or not isinstance(shared.get("measured"), float):
        return ""
    share = percent(shared["measured"])
    return f" Doctor's L09: {share} of the training reads have a sequence of several classes."
