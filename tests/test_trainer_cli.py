"""`metagene train` as a user meets it."""

from __future__ import annotations

import signal

import pytest
from run_fixtures import stop_after
from train_fixtures import change, tiny_config

from metagene_doctor.cli.main import main
from metagene_train.config_file import dump_config

pytestmark = pytest.mark.usefixtures("allocator_setting_kept")


def test_the_command_trains_and_reports(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(tiny_config(tmp_path)))
    assert main(["train", "--config", str(path), "training.max_steps=2"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("2 steps in ")
    assert "best macro_f1" in output.out
    assert "step 2/2" in output.err
    assert output.err.splitlines()[-1] == f"next: metagene evaluate {tmp_path / 'run'}"
    assert main(["train", "--config", str(path), "training.max_steps=2"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--config", str(path), "training.max_steps=3", "--resume", "--quiet"]) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_the_command_returns_130_when_interrupted(tmp_path, capsys, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(tiny_config(tmp_path)))
    stop_after(monkeypatch, 2, signal.SIGINT)
    assert main(["train", "--config", str(path), "-q"]) == 130
    assert "--resume" in capsys.readouterr().err


def test_a_run_that_fails_names_the_command_that_explains_it(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(
        dump_config(change(tiny_config(tmp_path), optimizer__lr=1e30, optimizer__max_grad_norm=None))
    )
    assert main(["train", "--config", str(path), "-q"]) == 1
    err = capsys.readouterr().err
    assert "optimizer.lr" in err and err.endswith(f"next: metagene advise --run {tmp_path / 'run'}\n")


def test_the_command_refuses_a_missing_or_wrong_configuration(tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "bad.yaml").write_text("optimizer:\n  lr: fast\n")
    assert main(["train", "--config", str(tmp_path / "bad.yaml")]) == 2
    assert "optimizer.lr" in capsys.readouterr().err
