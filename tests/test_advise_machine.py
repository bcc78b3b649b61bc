"""What `metagene advise` says of the machine under a run: memory, disk, card; and nothing of a healthy one."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from advise_fixtures import evaluated, falling, found, losses, titles, write_run

from metagene_train.config import RunConfig
from metagene_train.config_file import load_config

POINTS = 60
EVERY = 10


def run_with(
    directory: Path,
    *,
    config: RunConfig | None = None,
    status: str = "interrupted",
    planned_steps: int = 1200,
    error: str | None = None,
    **fields: Callable,
) -> Path:
    """A run that converges, halfway to its 1,200 steps; each field is a function of the point's number."""
    lines = losses(falling(3.0, 0.5, POINTS), every=EVERY, reads_per_s=400.0)
    for number, line in enumerate(lines):
        line |= {"elapsed_s": 20.0 * (number + 1), "process_memory_gib": 4.0, "workers_memory_gib": 2.0}
        line |= {"host_available_gib": 16.0, "disk_free_gib": 100.0}
        line |= {
            "gpu_clock_reasons": 0x4,
            "gpu_uncorrected_errors": 0,
            "gpu_other_gib": 0.6,
            "gpu_processes": 1,
        }
        line |= {name: value(number) for name, value in fields.items()}
    scores = evaluated([1.2, 0.9, 0.8, 0.79, 0.785, 0.784])
    return write_run(
        directory, lines, scores, config, status=status, planned_steps=planned_steps, error=error
    )


def config_with(**training) -> RunConfig:
    return RunConfig.model_validate({"training": training})


def machine_findings(report: dict) -> list[dict]:
    return [f for f in report["findings"] if f["id"] in ("A08", "A09", "A10")]


def wave(number: int) -> float:
    return random.Random(number).uniform(-0.1, 0.1)


HEALTHY = {
    "level": {},
    "rise that ends": {"process_memory_gib": lambda n: 4 + 12 * (1 - math.exp(-n / 4))},
    "one jump": {"process_memory_gib": lambda n: 4.0 if n < 45 else 14.0},
    "noise": {"process_memory_gib": lambda n: 4 + 10 * wave(n)},
    "workers that start anew in every epoch": {"workers_memory_gib": lambda n: 2 + 0.4 * (n % 12)},
    "a leak that will never matter": {"process_memory_gib": lambda n: 4 + 0.002 * n},
    "checkpoints that come up to their number": {"disk_free_gib": lambda n: 100 - 10 * min(n // 10, 3)},
    "a disk that lasts": {"disk_free_gib": lambda n: 100 - 0.5 * n},
    "power limit, idle": {"gpu_clock_reasons": lambda n: (0x4, 0x5, 0x1)[n % 3]},
    "one hot moment": {"gpu_clock_reasons": lambda n: 0x20 if n == 5 else 0x4},
    "errors of before": {"gpu_uncorrected_errors": lambda n: 7},
    "a neighbour of before": {"gpu_other_gib": lambda n: 9.5, "gpu_processes": lambda n: 2},
    "libraries that load late": {"gpu_other_gib": lambda n: 0.6 if n < 3 else 1.2},
    "nothing told": dict.fromkeys(
        ("gpu_clock_reasons", "gpu_uncorrected_errors", "gpu_other_gib", "gpu_processes", "disk_free_gib"),
        lambda n: None,
    ),
}


@pytest.mark.parametrize("fields", HEALTHY.values(), ids=HEALTHY)
def test_a_healthy_machine_is_not_accused(tmp_path, capsys, fields):
    _, report = found(capsys, "--run", run_with(tmp_path / "run", **fields))
    assert machine_findings(report) == []


def test_runs_of_before_wrote_nothing_of_it(tmp_path, capsys):
    run = write_run(
        tmp_path / "run", losses(falling(3.0, 0.5)), evaluated([1.2, 0.9, 0.8, 0.79, 0.785, 0.784, 0.784])
    )
    assert titles(found(capsys, "--run", run)[1], "info") == ["No symptom found"]


def test_workers_that_grow_are_ended_with_their_epoch(tmp_path, capsys):
    # 0.4 GiB every 10 steps of 20 s, and 16 GiB are left at step 600: 400 steps, 600 are to come.
    config = config_with(num_workers=4)
    run = run_with(tmp_path / "run", config=config, workers_memory_gib=lambda n: 2 + 0.4 * n + wave(n))
    output = tmp_path / "fixed.yaml"
    code, report = found(capsys, "--run", run, "-o", output)
    assert code == 0
    (finding,) = machine_findings(report)
    assert (finding["id"], finding["severity"], finding["scope"]) == ("A09", "warn", "host")
    assert re.fullmatch(r"Host memory grows: used up at about step (99\d|1,00\d)", finding["title"])
    assert finding["measured"] == pytest.approx(40 * 1024, rel=0.02)
    assert finding["threshold"] == pytest.approx(16 / 600 * 1024 * 1000, rel=0.01)
    assert re.search(r"Memory of the loader workers rose steadily, from (17\.9|18\.0)", finding["why"])
    assert "What the host had left, 16.00 GiB, is used up" in finding["why"] and "13 min" in finding["why"]
    fixes = [f["title"] for f in report["findings"] if f["id"].startswith("EV-HOST")]
    assert fixes == [
        "Fix 1 for growing host memory: training.persistent_workers true → false",
        "Fix 2 for growing host memory (if that is not enough): training.num_workers 4 → 0",
    ]
    changed = load_config(output).config.training
    assert (changed.persistent_workers, changed.num_workers) == (False, 4)


def test_in_a_single_epoch_only_fewer_workers_help(tmp_path, capsys):
    config = config_with(num_workers=4, max_epochs=1)
    run = run_with(tmp_path / "run", config=config, workers_memory_gib=lambda n: 2 + 0.4 * n)
    _, report = found(capsys, "--run", run)
    assert "Fix 1 for growing host memory: training.num_workers 4 → 0" in titles(report, "info")


def test_a_process_that_grows_is_started_anew(tmp_path, capsys):
    run = run_with(
        tmp_path / "run",
        config=config_with(num_workers=2),
        process_memory_gib=lambda n: 4 + 0.4 * n + wave(n),
    )
    _, report = found(capsys, "--run", run)
    (finding,) = machine_findings(report)
    assert "Memory of the training process rose steadily" in finding["why"]
    assert finding["remedy"]["commands"] == [f"metagene train --config {run}/config.yaml --resume"]
    assert not [f for f in report["findings"] if f["id"].startswith("EV-HOST") and f["severity"] == "info"]


def test_growth_of_a_finished_run_is_told_if_a_longer_one_would_fail(tmp_path, capsys):
    run = run_with(tmp_path / "run", status="finished", process_memory_gib=lambda n: 4 + 0.4 * n)
    (finding,) = machine_findings(found(capsys, "--run", run)[1])
    assert finding["title"] == "Host memory grows: a longer run would use it up"
    slower = run_with(tmp_path / "slower", status="finished", process_memory_gib=lambda n: 4 + 0.2 * n)
    assert machine_findings(found(capsys, "--run", slower)[1]) == []


def test_a_resumed_run_is_judged_since_it_was_resumed(tmp_path, capsys):
    """A process that starts anew starts small; what grew before is gone."""
    run = run_with(
        tmp_path / "run",
        elapsed_s=lambda n: 20.0 * (n % 30 + 1),
        process_memory_gib=lambda n: 4 + 0.4 * n if n < 30 else 4.0,
    )
    assert machine_findings(found(capsys, "--run", run)[1]) == []
    again = run_with(
        tmp_path / "again",
        elapsed_s=lambda n: 20.0 * (n % 30 + 1),
        process_memory_gib=lambda n: 4 + 0.4 * (n % 30),
    )
    (finding,) = machine_findings(found(capsys, "--run", again)[1])
    assert "from step 460 to 600" in finding["why"]


def test_the_end_of_a_run_that_is_going_on_comes_from_its_config(tmp_path, capsys):
    """run.json of an older version has no planned steps before a run ends. One epoch takes 600 steps here."""
    for epochs, alarms in ((1, 0), (2, 1)):
        run = run_with(
            tmp_path / f"{epochs}",
            config=config_with(max_epochs=epochs),
            disk_free_gib=lambda n: 100 - 1.5 * n,
            planned_steps=0,
        )
        assert len(machine_findings(found(capsys, "--run", run)[1])) == alarms


def test_a_disk_that_will_be_full_is_told_with_the_step(tmp_path, capsys):
    # 1.5 GiB less every 10 steps of 20 s; 11.5 GiB are left at step 600.
    config = RunConfig.model_validate({"training": {"checkpoint": {"keep": 20}}})
    run = run_with(tmp_path / "run", config=config, disk_free_gib=lambda n: 100 - 1.5 * n)
    output = tmp_path / "fixed.yaml"
    code, report = found(capsys, "--run", run, "-o", output)
    assert code == 0
    (finding,) = machine_findings(report)
    assert (finding["id"], finding["severity"]) == ("A10", "warn")
    assert (finding["measured"], finding["threshold"], finding["unit"]) == (677, 1200, "steps")
    assert "11.50 GiB was left at step 600, 150.00 GiB less every 1,000 steps" in finding["why"]
    assert load_config(output).config.training.checkpoint.keep == 1
    done = run_with(tmp_path / "done", status="finished", disk_free_gib=lambda n: 100 - 1.5 * n)
    assert machine_findings(found(capsys, "--run", done)[1]) == []


def test_checkpoints_at_their_number_do_not_fill_a_disk(tmp_path, capsys):
    run = run_with(tmp_path / "run", disk_free_gib=lambda n: 100 - 1.5 * n)
    _, report = found(capsys, "--run", run)
    fix = next(f for f in report["findings"] if f["id"] == "EV-DISK-KEEP")
    assert fix["severity"] == "pass" and "something else fills the disk" in fix["title"]
    assert report["verdict"] == "disk: no setting to change, see above."


def test_a_disk_that_is_nearly_full(tmp_path, capsys):
    run = run_with(tmp_path / "run", disk_free_gib=lambda n: 0.3)
    (finding,) = machine_findings(found(capsys, "--run", run)[1])
    assert finding["title"] == "The disk is nearly full" and finding["measured"] == 0.3


def test_memory_errors_of_the_card_are_an_error_with_the_step(tmp_path, capsys):
    run = run_with(tmp_path / "run", gpu_uncorrected_errors=lambda n: 2 + (n >= 20) + 2 * (n >= 40))
    code, report = found(capsys, "--run", run)
    assert code == 1
    finding = next(f for f in machine_findings(report))
    assert finding["severity"] == "error" and finding["measured"] == 3
    assert "first by step 210" in finding["title"]


@pytest.mark.parametrize(
    ("bits", "named"), [(0x24, "heat (driver)"), (0x48, "heat (hardware)"), (0x88, "power brake")]
)
def test_a_card_that_is_slowed_down(tmp_path, capsys, bits, named):
    run = run_with(
        tmp_path / "run",
        gpu_clock_reasons=lambda n: bits if n >= 40 else 0x4,
        reads_per_s=lambda n: 200.0 if n >= 40 else 400.0,
    )
    _, report = found(capsys, "--run", run)
    (finding,) = machine_findings(report)
    assert finding["measured"] == 0.333 and finding["severity"] == "warn"
    assert f"held back: {named}" in finding["why"]
    assert "200 reads/s there, 400 otherwise" in finding["why"]


@pytest.mark.parametrize(
    ("fields", "measured"),
    [
        ({"gpu_processes": lambda n: 1 + (n >= 30)}, (2, 1, "processes")),
        ({"gpu_other_gib": lambda n: 0.6 + 6 * (n >= 30)}, (6, 1, "GiB")),
        (
            {"gpu_processes": lambda n: None, "gpu_other_gib": lambda n: 0.6 + 6 * (30 <= n < 40)},
            (6, 1, "GiB"),
        ),
    ],
)
def test_a_neighbour_that_came_later(tmp_path, capsys, fields, measured):
    run = run_with(tmp_path / "run", **fields, reads_per_s=lambda n: 150.0 if 30 <= n < 40 else 400.0)
    _, report = found(capsys, "--run", run)
    (finding,) = machine_findings(report)
    assert (finding["measured"], finding["threshold"], finding["unit"]) == measured
    assert "From step 310 on" in finding["why"] and "400 alone" in finding["why"]


def test_they_are_told_whatever_is_asked_for(tmp_path, capsys):
    run = run_with(tmp_path / "run", disk_free_gib=lambda n: 0.3)
    assert len(machine_findings(found(capsys, "slow", "--run", run)[1])) == 1


BUS_ERROR = "DataLoader worker (pid 99) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."


def test_host_memory_that_ran_out_is_mended_by_the_config_where_it_can_be(tmp_path, capsys):
    run = run_with(tmp_path / "run", config=config_with(num_workers=4), status="failed", error=BUS_ERROR)
    output = tmp_path / "fixed.yaml"
    code, report = found(capsys, "--run", run, "-o", output)
    assert code == 1
    (failure,) = [f for f in report["findings"] if f["id"] == "A17"]
    assert "--shm-size" in failure["remedy"]["text"] and "without workers" in failure["remedy"]["text"]
    assert report["verdict"].startswith("host-memory: 1 fix to make")
    assert load_config(output).config.training.num_workers == 0

    run = run_with(tmp_path / "alone", config=config_with(num_workers=0), status="failed", error=BUS_ERROR)
    code, report = found(capsys, "--run", run)
    (failure,) = [f for f in report["findings"] if f["id"] == "A17"]
    assert code == 1 and "workers" not in failure["remedy"]["text"]
    assert report["verdict"] == "host-memory: no setting to change, see above."


def test_host_memory_that_ran_out_of_a_run_whose_config_is_not_known(tmp_path, capsys):
    log = tmp_path / "slurm.out"
    log.write_text(f"RuntimeError: {BUS_ERROR}\n")
    code, report = found(capsys, "--log", log)
    (failure,) = [f for f in report["findings"] if f["id"] == "A17"]
    assert code == 1 and failure["remedy"]["commands"] == ["training.num_workers: 0"]
    assert report["verdict"].startswith("See above") and "no change of" not in report["verdict"]
