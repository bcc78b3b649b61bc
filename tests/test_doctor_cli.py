"""The command as a user meets it: exit codes, streams, formats, and what it says about bad input."""

import bz2
import gzip
import json
import lzma
import os
import shlex
import subprocess
import sys
import threading

import pytest
import zstandard
from doctor_fixtures import opposite, sequences, write_mapping, write_reads
from reads_fixtures import bgzf

from metagene_doctor.cli.main import main
from metagene_doctor.finding import Report


@pytest.fixture(autouse=True)
def no_models_and_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    pool = sequences(260)
    write_reads(directory / "train.fa", pool[:200])
    write_reads(directory / "val.fa", pool[200:], name="v")
    write_mapping(directory / "labels.tsv")
    return directory


def doctor(capsys, *arguments):
    """(exit code, stdout, stderr) of one run."""
    code = main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def findings(capsys, *arguments):
    code, out, _ = doctor(capsys, *arguments, "--json")
    return code, {(f["id"], f["severity"]): f for f in json.loads(out)["findings"]}


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
    assert "(1 of them as reverse complement)" in finding["title"]


MALFORMED = {
    "truncated gzip": ("cut.fa.gz", lambda fasta: gzip.compress(fasta)[:-2000], 1, "F02"),
    "binary file": ("bin.fa", lambda fasta: bytes(range(256)) * 40, 1, "F01"),
    "web page": ("page.fa", lambda fasta: b"<!DOCTYPE html><html></html>", 1, "F01"),
    "foreign header": ("bad.fa", lambda fasta: fasta.replace(b">lbl|", b">read "), 1, "F07"),
    "NUL bytes": ("nul.fa", lambda fasta: fasta[:3000] + b"\0" * 100 + fasta[3100:], 1, "F05"),
    "protein": ("protein.fa", lambda fasta: b">lbl|0|1|20|p/1\nMKLVEEQFPWHIYRSLLPQE\n" * 50, 1, "F01"),
    "one class": ("one.fa", lambda fasta: b">lbl|3|1|8|p/1\nACGTACGT\n" * 50, 1, "L06"),
}


@pytest.mark.parametrize(("name", "damage", "code", "check"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_reads_give_one_finding_and_exit_1(capsys, data, name, damage, code, check):
    path = data / name
    path.write_bytes(damage((data / "train.fa").read_bytes()))
    returned, out, err = doctor(capsys, "--fasta", path)
    assert returned == code
    assert f"✗ {check} " in out
    assert out.strip().splitlines()[-1].startswith("NOT READY")
    assert "Traceback" not in out + err


def test_broken_fastq_is_placed_by_line_and_record(capsys, data):
    path = data / "broken.fq"
    record = "@lbl|{0}|1|8|r{0}/1\nACGTACGT\n+\nIIIIIIII\n"
    path.write_text(record.format(0) + "@lbl|1|1|8|r1/1\nACGTACGT\n+\nIII\n" + record.format(2))
    code, found = findings(capsys, "--fasta", path)
    assert code == 1
    example = found["F06", "error"]["examples"][0]
    assert (example["line"], example["record"]) == (5, 2)


def test_lower_case_bases_are_counted_and_do_not_stop_a_run(capsys, data):
    write_reads(data / "lower.fa", [sequence.lower() for sequence in sequences(100)])
    code, found = findings(capsys, "--fasta", data / "lower.fa")
    assert code == 0
    assert found["F09", "info"]["count"] == 100 * 120


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tname\n0\ta\n", "no column class_id"),
        ("class_id\tlabel_name\n0\ta\n0\tb\n", "labels.tsv:3"),
        ("class_id\tlabel_name\nx\ta\n", "'x'"),
    ],
)
def test_an_unusable_mapping_is_one_error_and_its_followers_are_skipped(capsys, data, text, message):
    (data / "labels.tsv").write_text(text)
    code, found = findings(capsys, "--fasta", data / "train.fa", "--mapping", data / "labels.tsv")
    assert code == 1
    assert message in found["L01", "error"]["title"]
    assert "L01" in found["L02", "skip"]["why"]


def test_an_unknown_class_is_an_error_with_its_reads(capsys, data):
    write_mapping(data / "labels.tsv", classes=3)
    code, found = findings(capsys, "--fasta", data / "train.fa", "--mapping", data / "labels.tsv")
    assert code == 1
    assert found["L02", "error"]["count"] == 50
    assert "3" in found["L02", "error"]["title"]


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


def test_header_regex_option_gives_foreign_headers_a_class(capsys, data):
    path = data / "kraken.fa"
    path.write_text("".join(f">r{i} kraken:taxid|{i % 2}\n{s}\n" for i, s in enumerate(sequences(20))))
    code, found = findings(capsys, "--fasta", path)
    assert code == 1
    suggestion = found["F07", "error"]["remedy"]["commands"][0]
    *_, regex = shlex.split(suggestion)
    code, found = findings(capsys, "--fasta", path, "--header-regex", regex)
    assert code == 0
    assert "2 classes" in found["F18", "info"]["title"]


def test_a_regex_without_class_is_a_usage_error(capsys, data):
    code, _, err = doctor(capsys, "--fasta", data / "train.fa", "--header-regex", "^x")
    assert code == 2
    assert "--header-regex" in err and "class_id" in err


# Exit codes and streams


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
    from metagene_train.reads import index
    from metagene_train.reads.headers import HeaderPattern

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


# Files that other readers get wrong


def members(fasta):
    """gzip of several members, as pigz and lane-wise concatenation write it."""
    half = fasta.index(b">", len(fasta) // 2)
    return gzip.compress(fasta[:half]) + gzip.compress(fasta[half:])


SOUND = {
    "CRLF": lambda fasta: fasta.replace(b"\n", b"\r\n"),
    "no final newline": lambda fasta: fasta.rstrip(b"\n"),
    "blank lines": lambda fasta: fasta.replace(b"\n>", b"\n\n>"),
    "byte order mark": lambda fasta: b"\xef\xbb\xbf" + fasta,
    "gzip": gzip.compress,
    "gzip of several members": members,
    "BGZF": bgzf,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "wrapped": lambda fasta: fasta.replace(b"A\n", b"\nA\n"),
    "FASTQ": lambda fasta: b"".join(
        b"@" + header + b"\n" + read + b"\n+\n" + b"I" * len(read) + b"\n"
        for header, read in (record.split(b"\n")[:2] for record in fasta.split(b">")[1:])
    ),
}


@pytest.mark.parametrize("rewrite", SOUND.values(), ids=SOUND)
def test_sound_files_are_ready_and_all_of_their_reads_counted(capsys, data, rewrite):
    path = data / "reads"
    path.write_bytes(rewrite((data / "train.fa").read_bytes()))
    code, found = findings(
        capsys, "--fasta", path, "--val", data / "val.fa", "--mapping", data / "labels.tsv"
    )
    assert code == 0
    assert [f["measured"] for f in found.values() if f["id"] == "F18"][-1] in (200, 60)
    assert not [check for check, severity in found if severity == "error"]


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]


DAMAGED = {
    "gzip cut": (lambda fasta: gzip.compress(fasta)[:-500], "F02"),
    "gzip with a flipped byte": (lambda fasta: flipped(gzip.compress(fasta * 10), -6), "F02"),
    "gzip with a wrong checksum": (lambda fasta: flipped(gzip.compress(fasta), -6), "F02"),
    "gzip followed by garbage": (lambda fasta: gzip.compress(fasta) + b"garbage" * 9, "F02"),
    "zstd cut": (lambda fasta: (zstandard.compress(fasta) * 2)[:-100], "F02"),
    "xz cut": (lambda fasta: lzma.compress(fasta * 10)[:-20], "F02"),
    "bzip2 of which the second stream is cut": (lambda fasta: bz2.compress(fasta) * 2 + b"BZh91AY", "F02"),
    "BGZF cut between blocks": (lambda fasta: bgzf(fasta)[:-28], "F03"),
    "UTF-16": (lambda fasta: fasta.decode().encode("utf-16"), "F01"),
    "old Mac line ends": (lambda fasta: fasta.replace(b"\n", b"\r"), "F01"),
    "zstd": (lambda fasta: b"\x28\xb5\x2f\xfd" + fasta, "F01"),
    "SAM": (lambda fasta: b"@HD\tVN:1.6\n" + fasta, "F01"),
    "cut FASTQ": (lambda fasta: SOUND["FASTQ"](fasta)[:-100], "F06"),
    "FASTQ without plus line": (lambda fasta: SOUND["FASTQ"](fasta).replace(b"\n+\n", b"\n", 1), "F06"),
    "headers of another tool": (lambda fasta: fasta.replace(b">lbl|", b">"), "F07"),
    "a hole of NUL bytes": (lambda fasta: fasta[:5000] + bytes(200) + fasta[5200:], "F05"),
}


@pytest.mark.parametrize(("rewrite", "check"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_errors_and_the_check_that_says_so_is_the_right_one(capsys, data, rewrite, check):
    path = data / "reads"
    path.write_bytes(rewrite((data / "train.fa").read_bytes()))
    code, found = findings(capsys, "--fasta", path, "--val", data / "val.fa")
    assert code == 1
    assert (check, "error") in found, found.keys()
    assert {id for id, severity in found if severity == "error"} == {check}


# Standard input and pipes


def piped(content):
    """A file descriptor that delivers ``content``."""
    reading, writing = os.pipe()
    threading.Thread(target=lambda: os.fdopen(writing, "wb").write(content)).start()
    return reading


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_standard_input_is_judged_in_one_pass(capsys, data, monkeypatch, pack):
    content = (data / "train.fa").read_bytes()
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(pack(content)), "r"))
    code, found = findings(capsys, "--fasta", "-", "--val", data / "val.fa", "--mapping", data / "labels.tsv")
    assert code == 0
    plan = found["F18", "info"]
    assert "V06" in {check for check, severity in found if severity == "pass"}
    for check in ("V01", "V02", "V04", "F15", "L09"):
        assert "standard input can be read only once" in found[check, "skip"]["why"], check
    assert plan["id"] == "F18"


def test_standard_input_that_is_cut_is_an_error(capsys, data, monkeypatch):
    packed = gzip.compress((data / "train.fa").read_bytes())[:-1000]
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(packed), "r"))
    code, found = findings(capsys, "--fasta", "-")
    assert code == 1
    assert found["F02", "error"]["measured"] == len(packed)
    assert found["F02", "error"]["examples"][0]["file"] == "standard input"


def test_a_pipe_by_name_is_judged(capsys, data):
    descriptor = piped((data / "train.fa").read_bytes())
    code, out, _ = doctor(capsys, "--fasta", f"/dev/fd/{descriptor}")
    os.close(descriptor)
    assert code == 0
    assert "200 reads" in out and "no index: training needs a file" in out


def test_empty_or_doubly_used_standard_input_is_a_usage_error(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(b""), "r"))
    code, _, err = doctor(capsys, "--fasta", "-")
    assert (code, "standard input: is empty" in err) == (2, True)
    code, _, err = doctor(capsys, "--fasta", "-", "--val", "-")
    assert (code, "read only once" in err) == (2, True)


def test_standard_input_that_is_no_reads_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", os.fdopen(piped(b"<html>gone</html>"), "r"))
    code, found = findings(capsys, "--fasta", "-")
    assert code == 1
    assert "standard input: not FASTA or FASTQ" in found["F01", "error"]["title"]


def test_a_number_of_the_header_that_is_always_a_class_of_the_mapping_is_suggested(capsys, data):
    path = data / "species.fq"
    path.write_text(
        "".join(
            f"@SRR99.{i} species={100 + 7 * (i % 3)} len=80\n{s}\n+\n{'I' * len(s)}\n"
            for i, s in enumerate(sequences(30))
        )
    )
    mapping = data / "species.csv"
    mapping.write_text("class_id;label_name\n100;a\n107;b\n114;c\n")
    code, found = findings(capsys, "--fasta", path, "--mapping", mapping)
    assert code == 1
    assert ("F06", "info") not in found  # quality I alone says nothing about the encoding
    suggestion = found["F07", "error"]["remedy"]["commands"][0]
    *_, regex = shlex.split(suggestion)
    assert "species=" in regex
    code, found = findings(capsys, "--fasta", path, "--mapping", mapping, "--header-regex", regex)
    assert code == 0
    assert "3 classes" in found["F18", "info"]["title"]
    assert ("F07", "error") not in found


def test_joined_compressed_files_are_one_data_set(capsys, data):
    parts = [(data / name).read_bytes() for name in ("train.fa", "val.fa")]
    for number, pack in enumerate([gzip.compress, bgzf, zstandard.compress, lzma.compress, bz2.compress]):
        joined = data / f"joined{number}"
        joined.write_bytes(b"".join(map(pack, parts)))
        code, out, _ = doctor(capsys, "--fasta", joined, "--only", "data")
        assert code == 0
        assert "260 reads" in out


def test_a_plain_file_that_was_cut_in_its_last_read_is_an_error(capsys, data):
    whole = "".join(f">lbl|{i % 2}|9|80|r{i}/1\n{s[:80]}\n" for i, s in enumerate(sequences(150, 80)))
    path = data / "cut.fa"
    path.write_text(whole[:-30])
    code, found = findings(capsys, "--fasta", path)
    assert code == 1
    assert found["F13", "error"]["examples"][0]["record"] == 150
    path.write_text(whole)
    code, found = findings(capsys, "--fasta", path)
    assert code == 0 and ("F13", "error") not in found
