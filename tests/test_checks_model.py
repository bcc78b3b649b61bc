"""Checks of tokens and config on facts with one fault each."""

import pytest
from doctor_fixtures import encoder, facts, reads, target

from metagene_doctor.checks import config
from metagene_doctor.checks.model import tokens
from metagene_doctor.facts.facts import RunFacts
from metagene_doctor.facts.model.tokens import GOLDEN_IDS, TokenFacts
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts
from metagene_doctor.facts.reads.facts import Bases
from metagene_doctor.padding import expected_lengths, padding_share
from metagene_train.config import RunConfig


def severities(findings):
    return [str(finding.severity) for finding in findings]


def token_facts(**changes):
    values = {
        "source": "tok", "vocab_size": 1024, "is_metagene_1": True, "golden_ids": GOLDEN_IDS, "special_tokens": 1,
        "pad_id": 0, "unknown_id": 1, "reads": 1000, "lengths": {36: 990, 45: 10}, "tokens": 36_090, "bases": 150_000,
    }  # fmt: skip
    return TokenFacts.model_validate(values | changes)


def test_the_tokenizer_belongs_to_the_encoder():
    assert not list(tokens.tokenizer_fits(facts(tokens=token_facts(), encoder=encoder())))
    other = token_facts(is_metagene_1=False, golden_ids=(9, 8))
    assert severities(tokens.tokenizer_fits(facts(tokens=other, encoder=encoder()))) == ["error"]
    no_rules = token_facts(golden_ids=(252, 77, 290))
    assert severities(tokens.tokenizer_fits(facts(tokens=no_rules, encoder=encoder()))) == ["error"]
    architecture = encoder().architecture.model_copy(update={"vocab_size": 32, "hidden_size": 8})
    tiny = encoder(name="./tiny", architecture=architecture)
    assert severities(tokens.tokenizer_fits(facts(tokens=other, encoder=tiny))) == ["error"]
    fitting = token_facts(is_metagene_1=False, vocab_size=30)
    assert not list(tokens.tokenizer_fits(facts(tokens=fitting, encoder=tiny)))


@pytest.mark.parametrize(
    ("unknown", "severity"), [(0, []), (1, ["info"]), (100, ["warn"]), (4000, ["error"])]
)
def test_unknown_tokens(unknown, severity):
    assert severities(tokens.unknown_tokens(facts(tokens=token_facts(unknown_tokens=unknown)))) == severity


def test_unknown_tokens_that_normalisation_prevents():
    soft = token_facts(
        raw_tokens=100_000, raw_unknown_tokens=37_000, unusual=Bases(acgt=50_000, lower=90_000, u=10_000)
    )
    (finding,) = tokens.unknown_tokens(facts(tokens=soft))
    assert finding.severity == "info" and "37.0 %" in finding.title and "lower case 90.0 %" in finding.why


def test_token_lengths():
    known = {"tokens": token_facts(), "encoder": encoder()}
    (finding,) = tokens.token_lengths(facts({"tokenizer": {"max_length": 32}}, **known))
    assert finding.severity == "warn" and finding.measured == 1.0
    assert finding.remedy.commands == ("tokenizer.max_length: 48",)
    (finding,) = tokens.token_lengths(facts({"tokenizer": {"max_length": 32, "truncation": False}}, **known))
    assert finding.severity == "error"
    (finding,) = tokens.token_lengths(
        facts({"tokenizer": {"max_length": 192, "padding": "max_length"}}, **known)
    )
    assert finding.severity == "warn" and finding.measured == pytest.approx(1 - 36.09 / 192)
    (finding,) = tokens.token_lengths(facts({"tokenizer": {"max_length": 1024}}, **known))
    assert finding.severity == "error" and finding.threshold == 512
    assert severities(tokens.token_lengths(facts(**known))) == ["info"]


def test_padding_of_random_batches_lies_between_none_and_all():
    mixed = {20: 500, 100: 500}
    random_batches = RunConfig.model_validate({"training": {"group_by_length": False, "batch_size": 4}})
    expected = 1 - 60 / (100 * 15 / 16 + 20 / 16)
    assert padding_share(mixed, random_batches) == pytest.approx(expected, abs=0.03)
    assert padding_share(mixed, RunConfig()) == pytest.approx(0, abs=0.02)


def test_reads_of_equal_bases_that_differ_in_tokens_are_padded_though_grouped():
    grouped = RunConfig.model_validate({"training": {"batch_size": 4}})
    tokens_of = {20: 500, 40: 500}
    alike = padding_share(tokens_of, grouped, {60: {20: 500}, 120: {40: 500}})
    differing = padding_share(tokens_of, grouped, {100: {20: 500, 40: 500}})
    assert alike == pytest.approx(0, abs=0.01)
    # A batch of 4 is 40 tokens wide unless all are short.
    assert differing == pytest.approx(1 - 30 / (40 * 15 / 16 + 20 / 16), abs=0.02)
    single = RunConfig.model_validate({"training": {"batch_size": 1}})
    assert padding_share(tokens_of, single, {100: {20: 500, 40: 500}}) == 0


def test_expected_lengths():
    assert expected_lengths(RunConfig(), None, None) == (512, 512.0)
    longest, mean = expected_lengths(RunConfig(), token_facts(), None)
    assert longest == 45 and mean == pytest.approx(36.09, rel=0.01)
    longest, mean = expected_lengths(RunConfig(), None, reads())
    assert 45 <= longest <= 48 and mean == longest


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999, 1.0])
def test_quantiles(share):
    assert tokens.quantile({1: 500, 2: 490, 3: 9, 4: 1}, share) == {0.5: 1, 0.99: 2, 0.999: 3, 1.0: 4}[share]


def configured(changes, **sections):
    run = RunFacts(config=RunConfig.model_validate(changes), path="c.yaml")
    return facts(run=run, **sections)


def test_warnings_of_the_config_file():
    run = RunFacts(config=RunConfig(), path="c.yaml", warnings=("c.yaml:4: model.fancy is not needed",))
    (finding,) = config.config_read(facts(run=run))
    assert finding.examples[0].line == 4 and finding.severity == "warn"


def memory(device_gib):
    return MemoryFacts(
        live_gib=1, reserved_gib=1, device_gib=device_gib, margin_gib=1, phase="backward",
        breakdown={"weights": 12.1, "activations": 3.0}, length=44, classes=2,
    )  # fmt: skip


def test_memory_of_a_config_and_of_the_defaults():
    (finding,) = config.fits_gpu(configured({}, memory=memory(20), target=target()))
    assert finding.severity == "info" and (finding.measured, finding.threshold) == (21, 23)
    (finding,) = config.fits_gpu(configured({}, memory=memory(22.5), target=target()))
    assert finding.severity == "error"
    assert finding.remedy.commands == ("metagene autotune --gpu rtx4090 --config c.yaml -o recommended.yaml",)
    (finding,) = config.fits_gpu(facts(memory=memory(50), target=target(), train=reads()))
    assert finding.severity == "info" and "--fasta train.fa" in finding.remedy.commands[0]


def test_schedule():
    small = {"training": {"batch_size": 10, "max_epochs": 1}, "scheduler": {"warmup_steps": 50}}
    (finding,) = config.schedule(configured(small, train=reads()))
    assert finding.severity == "warn" and finding.measured == 0.5
    assert finding.remedy.commands == ("scheduler.warmup_steps: 3",)
    (finding,) = config.schedule(configured({**small, "scheduler": {"warmup_steps": 100}}, train=reads()))
    assert finding.severity == "error"
    quiet = {**small, "scheduler": {"warmup_ratio": 0.03}}
    assert not list(config.schedule(configured(quiet, train=reads())))
    assert severities(config.schedule(configured(small, train=reads(partial=True)))) == ["skip"]


def test_batches_and_evaluations():
    ratio = {"scheduler": {"warmup_ratio": 0.03}}
    (finding,) = config.schedule(
        configured({**ratio, "training": {"batch_size": 64, "grad_accum_steps": 4}}, train=reads())
    )
    assert finding.severity == "info" and finding.measured == 256
    huge = {**ratio, "training": {"batch_size": 2048, "evals_per_epoch": 1}}
    (finding,) = config.schedule(configured(huge, train=reads()))
    assert finding.severity == "warn" and "larger than the training set" in finding.title
    rare = {**ratio, "training": {"batch_size": 10, "max_steps": 100, "eval_steps": 500}}
    (finding,) = config.schedule(configured(rare, train=reads()))
    assert finding.remedy.commands == ("training.eval_steps: 10",)


def test_training_time():
    speed = SpeedFacts(reads_per_s=100, slowest=50, fastest=200, limit="arithmetic")
    known = {"speed": speed, "target": target(), "train": reads(accepted=360_000)}
    (finding,) = config.training_time(facts({"training": {"max_epochs": 2}}, **known))
    assert "about 2 h" in finding.title and "1 h to 4 h" in finding.title
    steps = {"training": {"max_steps": 100, "batch_size": 10, "grad_accum_steps": 10}}
    (finding,) = config.training_time(facts(steps, **known))
    assert "about 1 min 40 s" in finding.title


def test_validation_reads_are_wanted():
    assert severities(config.held_out(facts(train=reads()))) == ["warn"]
    assert not list(config.held_out(facts({"dataset": {"val_fasta": "v.fa"}}, train=reads())))


def test_a_metric_that_counts_reads_is_no_judge_of_rare_classes():
    def judged(metric, smallest):
        told = {"dataset": {"val_fasta": "v.fa"}, "training": {"early_stopping": {"metric": metric}}}
        return list(config.held_out(facts(told, train=reads(class_counts={0: 990, 1: smallest}))))

    (finding,) = judged("accuracy", 9)
    assert finding.severity == "warn" and finding.measured == 110
    assert finding.remedy.commands == ("training.early_stopping.metric: macro_f1",)
    assert severities(judged("micro_f1", 9)) == ["warn"]
    assert not judged("accuracy", 10) and not judged("macro_f1", 9) and not judged("mcc", 9)
