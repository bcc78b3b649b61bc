"""Which fixes are advised, in which order and how far, for a configuration and a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from advise_fixtures import (
    GUESSING,
    MESSAGES,
    OUT_OF_MEMORY,
    evaluated,
    falling,
    found,
    losses,
    predicted_gib,
    titles,
    write_run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig

from metagene_doctor import rulebook
from metagene_doctor.advice.advise import advise, collect
from metagene_doctor.advice.budget import Budget
from metagene_doctor.advice.changes import value_of, with_changes
from metagene_doctor.advice.evidence import Evidence, TrainingPoint
from metagene_doctor.advice.logs import read_log
from metagene_doctor.advice.memory_failures import find_failures
from metagene_doctor.advice.remedies import Situation, plan
from metagene_doctor.finding import Severity
from metagene_train.config import RunConfig


def test_unused_memory_is_offered_for_speed_only_as_far_as_it_fits() -> None:
    config = RunConfig()
    config.model.gradient_checkpointing = True
    config.training.batch_size, config.training.grad_accum_steps = 1, 32
    config.tokenizer.max_length = 64
    points = tuple(
        TrainingPoint(step=10 * i, loss=1.0, peak_reserved_gib=12.6, reads_per_s=7.0) for i in range(1, 20)
    )
    advice = advise(
        Evidence(source="run", training=points, config=config),
        rulebook.load(),
        gpu=rulebook.load().gpu("rtx4090"),
        predict=predicted_gib,
    )
    assert [f.id for f in advice.findings if f.severity is Severity.WARN] == ["A02"]
    assert advice.plan is not None
    new = advice.plan.config
    assert new.training.effective_batch == 32
    assert new.training.batch_size > 1
    assert predicted_gib(new) <= rulebook.load().gpu("rtx4090").usable_gib


def test_out_of_memory_is_fixed_in_order_until_it_fits_and_no_further() -> None:
    config = RunConfig()
    config.training.batch_size, config.training.grad_accum_steps = 64, 1
    config.tokenizer.max_length = 128
    advice = advise(Evidence(source="", config=config), rulebook.load(), symptom="oom",
                    gpu=rulebook.load().gpu("rtx4090"), predict=predicted_gib)  # fmt: skip
    assert advice.plan is not None
    usable = rulebook.load().gpu("rtx4090").usable_gib
    assert [item.fix.key for item in advice.plan.advised] == ["training.batch_size"]
    new = advice.plan.config
    assert new.training.effective_batch == 64
    assert predicted_gib(new) <= usable
    twice = new.model_copy(deep=True)
    twice.training.batch_size *= 2
    assert predicted_gib(twice) > usable, "the micro-batch is the largest that fits"


@pytest.mark.parametrize(("compute_capability", "quantization"), [("7.5", "int8"), ("7.0", "nf4")])
def test_a_card_too_small_for_the_weights_gets_quantised_ones(
    compute_capability: str, quantization: str
) -> None:
    config = RunConfig()
    config.model.gradient_checkpointing = True
    config.training.batch_size, config.training.grad_accum_steps = 1, 32
    config.tokenizer.max_length = 128
    book = rulebook.load()
    smallest, _ = book.smallest_gpu(8)
    card = smallest.model_copy(update={"compute_capability": compute_capability})
    advice = advise(Evidence(source="", config=config), book, symptom="oom", gpu=card, predict=predicted_gib)
    assert advice.plan is not None
    assert [(c.key, c.new) for c in advice.plan.changes] == [("model.quantization", quantization)]
    needed = {"int8": "6.6", "nf4": "3.5"}[quantization]
    assert needed in next(f for f in advice.findings if f.id == "EV-OOM-QUANTIZATION").why


@pytest.mark.parametrize(("gpu", "kind"), [("t4", "int8"), ("v100", "nf4")])
def test_a_card_is_advised_only_a_quantisation_that_it_can_multiply_in(
    gpu: str, kind: str, tmp_path: Path, capsys
) -> None:
    sizes = {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    }
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    LlamaConfig(vocab_size=1024, **sizes).save_pretrained(encoder)  # 23.6 GiB of weights, 11.8 in 8 bits
    config = tmp_path / "config.yaml"
    config.write_text(f"model:\n  encoder_path: {encoder}\n")
    for named in ([], ["--config", config]):
        _, report = found(capsys, "oom", "--gpu", gpu, *named)
        (fix,) = (f for f in report["findings"] if f["id"] == "EV-OOM-QUANTIZATION")
        assert fix["remedy"]["commands"] == [f"model.quantization={kind}"], named


def test_weights_that_do_not_fit_are_quantised_before_the_micro_batch_is_cut_down() -> None:
    config = RunConfig()
    config.training.batch_size, config.tokenizer.max_length = 128, 64
    book = rulebook.load()
    gpu = book.gpu("rtx4090")
    budget = Budget(8.0, predicted_gib, busy_tokens=gpu.bf16_tflops * 1e3 / gpu.bandwidth_gbs)
    made = plan(["oom"], config, Situation(Evidence(source=""), book, budget))
    assert [item.fix.key for item in made.advised][:2] == ["model.quantization", "training.batch_size"]
    assert "one read at a time with checkpointing still needs 12.2" in made.advised[0].reason
    assert made.config.training.effective_batch == 128
    assert made.config.training.batch_size * 64 >= budget.busy_tokens
    assert predicted_gib(made.config) <= 8.0


def test_checkpointing_comes_before_a_micro_batch_that_would_leave_the_card_idle() -> None:
    config = RunConfig()
    config.training.batch_size, config.tokenizer.max_length = 128, 64
    budget = Budget(13.0, predicted_gib, busy_tokens=164)
    made = plan(["oom"], config, Situation(Evidence(source=""), rulebook.load(), budget))
    assert [item.fix.key for item in made.advised] == ["training.batch_size", "model.gradient_checkpointing"]
    assert made.config.training.batch_size == 4
    assert predicted_gib(made.config) <= 13.0


def test_fp32_weights_are_the_first_thing_to_go() -> None:
    config = RunConfig()
    config.training.precision = "32"
    made = plan(["oom"], config, Situation(Evidence(source=""), rulebook.load(), Budget(45.0, predicted_gib)))
    assert [(c.key, c.new) for c in made.advised[0].changes] == [("training.precision", "bf16-mixed")]


@pytest.mark.parametrize(("situation", "new"), [({"bf16": False}, "fp16-mixed"), ({"on_cpu": True}, None)])
def test_a_device_without_bf16_is_not_told_to_use_it(situation: dict, new: str | None) -> None:
    config = RunConfig()
    config.training.precision = "32"
    made = plan(["slow"], config, Situation(Evidence(source=""), rulebook.load(), **situation))
    changes = [c.new for item in made.advised for c in item.changes if c.key == "training.precision"]
    assert changes == ([new] if new else [])


def test_speed_waits_while_a_run_does_not_converge() -> None:
    config = RunConfig()
    config.optimizer.max_grad_norm, config.tokenizer.padding = None, "max_length"
    made = plan(["instability", "slow"], config, Situation(Evidence(source=""), rulebook.load()))
    assert "optimizer.max_grad_norm" in {change.key for change in made.changes}
    assert "tokenizer.padding" not in {change.key for change in made.changes}
    assert any(item.fix.key == "tokenizer.padding" for item in made.advised)


def test_a_failure_during_evaluation_lowers_the_evaluation_batch(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        f"Traceback (most recent call last):\n    metrics = self.evaluation_loop(loader)\n{OUT_OF_MEMORY}\n"
    )
    config = RunConfig()
    config.training.batch_size, config.training.eval_batch_size = 4, 512
    made = plan(["oom"], config, Situation(read_log(log), rulebook.load()))
    assert [(c.key, c.old, c.new) for c in made.advised[0].changes] == [
        ("training.eval_batch_size", 512, 256)
    ]


def test_what_others_hold_is_not_counted_on(tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.txt"
    log.write_text(MESSAGES["2.2 in a container: own process under its host number"][0])
    code, report = found(capsys, "--log", log)
    assert code == 1
    finding = report["findings"][0]
    assert finding["measured"] == pytest.approx(77.26 + 448 / 1024, abs=0.01)
    assert "1.48 GiB of the device belonged to something else" in finding["why"]


def test_a_larger_card_than_the_one_that_failed_is_judged_by_its_own_memory(tmp_path: Path) -> None:
    config = RunConfig()
    config.training.batch_size, config.tokenizer.max_length = 16, 128
    (failure,) = find_failures([OUT_OF_MEMORY])
    evidence = Evidence(source="log", device_failures=(failure,), config=config)
    book = rulebook.load()
    larger = advise(evidence, book, gpu=book.smallest_gpu(80)[0], predict=predicted_gib)
    same = advise(evidence, book, gpu=book.gpu("rtx4090"), predict=predicted_gib)
    assert larger.plan is not None and same.plan is not None
    assert not larger.plan.changes and same.plan.changes
    assert (same.plan.usable_gib or 0) < 23.64 < (larger.plan.usable_gib or 0)


def test_a_prediction_that_was_short_is_corrected_by_what_was_seen(tmp_path: Path) -> None:
    config = RunConfig()
    config.training.batch_size, config.training.grad_accum_steps = 12, 1
    config.tokenizer.max_length = 128
    (failure,) = find_failures([OUT_OF_MEMORY])
    evidence = Evidence(
        source="run",
        device_failures=(failure,),
        config=config,
        predicted={"device_gib": predicted_gib(config)},
    )
    advice = advise(evidence, rulebook.load(), predict=predicted_gib)
    short = 23.40 + 226 / 1024 - predicted_gib(config)
    explained = next(f for f in advice.findings if f.id == "A03.prediction")
    assert f"the prediction was {short:.2f} GiB short" in explained.why
    assert advice.plan is not None and advice.plan.need_gib is not None
    assert advice.plan.need_gib == pytest.approx(predicted_gib(advice.plan.config) + short)
    assert advice.plan.need_gib <= 23.64


def test_memory_that_was_predicted_is_held_against_what_was_measured(tmp_path: Path, capsys) -> None:
    entries = losses(falling(3.0, 0.5), peak_reserved_gib=14.0)
    run = write_run(tmp_path / "run", entries, evaluated([1.0, 0.8, 0.8, 0.8]))
    for document, title in (
        ({"memory": {"reserved_gib": 13.8, "device_gib": 14.5}}, "Memory as predicted"),
        ({"memory": {"reserved_gib": 10.0, "device_gib": 11.0}}, "Memory differs from the prediction"),
    ):
        (run / "predicted.json").write_text(json.dumps(document))
        _, report = found(capsys, "--run", run)
        assert report["findings"][1]["title"] == title
    assert "+40.0 % from the 10.00 GiB predicted" in report["findings"][1]["why"]


def test_contradicted_claims_of_the_guide_are_named_and_not_made(capsys) -> None:
    _, report = found(capsys, "oom")
    assert [t for t in titles(report, "info") if t.startswith("Not advised")] == [
        'Not advised for out of memory: lower tokenizer.max_length (guide §5 ("most effective"), number 1 of its list)',
        "Not advised for out of memory: lower model.lora.r (guide §5, number 4 of its list)",
        "Not advised for out of memory: set model.lora.target_modules (guide §5, number 5 of its list)",
    ]


def test_the_trainers_own_out_of_memory_message_is_read_from_run_json(tmp_path: Path) -> None:
    error = (
        "CUDA ran out of memory at step 3 (micro-batch of 64 reads, 41 tokens wide) on NVIDIA GeForce RTX 4090: "
        f"allocated 22.10 GiB and reserved 23.00 GiB at the peak, of 23.64 GiB. ({OUT_OF_MEMORY})"
    )
    run = write_run(
        tmp_path / "run", losses([3.0]), [], status="failed", error=error, device="NVIDIA GeForce RTX 4090"
    )
    evidence = collect(run, None, None)
    assert evidence.device_failures[0].capacity_gib == 23.64
    assert evidence.longest_read_tokens == 41
    advice = advise(evidence, rulebook.load(), predict=predicted_gib)
    assert advice.findings[0].id == "A03"
    assert advice.plan is not None and advice.plan.usable_gib is not None
    assert advice.plan.usable_gib <= rulebook.load().gpu("rtx4090").usable_gib


@pytest.mark.parametrize(("lr", "direction"), [(5e-3, "0.005 → 0.001"), (2e-5, "2e-05 → 0.0001")])
def test_nothing_learned_moves_the_learning_rate_into_loras_range(
    lr: float, direction: str, tmp_path: Path, capsys
) -> None:
    config = RunConfig()
    config.optimizer.lr = lr
    run = write_run(tmp_path / "run", losses([GUESSING] * 60), [], config)
    _, report = found(capsys, "--run", run)
    assert any(f"optimizer.lr {direction}" in title for title in titles(report, "info"))


def test_lengths_that_doctor_measured_decide_about_max_length(tmp_path: Path) -> None:
    config = RunConfig()
    config.tokenizer.max_length = 64
    run = write_run(tmp_path / "run", losses([3.0]), [], config)
    why = "Median 36, 99.9 % up to 44, longest 45 tokens (4.29 bases per token; 10,000 sampled reads)."
    (run / "doctor.json").write_text(json.dumps({"findings": [{"id": "T02", "why": why, "unit": "tokens"}]}))
    evidence = collect(run, None, None)
    assert evidence.longest_read_tokens == 45
    advice = advise(evidence, rulebook.load(), symptom="underfitting")
    aside = next(f for f in advice.findings + advice.set_aside if f.id == "GM-UNDER-2")
    assert aside.title.startswith("Not advised")


def configs() -> st.SearchStrategy[RunConfig]:
    def build(**values) -> RunConfig:
        return RunConfig.model_validate(
            {
                "tokenizer": {"max_length": values["max_length"], "padding": values["padding"]},
                "model": {
                    "gradient_checkpointing": values["checkpointing"],
                    "quantization": values["quantization"],
                    "dropout": values["dropout"],
                    "lora": {
                        "enabled": values["lora"],
                        "r": values["r"],
                        "target_modules": values["targets"],
                    },
                },
                "training": {
                    "batch_size": values["batch"],
                    "grad_accum_steps": values["accumulation"],
                    "eval_batch_size": values["eval_batch"],
                    "max_epochs": values["epochs"],
                    "max_steps": values["steps"],
                    "precision": values["precision"],
                    "num_workers": values["workers"],
                    "early_stopping": {"patience": values["patience"]},
                },
                "optimizer": {"lr": values["lr"], "max_grad_norm": values["clip"]},
                "scheduler": values["warmup"],
                "loss": {"label_smoothing": values["smoothing"]},
            }
        )

    return st.builds(
        build,
        max_length=st.sampled_from([2, 48, 64, 128, 512, 1024]),
        padding=st.sampled_from(["longest", "max_length"]),
        checkpointing=st.booleans(),
        quantization=st.sampled_from(["none", "int8", "nf4"]),
        dropout=st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5]),
        lora=st.booleans(),
        r=st.sampled_from([1, 2, 8, 63, 64, 256]),
        targets=st.sampled_from(["all-linear", ["q_proj"], ["v_proj", "q_proj"], ["gate_proj", "q_proj"]]),
        batch=st.integers(1, 130),
        accumulation=st.integers(1, 40),
        eval_batch=st.sampled_from([None, 1, 7, 512]),
        epochs=st.sampled_from([0.5, 1, 3, 5, 10, 100]),
        steps=st.sampled_from([None, 1, 1000]),
        precision=st.sampled_from(["bf16-mixed", "fp16-mixed", "bf16-true", "32"]),
        workers=st.integers(0, 10),
        patience=st.sampled_from([0, 1, 3, 10]),
        lr=st.sampled_from([1e-6, 2e-5, 1e-4, 2e-4, 7e-4, 1e-3, 5e-3]),
        clip=st.sampled_from([None, 0.3, 1.0, 5.0]),
        warmup=st.sampled_from(
            [{}, {"warmup_steps": 0}, {"warmup_steps": 900}, {"warmup_steps": 1000}, {"warmup_ratio": 0.0},
             {"warmup_ratio": 0.03}, {"warmup_ratio": 0.5}]
        ),
        smoothing=st.sampled_from([0.0, 0.1, 0.3]),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    config=configs(),
    symptom=st.sampled_from(["oom", "slow", "overfitting", "underfitting", "instability"]),
    usable=st.sampled_from([None, 7.0, 11.0, 23.0, 80.0]),
)
def test_advice_never_repeats_the_current_value_and_is_always_a_valid_config(
    config: RunConfig, symptom: str, usable: float | None
) -> None:
    budget = Budget(usable, predicted_gib)
    made = plan([symptom], config, Situation(Evidence(source=""), rulebook.load(), budget, processors=4))
    current = config
    for item in made.advised:
        assert item.changes
        for change in item.changes:
            assert change.old != change.new, item.fix.id
            assert change.old == value_of(current, change.key), item.fix.id
        changed = with_changes(current, item.changes)  # raises if a value is out of range
        if symptom in ("oom", "slow"):
            assert changed.training.effective_batch == config.training.effective_batch
        if symptom == "oom" and item.after_gib is not None:
            assert item.after_gib < (item.before_gib or 0)
        if item.at_once:
            current = changed
    assert current == made.config
    if usable is not None and symptom == "slow" and predicted_gib(config) <= usable:
        assert predicted_gib(made.config) <= usable, "speed is never bought with memory that is not there"
    assert value_of(made.config, "training.num_workers") <= max(4, config.training.num_workers)


@settings(max_examples=40, deadline=None)
@given(config=configs())
def test_following_the_advice_for_memory_comes_to_an_end(config: RunConfig) -> None:
    for _ in range(40):
        made = plan(
            ["oom"], config, Situation(Evidence(source=""), rulebook.load(), Budget(1.0, predicted_gib))
        )
        if not made.changes:
            return
        config = made.config
    pytest.fail("the same advice over and over")
