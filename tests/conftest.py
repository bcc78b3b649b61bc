"""What every test needs: no network, no colours, a cache of its own, and in CI repeatable examples."""

import os
import sys

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# On a developer's machine every run tries other examples; a build that fails has to fail again.
settings.register_profile("repeatable", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def private_environment(tmp_path, monkeypatch):
    """Read indexes and calibration go to a temporary directory, and output has one fixed width."""
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "metagene-cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def metagene_tokenizer():
    """Directory of METAGENE-1's own tokenizer, which is not part of this project."""
    directory = os.environ.get("METAGENE_TOKENIZER")
    if not directory:
        pytest.skip("METAGENE_TOKENIZER does not name the directory of METAGENE-1's tokenizer")
    return directory


@pytest.fixture
def no_models_and_no_gpu(tmp_path, monkeypatch):
    """A machine without a driver, and an empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def data(tmp_path):
    """A directory with train.fa (200 reads), val.fa (60 reads) and labels.tsv (4 classes)."""
    from doctor_fixtures import sequences, write_mapping, write_reads

    directory = tmp_path / "data"
    directory.mkdir()
    pool = sequences(260)
    write_reads(directory / "train.fa", pool[:200])
    write_reads(directory / "val.fa", pool[200:], name="v")
    write_mapping(directory / "labels.tsv")
    return directory


@pytest.fixture
def allocator_setting_kept(monkeypatch):
    """What a run sets for torch's allocator is gone after the test."""
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", os.environ.get("PYTORCH_ALLOC_CONF", ""))
