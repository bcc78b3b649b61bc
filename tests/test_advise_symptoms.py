"""What a run directory shows: each symptom with its number, and none in a healthy run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from advise_fixtures import (
    CLASSES,
    GUESSING,
    evaluated,
    falling,
    found,
    losses,
    predicted_gib,
    titles,
    write_run,
)

from metagene_doctor import rulebook
from metagene_doctor.advice.advise import advise, collect
from metagene_doctor.advice.evidence import Evaluation, Evidence
from metagene_doctor.advice.symptoms import detect
from metagene_doctor.finding import Severity
from metagene_train.config import RunConfig


def test_a_healthy_run_says_so_with_its_numbers(tmp_path: Path, capsys) -> None:
    fast = {"reads_per_s": 500.0, "padding_fraction": 0.02, "data_wait_fraction": 0.01}
    run = write_run(
        tmp_path / "run",
        losses(falling(3.0, 0.5), **fast),
        evaluated([1.2, 0.9, 0.8, 0.79, 0.785, 0.784, 0.784]),
    )
    code, report = found(capsys, "--run", run)
    assert code == 0
    (finding,) = report["findings"]
    assert finding["title"] == "No symptom found"
    assert "validation loss 0.784" in finding["why"] and "500 reads/s" in finding["why"]


def test_overfitting_is_found_with_gap_and_evaluations(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 0.1)), evaluated([1.2, 0.9, 1.0, 1.1, 1.25]))
    code, report = found(capsys, "--run", run)
    assert code == 0
    finding = report["findings"][0]
    assert (finding["id"], finding["severity"]) == ("A07", "warn")
    assert (finding["measured"], finding["threshold"]) == (1.25, 0.9)
    assert "3 evaluations later (+39 %)" in finding["why"] and "step 200" in finding["why"]
    assert found(capsys, "--run", run, "--fail-on", "warn")[0] == 1


def test_epochs_are_lowered_to_the_best_evaluation(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 0.1)), evaluated([1.2, 0.9, 1.0, 1.1, 1.25]))
    _, report = found(capsys, "--run", run)
    assert any("training.max_epochs 10 → 2" in title for title in titles(report, "info"))


def test_a_rise_of_both_losses_is_divergence_not_overfitting(tmp_path: Path, capsys) -> None:
    values = [*falling(3.0, 0.8, 60), *(0.8 + 0.03 * i for i in range(40))]
    run = write_run(tmp_path / "run", losses(values), evaluated([1.2, 0.9, 1.0, 1.5, 1.9]))
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn", "error") == ["Training loss rises again: the run diverged"]


def test_a_run_that_ended_while_improving(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 1.0)), evaluated([2.5, 2.2, 1.9, 1.7, 1.5, 1.3]))
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["Stopped while still improving"]
    fix = next(f for f in report["findings"] if f["id"] == "GM-UNDER-3")
    assert "training.max_epochs 10 → 20" in fix["title"], "the run shows it, whatever the rule's limit"


def test_both_losses_high_and_flat(tmp_path: Path, capsys) -> None:
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 2.3)), evaluated([2.6, 2.36, 2.35, 2.35, 2.35, 2.35])
    )
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["Underfitting: both losses levelled off high"]
    assert f"{GUESSING:.4g}" in report["findings"][0]["why"]


def test_nothing_learned_is_a_loss_of_ln_k(tmp_path: Path, capsys) -> None:
    flat = [GUESSING * (1 + 0.005 * (-1) ** i) for i in range(60)]
    run = write_run(tmp_path / "run", losses(flat), evaluated([GUESSING] * 4, macro_f1=0.05, mcc=0.01))
    _, report = found(capsys, "--run", run)
    assert "Nothing was learned" in titles(report, "warn")
    assert "T01" in report["findings"][0]["remedy"]["text"]


def test_not_a_number_is_an_error_with_the_step(tmp_path: Path, capsys) -> None:
    values = [*falling(3.0, 1.5, 50), math.nan, math.nan]
    run = write_run(tmp_path / "run", losses(values), [], status="failed")
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["title"] == "The training loss is not a number from step 510 on"


def test_spikes_and_exploding_gradients(tmp_path: Path, capsys) -> None:
    entries = losses(falling(3.0, 1.0))
    for i in (40, 70):
        entries[i]["loss"] = 9.0
    entries[70]["grad_norm"] = 4321.0
    run = write_run(tmp_path / "run", entries, evaluated([1.5, 1.3, 1.2, 1.19, 1.19]))
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["Gradients explode", "Training loss spikes"]
    assert report["findings"][0]["measured"] == 4321.0
    assert "2 spikes in 100 logged points" in report["findings"][1]["why"]


def test_a_loss_that_oscillates(tmp_path: Path, capsys) -> None:
    values = [1.0 + 0.4 * (-1) ** i for i in range(80)]
    run = write_run(tmp_path / "run", losses(values), evaluated([1.0] * 5))
    _, report = found(capsys, "--run", run)
    assert "Training loss oscillates" in titles(report, "warn")


def test_one_answer_for_all_reads(tmp_path: Path, capsys) -> None:
    share = 0.4
    one_class = 2 * share / (1 + share) / CLASSES
    run = write_run(
        tmp_path / "run",
        losses(falling(3.0, 2.0)),
        evaluated([2.0] * 4, accuracy=share, macro_f1=one_class, mcc=0.0),
    )
    _, report = found(capsys, "--run", run)
    assert "Every read is given the same class" in titles(report, "warn")


def test_waiting_and_padding_are_what_makes_a_run_slow(tmp_path: Path, capsys) -> None:
    config = RunConfig()
    config.tokenizer.padding = "max_length"
    lossy = {"reads_per_s": 80.0, "padding_fraction": 0.72, "data_wait_fraction": 0.4}
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 0.5), **lossy), evaluated([1.0, 0.8, 0.8, 0.8]), config
    )
    evidence = collect(run, None, None)
    advice = advise(evidence, rulebook.load(), predict=predicted_gib)
    warned = [f for f in advice.findings if f.severity is Severity.WARN]
    assert [f.id for f in warned] == ["A01", "A13"]
    assert "1.67 times as fast" in warned[0].why and "3.6 times as fast" in warned[1].why
    assert advice.plan is not None
    assert {change.key: change.new for change in advice.plan.changes}["tokenizer.padding"] == "longest"


def test_a_run_that_stopped_itself_at_nan_is_found_by_its_own_words(tmp_path: Path, capsys) -> None:
    error = "the loss became NaN or infinite at step 37 with a learning rate of 0.01; the checkpoints ..."
    run = write_run(tmp_path / "run", losses(falling(3.0, 2.0, 3)), [], status="failed", error=error)
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["title"] == "The training loss is not a number from step 37 on"


def test_a_run_that_failed_otherwise_is_not_called_healthy(tmp_path: Path, capsys) -> None:
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 2.0)), [], status="failed", error="train.fa: line 9: cut off"
    )
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["why"] == "train.fa: line 9: cut off."
    log = tmp_path / "log.txt"
    log.write_text("Traceback (most recent call last):\n  File ...\nKeyError: 'class_id'\n")
    code, report = found(capsys, "--log", log)
    assert code == 1 and "KeyError: 'class_id'" in report["findings"][0]["why"]


def test_a_run_that_never_ended_is_said_to_be_so(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", losses(falling(3.0, 2.0)), [], status="running")
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == ["The run has not ended"]
    assert "1,000" in report["findings"][0]["why"]


def test_zero_gradients_are_an_error_that_no_setting_mends(tmp_path: Path, capsys) -> None:
    entries = losses([GUESSING] * 20)
    for entry in entries:
        entry["grad_norm"] = 0.0
    run = write_run(tmp_path / "run", entries, [])
    code, report = found(capsys, "--run", run)
    assert code == 1
    assert report["findings"][0]["title"] == "No gradient reaches the trained weights"
    assert not any(f["title"].startswith("Fix") for f in report["findings"])


def test_reads_left_out_are_never_silent(tmp_path: Path, capsys) -> None:
    run = write_run(
        tmp_path / "run",
        losses(falling(3.0, 0.5)),
        [],
        train_reads=900,
        validation_reads=50,
        excluded_reads=50,
    )
    (run / "doctor.json").write_text(
        json.dumps(
            {"complete": True, "argv": ["metagene", "doctor", "--val", "v.fa"], "examined": {"records": 1200}}
        )
    )
    _, report = found(capsys, "--run", run)
    assert titles(report, "warn") == [
        "Reads left out: 50",
        "The run saw other reads than doctor examined",
    ]
    assert "200 fewer" in report["findings"][1]["why"]


def test_an_evaluation_alone_is_evidence_too() -> None:
    values = [1.0, 0.8, 0.9, 1.0, 1.1]
    evidence = Evidence(
        source="log", evaluations=tuple(Evaluation(step=i, loss=v) for i, v in enumerate(values, 1))
    )
    assert [symptom.symptom for symptom in detect(evidence)] == ["overfitting"]


def judged(run: Path, gain: list[float], model: float, kmer: float) -> None:
    """`metagene evaluate`'s record in a run directory."""
    (run / "evaluation").mkdir()
    record = {
        "fasta": "val.fa",
        "reads": 600,
        "model": {"macro_f1": model},
        "baseline": {"k": 4, "kmer": {"macro_f1": kmer}},
        "accuracy_gain": gain,
    }
    (run / "evaluation" / "metrics.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("validation", "gain", "kind"),
    [
        ([2.0, 1.5, 1.2, 1.19], [-0.47, -0.38], "underfitting"),
        ([2.0, 1.5, 1.6, 1.8], [-0.10, -0.02], "overfitting"),
        ([2.0, 1.5, 1.2, 1.19], [-0.02, 0.03], None),
        ([2.0, 1.5, 1.2, 1.19], [0.05, 0.10], None),
    ],
)
def test_a_model_that_the_regression_beats_is_not_healthy(tmp_path, capsys, validation, gain, kind):
    run = write_run(tmp_path / "run", losses(falling(3.0, 1.0)), evaluated(validation))
    judged(run, gain, 0.144, 0.626)
    code, report = found(capsys, "--run", run)
    mine = [finding for finding in report["findings"] if finding["id"] == "A20"]
    assert code == 0 and bool(mine) == (kind is not None)
    if kind:
        assert (mine[0]["severity"], mine[0]["measured"], mine[0]["threshold"]) == ("warn", 0.144, 0.626)
        assert report["verdict"].startswith(kind)


@pytest.mark.parametrize(
    ("measured", "symptom"), [(20.0, True), (60.0, False), (130.0, False), (500.0, False)]
)
def test_measured_speed_is_held_against_the_predicted_one(tmp_path, capsys, measured, symptom):
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 1.0), reads_per_s=measured), evaluated([2.0, 1.5, 1.2, 1.19])
    )
    predicted = {"time": {"reads_per_s": {"expected": 140.0, "low": 100.0, "high": 180.0}}}
    (run / "predicted.json").write_text(json.dumps(predicted))
    _, report = found(capsys, "--run", run)
    found_titles = [finding["title"] for finding in report["findings"] if finding["id"].startswith("A21")]
    expected = (
        "Far slower than predicted"
        if symptom
        else "Speed as predicted"
        if 100 <= measured <= 180
        else "Speed differs from the prediction"
    )
    assert found_titles == [expected]
    assert ("slow" in report["verdict"]) == symptom


@pytest.mark.parametrize(
    ("pairs", "accuracy", "named"),
    [
        ([("E. coli", "S. flexneri", 90), ("S. flexneri", "E. coli", 80)], 0.70, True),  # 170 of 300 errors
        ([("E. coli", "S. flexneri", 90), ("S. flexneri", "E. coli", 40)], 0.70, False),
        (
            [("E. coli", "S. flexneri", 90), ("B. subtilis", "E. coli", 80)],
            0.70,
            False,
        ),  # two pairs of 12 classes
        ([("E. coli", "S. flexneri", 40)], 0.96, False),  # few errors
    ],
)
def test_errors_between_few_classes_are_told(tmp_path, capsys, pairs, accuracy, named):
    run = write_run(tmp_path / "run", losses(falling(3.0, 1.0)), evaluated([2.0, 1.5, 1.2, 1.19]))
    (run / "evaluation").mkdir()
    record = {
        "reads": 1000,
        "classes_with_reads": 12,
        "model": {"accuracy": accuracy},
        "confused_pairs": [dict(zip(("true", "predicted", "reads"), pair, strict=True)) for pair in pairs],
    }
    (run / "evaluation" / "metrics.json").write_text(json.dumps(record))
    (run / "doctor.json").write_text(json.dumps({"findings": [{"id": "L09", "measured": 0.032}]}))
    code, report = found(capsys, "--run", run)
    mine = [finding for finding in report["findings"] if finding["id"] == "A12"]
    assert code == 0 and bool(mine) == named
    assert any(finding["id"] == "A00" for finding in report["findings"])
    if named:
        assert (
            mine[0]["title"] == "56.7 % of the errors lie between 1 pair of classes: E. coli and S. flexneri"
        )
        assert mine[0]["severity"] == "info" and "3.2 %" in mine[0]["why"]
