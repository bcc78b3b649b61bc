"""Checks of reads, labels, split, tokens and config on facts with one fault each."""

import pytest
from doctor_fixtures import encoder, environment, facts, reads, table, target

from metagene_doctor.checks import config
from metagene_doctor.checks.model import tokens
from metagene_doctor.checks.reads import data, header_layouts, integrity, labels, letters
from metagene_doctor.checks.registry import CHECKS, sections, select
from metagene_doctor.checks.runner import Check, run_check
from metagene_doctor.checks.split import leakage as split
from metagene_doctor.facts.audit import AuditFacts
from metagene_doctor.facts.facts import Gap, RunFacts
from metagene_doctor.facts.model.tokens import GOLDEN_IDS, TokenFacts
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts
from metagene_doctor.facts.previous_run import PreviousRun
from metagene_doctor.facts.reads.facts import Bases, Damage, InputFile, Rejected
from metagene_doctor.facts.reads.repeats import RepeatFacts
from metagene_doctor.facts.split.leakage import SplitFacts
from metagene_doctor.finding import Example, Finding
from metagene_doctor.padding import expected_lengths, padding_share
from metagene_train.config import RunConfig
from metagene_train.errors import InputError


def severities(findings):
    return [str(finding.severity) for finding in findings]


# Runner and registry


def test_a_check_without_findings_passes_and_one_that_throws_crashes():
    def broken(facts):
        raise ValueError("odd number")

    def quiet(facts):
        return ()

    (passed,) = run_check(Check("Z1", "All is well", "data", quiet), facts())
    assert (passed.severity, passed.title) == ("pass", "All is well")
    (crashed,) = run_check(Check("Z2", "All is well", "data", broken), facts())
    assert crashed.severity == "crash" and "ValueError: odd number" in crashed.why


def test_what_is_not_known_is_skipped_or_unfinished_never_passed():
    check = Check("Z1", "T", "data", lambda facts: (), ("train",))
    (skipped,) = run_check(check, facts(gaps={"train": Gap(reason="no reads", enable="give --fasta")}))
    assert (skipped.severity, skipped.why, skipped.remedy.text) == ("skip", "no reads", "give --fasta")
    (crashed,) = run_check(check, facts(gaps={"train": Gap(reason="boom", failed=True)}))
    assert crashed.severity == "crash"


def test_ids_are_unique_and_every_check_explains_itself():
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert all(check.judge.__doc__ for check in CHECKS)


def test_selection():
    assert {check.id for check in select(["split"], ["V03"])} == {
        "V01",
        "V02",
        "V04",
        "V05",
        "V06",
        "V07",
        "V08",
        "V09",
    }
    with pytest.raises(InputError, match="did you mean F0"):
        select(["F0O2"])


def test_costly_sections_are_asked_for_only_when_needed():
    assert "split" not in sections(select(["data"]))
    assert {"memory", "tokens"} <= sections(select(["C02"]))


# Integrity


def test_refused_file():
    file = InputFile(role="train", path="x.fa", bytes=3, refused="x.fa: not FASTA or FASTQ: is HTML")
    (finding,) = integrity.file_type(facts(files=(file,)))
    assert finding.severity == "error" and "HTML" in finding.title


@pytest.mark.parametrize(
    ("kind", "judge"),
    [
        ("gzip_truncated", integrity.compression_whole),
        ("bgzf_no_end", integrity.blocks_whole),
        ("nul", integrity.text_encoding),
        ("changed", integrity.text_encoding),
    ],
)
def test_each_kind_of_damage_has_one_check(kind, judge):
    damaged = facts(train=reads(damage=(Damage(kind=kind, message="is cut", byte_offset=77),)))
    fired = [
        each
        for each in (
            integrity.compression_whole,
            integrity.blocks_whole,
            integrity.text_encoding,
            integrity.fastq_structure,
        )
        if list(each(damaged))
    ]
    assert fired == [judge]


def test_crlf_is_a_remark():
    (finding,) = integrity.text_encoding(facts(train=reads(crlf_lines=2000)))
    assert finding.severity == "info" and finding.count == 2000


# Reads


def rejected(count, kind="header"):
    example = Example(file="train.fa", line=3, record=2, text="seq1")
    return Rejected(kind=kind, reason="does not start with lbl|", count=count, examples=(example,))


@pytest.mark.parametrize(("count", "severity"), [(1, "warn"), (70, "error")])
def test_headers(count, severity):
    known = facts(train=reads(records=10_000, rejected=(rejected(count),), rejected_headers=("seq1",)))
    (finding,) = data.header_matches(known)
    assert (finding.severity, finding.count) == (severity, count)
    assert "line 3" in finding.why
    assert ("1 read (" in finding.title) == ("has a header" in finding.title) == (count == 1)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (("lbl|3|562|Azorhizobium|Azorhizobium caulinodans/1",), "562"),
        (("lbl|3|562|150|Azorhizobium caulinodans-5/1",), "blanks in the name"),
        (("lbl|3|562|name/1", "lbl|4|562|name/2"), "lbl|class_id|tax_id|name"),
        (("NC_1 kraken:taxid|562",), "Kraken"),
        (("read1 class=7 x",), "class=N"),
        (("read1;taxid=562;",), "taxid=N"),
        (("s1|genome|12",), "last field"),
        (("12_read",), "first field"),
        (("NC_000913.3 Escherichia coli",), None),
        ((), None),
    ],
)
def test_header_suggestions(headers, expected):
    suggestion = data.suggest_header(headers, RunConfig().dataset.header_regex)
    if expected is None:
        assert suggestion is None
    elif expected == "562":
        assert suggestion is not None
    else:
        assert expected in suggestion[1]


def test_suggested_patterns_can_be_configured():
    for regex, _ in header_layouts.HEADER_TEMPLATES:
        RunConfig.model_validate({"dataset": {"header_regex": regex}})


def test_letters():
    mixed = reads(bases=Bases(acgt=100, lower=50, u=20, n=10, iupac=15, other=5))
    known = facts(train=mixed)
    assert [f.measured for f in letters.letter_case(known)] == [0.25]
    assert [f.measured for f in letters.uracil(known)] == [0.1]
    assert severities(letters.other_letters(known)) == ["warn"]
    assert severities(letters.unknown_bases(known)) == ["warn"]
    protein = facts(train=reads(bases=Bases(acgt=50, other=50)))
    assert severities(letters.other_letters(protein)) == ["error"]
    for judge in (letters.letter_case, letters.uracil, letters.other_letters, letters.unknown_bases):
        assert not list(judge(facts(train=reads())))


def test_lengths():
    odd = reads(
        lengths={0: 3, 10: 40, 150: 957},
        rejected=(rejected(3, "empty"),),
        accepted=997,
        readlen_mismatches=12,
    )
    empty, short, stale = data.read_lengths(facts(train=odd))
    assert empty.count == 3
    assert (short.count, short.severity) == (40, "warn")
    assert stale.count == 12


def test_duplicate_names_and_plan():
    (finding,) = data.duplicate_names(facts(train=reads(duplicate_headers=9)))
    assert finding.count == 9
    (plan,) = data.plan(facts(train=reads(indexed=True)))
    assert (
        "1,000 reads, 150 bases, 2 classes, 150 kbp in all, index 20 kB written, 8 optimizer steps"
        in plan.title
    )


# Labels


def test_classes_without_a_row():
    known = {"train": reads(class_counts={0: 900, 7: 100}), **table((0, "a", None))}
    (finding,) = labels.classes_known(facts(**known))
    assert (finding.severity, finding.count) == ("error", 100)
    (finding,) = labels.classes_known(facts({"dataset": {"strict_classes": False}}, **known))
    assert finding.severity == "warn"


def test_classes_without_reads_are_not_judged_on_half_a_file():
    rows = table((0, "a", None), (1, "b", None), (2, "c", None))
    (finding,) = labels.classes_have_reads(facts(train=reads(), **rows))
    assert finding.severity == "warn" and finding.title.endswith("2")
    (finding,) = labels.classes_have_reads(facts(train=reads(partial=True), **rows))
    assert finding.severity == "skip"


def test_few_reads():
    (finding,) = labels.classes_have_reads(
        facts(train=reads(class_counts={0: 990, 1: 10}), **table((0, "a", None), (1, "b", None)))
    )
    assert (finding.severity, finding.measured) == ("info", 10)


def test_tax_ids():
    known = reads(tax_ids={0: {562: 480, 564: 20}, 1: {9: 500}})
    (finding,) = labels.tax_ids_agree(facts(train=known, **table((0, "a", 562), (1, "b", 9))))
    assert finding.count == 20 and "564, not 562" in finding.title
    (finding,) = labels.tax_ids_agree(facts(train=reads(), **table((0, "a", 5), (1, "b", 5))))
    assert finding.severity == "warn"
    assert not list(labels.tax_ids_agree(facts(train=known, **table((0, "a", None), (1, "b", 9)))))


def test_ids_need_not_be_contiguous():
    assert severities(labels.ids_contiguous(facts(**table((0, "a", None), (5, "b", None))))) == ["info"]
    assert not list(labels.ids_contiguous(facts(**table((1, "b", None), (0, "a", None)))))


def test_balance():
    (even,) = labels.balance(facts(train=reads()))
    assert even.severity == "info" and "50.0 %" in even.title
    steep = reads(class_counts={0: 990, 1: 9, 2: 1})
    (finding,) = labels.balance(facts(train=steep))
    assert finding.severity == "warn" and finding.measured == 990
    (finding,) = labels.balance(facts({"loss": {"class_weights": "sqrt"}}, train=steep))
    assert finding.severity == "info" and finding.remedy is None, "what is set already is not advised"
    (finding,) = labels.balance(facts(train=reads(class_counts={3: 1000})))
    assert finding.severity == "error"


def test_order():
    assert severities(labels.order(facts(train=reads(class_order=0.98)))) == ["info"]
    assert not list(labels.order(facts(train=reads(class_order=0.01))))
    assert not list(labels.order(facts(train=reads(class_order=None))))


@pytest.mark.parametrize(("repeated", "severity"), [(0, []), (50, ["info"]), (300, ["warn"])])
def test_repeats(repeated, severity):
    known = facts(train=reads(), repeats=RepeatFacts(reads=1000, distinct=1000 - repeated))
    assert severities(data.repeated_reads(known)) == severity


def test_sequences_of_several_classes_limit_accuracy():
    shared = RepeatFacts(reads=1000, distinct=900, shared_reads=40, shared_sequences=10, best_correct=975)
    (finding,) = labels.classes_distinguishable(facts(train=reads(), repeats=shared))
    assert finding.severity == "warn" and "4.0 %" in finding.title and "97.5 %" in finding.why
    unshared = RepeatFacts(reads=1000, distinct=900, best_correct=1000)
    assert not list(labels.classes_distinguishable(facts(train=reads(), repeats=unshared)))


# Split


def both(**shared):
    return {
        "train": reads(),
        "val": reads("val"),
        "split": SplitFacts(val_reads=1000, train_reads=1000, **shared),
    }


def test_same_file_and_same_names():
    assert severities(split.separate_files(facts(**both(same_file=True)))) == ["error"]
    copied = both() | {"train": reads(headers_digest="ab"), "val": reads("val", headers_digest="ab")}
    assert severities(split.separate_files(facts(**copied))) == ["warn"]
    known = both(same_strand=990, other_strand=10)["split"]
    assert severities(split.separate_files(facts(**copied | {"split": known}))) == ["error"]
    assert not list(split.separate_files(facts(**both())))


@pytest.mark.parametrize(("copied", "severity"), [(0, []), (3, ["info"]), (10, ["warn"]), (60, ["error"])])
def test_copies(copied, severity):
    assert (
        severities(split.copies(facts(**both(same_strand=copied // 2, other_strand=copied - copied // 2))))
        == severity
    )


@pytest.mark.parametrize(("sharing", "severity"), [(0, []), (5, ["info"]), (60, ["warn"]), (900, ["warn"])])
def test_overlaps(sharing, severity):
    known = both(segment_val_reads=1000, sharing_val_reads=sharing)
    assert severities(split.overlaps(facts(**known))) == severity
    assert severities(split.overlaps(facts(**both()))) == ["skip"]


def test_overlaps_of_a_sample_have_an_interval_and_of_all_reads_are_exact():
    def judged(val_reads):
        counts = SplitFacts(val_reads=val_reads, segment_val_reads=1000, sharing_val_reads=300)
        (finding,) = split.overlaps(facts(train=reads(), val=reads("val"), split=counts))
        return finding

    assert judged(1000).confidence == "exact" and "95 %" not in judged(1000).why
    assert judged(50_000).confidence == "sampled"
    assert "(95 %: 27.2 % to 32.9 %)" in judged(50_000).why
    assert split.interval(0, 100) == (0.0, pytest.approx(0.037, abs=1e-3))


def test_pairs():
    assert severities(split.pairs_together(facts(**both(paired_val_reads=1000, split_pairs=98)))) == ["error"]
    assert severities(split.pairs_together(facts(**both(paired_val_reads=1000, split_pairs=1)))) == ["warn"]
    unclear = both(paired_val_reads=1000, split_pairs=98, names_identify=False)
    assert severities(split.pairs_together(facts(**unclear))) == ["skip"]


def test_classes_on_one_side():
    known = both() | {"val": reads("val", class_counts={0: 900, 9: 100})}
    (finding,) = split.classes_trained(facts(**known))
    assert finding.severity == "error" and finding.count == 100
    (finding,) = split.classes_validated(facts(**known))
    assert finding.severity == "warn" and finding.title.endswith(": 1")
    half = known | {"train": reads(damage=(Damage(kind="gzip_truncated", message="cut"),))}
    assert severities(split.classes_trained(facts(**half))) == ["skip"]


# Tokens


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


# Config


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


def test_every_check_answers_for_itself():
    """On ordinary facts no check crashes, and every finding carries the id and scope of its check."""
    known = facts(
        train=reads(), val=reads("val"), split=SplitFacts(val_reads=1000, train_reads=1000), repeats=RepeatFacts(reads=9, distinct=8), audit=AuditFacts(),
        environment=environment(),
        previous_run=PreviousRun(directory="run", state="free", free_directory="run-2"),
        encoder=encoder(), tokens=token_facts(), target=target(), memory=memory(20),
        speed=SpeedFacts(reads_per_s=1, slowest=1, fastest=1, limit="x"), **table((0, "a", 1), (1, "b", 2)),
        gaps={name: Gap(reason="not here") for name in ("gpu", "devices", "host", "disk", "probe", "compute", "weights", "second reader", "kernel log", "gpu load", "quantized", "disk speed")},
    )  # fmt: skip
    for check in CHECKS:
        for finding in run_check(check, known):
            assert isinstance(finding, Finding)
            assert (finding.id, finding.scope) == (check.id, check.scope)
            assert finding.severity != "crash", finding
