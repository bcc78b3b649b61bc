"""The command as a user meets it: options, exit codes, streams, formats."""

import json
import subprocess
import sys

import pytest
from doctor_command import doctor, findings
from doctor_fixtures import opposite, sequences, write_mapping, write_reads

from metagene_doctor.finding import Report

pytestmark = pytest.mark.usefixtures("no_models_and_no_gpu")


def test_a_sound_data_set_is_ready(capsys, data):
    code, out, _ = doctor(
        capsys, "--fasta", data / "train.fa", "--val", data / "val.fa", "--mapping", data / "labels.tsv"
    )
    assert code == 0
    last = out.strip().splitlines()[-1]
    assert last.startswith("READY")
    assert "metagene autotune" in last
    assert "200 reads" in out and "4 classes" in out


def test_only_a_fasta_judges_what_it_can_and_says_what_would_add_the_rest(capsys, data):
    code, out, _ = doctor(capsys, "--fasta", data / "train.fa")
    assert code == 0
    skipped = [line for line in out.splitlines() if " skipped: " in line]
    assert any("L02" in line and "--mapping FILE" in line for line in skipped)
    assert any("V02" in line and "--val FILE" in line for line in skipped)
    assert any("T02" in line and "--tokenizer" in line for line in skipped)
    assert len(skipped) <= 10


def test_without_any_input_the_machine_is_judged(capsys):
    code, out, _ = doctor(capsys)
    assert code == 0
    assert "no training reads (give --fasta FILE)" in out


def test_leakage_is_found_on_both_strands(capsys, data):
    pool = sequences(40, seed=5)
    write_reads(data / "train.fa", pool)
    write_reads(data / "val.fa", [pool[3], opposite(pool[7]), *sequences(8, seed=9)], name="v")
    code, found = findings(capsys, "--fasta", data / "train.fa", "--val", data / "val.fa")
    assert code == 1
    finding = found["V02", "error"]
    assert finding["count"] == 2
    assert [example["record"] for example in finding["examples"]] == [1, 2]
    assert "(1 as reverse complement)" in finding["title"]


@pytest.mark.parametrize("kind", ["missing", "empty", "directory"])
def test_input_that_is_not_there_is_exit_2_and_one_message(capsys, data, kind):
    path = data / kind
    if kind == "empty":
        path.touch()
    if kind == "directory":
        path.mkdir()
    code, out, err = doctor(capsys, "--fasta", path)
    assert code == 2
    assert out == ""
    assert err.startswith("metagene: error: ") and str(path) in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--val", "--mapping", "--config", "--encoder", "--tokenizer", "--facts"])
def test_every_named_file_has_to_exist(capsys, data, option):
    code, _, err = doctor(capsys, "--fasta", data / "train.fa", option, data / "none")
    assert code == 2
    assert "none" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer:\n  lr: abc\n", ":2: optimizer.lr"),
        ("optimizer:\n  lrr: 1\n", "did you mean optimizer.lr"),
        ("a: [1\n", "not valid YAML"),
    ],
)
def test_config_errors_are_exit_2_with_their_line(capsys, data, text, message):
    (data / "c.yaml").write_text(text)
    code, _, err = doctor(capsys, "--config", data / "c.yaml")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    "arguments", [("--only", "X99"), ("--skip", "nothing"), ("--explain", "Z1"), ("--what",)]
)
def test_usage_errors_are_exit_2(capsys, arguments):
    assert doctor(capsys, *arguments)[0] == 2


def test_gpu_and_gpu_mem_exclude_each_other(capsys):
    assert doctor(capsys, "--gpu", "rtx4090", "--gpu-mem", "24")[0] == 2


def test_options_override_the_config(capsys, data):
    (data / "c.yaml").write_text(
        f"dataset:\n  train_fasta: {data / 'gone.fa'}\nscheduler:\n  warmup_ratio: 0.05\n"
    )
    code, out, _ = doctor(capsys, "--config", data / "c.yaml", "--fasta", data / "train.fa")
    assert code == 0
    assert f"metagene train --config {data / 'c.yaml'}" in out


def test_a_regex_without_class_is_a_usage_error(capsys, data):
    code, _, err = doctor(capsys, "--fasta", data / "train.fa", "--header-regex", "^x")
    assert code == 2
    assert "--header-regex" in err and "class_id" in err


@pytest.mark.parametrize("bad", [False, True])
def test_exit_code_is_the_same_in_every_mode(capsys, data, bad):
    fasta = data / ("bad.fa" if bad else "train.fa")
    fasta.write_bytes((data / "train.fa").read_bytes().replace(b">lbl", b">xyz" if bad else b">lbl"))
    codes = {
        mode: doctor(capsys, "--fasta", fasta, *mode)[0]
        for mode in [
            (),
            ("--json",),
            ("--quiet",),
            ("--json", data / "r.json"),
            ("-v",),
            ("--html", data / "r.html"),
        ]
    }
    assert set(codes.values()) == {int(bad)}, codes


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (["--only", "T01,f18"], {"T01", "F18"}),
        (["--only", "T01, L01", "--only", "F18"], {"T01", "L01", "F18"}),
        (
            ["--only", "split,L01,", "--skip", "V01,V02,V03,V04,V05", "--skip", "V06"],
            {"L01", "V07", "V08", "V09"},
        ),
    ],
)
def test_names_of_checks_with_commas_between_them(capsys, data, given, ids):
    _, out, _ = doctor(capsys, "--fasta", data / "train.fa", *given, "--json")
    assert {finding["id"] for finding in json.loads(out)["findings"]} == ids


@pytest.mark.parametrize(
    ("wrong", "named"), [("T01,X99", "X99"), (",", ","), ("", ""), ("T01 T02", "T01 T02")]
)
def test_a_list_of_checks_with_a_wrong_name(capsys, wrong, named):
    code, _, err = doctor(capsys, "--only", wrong)
    assert code == 2 and f"no check {named!r}" in err


def test_warnings_are_exit_0_unless_asked(capsys, data):
    arguments = ("--fasta", data / "train.fa", "--only", "C05")
    assert doctor(capsys, *arguments)[0] == 0
    assert doctor(capsys, *arguments, "--fail-on", "warn")[0] == 1


def test_a_check_that_breaks_is_named_and_the_others_go_on(capsys, data, monkeypatch):
    from metagene_doctor.facts.machine import host

    def broken():
        raise RuntimeError("no such file system")

    monkeypatch.setattr(host, "collect", broken)
    code, out, _ = doctor(capsys, "--fasta", data / "train.fa")
    assert code == 3
    assert "H01, H02, H03, H04, H05, H06, H07, H08 not finished" in out and "no such file system" in out
    assert "200 reads" in out
    assert out.strip().splitlines()[-1].startswith("UNKNOWN")


def test_interruption_is_exit_130(capsys, data, monkeypatch):
    from metagene_doctor.facts.machine import host

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(host, "collect", interrupted)
    assert doctor(capsys, "--fasta", data / "train.fa")[0] == 130


def test_json_on_stdout_is_all_of_stdout_and_follows_the_schema(capsys, data):
    _, out, _ = doctor(capsys, "--fasta", data / "train.fa", "--json")
    document = json.loads(out)
    Report.model_validate(document)
    assert document["examined"]["records"] == 200
    assert document["examined"]["bytes"] == (data / "train.fa").stat().st_size
    _, schema, _ = doctor(capsys, "--schema")
    schema = json.loads(schema)
    assert set(document) == set(schema["properties"])
    assert all(
        set(finding) == set(schema["$defs"]["Finding"]["properties"]) for finding in document["findings"]
    )
    assert {finding["severity"] for finding in document["findings"]} <= set(
        schema["$defs"]["Severity"]["enum"]
    )


def test_quiet_says_nothing(capsys, data):
    assert doctor(capsys, "--fasta", data / "train.fa", "--quiet")[1:] == ("", "")


def test_reports_are_written_where_asked(capsys, data):
    doctor(
        capsys, "--fasta", data / "train.fa", "-q",
        "--json", data / "r.json", "--html", data / "r.html", "--markdown", data / "r.md",
    )  # fmt: skip
    assert json.loads((data / "r.json").read_text())["verdict"].startswith("READY")
    assert "READY" in (data / "r.html").read_text()
    assert "READY" in (data / "r.md").read_text()


def test_nothing_is_written_beside_the_inputs(capsys, data):
    before = sorted(data.iterdir())
    doctor(capsys, "--fasta", data / "train.fa", "--val", data / "val.fa", "--mapping", data / "labels.tsv")
    assert sorted(data.iterdir()) == before


def test_training_finds_the_index_that_doctor_wrote(capsys, data, monkeypatch):
    from metagene_train.config import DatasetConfig
    from metagene_train.reads.access import read_index as index
    from metagene_train.reads.headers.pattern import HeaderPattern

    doctor(capsys, "--fasta", data / "train.fa")

    def built_again(*_, **__):
        raise AssertionError("the index was built again")

    monkeypatch.setattr(index, "scan", built_again)
    found = index.ReadIndex.open_or_build(
        data / "train.fa",
        header=HeaderPattern(DatasetConfig().header_regex),
        index_dir=None,
        file_format="auto",
    )
    assert len(found) == 200


def test_saved_facts_give_the_same_report_without_the_files(capsys, data):
    saved = data / "facts.json"
    _, first, _ = doctor(
        capsys, "--fasta", data / "train.fa", "--mapping", data / "labels.tsv", "--save-facts", saved
    )
    (data / "train.fa").unlink()
    _, second, _ = doctor(capsys, "--facts", saved)
    assert second == first


def test_an_index_directory_that_cannot_be_written_is_a_finding(capsys, data):
    code, found = findings(capsys, "--fasta", data / "train.fa", "--index-dir", data / "val.fa" / "index")
    assert code == 1
    assert "cannot be written" in found["S06", "error"]["title"]
    assert found["F18", "info"]["measured"] == 200
    assert found["F18", "info"]["why"].startswith("Read and compared in ")


def test_suggested_commands_can_be_pasted_although_paths_hold_blanks(capsys, data):
    path = data / "my reads.fa"
    (data / "train.fa").rename(path)
    _, out, _ = doctor(capsys, "--fasta", path)
    assert f"--fasta '{path}'" in out.strip().splitlines()[-1]


def test_only_and_skip_take_ids_and_scopes(capsys, data):
    _, found = findings(
        capsys, "--fasta", data / "train.fa", "--only", "f18", "--only", "labels", "--skip", "L06"
    )
    assert {check for check, _ in found} == {"F18", "L01", "L02", "L03", "L04", "L05", "L07", "L08", "L09"}


def test_checks_are_listed_and_explained(capsys):
    _, listed, _ = doctor(capsys, "--list-checks")
    assert len(listed.splitlines()) > 50
    code, explained, _ = doctor(capsys, "--explain", "V02")
    assert code == 0 and "reverse complement" in explained


def test_quick_level_looks_at_a_sample_of_a_large_file_and_claims_no_more(capsys, data, monkeypatch):
    from metagene_doctor.facts.reads import collect as reads

    monkeypatch.setattr(reads, "READ_IN_FULL_BYTES", 1000)
    code, found = findings(
        capsys,
        "--fasta",
        data / "train.fa",
        "--mapping",
        write_mapping(data / "five.tsv", 5),
        "--level",
        "quick",
    )
    assert code == 0
    assert found["F18", "info"]["confidence"] == "sampled"
    assert "not read in full" in found["L03", "skip"]["why"]
    assert "95 %" in found["F09", "pass"]["title"] and found["F09", "pass"]["confidence"] == "sampled"
    assert ("F14", "skip") in found
    _, out, _ = doctor(capsys, "--fasta", data / "train.fa", "--level", "quick")
    assert " of them on a sample" in out


def test_the_reads_are_judged_without_torch(data):
    """A machine without torch still gets its data checked, and is told that torch is missing."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import importlib.util, importlib.metadata\n"
        "find, version = importlib.util.find_spec, importlib.metadata.version\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "def absent(name):\n"
        "    if name == 'torch': raise importlib.metadata.PackageNotFoundError(name)\n"
        "    return version(name)\n"
        "importlib.metadata.version = absent\n"
        "from metagene_doctor.cli.main import main\n"
        f"sys.exit(main(['doctor', '--fasta', {str(data / 'train.fa')!r}, '--gpu', 'rtx4090']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "✗ E01 torch is not installed" in done.stdout
    assert "200 reads" in done.stdout
    assert "predictions need torch" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(data):
    command = [sys.executable, "-c", "from metagene_doctor.cli.main import entry_point; entry_point()"]
    with subprocess.Popen(
        [*command, "doctor", "--fasta", str(data / "train.fa")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_data_checks_do_not_import_torch(data):
    code = (
        "import sys; from metagene_doctor.cli.main import main\n"
        f"main(['doctor', '-q', '--fasta', {str(data / 'train.fa')!r}, '--val', {str(data / 'val.fa')!r}])\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
