"""What rules and reads decide before the search: length, rank, schedule, goals, policies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tuning_fixtures import BOOK, made_up, planned, request, statistics

from metagene_doctor import rulebook
from metagene_doctor.tuning import recommended, search
from metagene_train.config import RunConfig


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


def test_evidence_plan_follows_the_number_of_reads() -> None:
    ranks = {}
    for number in (5_000, 500_000, 5_000_000):
        made = planned("evidence", number=number)
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
    made = planned("guide")
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
