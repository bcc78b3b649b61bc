"""What every test needs: no network, no colours, and a cache of its own."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
