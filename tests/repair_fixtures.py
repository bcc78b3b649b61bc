"""What tests of ``metagene doctor --fix`` share: running it, and reading what it made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from doctor_fixtures import sequences

from metagene_doctor.cli.main import main
from metagene_train.reads.records.records import iter_reads


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """For tests to which it makes no difference whether files are seen onto the disk; it takes most of
    the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def fix(capsys, path, *arguments, out=None):
    """(exit code, stdout, stderr) of a repair of one file, or of a list of files."""
    named = [word for each in (path if isinstance(path, list) else [path]) for word in ("--fasta", each)]
    target = () if out is None else ("-o", out)
    code = main(["doctor", *map(str, [*named, *arguments, *target])])
    captured = capsys.readouterr()
    assert "internal error" not in captured.err and "Traceback" not in captured.err
    return code, captured.out, captured.err


def fixed(capsys, path, *arguments, out):
    """The manifest of a repair that has to succeed."""
    code, _, err = fix(capsys, path, *arguments, out=out)
    assert code == 0, err
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rechecked"] and manifest["total"]["balances"]
    assert all(each["balances"] for each in manifest["inputs"])
    assert not list(out.glob("*.partial")) and not (out / ".metagene-repair").exists()
    return manifest


def counts(manifest, repair, job=0):
    return manifest["repairs"][job]["counts"].get(repair, {})


def reads_of(path):
    return [(read.header, read.sequence.decode()) for read in iter_reads(path)]


def made(out: Path) -> dict[str, bytes]:
    """All files of an output directory."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def pairs(count, classes=4, seed=0, length=80):
    """Mates of fragments; every fifth fragment repeats the sequences of the one before it."""
    pool = sequences(2 * count, length, seed)
    reads = []
    for i in range(count):
        twin = i - 1 if i % 5 == 4 else i
        for mate in (1, 2):
            sequence = pool[2 * twin + mate - 1]
            reads.append((f"lbl|{i % classes}|{100 + i % classes}|{length}|f{i}/{mate}", sequence))
    return reads
