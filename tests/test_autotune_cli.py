"""`metagene autotune` and `metagene rules verify` end to end, with the real dry run."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from doctor_fixtures import fake_driver
from train_fixtures import tiny_architecture, write_encoder, write_mapping, write_reads, write_tokenizer

from metagene_doctor import rulebook
from metagene_doctor.cli.main import main
from metagene_doctor.facts.machine import gpu as gpu_facts
from metagene_doctor.forecast import target_gpu
from metagene_doctor.memory.costs import read_lengths as reads
from metagene_doctor.memory.measured import device
from metagene_train.config import METAGENE_1, RunConfig
from metagene_train.config_file import load_config


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    write_tokenizer(write_encoder(tmp_path / "encoder"))
    return {
        "--encoder": tmp_path / "encoder",
        "--fasta": write_reads(tmp_path / "train.fa", 300, seed=1),
        "--val": write_reads(tmp_path / "val.fa", 30, seed=2),
        "--mapping": write_mapping(tmp_path / "labels.tsv"),
    }


def arguments(inputs: dict[str, Path]) -> list[str]:
    return [str(part) for pair in inputs.items() for part in pair]


def test_own_encoder_and_reads_on_a_cpu_to_a_config_that_trains(
    inputs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "recommended.yaml"
    monkeypatch.chdir(tmp_path)
    assert main(["autotune", "--device", "cpu", *arguments(inputs), "--epochs", "1", "-o", str(output)]) == 0
    shown = capsys.readouterr()
    assert " for 1 epoch of 300 reads (range " in shown.out
    assert "stay free" not in shown.out
    assert "3 classes" in shown.out
    assert "no checkpointing, fp32;" in shown.out
    assert "Memory over length and micro-batch" in shown.out
    assert not re.findall(r"[ \t]+$", shown.out, re.MULTILINE), "lines that end in blanks"
    assert re.search(r"\d %", shown.out) and not re.search(r"\d%", shown.out + output.read_text())
    assert "not measured" in shown.out
    assert f"metagene train --config {output}" in shown.err
    # The parts of the memory add up to the total, within the rounding of what is shown.
    parts = re.search(
        r"; ([\d.]+) of [\d.]+ GiB usable \(tensors ([\d.]+) \+ Python with torch ([\d.]+) \+ margin ([\d.]+)\)",
        shown.out,
    )
    assert parts is not None
    total, *terms = map(float, parts.groups())
    assert sum(terms) == pytest.approx(total, abs=0.016)
    written = re.search(
        r"peak: ([\d.]+) GiB of the process \(([\d.]+) tensors, ([\d.]+) Python with torch\)",
        output.read_text().replace("\n# ", " "),
    )
    assert written is not None
    process, tensors, python = map(float, written.groups())
    assert tensors + python == pytest.approx(process, abs=0.011)

    loaded = load_config(output)
    config = loaded.config
    assert not loaded.warnings
    assert config.dataset.train_fasta == str(inputs["--fasta"])
    assert Path(config.model.encoder_path).is_absolute()
    assert config.tokenizer.name_or_path == config.model.encoder_path
    assert config.training.precision == "32"
    assert config.tokenizer.max_length % 8 == 0
    assert config.tokenizer.max_length <= 64  # 60 bases are at most 62 tokens
    assert config.training.max_epochs == 1
    assert config.device == "cpu"

    assert main(["train", "--config", str(output), f"training.output_dir={tmp_path / 'run'}", "--quiet"]) == 0
    assert (tmp_path / "run" / "model").is_dir()


def test_json_has_what_the_terminal_shows(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "maps.png"
    assert main(["autotune", "--gpu", "t4", *arguments(inputs), "--json", "--plot", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fits"] is True
    assert document["device"]["title"] == "Tesla T4"
    assert document["reads"]["reads"] == 300
    recommended = document["recommended"]
    assert recommended["config"]["training"]["precision"] == "fp16-mixed"
    memory = recommended["memory"]
    assert memory["live_gib"] <= memory["reserved_gib"] <= memory["device_gib"]
    assert recommended["needed_gib"] <= document["device"]["usable_gib"]
    assert all(setting["why"] for setting in recommended["settings"])
    assert document["guide"]["rule"] == "GM-MEM-16GB"
    assert document["disk_bytes"]["total"] > 0
    assert {neighbour["key"] for neighbour in document["neighbours"]} >= {
        "model.lora.r",
        "training.batch_size",
    }
    assert len(document["heat_maps"]) == 2
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_metagene_1_on_24_gb_needs_neither_gpu_nor_weights_nor_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.yaml"
    assert main(["autotune", "--gpu-mem", "24", "-q", "-o", str(output)]) == 0
    assert capsys.readouterr().out.startswith("Recommended: ")
    assert main(["config", "check", str(output)]) == 0
    config = load_config(output).config
    assert config.model.encoder_path == METAGENE_1
    assert config.model.quantization == "none"
    assert config.model.lora.target_modules == "all-linear"
    assert 16 <= config.training.effective_batch <= 32
    assert "A10G" in output.read_text()


def test_tokens_are_estimated_when_the_tokenizer_is_not_at_hand(inputs: dict[str, Path]) -> None:
    config = RunConfig.model_validate({"dataset": {"train_fasta": str(inputs["--fasta"])}})
    found = reads.measure(config, classes=None)
    assert found.tokenized == 0
    assert "not on this machine" in found.origin
    assert found.classes == 3
    assert 60 / 3.4 <= found.longest <= 60 / 3.4 + 2


@pytest.mark.slow
def test_nothing_fits_exits_1_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    architecture = tiny_architecture(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64
    )
    architecture.save_pretrained(tmp_path / "huge")
    output = tmp_path / "r.yaml"
    huge = ["autotune", "--gpu", "rtx4060", "--encoder", str(tmp_path / "huge")]
    assert main([*huge, "-q", "-o", str(output)]) == 1
    assert "tightest feasible is" in capsys.readouterr().out
    assert not output.exists()


def test_guides_row_that_does_not_fit_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "r.yaml"
    assert main(["autotune", "--gpu-mem", "12", "--policy", "guide", "-o", str(output)]) == 1
    shown = capsys.readouterr()
    assert "does not fit" in shown.out
    assert shown.err == f"wrote {output}, which does not fit\n"
    config = load_config(output).config
    assert config.model.lora.r == 2
    assert config.model.lora.target_modules == ["q_proj"]
    assert "DOES NOT FIT" in output.read_text()


def test_one_setting_that_would_do_is_named_before_layers_are_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.yaml"
    assert main(["autotune", "--gpu-mem", "40", "--policy", "guide", "-o", str(output)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "One change would make it fit: gradient_checkpointing on (" in shown
    assert "encoder_layers" not in shown
    assert "--policy evidence searches" in shown


def test_the_card_of_this_machine_is_used_with_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_driver(monkeypatch)
    found = device.found(rulebook.load())
    assert found is not None
    assert found.title == "NVIDIA GeForce RTX 4090"
    assert found.usable_gib == pytest.approx(23664 / 1024)
    assert found.rates.bf16_tflops == rulebook.load().gpu("rtx4090").bf16_tflops


CARDS = [
    ("NVIDIA GeForce RTX 3060", "GPU-aaaa", 12288),
    ("NVIDIA GeForce RTX 4090", "GPU-bbbb", 24564),
]


@pytest.mark.parametrize(
    ("visible", "title"),
    [
        (None, CARDS[0][0]),
        ("0,1", CARDS[0][0]),
        ("1", CARDS[1][0]),
        ("GPU-bb", CARDS[1][0]),
        ("-1", None),
        ("", None),
    ],
)
def test_of_several_cards_the_one_that_torch_would_use_is_taken(
    visible: str | None, title: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `doctor` does, and not the one with most free memory."""
    fake_driver(
        monkeypatch,
        nvmlDeviceGetCount=len(CARDS),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda index: CARDS[index][0],
        nvmlDeviceGetUUID=lambda index: CARDS[index][1],
        nvmlDeviceGetMemoryInfo=lambda index, *_: SimpleNamespace(
            total=CARDS[index][2] * 2**20, reserved=0, used=0, free=CARDS[index][2] * 2**20
        ),
    )
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = device.found(rulebook.load())
    judged = target_gpu(None, None, gpu_facts.collect(), visible)
    assert (None if judged is None else judged[0].title) == title
    assert (None if found is None else found.title) == title
    if found is not None:
        assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in found.origin
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        ordered = device.found(rulebook.load())
        assert ordered is not None and "CUDA_DEVICE_ORDER" not in ordered.origin


def test_a_card_the_rule_book_lacks_gets_the_speed_of_one_of_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_driver(monkeypatch, nvmlDeviceGetName="NVIDIA Something 24GB")
    found = device.found(rulebook.load())
    assert found is not None
    assert found.title == "NVIDIA Something 24GB"
    assert "does not know it" in found.origin


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu", "rtx409"], "did you mean"),
        (["--gpu", "rtx4090", "--gpu-mem", "24"], "not both"),
        (["--gpu-mem", "24", "--fasta", "absent.fa"], "absent.fa"),
        (["--gpu-mem", "24", "--encoder", "absent"], "config.json"),
        (["--gpu-mem", "24", "--config", "absent.yaml"], "absent.yaml"),
        (["--gpu-mem", "24", "-o", "absent/r.yaml"], "no directory"),
        (["--gpu-mem", "24", "--mapping", "absent.tsv"], "absent.tsv"),
        (["--device", "cpu", "--gpus", "2"], "--gpus 2: tuning is for a processor"),
        (["--gpu-mem", "24564"], "not in the range 1<=x<=1024"),
        (["--gpu-mem", "nan"], "'nan' is not a finite number"),
        (["--gpu-mem", "24", "--epochs", "inf"], "'inf' is not a finite number"),
        (["--gpu-mem", "24", "--max-truncation", "nan"], "'nan' is not a finite number"),
        (["--gpu-mem", "24", "--plot", "maps.jpeg.txt"], "a picture is a file .png, .svg or .pdf"),
        (["--gpu-mem", "24", "--plot", "absent/maps.png"], "no directory"),
        (["--gpu-mem", "24", "--plot", "there.png"], "there.png: exists already"),
    ],
)
def test_what_is_missing_is_one_message_and_exit_code_2(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.png").touch()
    assert main(["autotune", *options]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_steps_of_the_config_decide_how_long_it_takes_unless_epochs_are_asked_for(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, output = tmp_path / "mine.yaml", tmp_path / "r.yaml"
    mine.write_text("training:\n  max_steps: 7\n")
    asked = ["autotune", "--gpu", "t4", *arguments(inputs), "--config", str(mine), "--json"]
    asked += ["-o", str(output), "--force"]
    assert main(asked) == 0
    time = json.loads(capsys.readouterr().out)["time"]
    assert " for 7 optimizer steps of 16 reads (range " in output.read_text().replace("\n# ", " ")
    assert time["epochs"] == pytest.approx(7 * 16 / 300)
    assert main(["estimate", "--config", str(output), "--gpu", "t4", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["time"]["hours"]
    assert [time["hours"], time["hours_at_best"]] == pytest.approx(
        [whole["expected"], whole["low"]], rel=0.01
    )
    assert main([*asked, "--epochs", "2"]) == 0
    assert " for 2 epochs of 300 reads (range " in output.read_text().replace("\n# ", " ")
    assert load_config(output).config.training.max_steps is None


@pytest.mark.parametrize(
    ("device", "options"),
    [("cpu", ["--gpu", "t4"]), ("cpu", ["--gpu-mem", "24"]), ("cuda", ["--device", "cpu"])],
)
def test_a_config_for_another_device_is_told(
    device: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"device: {device}\n")
    assert main(["autotune", "--config", str(config), *options, "-q"]) == 2
    assert f"{config} says device: {device}, and" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, "hidden"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 key-value heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": "wide"}, "wide|its sizes are no numbers"),  # transformers 5.0 does not say which
        ({"model_type": "bert"}, "is not a causal encoder"),
        ({"model_type": "bert", "num_attention_heads": 7}, "hidden_size 64 is not a multiple of 7 attention"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_one_message_and_exit_code_2(
    changed: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = tiny_architecture(
        hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4
    )
    architecture.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "config.json"
    facts = json.loads(file.read_text())
    facts.pop("head_dim", None)
    file.write_text(json.dumps(facts | changed))
    assert main(["autotune", "--gpu", "t4", "--encoder", str(file.parent), "-q"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("metagene: error: model.encoder_path: ") and re.search(message, line)


def test_a_cache_that_cannot_be_written_only_makes_it_slower(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cache"
    file.write_text("a file, no directory")
    monkeypatch.setenv("METAGENE_CACHE", str(file))
    tiny_architecture(num_hidden_layers=5).save_pretrained(tmp_path / "encoder")
    assert main(["autotune", "--gpu", "t4", "--encoder", str(tmp_path / "encoder"), "-q"]) == 0
    assert capsys.readouterr().out.startswith("Recommended: ")
    assert file.read_text() == "a file, no directory"


def test_an_existing_file_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine.yaml"
    output.write_text("seed: 7\n")
    assert main(["autotune", "--gpu-mem", "24", "-o", str(output)]) == 2
    assert "--force" in capsys.readouterr().err
    assert output.read_text() == "seed: 7\n"


@pytest.mark.slow
def test_recorded_verdicts_on_memory_are_those_of_the_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "verify", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert len(checks) == len(rulebook.load().claims)
    assert all(check["agrees"] for check in checks)
    measured = {check["id"]: check["live_gb"] for check in checks}
    assert measured["GM-CLAIM-RECIPE-PEAK"] == pytest.approx(13.06, rel=0.01)


def test_headers_of_another_pattern_and_a_tokenizer_of_its_own_go_into_the_config(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regex, output = r"lbl\|(?P<class_id>\d+)\|", tmp_path / "recommended.yaml"
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (inputs["--encoder"] / "tokenizer.json").rename(tokenizer / "tokenizer.json")
    options = ["autotune", "--device", "cpu", *arguments(inputs), "--tokenizer", str(tokenizer), "--quiet"]
    options += ["--index-dir", str(tmp_path / "index"), "-o", str(output), "--header-regex"]
    assert main([*options, regex]) == 0
    config = load_config(output).config
    assert config.dataset.header_regex == regex
    assert config.dataset.index_dir == str(tmp_path / "index") and (tmp_path / "index").is_dir()
    assert config.tokenizer.name_or_path == str(tokenizer)

    assert main([*options, "(", "--force"]) == 2
    assert "--header-regex is not a regular expression" in capsys.readouterr().err


def test_a_terminal_is_shown_how_many_bytes_are_read(
    inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stderr", shown)
    assert main(["estimate", "--gpu", "t4", "--fasta", str(inputs["--fasta"])]) in (0, 1)
    assert re.search(r"Reading .*[\d.]+/[\d.]+ kB", shown.getvalue())
    before = shown.getvalue()
    assert main(["estimate", "--gpu", "t4"]) in (0, 1)
    assert shown.getvalue() == before, "nothing is read, and nothing said to be"


def test_a_narrow_terminal_shows_every_word(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Words are broken where a column is too narrow for them, never cut off."""
    from metagene_doctor.report.terminal import ReportConsole
    from metagene_doctor.tuning import autotune, report
    from metagene_doctor.tuning.request import Wishes, build

    result = autotune.run(build(Wishes(encoder=str(inputs["--encoder"]), gpu="t4")).request)
    console = ReportConsole(file=StringIO(), width=40, force_terminal=True, no_color=True)
    report.render(result, console)
    shown = console.file.getvalue()
    assert "What each knob costs" in shown and "…" not in shown
