"""The guide's statements about memory, recomputed: what `metagene rules verify` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metagene_doctor.memory.costs import read_lengths
from metagene_doctor.memory.measured import device
from metagene_doctor.rulebook import Rulebook
from metagene_doctor.rulebook.schema import Band, MemoryClaim, Verdict
from metagene_doctor.tuning.prediction import predictor
from metagene_doctor.tuning.search import Memory, Predict, Request, with_values
from metagene_doctor.tuning.speed import Architecture
from metagene_train.config import METAGENE_1, RunConfig
from metagene_train.config_file import flatten

GIB_IN_GB = 2**30 / 1e9
CLASSES = 50
"""Classes of the head that the claims are checked with; a class costs 64 KiB with its optimizer state."""


@dataclass(frozen=True)
class Check:
    """A claim beside what the dry run says. GB are 1e9 bytes."""

    claim: MemoryClaim
    verdict: Verdict
    measured: str
    live_gb: float
    device_gb: float

    @property
    def agrees(self) -> bool:
        return self.verdict == self.claim.verdict


def verify(book: Rulebook, predict_for: Any = None) -> list[Check]:
    """Every memory claim of the rule book. ``predict_for(request)`` is the dry run."""
    predict_for = predict_for or predictor
    profile = guide_profile(book)
    predicts: dict[str, Predict] = {}
    checked = []
    for claim in book.claims:
        size = claim.fits_gb or 24
        card, _ = book.smallest_gpu(size)
        predict = predicts.get(card.name)
        if predict is None:
            predict = predicts[card.name] = predict_for(_request(book, profile, size))
        configs = [with_values(profile, _plain(claim.sets))]
        if claim.claimed_ratio is not None:
            configs.append(with_values(profile, _plain(claim.relative_to)))
        memories = [found.memory for found in predict(configs)]
        checked.append(_check(claim, memories, card.usable_gib))
    return checked


def guide_profile(book: Rulebook) -> RunConfig:
    """The guide's RTX 4090 profile, of which a claim changes some keys; micro-batch 1."""
    known = flatten(RunConfig())
    values = {
        rule.key: list(rule.rtx4090) if isinstance(rule.rtx4090, tuple) else rule.rtx4090
        for rule in book.hyperparameters
        if rule.key in known and not isinstance(rule.rtx4090, Band)
    }
    return with_values(RunConfig(), values)


def _request(book: Rulebook, profile: RunConfig, size: int) -> Request:
    from metagene_train.encoder import encoder_architecture

    return Request(
        base=profile,
        book=book,
        device=device.of_gpu(*book.smallest_gpu(size)),
        architecture=Architecture.of(encoder_architecture(METAGENE_1)),
        reads=read_lengths.assumed(CLASSES),
    )


def _check(claim: MemoryClaim, memories: list[Memory], usable_gib: float) -> Check:
    memory = memories[0]
    live, shown = memory.live_gib * GIB_IN_GB, memory.device_gib * GIB_IN_GB
    if claim.claimed_gb is not None:
        right = any(abs(value / claim.claimed_gb - 1) <= claim.tolerance for value in (live, shown))
        measured = f"claimed {claim.claimed_gb:g} GB, {live:.2f} live and {shown:.2f} on the device"
    elif claim.fits_gb is not None:
        needed = memory.device_gib + memory.margin_gib
        right = needed <= usable_gib
        measured = (
            f"needs {memory.device_gib:.2f} GiB and {memory.margin_gib:.2f} margin "
            f"({live:.1f} GB live), {usable_gib:.2f} GiB usable"
        )
    else:
        assert claim.claimed_ratio is not None
        ratio = memory.live_gib / memories[1].live_gib
        right = abs(ratio - claim.claimed_ratio) <= claim.tolerance * claim.claimed_ratio
        measured = (
            f"claimed x {claim.claimed_ratio:g}, {live:.2f} against "
            f"{memories[1].live_gib * GIB_IN_GB:.2f} GB live is x {ratio:.3f}"
        )
    return Check(claim, "holds" if right else "contradicted", measured, live, shown)


def _plain(values: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
