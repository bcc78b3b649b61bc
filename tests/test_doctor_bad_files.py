"""What the doctor says about reads files and tables that are damaged, unusual, or not reads at all."""

import bz2
import gzip
import lzma
import shlex

import pytest
import zstandard
from doctor_command import doctor, findings
from doctor_fixtures import sequences, write_mapping, write_reads
from reads_fixtures import bgzf

pytestmark = pytest.mark.usefixtures("no_models_and_no_gpu")


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
