"""What all commands share: a fast start, one message instead of a traceback, documented exit codes."""

import errno
import gzip
import os
import subprocess
import sys

import pytest
from train_fixtures import tiny_config

from metagene_doctor.cli.main import COMMANDS, main
from metagene_train.config_file import dump_config

START = "import sys; from metagene_doctor.cli.main import main; code = main({argv}); print(sorted(sys.modules), code)"


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(argv):
    done = subprocess.run(
        [sys.executable, "-c", START.format(argv=argv)], capture_output=True, text=True, check=True
    )
    assert "Usage: metagene" in done.stdout
    modules = done.stdout.splitlines()[-1]
    assert modules.endswith(" 0")
    for heavy in ("torch", "transformers", "pandas", "sklearn", "matplotlib"):
        assert f"'{heavy}'" not in modules


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux shows them")
def test_the_doctor_has_no_threads_when_it_forks():
    code = (
        "import os; from metagene_doctor.cli.main import main; main(['doctor', '--list-checks']); "
        "import numpy; print(len(os.listdir('/proc/self/task')))"
    )
    plain = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain)
    assert done.stdout.splitlines()[-1] == "1"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output_will_do(tmp_path, encoding):
    """Our own letters get look-alikes, and a file keeps the name by which a shell finds it."""
    path = tmp_path / "läse β.fa"
    bits = (f"{n:04b}".translate({48: "A", 49: "C"}) for n in range(9))
    path.write_text("".join(f">lbl|{n % 2}|1|40|r{n}/1\n{'ACGT' * 9}{end}\n" for n, end in enumerate(bits)))
    code = "from metagene_doctor.cli.main import entry_point; entry_point()"
    environment = os.environ | {"PYTHONIOENCODING": encoding, "METAGENE_CACHE": str(tmp_path / "cache")}

    def run(*arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
        assert b"internal error" not in done.stderr and done.returncode == 0, done.stderr
        return done.stdout

    report = run("doctor", "--fasta", path, "--only", "C05")
    arrow = "→" if encoding == "utf-8" else "->"
    *lines, verdict = report.strip().split(b"\n")
    advice = [line for line in lines if b"--fix split" in line]
    assert advice and all(line.strip().startswith(arrow.encode()) for line in advice)
    named = path.name.encode() if encoding != "latin-1" else b"l\xe4se \xce\xb2.fa"
    assert all(named in line for line in [*advice, verdict])
    for arguments in (("config", "diff", "rtx4090", "24gb"), ("doctor", "--fasta", path, "--fix")):
        assert run(*arguments)


def test_an_unknown_command_is_a_usage_error(capsys):
    assert main(["docter"]) == 2
    assert "No such command" in capsys.readouterr().err


def test_a_bug_is_one_message_and_exit_3(capsys, monkeypatch, tmp_path):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("by zero")

    monkeypatch.delenv("METAGENE_TRACEBACK", raising=False)
    monkeypatch.setattr("metagene_train.config_file.load_config", broken)
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 3
    assert "internal error: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.EROFS, 2), (errno.ENOSPC, 1)])
def test_a_file_system_that_says_no_is_no_bug(capsys, monkeypatch, tmp_path, number, code):
    def refused(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(tmp_path / "there"))

    monkeypatch.setattr("metagene_train.config_file.load_config", refused)
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == code
    assert capsys.readouterr().err == f"metagene: error: {tmp_path / 'there'}: {os.strerror(number)}\n"


def test_places_that_cannot_be_written_are_told_before_the_work(capsys, monkeypatch, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for command in (
        ["autotune", "--gpu-mem", "24", "-o", str(tmp_path / "x.yaml")],
        ["predict", str(run), "--fasta", str(tmp_path / "x.fa"), "-o", str(tmp_path / "x.tsv")],
        ["evaluate", str(run)],
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
            assert main(command) == 2
        assert "cannot be written" in capsys.readouterr().err


def cut_gzip(path):
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])


DAMAGE = {
    "truncated gzip": ("train.fa", cut_gzip, 1, "train.fa"),
    "binary file": ("train.fa", lambda path: path.write_bytes(bytes(range(256)) * 20), 1, "train.fa"),
    "empty file": ("train.fa", lambda path: path.write_bytes(b""), 2, "train.fa"),
    "missing file": ("train.fa", lambda path: path.unlink(), 2, "train.fa"),
    "no header matches": ("train.fa", lambda path: path.write_text(">a\nACGT\n"), 1, "train.fa"),
    "unknown class": (
        "train.fa",
        lambda path: path.write_text(path.read_text() + ">lbl|99|1|4|x/1\nACGT\n"),
        1,
        "99",
    ),
    "mapping without a column": (
        "labels.tsv",
        lambda path: path.write_text(path.read_text().replace("class_id", "id")),
        1,
        "class_id",
    ),
    "missing mapping": ("labels.tsv", lambda path: path.unlink(), 2, "labels.tsv"),
    "encoder without weights": (
        "encoder/model.safetensors",
        lambda path: path.unlink(),
        2,
        "model.encoder_path",
    ),
}


@pytest.mark.parametrize(("name", "damage", "code", "named"), DAMAGE.values(), ids=DAMAGE)
def test_training_on_malformed_input_is_one_message_and_an_exit_code(
    tmp_path, capsys, name, damage, code, named
):
    config = tmp_path / "c.yaml"
    config.write_text(dump_config(tiny_config(tmp_path)))
    damage(tmp_path / name)
    assert main(["train", "--config", str(config), "--quiet"]) == code
    message = capsys.readouterr().err
    assert message.count("metagene: error:") == 1 and named in message
    assert "Traceback" not in message and "internal error" not in message


@pytest.mark.parametrize("text", ["optimizer: {lr: abc}", "trainning: {}", "training: {batch_size: 0}"])
def test_training_on_a_bad_config_is_exit_2(tmp_path, capsys, text):
    (tmp_path / "c.yaml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 2
    assert "c.yaml:1:" in capsys.readouterr().err


def test_lower_case_rna_and_ambiguous_bases_train_like_upper_case_ones(tmp_path):
    config = tiny_config(tmp_path, training__max_steps=1)
    reads = tmp_path / "train.fa"
    lines = reads.read_text().splitlines()
    reads.write_text(
        "\n".join(line if line[0] == ">" else line.lower().replace("t", "u") for line in lines) + "\n"
    )
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config))
    assert main(["train", "--config", str(path), "--quiet"]) == 0


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_run_directory_that_is_none_is_exit_2(tmp_path, capsys, command):
    extra = ["--fasta", "x.fa", "-o", str(tmp_path / "p.csv")] if command == "predict" else []
    assert main([command, str(tmp_path), *extra]) == 2
    assert capsys.readouterr().err.count("metagene: error:") == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["traim"], "Did you mean train?"),
        (["frobnicate"], "No such command 'frobnicate'."),
        (["doctor", "train.fa"], "Reads are given with --fasta, a pattern in quotes"),
        (["rules", "list", "train.fa"], "unexpected extra argument (train.fa)"),
    ],
)
def test_a_slip_on_the_command_line_names_what_was_meant(words, hint, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert hint in err and ("--fasta" in hint or "--fasta" not in err)


def test_an_output_directory_that_cannot_be_made_is_told(capsys, tmp_path):
    config = tiny_config(tmp_path)
    (tmp_path / "file").write_text("no directory")
    config.training.output_dir = str(tmp_path / "file" / "run")
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config))
    assert main(["train", "--config", str(path)]) == 2
    assert "training.output_dir: " in capsys.readouterr().err
