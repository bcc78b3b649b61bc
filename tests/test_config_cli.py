"""`metagene config`: presets as the guide has them, problems with their lines, origins, differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metagene_doctor import rulebook
from metagene_doctor.advice.changes import shown
from metagene_doctor.cli.main import main
from metagene_doctor.configuration.field_docs import field_docs
from metagene_doctor.configuration.presets import preset, preset_names
from metagene_train.config import RunConfig
from metagene_train.config_file import flatten, load_config

QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]
GUIDE = {
    "default": {
        "tokenizer.max_length": 512, "model.lora.r": 8, "model.lora.alpha": 16, "model.lora.dropout": 0.1,
        "model.lora.target_modules": QKVO, "training.batch_size": 128, "training.grad_accum_steps": 1,
        "optimizer.lr": 2e-4, "model.dropout": 0.1, "model.gradient_checkpointing": False,
        "model.pooling": "mean", "training.max_epochs": 10, "optimizer.weight_decay": 0.01,
        "scheduler.warmup_steps": 100, "loss.label_smoothing": 0, "training.early_stopping.patience": 3,
        "training.precision": "bf16-mixed",
    },
    "rtx4090": {
        "tokenizer.max_length": 128, "model.lora.r": 4, "model.lora.alpha": 8, "model.lora.dropout": 0.05,
        "model.lora.target_modules": ["q_proj", "v_proj"], "training.batch_size": 1,
        "training.grad_accum_steps": 8, "optimizer.lr": 2e-4, "model.gradient_checkpointing": True,
        "scheduler.warmup_steps": 50, "memory_optimization.empty_cache_steps": 10,
    },
    "12gb": {"training.batch_size": 1, "training.grad_accum_steps": 32, "tokenizer.max_length": 64,
             "model.lora.r": 2, "model.lora.alpha": 4, "model.lora.target_modules": ["q_proj"],
             "model.gradient_checkpointing": True},
    "16gb": {"training.batch_size": 1, "tokenizer.max_length": 128, "model.lora.r": 2,
             "model.lora.target_modules": ["q_proj", "v_proj"], "model.gradient_checkpointing": True},
    "24gb": {"training.batch_size": 1, "training.grad_accum_steps": 32, "tokenizer.max_length": 128,
             "model.lora.r": 4, "model.lora.alpha": 8, "model.gradient_checkpointing": True,
             "memory_optimization.empty_cache_steps": 10},
    "32gb": {"training.batch_size": 8, "training.grad_accum_steps": 4, "tokenizer.max_length": 256,
             "model.lora.r": 8, "model.lora.target_modules": ["q_proj", "v_proj", "o_proj"],
             "model.gradient_checkpointing": False},
    "40gb": {"training.batch_size": 32, "training.grad_accum_steps": 2, "tokenizer.max_length": 512,
             "model.lora.r": 8, "model.lora.target_modules": QKVO},
    "80gb": {"training.batch_size": 64, "training.grad_accum_steps": 2, "tokenizer.max_length": 512,
             "model.lora.r": 16, "model.lora.alpha": 32, "model.lora.target_modules": QKVO},
}  # fmt: skip
"""Sections 1 to 3 and 7 of the guide, the lower end where it gives a range."""


def test_every_preset_of_the_guide_is_there() -> None:
    assert preset_names(rulebook.load()) == list(GUIDE)


@pytest.mark.parametrize("name", GUIDE)
def test_a_written_preset_holds_the_guides_values_and_checks_clean(name: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.yaml"
    assert main(["config", "init", "--preset", name, "-o", str(path)]) == 0
    loaded = load_config(path)
    assert {key: flatten(loaded.config)[key] for key in GUIDE[name]} == GUIDE[name]
    assert loaded.warnings == ()
    assert main(["config", "check", str(path)]) == 0
    assert "no problems" in capsys.readouterr().out


def test_a_written_config_has_every_key_with_its_meaning(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert main(["config", "init", "-o", str(path)]) == 0
    given = load_config(path).lines
    assert set(flatten(RunConfig())) <= set(given)
    lines = ["", *path.read_text().splitlines()]
    assert "# Before the linear head." in lines[given["model.dropout"]]
    assert "# Micro-batch: reads in one forward pass on one device." in lines[given["training.batch_size"]]
    assert "none | int8 | nf4" in lines[given["model.quantization"]]
    assert "Adapter rank" in lines[given["model.lora.r"]]


def test_a_range_of_the_guide_and_a_wrong_row_are_said_in_comments(capsys) -> None:
    assert main(["config", "init", "--preset", "24gb"]) == 0
    text = capsys.readouterr().out
    assert "guide: 128-256, the lower end" in text
    assert text.startswith("# ") and "contradicted" in text.split("seed:")[0]


def test_overrides_replace_the_presets_values_and_its_comments(capsys) -> None:
    assert main(["config", "init", "--preset", "24gb", "tokenizer.max_length=64", "optimizer.lr=3e-4"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.strip().startswith("max_length:"))
    assert "max_length: 64" in line and "guide" not in line
    assert "lr: 0.0003" in text


def test_field_docs_come_from_the_schema() -> None:
    docs = field_docs()
    assert set(docs) == set(flatten(RunConfig()))
    assert docs["tokenizer.padding"].startswith("longest | max_length: Pad a batch to its longest read")
    assert docs["model.num_classes"].startswith("auto: as many"), "a number or one word: no list of values"
    assert docs["metrics.primary"] == "macro_f1 | micro_f1 | mcc | accuracy"
    assert all(docs.values()), [key for key, meaning in docs.items() if not meaning]


def test_an_existing_file_is_not_overwritten_without_being_told(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\n")
    assert main(["config", "init", "-o", str(path)]) == 2
    assert path.read_text() == "seed: 1\n"
    assert "--force" in capsys.readouterr().err
    assert main(["config", "init", "-o", str(path), "--force"]) == 0
    assert load_config(path).config.seed == 42


def test_check_reports_every_problem_with_file_and_line(tmp_path: Path, capsys) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("training:\n  batchsize: 4\n  max_epochs: many\nlora:\n  r: 0\noptimiser:\n  lr: 1\n")
    assert main(["config", "check", str(path)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [f"{path}:{n}" for n in (2, 3, 5, 6)]
    assert "did you mean training.batch_size?" in lines[0]
    assert lines[-1] == f"{path}: 4 problems"
    assert main(["config", "check", str(path), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 4


def test_check_prints_warnings_and_succeeds(tmp_path: Path, capsys) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("optimizer:\n  lr: 2e-4\nmodel:\n  classifier_type: linear\n")
    assert main(["config", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{path}:4: model.classifier_type has no effect" in out
    assert "no problems, 1 warning" in out
    assert main(["config", "check", str(path), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_check_of_what_is_not_a_config_is_one_message(tmp_path: Path, capsys) -> None:
    assert main(["config", "check", str(tmp_path / "none.yaml")]) == 2
    assert "no such config file" in capsys.readouterr().err
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2\n")
    assert main(["config", "check", str(broken)]) == 2
    captured = capsys.readouterr()
    assert "not valid YAML" in captured.out and "Traceback" not in captured.err


def test_show_gives_each_value_its_origin_and_is_a_config_itself(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  batch_size: 8\nlora:\n  r: 4\n")
    argv = ["config", "show", str(path), "optimizer.lr=1e-3"]
    assert main([*argv, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["training.batch_size"] == {"value": 8, "origin": f"{path}:2"}
    assert values["model.lora.r"] == {"value": 4, "origin": f"{path}:4"}
    assert values["optimizer.lr"] == {"value": 0.001, "origin": "command line"}
    assert values["seed"] == {"value": 42, "origin": "default"}
    assert main(argv) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert load_config(again).config == load_config(path, ["optimizer.lr=1e-3"]).config
    assert main([*argv, "--given"]) == 0
    assert "seed" not in capsys.readouterr().out


def test_diff_lists_changed_keys_only_between_files_and_presets(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.yaml"
    assert main(["config", "init", "--preset", "rtx4090", "-o", str(path), "training.batch_size=16"]) == 0
    capsys.readouterr()
    assert main(["config", "diff", "rtx4090", str(path)]) == 0
    assert capsys.readouterr().out == "training.batch_size 1 → 16\n"
    assert main(["config", "diff", str(path), "rtx4090", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"training.batch_size": [16, 1]}


def test_an_unknown_preset_names_those_there_are(capsys) -> None:
    assert main(["config", "init", "--preset", "h100"]) == 2
    assert "default, rtx4090, 12gb" in capsys.readouterr().err


def test_presets_follow_the_rule_book(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        "memory_tiers:\n  - id: LAB-48\n    title: Our L40S\n    gpu_gb: 48\n    where: {gpu_gb: [48]}\n"
        "    recommends: {training.batch_size: 16, model.lora.r: {from: 8, to: 16}}\n"
        "    source: our runs\n    verdict: holds\n"
    )
    book = rulebook.load(tmp_path)
    assert "48gb" in preset_names(book)
    config = preset("48gb", book).config()
    assert (config.training.batch_size, config.model.lora.r, config.model.lora.alpha) == (16, 8, 16)


def test_a_labs_own_rules_add_presets(tmp_path: Path, capsys) -> None:
    (tmp_path / "lab.yaml").write_text(
        "memory_tiers:\n  - {id: LAB-48, title: ours, gpu_gb: 48, recommends: {training.batch_size: 16},\n"
        "     source: our runs, verdict: holds}\n"
    )
    assert main(["config", "init", "--preset", "48gb", "--rules", str(tmp_path)]) == 0
    assert "batch_size: 16" in capsys.readouterr().out


def test_the_documentation_lists_every_key_with_its_default() -> None:
    text = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for key, value in flatten(RunConfig()).items():
        assert key in rows, f"docs/configuration.md lacks {key}"
        if key != "dataset.header_regex":
            assert f"`{shown(value)}`" in rows[key], f"docs/configuration.md has another default for {key}"
    assert set(rows) <= set(flatten(RunConfig()))
