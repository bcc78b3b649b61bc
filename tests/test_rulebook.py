"""The rule book: its cards, its tables, a laboratory's own rules, and `metagene rules`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metagene_doctor import rulebook
from metagene_doctor.cli.main import main
from metagene_doctor.rulebook.schema import MemoryClaim
from metagene_train.config import RunConfig
from metagene_train.config_file import flatten
from metagene_train.errors import ConfigError, InputError

PSEUDO_KEYS = {"effective_batch", "max_truncation"}


@pytest.fixture(scope="module")
def book() -> rulebook.Rulebook:
    return rulebook.load()


def lab_rules(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "lab.yaml").write_text(text)
    return directory


def test_loading_needs_no_torch() -> None:
    program = (
        "import sys; from metagene_doctor import rulebook; rulebook.load(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# cards


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("rtx4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("RTX-4090", "rtx4090"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("A10G", "a10g"),
    ],
)
def test_card_is_found_by_the_names_people_and_drivers_use(
    book: rulebook.Rulebook, name: str, card: str
) -> None:
    assert book.gpu(name).name == card


def test_laptop_card_is_not_taken_for_the_desktop_card(book: rulebook.Rulebook) -> None:
    with pytest.raises(InputError):
        book.gpu("NVIDIA GeForce RTX 4090 Laptop GPU")


def test_unknown_card_gets_a_suggestion(book: rulebook.Rulebook) -> None:
    with pytest.raises(InputError, match=r"did you mean.*rtx4090"):
        book.gpu("rtx409")


def test_a_process_gets_less_than_nvidia_smi_shows_and_than_the_sticker(book: rulebook.Rulebook) -> None:
    for card in book.gpus:
        assert 0 < card.usable_gib < card.visible_mib / 1024
        assert card.usable_gib < card.marketed_gb
        assert card.visible_mib / 1024 > 0.92 * card.marketed_gb


def test_usable_memory_lies_below_what_torch_reports(book: rulebook.Rulebook) -> None:
    reported = {"rtx4090": 23.64, "rtx3090": 23.69, "a100-40gb": 39.39, "a100-80gb": 79.15, "l4": 22.02}
    for name, total_gib in reported.items():
        assert total_gib - 0.5 < book.gpu(name).usable_gib < total_gib, name


def test_cards_without_bf16_are_those_before_ampere(book: rulebook.Rulebook) -> None:
    for card in book.gpus:
        assert card.bf16 == (float(card.compute_capability) >= 8)
    assert {card.name for card in book.gpus if not card.bf16} >= {"t4", "v100-16gb", "v100-32gb"}


def test_a_size_is_the_smallest_card_sold_as_it(book: rulebook.Rulebook) -> None:
    card, why = book.smallest_gpu(24)
    sold = [gpu for gpu in book.gpus if gpu.marketed_gb == 24]
    assert len(sold) > 5
    assert card.visible_mib == min(gpu.visible_mib for gpu in sold)
    assert card.title in why
    assert "24 GB" in why


def test_a_size_that_no_card_has_is_that_many_billion_bytes(book: rulebook.Rulebook) -> None:
    card, why = book.smallest_gpu(20)
    assert card.visible_mib == int(20e9 / 2**20)
    assert card.usable_gib < 20e9 / 2**30
    assert "no known card" in why


# tables


def test_ids_are_unique_and_every_rule_has_source_and_verdict(book: rulebook.Rulebook) -> None:
    rules = list(book.every())
    assert len({rule.id for rule in rules}) == len(rules)
    assert all(rule.source for rule in rules)
    assert all(rule.evidence for rule in rules if rule.verdict == "contradicted")


def test_every_key_exists(book: rulebook.Rulebook) -> None:
    known = set(flatten(RunConfig())) | PSEUDO_KEYS
    for rule in book.every():
        keys = set(getattr(rule, "recommends", {})) | set(getattr(rule, "sets", {}))
        keys |= {change.key for change in getattr(rule, "changes", ())}
        keys |= {rule.key} if hasattr(rule, "key") else set()
        assert keys <= known, rule.id


def test_every_row_of_the_guides_tables_is_a_rule(book: rulebook.Rulebook) -> None:
    assert len(book.hyperparameters) == 5 + 11 + 2  # batch, accumulation and their product are one row there
    assert [tier.gpu_gb for tier in book.memory_tiers] == [12, 16, 24, 32, 40, 80]
    assert len(book.dataset_tiers) == 5
    listed = [
        sorted(fix.guide_order for fix in symptom.fixes if fix.guide_order)
        for symptom in book.symptoms
        if symptom.source.startswith("guide")
    ]
    assert listed == [[1, 2, 3, 4, 5], *[[1, 2, 3, 4]] * 4]
    guide_goals = {goal.name for goal in book.goals if goal.id.startswith("GM-")}
    assert guide_goals == {goal.name for goal in book.goals if goal.id.startswith("EV-")}
    assert len(guide_goals) == 5 + 1  # and none in particular


def test_data_tiers_cover_every_number_of_reads_once(book: rulebook.Rulebook) -> None:
    for reads in (1, 999, 1000, 9_999, 10_000, 123_456, 1_000_000, 558_000_000):
        assert sum(tier.where.reads(reads) for tier in book.dataset_tiers) == 1


def test_guide_order_of_fixes_is_the_guides(book: rulebook.Rulebook) -> None:
    oom = book.symptom("oom")
    assert {fix.guide_order: fix.key for fix in oom.fixes if fix.guide_order} == {
        1: "tokenizer.max_length",
        2: "model.gradient_checkpointing",
        3: "training.batch_size",
        4: "model.lora.r",
        5: "model.lora.target_modules",
    }
    verdicts = [fix.verdict for fix in oom.fixes]
    assert verdicts[0] == "holds"
    assert verdicts[-1] == "contradicted"


def test_a_claim_says_one_thing(book: rulebook.Rulebook) -> None:
    assert book.claims
    for claim in book.claims:
        assert isinstance(claim, MemoryClaim)
        said = [claim.claimed_gb, claim.fits_gb, claim.claimed_ratio]
        assert sum(value is not None for value in said) == 1, claim.id


# a laboratory's own rules


LAB_RULE = """
rules:
  - id: {id}
    title: Our learning rate
    policy: evidence
    recommends: {{optimizer.lr: 1.0e-4}}
    source: 12 runs on our reads
    verdict: holds
"""


def test_lab_rule_is_added(tmp_path: Path) -> None:
    book = rulebook.load(lab_rules(tmp_path / "rules", LAB_RULE.format(id="LAB-LR")))
    assert book.rule("lab-lr").source == "12 runs on our reads"
    assert book.rule("EV-LR").source != "12 runs on our reads"


def test_lab_rule_replaces_the_one_with_its_id(tmp_path: Path) -> None:
    book = rulebook.load(lab_rules(tmp_path / "rules", LAB_RULE.format(id="EV-LR")))
    assert book.rule("EV-LR").source == "12 runs on our reads"
    assert rulebook.load().rule("EV-LR").source != "12 runs on our reads"


def test_lab_card_gets_the_drivers_reserve(tmp_path: Path) -> None:
    text = (
        "gpus:\n  - {name: ours, title: Ours, marketed_gb: 20, visible_mib: 20475, visible: reported,"
        " bf16_tflops: 100, fp32_tflops: 30, bandwidth_gbs: 500, compute_capability: '8.9', bf16: true, source: box}\n"
    )
    card, _ = rulebook.load(lab_rules(tmp_path / "rules", text)).smallest_gpu(20)
    assert card.name == "ours"
    assert card.usable_gib < card.visible_mib / 1024 - 0.4


def test_broken_rule_names_file_line_and_problem(tmp_path: Path) -> None:
    broken = LAB_RULE.format(id="LAB-LR").replace("verdict: holds", "verdict: maybe\n    colour: red")
    directory = lab_rules(tmp_path / "rules", broken)
    with pytest.raises(ConfigError) as caught:
        rulebook.load(directory)
    problems = "\n".join(caught.value.problems)
    assert f"{directory / 'lab.yaml'}:8:" in problems
    assert f"{directory / 'lab.yaml'}:9:" in problems
    assert "colour" in problems


def test_rules_that_are_not_yaml_are_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lab\.yaml:\d"):
        rulebook.load(lab_rules(tmp_path / "rules", "rules: [\n"))


def test_directory_without_rules_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rule files"):
        rulebook.load(tmp_path)


# metagene rules


def test_list_shows_only_the_asked_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "list", "--verdict", "contradicted", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown) > 20
    assert {rule["verdict"] for rule in shown} == {"contradicted"}


def test_list_counts_verdicts(capsys: pytest.CaptureFixture[str], book: rulebook.Rulebook) -> None:
    assert main(["rules", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(book.every())) + 1
    assert lines[-1].startswith(f"{len(lines) - 1} rules: ")


@pytest.mark.parametrize(
    "rule_id", ["GM-HP-LORA-R", "gm-oom-4", "EV-ALPHA", "GM-CLAIM-RANK-2", "EV-GOAL-SPEED"]
)
def test_show_gives_source_and_evidence(capsys: pytest.CaptureFixture[str], rule_id: str) -> None:
    assert main(["rules", "show", rule_id]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(rule_id.upper())
    assert "source: " in shown
    assert "verdict: " in shown


def test_show_tells_where_the_guide_has_a_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "show", "GM-OOM-4"]) == 0
    assert "number 4 of the guide's list" in capsys.readouterr().out
    assert main(["rules", "show", "EV-OOM-PADDING"]) == 0
    assert "guide's list" not in capsys.readouterr().out


def test_show_tells_which_policy_applies_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    for rule_id, policy in (("EV-LR", "evidence"), ("GM-DATA-WORKERS", "guide"), ("EV-BASELINE", None)):
        assert main(["rules", "show", rule_id]) == 0
        shown = capsys.readouterr().out
        assert ("--policy" in shown) is (policy is not None)
        assert policy is None or f"applied:  by metagene autotune --policy {policy}\n" in shown


def test_show_unknown_rule_is_a_usage_error_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "show", "EV-TARGET"]) == 2
    assert "EV-TARGETS" in capsys.readouterr().err
