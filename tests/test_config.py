"""Configuration files: what loads, what is refused and with which words, and what survives an edit."""

import re

import pytest
import yaml

from metagene_train.config import RunConfig
from metagene_train.config_file import NAMES_ELSEWHERE, dump_config, flatten, load_config, set_keys
from metagene_train.errors import ConfigError, InputError

GUIDE_RTX4090 = """\
seed: 42
device: cuda
tokenizer:
  name_or_path: metagene-ai/METAGENE-1
  use_hf_tokenizer: true
  max_length: 128  # shorter than the context
  pack_short_reads: false
  padding: max_length
  truncation: true
model:
  encoder_path: metagene-ai/METAGENE-1
  pooling: mean
  num_classes: auto
  dropout: 0.1
  lora:
    enabled: true
    r: 4
    alpha: 8
    dropout: 0.05
    target_modules: [q_proj, v_proj]
    bias: none
    task_type: SEQ_CLS
  gradient_checkpointing: true
dataset:
  train_fasta: null
  mapping_tsv: null
  header_regex: "^lbl\\\\|(?P<class_id>\\\\d+)\\\\|(?P<tax_id>\\\\d+)?\\\\|(?P<readlen>\\\\d+)?\\\\|(?P<name>[^/\\\\s]+)(?:/(?P<mate>\\\\d+))?$"
  file_format: auto
  gzip: auto
  strict_classes: true
  label_column: label_name
  num_workers: 4
training:
  output_dir: outputs/exp1
  batch_size: 1
  grad_accum_steps: 8
  max_epochs: 10
  precision: bf16-mixed
  early_stopping: {patience: 3, metric: macro_f1, mode: max}
  checkpoint: {save_best: true, save_last: true}
  torch_compile: false
optimizer: {name: adamw, lr: 0.0002, weight_decay: 0.01, betas: [0.9, 0.999], use_8bit: false}
scheduler: {name: linear, warmup_steps: 50, num_training_steps: auto}
loss: {name: cross_entropy, label_smoothing: 0.0}
metrics: {primary: macro_f1, compute_auroc: true, confusion_matrix: true, per_class_report: true}
logging: {log_interval: 5, use_wandb: false, wandb_project: metagene-classification, wandb_entity: null}
memory_optimization:
  gradient_checkpointing: true
  empty_cache_steps: 10
  max_split_size_mb: 128
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="c.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_config_written_for_the_guides_trainer_loads_with_its_values(write):
    loaded = load_config(write(GUIDE_RTX4090))
    config = loaded.config
    assert (config.tokenizer.max_length, config.model.lora.r, config.model.lora.alpha) == (128, 4, 8)
    assert config.model.lora.target_modules == ["q_proj", "v_proj"]
    assert config.model.gradient_checkpointing and config.training.num_workers == 4
    assert config.training.effective_batch == 8
    assert config.memory_optimization.empty_cache_steps == 10
    assert config.dataset.header_regex == RunConfig().dataset.header_regex
    warned = "\n".join(loaded.warnings)
    for key in ("pack_short_reads", "task_type", "torch_compile", "max_split_size_mb"):
        assert key in warned


def test_top_level_spellings_of_the_guides_tables_load(write):
    config = load_config(write("lora: {r: 2}\nearly_stopping: {patience: 7}\n")).config
    assert config.model.lora.r == 2
    assert config.training.early_stopping.patience == 7


def test_an_8_bit_optimizer_flag_selects_the_8_bit_optimizer(write):
    assert load_config(write("optimizer: {use_8bit: true}")).config.optimizer.name == "adamw_8bit"


def test_a_key_given_under_both_names_with_different_values_is_refused(write):
    with pytest.raises(ConfigError, match=r"c\.yaml:1: .*lora contradicts model\.lora\.r"):
        load_config(write("lora: {r: 2}\nmodel:\n  lora:\n    r: 4\n"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("optimizer:\n  lr: abc\n", 2, r"optimizer\.lr: must be a number \(found 'abc'\)"),
        (
            "training:\n  batchsize: 4\n",
            2,
            r"unknown key training\.batchsize; did you mean training\.batch_size",
        ),
        ("lr: 1e-4\n", 1, r"unknown key lr; did you mean optimizer\.lr"),
        (
            "optimizer:\n  learning_rate: 1e-4\n",
            2,
            r"unknown key optimizer\.learning_rate; did you mean optimizer\.lr\?",
        ),
        ("training:\n  batch_size: 0\n", 2, r"training\.batch_size: must be greater than 0 \(found 0\)"),
        ("model:\n  pooling: median\n", 2, r"model\.pooling: must be 'mean', 'max' or 'cls'"),
        ("model:\n  num_classes: many\n", 2, r"model\.num_classes: .*whole number.* or .*'auto'"),
        ("dataset:\n  header_regex: '(['\n", 2, "not a regular expression"),
        ("dataset:\n  header_regex: '^x$'\n", 2, r"must have a group \(\?P<class_id>"),
        ("model: 3\n", 1, r"model: must be a section"),
        ("scheduler:\n  warmup_steps: 5\n  warmup_ratio: 0.1\n", 1, "not both"),
        ("optimizer:\n  lr: .nan\n", 2, r"optimizer\.lr"),
        ("a: [1\n", 2, "not valid YAML"),
        ("seed: 1\nseed: 2\n", 2, "not valid YAML: found duplicate key"),
        ("- a\n- b\n", 1, "a config has lines `key: value`, found a list"),
    ],
)
def test_a_bad_config_is_one_message_with_file_and_line(write, text, line, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(text))
    assert len(caught.value.problems) == 1
    assert f"c.yaml:{line}:" in caught.value.problems[0]
    assert caught.value.exit_code == 2


def test_every_problem_of_a_config_is_reported(write):
    with pytest.raises(ConfigError) as caught:
        load_config(write("optimizer: {lr: -1}\nmodell: {}\ntraining: {precision: bf17}\n"))
    assert len(caught.value.problems) == 3


def test_a_missing_or_binary_config_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such config file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read as a text file"):
        load_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize("text", ["lr: 2e-4", "lr: '2e-4'", "lr: 0.0002"])
def test_every_way_to_write_a_learning_rate_is_a_number(write, text):
    assert load_config(write(f"optimizer:\n  {text}\n")).config.optimizer.lr == 2e-4


def test_overrides_win_over_the_file_and_are_checked(write):
    path = write("training:\n  batch_size: 4\n")
    loaded = load_config(path, ["training.batch_size=7", "model.lora.target_modules=[q_proj]", "lora.r=3"])
    assert loaded.config.training.batch_size == 7
    assert loaded.config.model.lora.target_modules == ["q_proj"]
    assert loaded.config.model.lora.r == 3
    with pytest.raises(ConfigError, match=r"command line: training\.batch_size: must be a whole number"):
        load_config(path, ["training.batch_size=lots"])
    with pytest.raises(ConfigError, match="not of the form"):
        load_config(path, ["training.batch_size"])


def test_an_empty_section_keeps_its_defaults(write):
    assert load_config(write("model:\n  lora:\n")).config == RunConfig()
    assert load_config(write("")).config == RunConfig()


def test_a_dumped_config_loads_back_and_carries_its_comments(write):
    config = load_config(write(GUIDE_RTX4090)).config
    text = dump_config(config, {"optimizer.lr": "because"}, "two\nlines")
    assert text.startswith("# two\n# lines\n")
    assert "lr: 0.0002  # because" in text
    assert load_config(write(text, "d.yaml")).config == config
    assert set(flatten(config)) == set(flatten(RunConfig()))


def test_dumped_text_means_the_same_to_any_yaml_reader():
    parsed = yaml.safe_load(dump_config(RunConfig()))
    assert parsed["training"]["precision"] == "bf16-mixed"
    assert parsed["model"]["revision"] is None


def test_setting_keys_keeps_comments_order_and_guide_era_spelling(write):
    text = set_keys(
        "lora:\n  r: 4  # from the guide\n# about training\ntraining:\n  batch_size: 1\n",
        {"model.lora.r": 8, "training.grad_accum_steps": 32},
    )
    assert "  r: 8  # from the guide\n# about training\ntraining:\n" in text
    config = load_config(write(text)).config
    assert (config.model.lora.r, config.training.grad_accum_steps) == (8, 32)


def test_a_key_can_be_written_in_one_line_but_not_twice(write):
    loaded = load_config(write("training:\n  max_epochs: 2\ntraining.batch_size: 4\nmodel.lora.r: 2\n"))
    assert (loaded.config.training.batch_size, loaded.config.model.lora.r) == (4, 2)
    assert loaded.config.training.max_epochs == 2 and loaded.lines["training.batch_size"] == 3
    with pytest.raises(ConfigError, match=r":3: training.batch_size is given twice"):
        load_config(write("training:\n  batch_size: 8\ntraining.batch_size: 4\n"))
    with pytest.raises(ConfigError, match=r":1: unknown key training.batchsize; did you mean"):
        load_config(write("training.batchsize: 4\n"))


def test_setting_a_key_that_is_written_in_one_line_changes_that_line(write):
    text = set_keys("optimizer.lr: 1e-4  # ours\n", {"optimizer.lr": 2e-4, "model.lora.r": 4})
    assert text.startswith("optimizer.lr: 0.0002") and "# ours" in text
    assert load_config(write(text)).config.optimizer.lr == 2e-4


def test_other_names_of_keys_lead_to_keys_that_exist():
    for name, dotted in NAMES_ELSEWHERE.items():
        value = RunConfig()
        for part in dotted.split("."):
            value = getattr(value, part)
        with pytest.raises(ConfigError, match=rf"did you mean {re.escape(dotted)}\?"):
            load_config(None, [f"training.{name}=1"])
