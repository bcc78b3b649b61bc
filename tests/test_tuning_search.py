"""The search: what fits, what is fastest, what is conceded, and what is said of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

import pytest
from tuning_fixtures import made_up, request, statistics

from metagene_doctor.memory.costs import read_lengths as reads
from metagene_doctor.report.terminal import ReportConsole
from metagene_doctor.tuning import autotune, exploration, recommended, report, search
from metagene_doctor.tuning.search import Prediction
from metagene_doctor.tuning.speed import Speed
from metagene_train.config import RunConfig


@pytest.mark.parametrize("gpu_mem", [12, 16, 24, 32, 40, 48, 80])
@pytest.mark.parametrize("goal", ["balanced", "min-memory", "max-speed"])
def test_recommendation_fits_with_its_margin_and_keeps_the_effective_batch(gpu_mem: int, goal: str) -> None:
    found = search.recommend(request(gpu_mem, goal=goal), made_up)
    best = found.best
    assert found.fits
    assert best.memory.device_gib + best.memory.margin_gib <= found.request.device.usable_gib
    assert best.config.training.effective_batch == found.plan.value("effective_batch")


def test_a_card_without_8_bit_products_is_not_given_any() -> None:
    asked = request(12)
    volta = replace(asked.device, rates=asked.device.rates.model_copy(update={"compute_capability": "7.0"}))
    found = search.recommend(replace(asked, device=volta), made_up)
    assert found.config.model.quantization == "nf4"
    assert "does not multiply 8" in found.plan.settings["model.quantization"].why


def test_only_what_cannot_fit_in_bf16_is_quantised() -> None:
    assert search.recommend(request(12), made_up).config.model.quantization == "int8"
    assert search.recommend(request(6), made_up).config.model.quantization == "nf4"
    for gpu_mem in (16, 24, 80):
        assert search.recommend(request(gpu_mem), made_up).config.model.quantization == "none"


def test_concessions_are_told_each_with_its_own_reason() -> None:
    assert any("8 bits" in note for note in search.recommend(request(12), made_up).notes)
    found = search.recommend(request(6), functools.partial(made_up, more_gib=0.5))
    assert (found.config.model.quantization, found.config.model.lora.r) == ("nf4", 8)
    of_bits, of_rank = found.notes
    assert of_bits.startswith("model.quantization: nf4, the frozen encoder in 4 bits")
    assert "neither 16 nor 8 fit" in of_bits
    assert of_rank == "model.lora.r: 8, because a higher one does not fit"
    reasons = recommended.comments(found)
    assert reasons["model.lora.r"].startswith("because a higher one does not fit")
    assert "4 bits" in reasons["model.quantization"]


def test_a_recommendation_that_fills_the_card_does_not_claim_room_to_spare() -> None:
    seen = set()
    for more_gib in (0, 1, 2):
        found = search.recommend(request(24), functools.partial(made_up, more_gib=more_gib))
        roomy = found.best.needed_gib <= 0.85 * found.request.device.usable_gib
        assert ("room to spare" in recommended.comments(found)["training.batch_size"]) is roomy
        seen.add(roomy)
    assert seen == {True, False}


def test_more_cards_than_the_effective_batch_has_reads_are_told() -> None:
    found = search.recommend(request(80, devices=64), made_up)
    reason = recommended.comments(found)["training.grad_accum_steps"]
    asked = found.plan.value("effective_batch")
    assert reason.startswith(f"1 x 1 x 64 devices = effective batch 64, as near to {asked} as they come:")
    (note,) = found.notes
    assert note.startswith(
        f"64 devices take at least 64 reads in a step, more than the {asked} of EV-EFFECTIVE-"
    )
    exact = search.recommend(request(80, devices=4), made_up)
    assert "as near" not in recommended.comments(exact)["training.grad_accum_steps"]
    assert not exact.notes


def test_reasons_say_where_the_evidence_does_not_support_the_rule() -> None:
    found = search.recommend(request(), made_up)
    reasons = recommended.comments(found)
    assert "[EV-RANK-SMALL, unverified;" in reasons["model.lora.r"]
    assert "[EV-LR;" in reasons["optimizer.lr"]
    followed = recommended.comments(search.recommend(request(policy="guide"), made_up))
    assert "[GM-MEM-24GB, contradicted;" in followed["training.batch_size"]


def shown(found: search.Recommendation) -> str:
    console = ReportConsole(file=StringIO(), width=250)
    disk = dict.fromkeys(("checkpoints", "model", "download", "index"), 10**9)
    report.render(autotune.Result(found, exploration.Exploration((), (), None), disk), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_large_card_that_stays_half_empty_says_why() -> None:
    why = "GiB stay free: all 32 reads of an optimizer step are one pass, and larger steps learn less"
    assert why in shown(search.recommend(request(80, devices=2), made_up))
    assert "stay free" not in shown(search.recommend(request(24), made_up))
    assert "stay free" not in shown(search.recommend(request(80, goal="min-memory"), made_up))


def test_a_length_for_reads_that_are_assumed_says_so() -> None:
    assumed = search.recommend(request(reads=reads.assumed(None)), made_up)
    assert "assumed: 36 tokens, room for 64" in recommended.comments(assumed)["tokenizer.max_length"]
    own = search.recommend(request(), made_up)
    assert "(0 % are cut)" in recommended.comments(own)["tokenizer.max_length"]


def test_a_card_without_bf16_gets_fp16() -> None:
    assert search.recommend(request(gpu="t4"), made_up).config.training.precision == "fp16-mixed"
    assert search.recommend(request(gpu="rtx4090"), made_up).config.training.precision == "bf16-mixed"


@pytest.mark.parametrize(("gain", "larger"), [(0.02, True), (0.06, True), (0.3, False)])
def test_a_little_less_padding_does_not_make_passes_small(gain: float, larger: bool) -> None:
    """What smaller passes gain by padding they may lose by launching more often."""

    def smaller_is_faster(configs: Sequence[RunConfig]) -> list[Prediction]:
        found = []
        for config, one in zip(configs, made_up(configs), strict=True):
            rate = 100 * (1 + gain if config.training.batch_size < 8 else 1)
            found.append(replace(one, speed=Speed(rate, 0.7 * rate, 1.2 * rate, 40.0, "arithmetic")))
        return found

    best = search.recommend(request(80), smaller_is_faster).config.training
    assert (best.batch_size >= 8) == larger
    fastest = search.recommend(request(80, goal="max-speed"), smaller_is_faster).config.training
    assert fastest.batch_size < 8


def test_checkpointing_is_off_where_activations_fit() -> None:
    assert not search.recommend(request(80), made_up).config.model.gradient_checkpointing
    long_reads = statistics(500, 512)
    assert search.recommend(request(16, reads=long_reads), made_up).config.model.gradient_checkpointing


def test_least_memory_is_least_of_all_candidates() -> None:
    found = search.recommend(request(goal="min-memory"), made_up)
    assert found.best.needed_gib <= min(c.needed_gib for c in found.candidates if c.fits) + 0.05
    assert found.best.needed_gib < search.recommend(request(goal="max-speed"), made_up).best.needed_gib


def test_nothing_fits_names_the_tightest() -> None:
    found = search.recommend(request(24), functools.partial(made_up, more_gib=100))
    assert not found.fits
    assert found.best.needed_gib == min(candidate.needed_gib for candidate in found.candidates)
    assert found.config.model.quantization == "nf4"


def test_several_cards_share_the_effective_batch() -> None:
    one = search.recommend(request(80), made_up)
    four = search.recommend(request(80, devices=4), made_up)
    assert four.config.training.effective_batch * 4 == one.config.training.effective_batch


def test_evaluation_batch_stays_below_the_peak_of_training() -> None:
    found = search.recommend(request(24), made_up)
    size = found.config.training.eval_batch_size
    assert size is not None
    assert size > found.config.training.batch_size
    without = search.with_values(found.config, {"training.eval_batch_size": None})
    assert found.best.needed_gib <= made_up([without])[0].memory.device_gib + 0.3 + 0.01


def test_guide_policy_is_told_that_it_does_not_fit() -> None:
    long = statistics(36, 512)
    found = search.recommend(request(40, policy="guide", reads=long), made_up)
    assert found.config.training.batch_size == 32
    assert not found.fits and not found.notes


def test_the_guides_row_is_judged_by_batches_of_these_reads_and_says_what_longer_ones_would_take() -> None:
    """As training pads them, and as `estimate` judges the same configuration."""
    short = search.recommend(request(40, policy="guide"), made_up)
    assert short.fits and short.config.tokenizer.max_length == 512
    own = search.with_values(short.config, {"tokenizer.max_length": 40})
    assert short.best.memory == made_up([own])[0].memory
    (note,) = short.notes
    assert note.startswith("no read has more than 40 tokens: full batches of 512 would take 111.2 GiB")
    assert note.endswith("does not fit")
    row = exploration.guide_row(search.recommend(request(40), made_up), made_up)
    assert row.candidate.memory == short.best.memory and row.reasons[-1] == note
    unknown = exploration.guide_row(
        search.recommend(request(40, reads=reads.assumed(None)), made_up), made_up
    )
    assert unknown.reasons[0].startswith("it does not fit: 111.2 GiB with margin")
    assert not unknown.candidate.fits
