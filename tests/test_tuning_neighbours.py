"""Around a recommendation: speed, the price of each knob, maps, the guide's row, the file that is written."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from tuning_fixtures import BOOK, METAGENE, made_up, planned, request, statistics

from metagene_doctor.memory.measured import device
from metagene_doctor.tuning import exploration, recommended, search, speed
from metagene_train.config import RunConfig
from metagene_train.config_file import flatten, load_config


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
    made = planned("evidence", hidden=hidden)
    setting = made.settings["optimizer.lr"]
    assert setting.value == rate
    assert setting.rule == ("EV-LR" if hidden >= 4096 else "EV-LR-WIDTH")
