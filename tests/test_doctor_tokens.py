"""The tokenizer facts: lengths, unknown tokens and their causes, and which tokenizer it is."""

import json

import pytest
from doctor_fixtures import sequences
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from metagene_doctor.facts.model import tokens
from metagene_doctor.padding import FEWEST_BASES_PER_TOKEN
from metagene_train.config import RunConfig
from metagene_train.errors import InputError


@pytest.fixture
def letters(tmp_path):
    """A tokenizer with one token per letter, and one for an unknown letter."""
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *"ACGTN"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_lengths_and_unknown_tokens_by_cause(letters):
    sample = [b"ACGTN", b"acGT", b"ACUR", b"ACGT"]
    facts = tokens.collect(RunConfig(), str(letters), sample)
    assert (facts.reads, facts.bases, facts.tokens) == (4, 17, 17)
    assert facts.lengths == {4: 3, 5: 1}
    assert facts.unknown_tokens == 0, "training normalises reads first"
    assert facts.raw_unknown_tokens == 4
    assert (facts.unusual.lower, facts.unusual.u, facts.unusual.iupac) == (2, 1, 1)
    assert not facts.is_metagene_1


def test_a_sample_may_be_empty(letters):
    assert tokens.collect(RunConfig(), str(letters), ()).reads == 0


def test_the_tokenizer_is_looked_for_here_and_in_the_hub_cache_only(letters, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def named(name):
        return RunConfig.model_validate({"tokenizer": {"name_or_path": str(name)}})

    assert tokens.locate(named(letters)) == str(letters)
    assert tokens.locate(RunConfig()) is None
    with pytest.raises(InputError, match="no such tokenizer"):
        tokens.locate(named(tmp_path / "gone"))
    repository = tmp_path / "hub" / "models--metagene-ai--METAGENE-1"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "tokenizer.json").write_text(json.dumps({}))
    assert tokens.locate(RunConfig()) == str(snapshot)


def test_metagenes_own_tokenizer(metagene_tokenizer):
    sample = [read.encode() for read in sequences(500, length=150)]
    facts = tokens.collect(RunConfig(), metagene_tokenizer, sample)
    assert facts.is_metagene_1 and facts.golden_ids == tokens.GOLDEN_IDS
    assert (facts.special_tokens, facts.pad_id, facts.unknown_id) == (1, 0, 1)
    assert facts.tokens / facts.reads == pytest.approx(39.7, abs=0.5)
    assert max(facts.lengths) <= 150 / FEWEST_BASES_PER_TOKEN + 1
    soft = tokens.collect(RunConfig(), metagene_tokenizer, [read.lower() for read in sample])
    assert soft.tokens == facts.tokens and soft.unknown_tokens == 0
    assert soft.raw_unknown_tokens / soft.raw_tokens > 0.9
