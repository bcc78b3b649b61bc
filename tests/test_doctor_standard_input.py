"""Reads that come through standard input or a pipe."""

import gzip
import lzma
import os
import sys
import threading

import pytest
from doctor_command import doctor, findings

pytestmark = pytest.mark.usefixtures("no_models_and_no_gpu")


def piped(content):
    """A file descriptor that delivers ``content``."""
    reading, writing = os.pipe()
    threading.Thread(target=lambda: os.fdopen(writing, "wb").write(content)).start()
    return reading


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_standard_input_is_judged_in_one_pass(capsys, data, monkeypatch, pack):
    content = (data / "train.fa").read_bytes()
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(pack(content)), "r"))
    code, found = findings(capsys, "--fasta", "-", "--val", data / "val.fa", "--mapping", data / "labels.tsv")
    assert code == 0
    plan = found["F18", "info"]
    assert plan["id"] == "F18"
    # In the same pass the reads are compared with each other and with the validation reads.
    _, of_file = findings(
        capsys, "--fasta", data / "train.fa", "--val", data / "val.fa", "--mapping", data / "labels.tsv"
    )
    for check in ("V01", "V02", "V03", "V04", "V06", "F15", "L09"):
        severities = [{severity for name, severity in each if name == check} for each in (found, of_file)]
        assert severities[0] == severities[1] != {"skip"}, check


def test_standard_input_that_is_cut_is_an_error(capsys, data, monkeypatch):
    packed = gzip.compress((data / "train.fa").read_bytes())[:-1000]
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(packed), "r"))
    code, found = findings(capsys, "--fasta", "-")
    assert code == 1
    assert found["F02", "error"]["measured"] == len(packed)
    assert found["F02", "error"]["examples"][0]["file"] == "standard input"


def test_a_pipe_by_name_is_judged(capsys, data):
    descriptor = piped((data / "train.fa").read_bytes())
    code, out, _ = doctor(capsys, "--fasta", f"/dev/fd/{descriptor}")
    os.close(descriptor)
    assert code == 0
    assert f"/dev/fd/{descriptor}: 200 reads" in out and "no index: training needs a file" in out
    assert f"| /dev/fd/{descriptor} (" in out


def test_empty_or_doubly_used_standard_input_is_a_usage_error(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(b""), "r"))
    code, _, err = doctor(capsys, "--fasta", "-")
    assert (code, "standard input: is empty" in err) == (2, True)
    code, _, err = doctor(capsys, "--fasta", "-", "--val", "-")
    assert (code, "read only once" in err) == (2, True)


def test_standard_input_that_is_no_reads_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(b"<html>gone</html>"), "r"))
    code, found = findings(capsys, "--fasta", "-")
    assert code == 1
    assert "standard input: not FASTA or FASTQ" in found["F01", "error"]["title"]
