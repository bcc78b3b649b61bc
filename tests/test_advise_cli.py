"""`metagene advise` as a user meets it: the config it writes, exit codes, usage errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from advise_fixtures import OUT_OF_MEMORY, found

from metagene_doctor.cli.main import main
from metagene_train.config_file import load_config


def test_the_changed_config_keeps_comments_and_loads(tmp_path: Path, capsys) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "# our run\nlora:\n  r: 16  # asked for by Ana\noptimizer:\n  lr: 4e-4\n  max_grad_norm: null\n"
    )
    fixed = tmp_path / "fixed.yaml"
    assert main(["advise", "instability", "--config", str(mine), "-o", str(fixed)]) == 0
    text = fixed.read_text()
    assert "# our run" in text and "# asked for by Ana" in text
    config = load_config(fixed).config
    assert (config.optimizer.lr, config.optimizer.max_grad_norm) == (2e-4, 1.0)
    assert "was null" in text
    assert mine.read_text().startswith("# our run\nlora:\n  r: 16"), "the input is not written to"
    assert main(["advise", "instability", "--config", str(mine), "-o", str(fixed)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_real_dry_run_gives_a_config_that_fits(tmp_path: Path, capsys) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("model:\n  encoder_layers: 4\ntraining:\n  batch_size: 128\n")
    fixed = tmp_path / "fixed.yaml"
    code, report = found(capsys, "oom", "--config", mine, "--gpu-mem", 8, "-o", fixed)
    assert code == 0
    (fix,) = [f for f in report["findings"] if f["title"].startswith("Fix")]
    assert fix["measured"] <= fix["threshold"]
    config = load_config(fixed).config
    assert config.training.batch_size < 128 == config.training.effective_batch
    _, report = found(capsys, "oom", "--config", fixed, "--gpu-mem", 8)
    assert report["verdict"].startswith("oom: nothing to change; predicted need")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name a SYMPTOM"),
        (["oom", "--gpu", "rtx4090", "--gpu-mem", "24"], "not both"),
        (["oom", "--gpu", "rtx9999"], "no card called"),
        (["--run", "nowhere"], "no such run directory"),
        (["--log", "nowhere.txt"], "cannot be read"),
        (["oom", "--config", "nowhere.yaml"], "no such config file"),
        (["oom", "-o", "out.yaml"], "-o writes a changed config, so it needs one"),
    ],
)
def test_usage_errors_are_one_message_and_exit_2(
    argv: list[str], message: str, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["advise", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_exit_codes_agree_between_text_json_and_quiet(tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.txt"
    log.write_text(OUT_OF_MEMORY)
    codes = {main(["advise", "--log", str(log), *flag]) for flag in ([], ["--json"], ["--quiet"], ["-v"])}
    assert codes == {1}
    capsys.readouterr()
    main(["advise", "--log", str(log), "--quiet"])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_an_empty_log_is_not_called_healthy(tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.txt"
    log.write_text("hello\n")
    assert main(["advise", "--log", str(log)]) == 0
    assert "nothing to judge" in capsys.readouterr().out
