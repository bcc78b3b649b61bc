"""A repair that was stopped goes on: the same files, no stage twice, nothing half-made."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doctor_fixtures import opposite, sequences
from reads_fixtures import fasta, written
from repair_fixtures import made, quick_disk

from metagene_doctor.cli.main import main
from metagene_doctor.repair import run

__all__ = ["quick_disk"]


ALL = ["--fix", "--fix", "iupac-to-n", "--fix", "deduplicate", "--fix", "split", "--fix", "shuffle"]


@pytest.fixture
def reads(tmp_path):
    pool = sequences(300, 60)
    pool += [opposite(sequence) for sequence in pool[:30]] + [sequence.lower() for sequence in pool[30:60]]
    named = [(f"lbl|{i % 3}|{i % 3}|99|f{i // 2}/{1 + i % 2}", s) for i, s in enumerate(pool)]
    return written(tmp_path / "reads.fa", fasta(named) + b">no class\nACGT\n")


def repair(path, out):
    return main(["doctor", "--fasta", str(path), *ALL, "-o", str(out), "--quiet"])


@pytest.fixture
def expected(reads, tmp_path):
    assert repair(reads, tmp_path / "undisturbed") == 0
    return made(tmp_path / "undisturbed")


STAGES = ["survey", "write", "shuffle", "recheck", "publish", "sync_directory"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_stopped_anywhere_it_ends_with_the_same_files(reads, tmp_path, monkeypatch, expected, stage, when):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        real = getattr(run, stage)

        def stopped(*arguments, **options):
            if when == "after":
                real(*arguments, **options)
            raise KeyboardInterrupt

        patch.setattr(run, stage, stopped)
        assert repair(reads, out) == 130
    assert not (out / "manifest.json").exists() or stage in ("publish", "sync_directory")
    assert repair(reads, out) == 0
    assert made(out) == expected


def test_a_pattern_does_not_take_what_is_being_written(reads, tmp_path, monkeypatch, capsys):
    """The output lies where the pattern looks: given again, the command goes on, and then is finished."""
    out = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(run, "recheck", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert repair(tmp_path / "*", out) == 130
    assert list(out.iterdir())
    assert repair(tmp_path / "*", out) == 0
    capsys.readouterr()
    assert repair(tmp_path / "*", out) == 2
    assert "holds this repair, finished" in capsys.readouterr().err


def test_finished_stages_are_not_done_again(reads, tmp_path, monkeypatch, expected):
    out = tmp_path / "out"

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "recheck", stopped)
        assert repair(reads, out) == 130
    for stage in ("survey", "write", "shuffle"):
        monkeypatch.setattr(run, stage, stopped)
    assert repair(reads, out) == 0
    assert made(out) == expected


def test_half_written_files_are_made_anew(reads, tmp_path, monkeypatch, expected):
    from metagene_doctor.repair.outputs import Output

    out = tmp_path / "out"
    taken = 0

    def full(self, piece):
        nonlocal taken
        taken += 1
        if taken == 3:
            raise OSError(28, "No space left on device")
        return real(self, piece)

    real = Output.write
    with monkeypatch.context() as patch:
        patch.setattr(Output, "write", full)
        assert repair(reads, out) == 1
    assert repair(reads, out) == 0
    assert made(out) == expected


def test_a_full_disk_is_one_message(reads, tmp_path, monkeypatch, capsys):
    from metagene_doctor.repair.outputs import Output

    def full(self, piece):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Output, "write", full)
    assert repair(reads, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err and len(err.strip().splitlines()) == 1


def test_an_input_that_changed_in_between_is_noticed(reads, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    real = run.survey

    def changed(*arguments, **options):
        found = real(*arguments, **options)
        reads.write_bytes(reads.read_bytes() + b">lbl|1|1|4|late/1\nACGT\n")
        return found

    monkeypatch.setattr(run, "survey", changed)
    assert repair(reads, out) == 1
    assert "was changed" in capsys.readouterr().err
    assert not (out / "train.fa").exists()


def test_two_at_once_do_not_write_into_each_other(reads, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    codes = []
    real = run.survey

    def meanwhile(*arguments, **options):
        if not codes:
            codes.append(None)
            codes[0] = repair(reads, out)
        return real(*arguments, **options)

    monkeypatch.setattr(run, "survey", meanwhile)
    assert repair(reads, out) == 0
    assert codes == [2] and "another repair" in capsys.readouterr().err


PAUSED = """
import sys, time
from metagene_doctor.repair import {module}
real = {module}.{name}
def slow(*arguments, **options):
    result = real(*arguments, **options)
    print("here", flush=True)
    time.sleep(60)
    return result
{module}.{name} = slow
from metagene_doctor.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("module", "name"), [("run", "survey"), ("write", "_rename"), ("run", "publish")])
def test_killed_it_goes_on(reads, tmp_path, expected, module, name):
    out = tmp_path / "out"
    command = [sys.executable, "-c", PAUSED.format(module=module, name=name)]
    arguments = ["doctor", "--fasta", str(reads), *ALL, "-o", str(out), "--quiet"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout.readline() == b"here\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert not (out / "manifest.json").exists()
    assert repair(reads, out) == 0
    assert made(out) == expected
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["inputs"][0]["balances"] and manifest["rechecked"]


def test_files_are_on_the_disk_before_they_get_their_names(reads, tmp_path, monkeypatch):
    events = []
    replace = Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda file: events.append(str(Path(f"/proc/self/fd/{file}").readlink()))
    )
    monkeypatch.setattr(
        Path,
        "replace",
        lambda self, target: (events.append(f"named {target.name}"), replace(self, target))[1],
    )
    out = tmp_path / "out"
    assert repair(reads, out) == 0
    for name in made(out):
        assert events.index(str(out / f"{name}.partial")) < events.index(f"named {name}")
    assert [event for event in events if event.startswith("named ") and "state" not in event][-1] == (
        "named manifest.json"
    )
