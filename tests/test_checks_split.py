"""Checks of the split on facts with one fault each."""

import pytest
from doctor_fixtures import facts, reads

from metagene_doctor.checks.split import leakage as split
from metagene_doctor.facts.reads.facts import Damage
from metagene_doctor.facts.split.leakage import SplitFacts


def severities(findings):
    return [str(finding.severity) for finding in findings]


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
