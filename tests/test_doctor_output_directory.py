"""C04: what training would say of the directory that the config names for its results."""

import pytest
from doctor_command import findings
from run_fixtures import stop_after
from train_fixtures import change, tiny_config

from metagene_doctor.cli.main import main
from metagene_train.config_file import dump_config
from metagene_train.training.trainer import train

pytestmark = pytest.mark.usefixtures("allocator_setting_kept")


@pytest.fixture
def judged(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "run.yaml"

    def judge(config):
        file.write_text(dump_config(config))
        code, found = findings(capsys, "--config", file, "--only", "C04")
        (finding,) = found.values()
        return code, finding

    return judge


def test_a_run_that_was_interrupted_is_resumed_and_one_that_ended_is_not(
    tmp_path, monkeypatch, capsys, judged
):
    config = tiny_config(tmp_path)
    code, finding = judged(config)
    assert (code, finding["severity"]) == (0, "pass")

    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        stopped = train(config, quiet=True)
    code, finding = judged(config)
    assert (code, finding["severity"]) == (0, "info")
    assert f"at step {stopped.steps}" in finding["title"]
    resume = f"metagene train --config {tmp_path / 'run.yaml'} --resume"
    assert finding["remedy"]["commands"] == [resume]
    main(["doctor", "--config", str(tmp_path / "run.yaml"), "--only", "C04"])
    assert f"Next: {resume}" in " ".join(capsys.readouterr().out.split())

    code, finding = judged(change(config, optimizer__lr=0.5, seed=1, training__num_workers=2))
    assert (code, finding["severity"], finding["count"]) == (0, "warn", 2)
    assert {example["text"] for example in finding["examples"]} == {
        "optimizer.lr was 0.001, is 0.5",
        "seed was 42, is 1",
    }
    assert finding["remedy"]["commands"] == [f"training.output_dir: {tmp_path / 'run-2'}"]

    # The command that was given does what it says.
    judged(config)
    assert main([*resume.split()[1:], "--quiet"]) == 0
    (tmp_path / "run-2").mkdir()
    code, finding = judged(config)
    assert (code, finding["severity"]) == (0, "warn") and "finished" in finding["title"]
    assert finding["remedy"]["commands"] == [f"training.output_dir: {tmp_path / 'run-3'}"]


def test_other_files_are_an_error(tmp_path, judged):
    config = tiny_config(tmp_path, training__output_dir=str(tmp_path / "notes"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    code, finding = judged(config)
    assert (code, finding["severity"]) == (1, "error")


def test_without_a_config_it_is_not_judged(capsys):
    code, found = findings(capsys, "--only", "C04")
    assert code == 0 and ("C04", "skip") in found
