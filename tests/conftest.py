"""What every test needs: no network, no colours, a cache of its own, and in CI repeatable examples."""

import os

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
