"""``metagene estimate``, time and disk, and measurements fed by a stand-in for the GPU."""

from __future__ import annotations

import json

import pytest
from memory_fixtures import run_config, tiny_llama

from metagene_doctor.cli.main import main
from metagene_doctor.memory.costs.estimate import Workload, estimate, trace
from metagene_doctor.memory.costs.measure import measure
from metagene_doctor.memory.measured.calibration import calibration, calibration_file, remember
from metagene_doctor.memory.measured.probe import Job, to_json, train_and_evaluate
from metagene_train.errors import InputError

SMALL = ["training.batch_size=2", "tokenizer.max_length=64", "model.gradient_checkpointing=true"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))


def test_json_has_memory_time_and_disk_of_one_config(capsys):
    assert main(["estimate", "--gpu", "rtx4090", "--json", *SMALL]) == 0
    answer = json.loads(capsys.readouterr().out)
    memory = answer["memory"]
    assert answer["fits"] is True
    assert 12.07 < memory["live_gib"] < memory["reserved_gib"] < memory["device_gib"] < 14
    assert memory["phase"] == "backward"
    assert sum(memory["breakdown"].values()) == pytest.approx(memory["live_gib"])
    assert memory["note"] == "not yet measured on a GPU"
    last = {moment["phase"]: moment["live_gib"] for moment in memory["timeline"]}
    assert list(last) == ["load", "forward", "backward", "optimizer", "evaluation", "save"]
    held = sum(memory["breakdown"][name] for name in ("weights", "adapters", "optimizer"))
    assert last["save"] == pytest.approx(held, abs=0.02)  # and the workspaces of cuBLAS
    assert answer["time"]["reads_per_s"]["low"] < answer["time"]["reads_per_s"]["high"]
    assert answer["disk"]["download"] == 25_938_674_488
    assert answer["assumptions"] == {"num_labels": 1000, "token_length": 64, "reads": None}


def test_a_config_that_does_not_fit_is_exit_code_1(capsys):
    assert main(["estimate", "--gpu-mem", "24", "-q"]) == 1  # the guide's 128 x 512
    assert capsys.readouterr().out.startswith("DOES NOT FIT")


def test_the_text_names_card_bounds_and_what_was_assumed(capsys):
    assert main(["estimate", "--gpu-mem", "24", *SMALL]) == 0
    out = capsys.readouterr().out
    for expected in (
        "FITS",
        "sold as 24 GB",
        "1,000 classes assumed",
        "CUDA context",
        "nvidia-smi",
        "estimate:",
    ):
        assert expected in out


def test_reads_and_mapping_decide_length_classes_and_hours(tmp_path, capsys):
    fasta, mapping = tmp_path / "train.fa", tmp_path / "labels.tsv"
    fasta.write_text("".join(f">lbl|{i % 3}|{i}|60|r{i}/1\n{'ACGT' * 15}\n" for i in range(30)))
    mapping.write_text("class_id\tlabel_name\n0\tone\n1\ttwo\n2\tthree\n")
    argv = ["estimate", "--fasta", str(fasta), "--gpu", "rtx4090", "--json", f"dataset.mapping_tsv={mapping}"]
    assert main([*argv, *SMALL]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["assumptions"]["reads"] == 30
    assert answer["assumptions"]["num_labels"] == 3
    assert answer["assumptions"]["token_length"] < 64
    assert answer["time"]["hours_per_epoch"]["expected"] > 0
    assert answer["disk"]["index"] == 30 * 20


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--gpu", "rtx4091"], "did you mean"),
        (["--gpu", "rtx4090", "--gpu-mem", "24"], "not both"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["model.encoder_layers=99"], "32"),
        (["model.lora.target_modules=[nonsense]"], "target_modules"),
    ],
)
def test_mistakes_are_exit_code_2_with_a_reason(argv, message, capsys):
    assert main(["estimate", *argv]) == 2
    assert message in capsys.readouterr().err


def config(**changes):
    return run_config(
        **{"training__batch_size": 8, "tokenizer__max_length": 64, "model__gradient_checkpointing": True}
        | changes
    )


def test_time_grows_with_work_and_shrinks_with_the_card():
    slow = estimate(config(), "rtx4090", num_labels=50, reads=1000)
    fast = estimate(config(), "h100", num_labels=50, reads=1000)
    assert slow.time and fast.time
    assert slow.time.reads_per_s.expected < fast.time.reads_per_s.expected
    assert slow.time.hours_per_epoch and slow.time.hours
    assert slow.time.hours.expected == pytest.approx(10 * slow.time.hours_per_epoch.expected)
    # Two operations per weight and token in three passes (forward, again, backward) over 8 x 64 tokens;
    # the second forward pass stops before each layer's last product, whose result nobody needs.
    not_again = 32 * 11008 * 4096
    assert slow.time.teraflops_per_step == pytest.approx((6 * 6.48e9 - 2 * not_again) * 512 / 1e12, rel=0.02)
    twice = estimate(config(training__grad_accum_steps=2), "rtx4090", num_labels=50)
    assert twice.time and twice.time.teraflops_per_step == pytest.approx(2 * slow.time.teraflops_per_step)


def test_several_cards_each_hold_buckets_and_share_the_epoch(capsys):
    asked = ["estimate", "--gpu", "rtx4090", "training.grad_accum_steps=2", *SMALL]
    alone, together = answers = [
        json.loads((main([*asked, "--gpus", gpus, "--json"]), capsys.readouterr().out)[1])
        for gpus in ("1", "4")
    ]
    assert [answer["devices"] for answer in answers] == [1, 4]
    assert [answer["effective_batch"] for answer in answers] == [4, 16]
    adapters = together["memory"]["breakdown"]["adapters"]
    assert together["memory"]["live_gib"] - alone["memory"]["live_gib"] == pytest.approx(adapters, rel=0.02)
    assert sum(together["memory"]["breakdown"].values()) == pytest.approx(together["memory"]["live_gib"])
    nccl = {term["name"]: term["gib"] for term in together["memory"]["terms"]}["NCCL buffers"]
    outside = [answer["memory"]["device_gib"] - answer["memory"]["reserved_gib"] for answer in answers]
    assert outside[1] - outside[0] == pytest.approx(nccl)
    speeds = [answer["time"]["reads_per_s"]["expected"] for answer in answers]
    assert speeds[1] / speeds[0] == pytest.approx(4 * 0.92)
    assert together["time"]["seconds_per_step"]["expected"] * speeds[1] == pytest.approx(16)

    assert main([*asked, "--gpus", "4"]) == 0
    out = capsys.readouterr().out
    for expected in ("each of 4", "16 in an optimizer step", "NCCL buffers", "on each device"):
        assert expected in out
    assert main([*asked, "--gpus", "2", "--measure"]) == 2
    assert "leave --gpus out" in capsys.readouterr().err


@pytest.mark.parametrize("gpus", ["1", "2"])
@pytest.mark.parametrize("with_reads", [False, True])
@pytest.mark.parametrize("policy", ["evidence", "guide"])
def test_autotune_and_estimate_give_the_same_answer(gpus, with_reads, policy, tmp_path, capsys):
    output, fasta = tmp_path / "recommended.yaml", tmp_path / "train.fa"
    asked = ["--gpu", "rtx4090", "--gpus", gpus, "--json"]
    of_reads = ["--fasta", str(fasta)] if with_reads else []
    fasta.write_text("".join(f">lbl|{i % 3}|{i}|60|r{i}/1\n{'ACGT' * (5 + i % 11)}\n" for i in range(90)))
    assert main(["autotune", *asked, *of_reads, "--policy", policy, "-o", str(output)]) == 0
    recommended = json.loads(capsys.readouterr().out)["recommended"]
    assert main(["estimate", "--config", str(output), *asked]) == 0
    estimated = json.loads(capsys.readouterr().out)
    for part in ("live_gib", "reserved_gib", "device_gib", "margin_gib"):
        assert estimated["memory"][part] == pytest.approx(recommended["memory"][part])
    time = estimated["time"]
    assert time["reads_per_s"]["expected"] == pytest.approx(recommended["reads_per_s"]["expected"])
    assert time["reads_per_s"]["low"] == pytest.approx(recommended["reads_per_s"]["slow"])
    assert estimated["assumptions"]["reads"] == (90 if with_reads else None)


def test_reads_of_the_config_that_are_elsewhere_are_assumed_and_said_to_be(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    for named in ("there.fa", f"{tmp_path}/*.fastq"):
        config.write_text(f"dataset: {{train_fasta: '{named}'}}\n")
        assert main(["estimate", "--config", str(config), "--gpu", "rtx4090", *SMALL]) == 0
        out = capsys.readouterr().out
        assert named in out and "150 bases assumed" in out and "assumed (--fasta takes" in out
    assert main(["estimate", "--fasta", "there.fa", "--gpu", "rtx4090", *SMALL]) == 2
    assert "there.fa" in capsys.readouterr().err

    damaged = tmp_path / "damaged.fa"
    damaged.write_bytes(b">lbl|0|1|8|r/1\nACGT\0ACG\n")
    config.write_text(f"dataset: {{train_fasta: '{damaged}'}}\n")
    assert main(["estimate", "--config", str(config), "--gpu", "rtx4090", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "NUL bytes" in out and "150 bases assumed" in out
    assert main(["estimate", "--fasta", str(damaged), "--gpu", "rtx4090", *SMALL]) == 1
    assert "NUL bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "value", "saves", "slower", "price"),
    [
        ("model.quantization", "nf4", 8.9, True, "quality can suffer"),
        ("model.quantization", "int8", 6.0, True, "quality can suffer"),
        ("model.encoder_layers", "16", 6.0, False, "quality is not known"),
    ],
)
def test_what_makes_a_run_fit_a_small_card_says_what_it_costs(setting, value, saves, slower, price, capsys):
    asked = ["estimate", "--gpu-mem", "12", f"{setting}={value}", *SMALL]
    assert main([*asked, "--json"]) == 0
    (trade,) = json.loads(capsys.readouterr().out)["trade_offs"]
    assert (trade["key"], str(trade["value"]), trade["fits_without"]) == (setting, value, False)
    assert trade["delta_gib"] == pytest.approx(-saves, abs=0.3)
    assert (trade["speed_ratio"] < 1) is slower
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert f"{-trade['delta_gib']:.2f} GiB less, {trade['speed_ratio']:.2f} times the speed (estimate)" in out
    assert "without it the run does not fit" in out and price in out
    assert main(["estimate", *SMALL, "--gpu-mem", "24", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trade_offs"] == []


def test_quantisation_that_takes_more_memory_says_so(tmp_path, capsys):
    """Weights of a small encoder that are unpacked are more than what packing them saves."""
    tiny_llama().save_pretrained(tmp_path)
    asked = ["estimate", "--gpu", "rtx4090", f"model.encoder_path={tmp_path}", *SMALL]
    assert main([*asked, "model.quantization=nf4", "--json"]) == 0
    (trade,) = json.loads(capsys.readouterr().out)["trade_offs"]
    assert trade["delta_gib"] > 0 and trade["fits_without"] is True
    assert main([*asked, "model.quantization=nf4"]) == 0
    out = capsys.readouterr().out
    assert f"{trade['delta_gib']:.2f} GiB MORE" in out and "without it the run fits too" in out


def test_checkpoints_hold_adapters_head_and_state_only():
    answer = estimate(config(model__lora__r=8), num_labels=50)
    trained = 8 * 32 * 4 * (4096 + 4096) * 4 + 50 * 4097 * 4
    assert answer.disk.model == trained
    assert answer.disk.checkpoint == pytest.approx(3 * trained, rel=0.001)
    assert answer.disk.checkpoints == 3 * answer.disk.checkpoint  # two last ones and the best
    assert answer.time is None


def fake_probe(**changes):
    """What the child process prints on a machine with a GPU."""

    def run(job: str) -> str:
        asked = json.loads(job)
        assert asked["config"]["training"]["batch_size"] == 8
        import torch

        result = {
            "gpu": "NVIDIA GeForce RTX 4090",
            "torch": torch.__version__,
            "cuda": "13.0",
            "driver": "580.1",
            "context_gib": 0.4,
            "out_of_memory": None,
            "seconds_per_step": 0.5,
            "live_gib": 12.4,
            "allocated_gib": 12.4,
            "reserved_gib": 12.6,
            "outside_gib": 0.61,
            "retries": 0,
        }
        return json.dumps(result | changes)

    return run


def test_a_measurement_calibrates_later_answers_for_the_same_card():
    work = Workload.from_config(config(), num_labels=50)
    before = trace(work, gpu="rtx4090")
    measured = measure(config(), num_labels=50, length=64, runner=fake_probe())
    remember(measured, before)
    after = trace(work, gpu="rtx4090")
    assert after.device_gib == pytest.approx(before.reserved_gib + 0.61)
    assert after.margin_gib < before.margin_gib or measured.reserved_gib > before.reserved_gib
    assert "calibrated by 1 measured runs" in after.note
    assert after.reserved_gib + after.margin_gib >= measured.reserved_gib
    assert trace(work, gpu="h100").note == "not yet measured on a GPU"


def test_the_probe_trains_and_evaluates_what_it_is_told(tmp_path):
    """On the CPU, with an encoder small enough; on a GPU the same function is timed."""
    tiny_llama().save_pretrained(tmp_path)
    small = config(model__encoder_path=str(tmp_path), training__grad_accum_steps=2)
    job = Job(small.model_dump(mode="json"), num_labels=5, length=12)
    assert json.loads(to_json(job))["config"]["training"]["batch_size"] == 8
    assert train_and_evaluate(small, job, "cpu") > 0


def test_running_out_of_memory_is_a_result_and_no_calibration():
    measured = measure(
        config(),
        num_labels=50,
        length=64,
        cap_gib=12.0,
        runner=fake_probe(out_of_memory="CUDA out of memory."),
    )
    assert measured.out_of_memory == "CUDA out of memory."
    assert measured.cap_gib == 12.0
    remember(measured, trace(Workload.from_config(config(), num_labels=50)))
    assert calibration("GeForce RTX 4090") is None


@pytest.mark.parametrize("content", ["[{", "{}", "[1]", '[{"gpu": "GeForce RTX 4090"}]'])
def test_a_damaged_calibration_file_is_named(content):
    path = calibration_file()
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InputError, match=r"calibration\.json is damaged"):
        calibration("GeForce RTX 4090")


def test_measuring_without_a_gpu_says_so(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["estimate", "--measure", *SMALL]) == 2
    assert "no CUDA GPU" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.slow
def test_the_prediction_holds_on_the_gpu_here():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    small = config(model__encoder_layers=8)
    predicted = trace(Workload.from_config(small, num_labels=50))
    measured = measure(small, num_labels=50, length=64)
    assert measured.out_of_memory is None
    assert measured.device_gib <= predicted.device_gib + predicted.margin_gib
    assert measured.reserved_gib == pytest.approx(predicted.reserved_gib, rel=0.03)
