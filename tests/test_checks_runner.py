"""Which checks run, and what becomes of their answers."""

import case_facts
import pytest
from doctor_fixtures import encoder, environment, facts, reads, table, target

from metagene_doctor.checks.registry import CHECKS, sections, select
from metagene_doctor.checks.runner import Check, run_check
from metagene_doctor.facts.audit import AuditFacts
from metagene_doctor.facts.facts import Gap
from metagene_doctor.facts.prediction import SpeedFacts
from metagene_doctor.facts.previous_run import PreviousRun
from metagene_doctor.facts.reads.repeats import RepeatFacts
from metagene_doctor.facts.split.leakage import SplitFacts
from metagene_doctor.finding import Finding
from metagene_train.errors import InputError


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


def test_every_check_answers_for_itself():
    """On ordinary facts no check crashes, and every finding carries the id and scope of its check."""
    known = facts(
        train=reads(), val=reads("val"), split=SplitFacts(val_reads=1000, train_reads=1000), repeats=RepeatFacts(reads=9, distinct=8), audit=AuditFacts(),
        environment=environment(),
        previous_run=PreviousRun(directory="run", state="free", free_directory="run-2"),
        encoder=encoder(), tokens=case_facts.tokens(), target=target(), memory=case_facts.memory(20),
        speed=SpeedFacts(reads_per_s=1, slowest=1, fastest=1, limit="x"), **table((0, "a", 1), (1, "b", 2)),
        gaps={name: Gap(reason="not here") for name in ("gpu", "devices", "host", "disk", "probe", "compute", "weights", "second reader", "kernel log", "gpu load", "quantized", "disk speed")},
    )  # fmt: skip
    for check in CHECKS:
        for finding in run_check(check, known):
            assert isinstance(finding, Finding)
            assert (finding.id, finding.scope) == (check.id, check.scope)
            assert finding.severity != "crash", finding
