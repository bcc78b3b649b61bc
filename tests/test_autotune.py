"""Autotune: statistics of reads, plans from rules, the search, and the command end to end."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from metagene_doctor import rulebook
from metagene_doctor.memory.costs import read_lengths as reads
from metagene_doctor.memory.measured import device
from metagene_doctor.report.terminal import ReportConsole
from metagene_doctor.tuning import autotune, exploration, plan, recommended, report, search, speed
from metagene_doctor.tuning.search import Prediction
from metagene_doctor.tuning.speed import Architecture, Speed
from metagene_train.config import RunConfig
from metagene_train.config_file import flatten, load_config

BOOK = rulebook.load()
METAGENE = Architecture(
    layers=32, hidden=4096, ffn=11008, query=4096, key_value=4096, context=512, vocabulary=1024
)


@dataclass
class Peak:
    """Memory of a made-up model: weights, adapters, and activations per token."""

    live_gib: float
    margin_gib: float = 0.3
    phase: str = "backward"
    breakdown: dict[str, float] = field(default_factory=dict)

    @property
    def reserved_gib(self) -> float:
        return 1.02 * self.live_gib

    @property
    def device_gib(self) -> float:
        return self.reserved_gib + 0.5


def made_up(configs: Sequence[RunConfig], more_gib: float = 0) -> list[Prediction]:
    """METAGENE-1's orders of magnitude: 12 GiB of weights, 6 MiB a token kept, 0.6 with checkpointing;
    a pass takes 20 ms and a millisecond a read, three passes with checkpointing, otherwise two."""
    found = []
    for config in configs:
        weights = {"none": 12.07, "int8": 6.2, "nf4": 3.2}[config.model.quantization]
        weights *= 2 if config.training.precision == "32" else 1
        per_token = 0.6 if config.model.gradient_checkpointing else 6.0
        tokens = config.training.batch_size * config.tokenizer.max_length
        lora = config.model.lora
        adapters = METAGENE.adapter_parameters(lora.r, lora.target_modules) * 16 / 2**30
        evaluated = (config.training.eval_batch_size or 0) * config.tokenizer.max_length * 0.2
        peak = Peak(more_gib + weights + adapters + max(tokens * per_token, evaluated) / 1024)
        passes = 3 if config.model.gradient_checkpointing else 2
        rate = config.training.batch_size / (passes * (0.02 + 0.001 * config.training.batch_size))
        found.append(Prediction(peak, Speed(rate, 0.7 * rate, 1.2 * rate, 40.0, "arithmetic")))
    return found


def statistics(*lengths: int, number: int | None = 50_000, classes: int = 20) -> reads.ReadStatistics:
    """Reads of these token lengths, equally frequent."""
    counts = np.bincount(lengths) / len(lengths)
    return reads.ReadStatistics(number, classes, 150, counts, "made up", 0)


def request(gpu_mem: float = 24, gpu: str | None = None, **wishes: object) -> search.Request:
    target = device.choose(BOOK, gpu=gpu) if gpu else device.choose(BOOK, gpu_mem=gpu_mem)
    values = {"base": RunConfig(), "reads": statistics(36, 40), **wishes}
    return search.Request(book=BOOK, device=target, architecture=METAGENE, **values)  # type: ignore[arg-type]


# reads


def test_max_length_is_the_shortest_multiple_of_eight_that_cuts_few_enough() -> None:
    lengths = [30] * 995 + [41] * 4 + [70]
    found = statistics(*lengths)
    assert found.shortest_length(0.0, 512) == 72
    assert found.shortest_length(0.001, 512) == 48
    assert found.shortest_length(0.005, 512) == 32
    assert found.cut(48) == pytest.approx(0.001)


def test_max_length_never_exceeds_the_context() -> None:
    assert statistics(700, 800).shortest_length(0.001, 512) == 512


def test_padding_costs_less_when_batches_are_grouped_by_length() -> None:
    found = statistics(*range(20, 60))
    grouped = found.padded_tokens(64, 16, grouped=True)
    mixed = found.padded_tokens(64, 16, grouped=False)
    assert found.mean_tokens <= grouped < mixed <= 59


# plans


def test_evidence_plan_follows_the_number_of_reads() -> None:
    ranks = {}
    for number in (5_000, 500_000, 5_000_000):
        made = plan.make(
            "evidence",
            BOOK,
            RunConfig(),
            statistics(36, number=number),
            goal="balanced",
            gpu_gb=24,
            context=512,
            hidden=4096,
        )
        ranks[number] = made.value("model.lora.r")
        assert made.value("model.lora.alpha") == 2 * ranks[number]
        assert made.value("optimizer.lr") == pytest.approx(3e-4)
        assert made.value("model.lora.target_modules") == "all-linear"
        assert 16 <= made.value("effective_batch") <= 32
    assert ranks[5_000] < ranks[500_000] < ranks[5_000_000]


@pytest.mark.parametrize("goal", ["balanced", "fast-convergence"])
def test_warm_up_does_not_grow_with_the_largest_runs(goal: str) -> None:
    """Steps at 16 to 32 reads each; of a share of 558 million reads it would be hundreds of thousands."""
    for number, longest in ((50_000, 0.05), (5_000_000, 1000), (558_000_000, 1000)):
        config = search.recommend(request(goal=goal, reads=statistics(36, 40, number=number)), made_up).config
        steps, ratio = config.scheduler.warmup_steps, config.scheduler.warmup_ratio
        assert (steps is None) is (number < 1_000_000) and (ratio is None) is (number >= 1_000_000)
        assert (ratio if steps is None else steps) <= longest


def test_guide_plan_is_the_guides_row() -> None:
    made = plan.make(
        "guide",
        BOOK,
        RunConfig(),
        statistics(36, number=20_000),
        goal="balanced",
        gpu_gb=24,
        context=512,
        hidden=4096,
    )
    row = BOOK.rule("GM-MEM-24GB")
    assert made.value("training.batch_size") == 1
    assert made.value("training.grad_accum_steps") == 32
    assert made.value("model.lora.target_modules") == ["q_proj", "v_proj"]
    assert made.value("model.gradient_checkpointing") is True
    assert made.value("model.lora.r") in row.recommends["model.lora.r"]
    assert made.value("model.lora.alpha") == 2 * made.value("model.lora.r")
    assert made.value("training.max_epochs") == 10
    assert made.value("optimizer.lr") == pytest.approx(2e-4)
    # What the guide says beside its tables (sections 7 to 9).
    assert made.value("memory_optimization.empty_cache_steps") == 10
    assert made.value("memory_optimization.max_split_size_mb") is None
    assert made.value("tokenizer.add_special_tokens") is False
    assert made.value("training.num_workers") == 4
    assert made.settings["training.num_workers"].rule == "GM-DATA-WORKERS"


@pytest.mark.parametrize("policy", ["evidence", "guide"])
@pytest.mark.parametrize("goal", sorted({goal.name for goal in BOOK.goals}))
def test_every_goal_gives_a_valid_configuration(policy: str, goal: str) -> None:
    found = search.recommend(request(48, policy=policy, goal=goal), made_up)
    assert found.fits or policy == "guide"
    RunConfig.model_validate(found.config.model_dump())


def test_goal_changes_what_it_says() -> None:
    balanced = search.recommend(request(), made_up).config
    quality = search.recommend(request(goal="max-quality"), made_up).config
    overfitting = search.recommend(request(goal="anti-overfitting"), made_up).config
    assert quality.model.lora.r > balanced.model.lora.r
    assert quality.dataset.reverse_complement
    assert overfitting.training.max_epochs < balanced.training.max_epochs
    assert overfitting.loss.label_smoothing > balanced.loss.label_smoothing


def test_users_epochs_and_truncation_beat_the_rules() -> None:
    lengths = statistics(*[30] * 99, 100)
    found = search.recommend(request(reads=lengths, epochs=2.5, max_truncation=0.05), made_up)
    assert found.config.training.max_epochs == 2.5
    assert found.config.tokenizer.max_length == 32


def test_few_long_reads_that_decide_the_length_are_told() -> None:
    """Of 200 reads one has 300 tokens, which is more than the share that may be cut and keeps 304."""
    few = statistics(*[40] * 199, 300)
    found = search.recommend(request(reads=few), made_up)
    assert found.config.tokenizer.max_length == 304
    (note,) = found.notes
    assert note.startswith("0.5 % of the reads are why max_length is 304 and not 40; --max-truncation 0.01")
    cut = search.recommend(request(reads=few, max_truncation=0.01), made_up)
    assert cut.config.tokenizer.max_length == 40
    assert cut.notes == (
        "0.5 % of the reads have more than 40 tokens: they are cut; --max-truncation 0 keeps them whole",
    )
    assert cut.best.speed.reads_per_s > found.best.speed.reads_per_s
    assert not search.recommend(request(reads=few, max_truncation=0.0), made_up).notes
    many = statistics(*[40] * 90, *[300] * 10)
    assert not search.recommend(request(80, reads=many), made_up).notes


def test_lab_rule_is_applied(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        "rules:\n  - {id: LAB-LR, title: ours, policy: evidence, recommends: {optimizer.lr: 1.0e-4},"
        " source: our runs, verdict: holds}\n"
    )
    found = search.recommend(replace(request(), book=rulebook.load(tmp_path)), made_up)
    assert found.config.optimizer.lr == pytest.approx(1e-4)
    assert "LAB-LR" in recommended.comments(found)["optimizer.lr"]


# search


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


# speed


def estimated(config: RunConfig, gpu: str, tokens: float) -> speed.Speed:
    return speed.estimate(config, device.choose(BOOK, gpu=gpu), tokens, classes=20)


def test_faster_card_is_faster_and_checkpointing_is_slower() -> None:
    config = search.with_values(RunConfig(), {"training.batch_size": 32})
    slow = estimated(config, "t4", 40)
    fast = estimated(config, "h100", 40)
    assert fast.reads_per_s > 3 * slow.reads_per_s
    checkpointing = search.with_values(config, {"model.gradient_checkpointing": True})
    again = estimated(checkpointing, "t4", 40)
    assert 0.55 < again.reads_per_s / slow.reads_per_s < 0.8
    assert slow.slow <= slow.reads_per_s <= slow.fast


def test_slow_end_of_the_range_is_what_users_of_the_guide_saw() -> None:
    """7-8 iterations per second at micro-batch 1 on an RTX 4090, rank 4 on q,v, 128 padded tokens."""
    config = search.with_values(
        RunConfig(),
        {
            "training.batch_size": 1,
            "model.lora.r": 4,
            "model.lora.target_modules": ["q_proj", "v_proj"],
            "model.gradient_checkpointing": True,
        },
    )
    found = estimated(config, "rtx4090", 128)
    assert found.slow <= 8
    assert found.fast >= 7


def test_adapter_parameters_of_metagene_1() -> None:
    assert METAGENE.adapter_parameters(8, "all-linear") == pytest.approx(20.0e6, rel=0.01)


# around the recommendation


def test_each_neighbour_turns_one_knob() -> None:
    found = search.recommend(request(), made_up)
    turned = exploration.neighbours(found, made_up)
    assert {neighbour.knob for neighbour in turned} >= {
        "training.batch_size",
        "tokenizer.max_length",
        "model.lora.r",
        "model.lora.target_modules",
        "model.gradient_checkpointing",
        "model.quantization",
    }
    for neighbour in turned:
        before, after = flatten(found.config), flatten(neighbour.candidate.config)
        changed = {key for key in after if before[key] != after[key]}
        assert neighbour.knob in changed
        assert changed <= {
            neighbour.knob,
            "training.grad_accum_steps",
            "training.eval_batch_size",
            "model.lora.alpha",
        }
        assert neighbour.delta_gib == pytest.approx(neighbour.candidate.needed_gib - found.best.needed_gib)


def test_a_length_that_no_read_has_costs_nothing_and_tells_what_full_batches_would() -> None:
    """36 and 40 tokens: 80 would cut as little as 40 does, and no batch is longer for it."""
    found = search.recommend(request(), made_up)
    assert found.config.tokenizer.max_length == 40
    lengths = {n.value: n for n in exploration.neighbours(found, made_up) if n.knob == "tokenizer.max_length"}
    assert lengths[20].remark == "cuts 100 % of the reads"
    longer = lengths[80]
    assert (longer.delta_gib, longer.speed_ratio, longer.candidate.fits) == (0.0, 1.0, True)
    assert longer.candidate.config.tokenizer.max_length == 80
    full = search.with_values(longer.candidate.config, {"training.eval_batch_size": None})
    (candidate,) = search.judge(found.request, [full], made_up, full=True)
    price = f"{candidate.needed_gib - found.best.needed_gib:+.2f}" + ("" if candidate.fits else " x")
    assert longer.remark == f"no read is that long; {price} if a batch were"

    # One read in 2,000 has 70 tokens and is cut: another length takes what 72 tokens take, not 80.
    rare = search.recommend(request(reads=statistics(*[40] * 1999, 70)), made_up)
    (longer,) = (n for n in exploration.neighbours(rare, made_up) if n.value == 80)
    same = {"tokenizer.max_length": 72, "training.eval_batch_size": None}
    (priced,) = search.judge(rare.request, [search.with_values(rare.config, same)], made_up)
    assert (
        longer.delta_gib == pytest.approx(priced.needed_gib - rare.best.needed_gib) and longer.delta_gib > 0
    )

    # Where every batch is padded to max_length, every batch is full.
    padded = replace(
        found,
        best=replace(
            found.best, config=search.with_values(found.config, {"tokenizer.padding": "max_length"})
        ),
    )
    (longer,) = (n for n in exploration.neighbours(padded, made_up) if n.value == 80)
    assert longer.delta_gib > 0 and not longer.remark


def test_heat_map_has_the_recommendation_in_it() -> None:
    found = search.recommend(request(), made_up)
    over_batch, over_rank = exploration.heat_maps(found, made_up)
    row = over_batch.rows.index(found.config.training.batch_size)
    column = over_batch.columns.index(found.config.tokenizer.max_length)
    assert over_batch.gib[row][column] == pytest.approx(found.best.needed_gib, abs=0.05)
    turned = [n for n in exploration.neighbours(found, made_up) if n.knob == "training.batch_size"]
    assert turned
    for neighbour in turned:
        row = over_batch.rows.index(neighbour.value)
        assert over_batch.gib[row][column] == pytest.approx(neighbour.candidate.needed_gib), neighbour.value
    assert all(left <= right for line in over_batch.gib for left, right in itertools.pairwise(line))
    assert max(over_batch.columns) == METAGENE.context
    assert found.config.model.lora.r in over_rank.rows


def test_guides_row_is_compared_on_the_same_card() -> None:
    found = search.recommend(request(40, reads=statistics(36, 500)), made_up)
    row = exploration.guide_row(found, made_up)
    assert row.rule == "GM-MEM-40GB"
    assert not row.taken
    assert any("does not fit" in reason for reason in row.reasons)
    assert any("effective batch of 64 lies above 16-32" in reason for reason in row.reasons)
    assert not any("learning rate" in reason for reason in row.reasons)

    turing = search.recommend(request(gpu="t4", reads=statistics(36, 500)), made_up)
    reasons = exploration.guide_row(turing, made_up).reasons
    assert "Tesla T4 has no bf16 arithmetic, which it asks for" in reasons
    assert "its 256 tokens cut 50.0 % of the reads" in reasons

    head_only = search.with_values(RunConfig(), {"model.lora.enabled": False})
    probe = search.recommend(request(24, base=head_only), made_up)
    assert not any("adapters" in reason for reason in exploration.guide_row(probe, made_up).reasons)

    few = search.recommend(request(24, reads=statistics(36, 40, number=500)), made_up)
    reasons = exploration.guide_row(few, made_up).reasons
    assert any("learning rate of 5e-05 lies below 0.0001 to 0.001" in reason for reason in reasons)
    assert not any("effective batch" in reason for reason in reasons)


def test_recommended_file_has_a_reason_on_every_line(tmp_path: Path) -> None:
    found = search.recommend(request(), made_up)
    path = tmp_path / "recommended.yaml"
    path.write_text(recommended.to_yaml(found))
    loaded = load_config(path)
    assert loaded.config == found.config
    assert not loaded.warnings
    assert set(recommended.comments(found)) == set(flatten(found.config))
    text = path.read_text()
    assert f"{found.best.memory.device_gib:.2f} GiB" in text
    assert "neither was measured" in text
    values = [line for line in text.splitlines() if ":" in line and not line.startswith("#")]
    keyed = [line for line in values if not line.rstrip().endswith(":")]
    assert all("#" in line for line in keyed)
    reasons = recommended.comments(found)
    assert not [key for key, reason in reasons.items() if reason in ("", "default", "given")]


@pytest.mark.parametrize(("hidden", "rate"), [(4096, 3e-4), (8192, 3e-4), (1024, 1.2e-3), (192, 5e-3)])
def test_a_narrower_encoder_gets_a_higher_learning_rate_that_says_why(hidden, rate):
    made = plan.make(
        "evidence",
        BOOK,
        RunConfig(),
        statistics(36, number=20_000),
        goal="balanced",
        gpu_gb=24,
        context=512,
        hidden=hidden,
    )
    setting = made.settings["optimizer.lr"]
    assert setting.value == rate
    assert setting.rule == ("EV-LR" if hidden >= 4096 else "EV-LR-WIDTH")
