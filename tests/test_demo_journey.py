"""The demo's journey: its commands are real ones, it stops where one fails, and it ends in a report."""

import re

import pytest

from metagene_doctor.cli.main import COMMANDS, main
from metagene_doctor.demo.inputs import DemoInputs
from metagene_doctor.demo.journey import run_journey, stages


@pytest.fixture
def journey(tmp_path):
    names = {name: tmp_path / name for name in ("train_fasta", "val_fasta", "mapping_tsv", "encoder_dir")}
    return stages(tmp_path, DemoInputs(**names))


def test_every_stage_is_a_command_of_this_program(journey):
    assert [stage.argv[0] for stage in journey] == [
        *("doctor", "autotune", "autotune", "train", "evaluate", "predict", "predict", "advise")
    ]
    assert {stage.argv[0] for stage in journey} <= set(COMMANDS)


def test_the_journey_stops_at_the_first_stage_that_fails(journey):
    ran = []

    def run(argv):
        ran.append(argv[0])
        return 1 if argv[0] == "train" else 0

    assert run_journey(journey, run, lambda number, stage: None) == 1
    assert ran == ["doctor", "autotune", "autotune", "train"]


def test_a_directory_with_files_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_the_whole_journey_beats_chance_and_leaves_a_report(tmp_path, capsys):
    assert main(["demo", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    scores = dict(re.findall(r"^  (\S.*?)\s+macro-F1\s+(-?[\d.]+)", out, re.MULTILINE))
    assert float(scores["this model"]) > 2 * float(scores["chance: drawn by class frequency"])
    assert (tmp_path / "demo" / "run" / "report.html").exists()
    assert (tmp_path / "demo" / "predictions.parquet").exists()
