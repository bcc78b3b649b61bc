"""Checks of reads and labels on facts with one fault each."""

import pytest
from doctor_fixtures import facts, reads, table

from metagene_doctor.checks.reads import data, header_layouts, integrity, labels, letters
from metagene_doctor.facts.reads.facts import Bases, Damage, InputFile, Rejected
from metagene_doctor.facts.reads.repeats import RepeatFacts
from metagene_doctor.finding import Example
from metagene_train.config import RunConfig


def severities(findings):
    return [str(finding.severity) for finding in findings]


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
