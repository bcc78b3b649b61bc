"""What is foretold of a run, and where the run keeps it."""

import json

import pytest
from train_fixtures import tiny_config

from metagene_doctor import rulebook
from metagene_doctor.memory.costs import foretold
from metagene_doctor.memory.costs.foretold import foretell, foretold_on
from metagene_doctor.memory.measured import device
from metagene_train.errors import DataError
from metagene_train.evaluation.run_report import report_html
from metagene_train.training.trainer import train


def test_a_run_keeps_what_was_foretold_and_its_report_shows_it(tmp_path):
    config = tiny_config(tmp_path)
    record = foretold_on(config, rulebook.load().gpu("rtx4090"))
    assert record["gpu"] == "GeForce RTX 4090" and record["fits"]
    assert (
        0 < record["memory"]["live_gib"] <= record["memory"]["reserved_gib"] < record["memory"]["device_gib"]
    )

    train(config, quiet=True, foretell=lambda: record)
    directory = tmp_path / "run"
    assert json.loads((directory / "predicted.json").read_text()) == json.loads(json.dumps(record))
    assert f"<td>{record['memory']['device_gib']:.2f}</td>" in report_html(directory)


def test_speed_is_foretold_of_a_run_on_the_cpu_and_stands_beside_what_was_measured(tmp_path):
    config = tiny_config(tmp_path).model_copy(update={"device": "cpu"})
    record = foretell(config)
    speed = record["time"]["reads_per_s"]
    assert 0 < speed["low"] <= speed["expected"] <= speed["high"]
    assert "memory" not in record and "fits" not in record
    assert record["time"]["basis"].endswith("rates measured here")

    train(config, quiet=True, foretell=lambda: record)
    report = report_html(tmp_path / "run")
    assert f"<td>reads per second</td><td>{speed['expected']:.2f}</td>" in report
    assert "reserved by PyTorch" not in report


def test_of_several_processes_each_is_foretold_its_buckets_and_all_their_speed(tmp_path, monkeypatch):
    config = tiny_config(tmp_path).model_copy(update={"device": "auto"})
    card = device.choose(rulebook.load(), gpu="rtx4090")
    monkeypatch.setattr(foretold, "found", lambda book: card)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = foretell(config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    together = foretell(config)
    assert (alone["devices"], together["devices"]) == (1, 2)
    assert together["effective_batch"] == 2 * alone["effective_batch"]
    assert together["memory"]["live_gib"] > alone["memory"]["live_gib"]
    assert "NCCL buffers" in {term["name"] for term in together["memory"]["terms"]}
    faster = together["time"]["reads_per_s"]["expected"] / alone["time"]["reads_per_s"]["expected"]
    assert 1.5 < faster < 2


def test_what_is_foretold_is_of_the_lengths_of_the_reads_and_kept_once_they_are_open(tmp_path):
    config = tiny_config(tmp_path).model_copy(update={"device": "cpu"})
    card = rulebook.load().gpu("rtx4090")
    wide = config.model_copy(deep=True)
    wide.tokenizer.max_length = 512
    record = foretold_on(wide, card)
    assert record["assumptions"]["reads"] > 0 and record["assumptions"]["token_length"] < 128
    assert record["time"]["padded_tokens"] <= record["assumptions"]["token_length"]
    assert record["time"]["hours"] is not None

    damaged = config.model_copy(deep=True)
    damaged.dataset.train_fasta = str(tmp_path / "damaged.fa")
    (tmp_path / "damaged.fa").write_text("no header\n")
    asked = []
    with pytest.raises(DataError):
        train(damaged, quiet=True, foretell=lambda: asked.append(1))
    assert not asked
