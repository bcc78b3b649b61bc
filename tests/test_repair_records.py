"""``metagene doctor --fix``: repairs of single records (letters, lines, headers, damage)."""

import pytest
from doctor_fixtures import write_mapping
from reads_fixtures import fastq, random_reads, written
from repair_fixtures import counts, fix, fixed, quick_disk, reads_of

__all__ = ["quick_disk"]


@pytest.mark.parametrize(
    ("repair", "before", "after", "what"),
    [
        ("uppercase", "ACGTacgtNn", "ACGTACGTNN", {"letters": 5, "reads": 1}),
        ("u-to-t", "ACGUUu", "ACGTTt", {"letters": 3, "reads": 1}),
        ("iupac-to-n", "ACRYg-*n", "ACNNgNNn", {"letters": 4, "reads": 1}),
    ],
)
def test_letters_change_in_sequences_and_nowhere_else(capsys, tmp_path, repair, before, after, what):
    header = "lbl|1|9|10|acguryN/1"
    path = written(tmp_path / "x.fq", f"@{header}\n{before}\n+{header}\n{'acgu' * 3:.{len(before)}}\n")
    manifest = fixed(capsys, path, "--fix", repair, out=tmp_path / "out")
    assert (tmp_path / "out" / "x.fq").read_text() == path.read_text().replace(
        f"\n{before}\n", f"\n{after}\n"
    )
    assert counts(manifest, repair) == what


def test_line_ends(capsys, tmp_path):
    path = written(
        tmp_path / "x.fa",
        b"\xef\xbb\xbf\r\n\r\n>lbl|1|||a/1\r\nACG T\r\n\r\nAC\tGT\r\n>lbl|2|||b/1\r\nACGT\n\n\n>lbl|2|||c/1\nAC\nGT\r",
    )
    manifest = fixed(capsys, path, "--fix", "line-ends", out=tmp_path / "out")
    assert (
        tmp_path / "out" / "x.fa"
    ).read_bytes() == b">lbl|1|||a/1\nACGT\nACGT\n>lbl|2|||b/1\nACGT\n>lbl|2|||c/1\nAC\nGT\n"
    assert counts(manifest, "line-ends") == {
        "CR at the ends of lines": 5,
        "blank lines": 3,
        "blanks in sequences": 2,
        "byte order marks": 1,
    }
    assert manifest["inputs"][0]["blanks"] == 2


def test_fastq_is_put_on_four_lines_and_blanks_take_their_quality_along(capsys, tmp_path):
    path = written(
        tmp_path / "x.fq",
        b"@lbl|1|||a/1\nAC\nGT\n+\n01\n23\n\n@lbl|1|||b/1\nA CG\n+\nabcd\n@lbl|1|||c/1\nAC\n+\n@@\n",
    )
    fixed(capsys, path, "--fix", "line-ends", out=tmp_path / "out")
    assert (
        tmp_path / "out" / "x.fq"
    ).read_bytes() == b"@lbl|1|||a/1\nACGT\n+\n0123\n@lbl|1|||b/1\nACG\n+\nacd\n@lbl|1|||c/1\nAC\n+\n@@\n"


HEADERS = {
    "blanks in the name": ("lbl|3|562|4|Escherichia coli  K12-5/1", "lbl|3|562|4|Escherichia_coli_K12-5/1"),
    "stale length": ("lbl|3|562|150|r1/2", "lbl|3|562|4|r1/2"),
    "no length, genus and species": ("lbl|3|562|Azo|Azo caulinodans/1", "lbl|3|562|4|Azo|Azo_caulinodans/1"),
    "no length, one name": ("lbl|3|562|r7/1", "lbl|3|562|4|r7/1"),
    "only class and name": ("lbl|3|r7", "lbl|3||4|r7"),
    "blanks around fields": (" LBL | 3 | 562 | 4 | r7/1 ", "lbl|3|562|4|r7/1"),
    "no tax id": ("lbl|3|NA|4|r7/1", "lbl|3||4|r7/1"),
    "slashes in the name": ("lbl|3|562|4|a/b/1", "lbl|3|562|4|a_b/1"),
    "slash at the end": ("lbl|3|562|4|a/", "lbl|3|562|4|a"),
    "mate in a comment": ("lbl|3|562|4|r7 2:N:0:ACGT", "lbl|3|562|4|r7_N:0:ACGT/2"),
    "no name": ("lbl|3|562|4|/1", "lbl|3|562|4|unnamed/1"),
    "Latin-1": (b"lbl|3|562|4|caf\xe9/1", "lbl|3|562|4|café/1"),
    "sound": ("lbl|3|||r1/2", "lbl|3|||r1/2"),
}


@pytest.mark.parametrize(("before", "after"), HEADERS.values(), ids=HEADERS)
def test_headers_are_mended_towards_the_template(capsys, tmp_path, before, after):
    before = before if isinstance(before, bytes) else before.encode()
    path = written(tmp_path / "x.fa", b">" + before + b"\nAC\nGT\n")
    fixed(capsys, path, "--fix", "headers", out=tmp_path / "out")
    assert (tmp_path / "out" / "x.fa").read_text() == f">{after}\nAC\nGT\n"


@pytest.mark.parametrize(
    "header",
    ["read1", "", "lbl", "lbl||562|4|r1/1", "lbl|x|562|4|r1", "lbl|3|genus|sp|r1", f"lbl|{2**31}|1|4|r"],
)
def test_headers_without_a_class_cannot_be_mended_and_are_set_aside(capsys, tmp_path, header):
    path = written(tmp_path / "x.fa", f">lbl|1|1|4|good/1\nACGT\n>{header}\nTTTT\n")
    fixed(capsys, path, "--fix", "headers", "--fix", "drop-damaged", out=tmp_path / "out")
    assert reads_of(tmp_path / "out" / "x.fa") == [("lbl|1|1|4|good/1", "ACGT")]
    assert (tmp_path / "out" / "quarantine.fa").read_text() == f">{header}\nTTTT\n"
    table = (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()
    assert table[1].split("\t")[:3] == [str(path), "2", "3"] and "header: " in table[1]


def test_repeated_names_become_unique_and_mates_stay_together(capsys, tmp_path):
    names = ["a/1", "a/2", "b-copy2", "a/1", "a/2", "b", "b", "a/1"]
    path = written(tmp_path / "x.fa", "".join(f">lbl|1||4|{name}\nACGT\n" for name in names))
    manifest = fixed(capsys, path, "--fix", "headers", out=tmp_path / "out")
    made = [header.split("|")[4] for header, _ in reads_of(tmp_path / "out" / "x.fa")]
    assert made == ["a/1", "a/2", "b-copy2", "a-copyy2/1", "a-copyy2/2", "b", "b-copyy2", "a-copyy3/1"]
    assert counts(manifest, "headers") == {"repeated names made unique": 4}


def test_headers_of_another_pattern_keep_their_layout(capsys, tmp_path):
    regex = r"^(?P<name>.+?) len=(?P<readlen>\d+) class=(?P<class_id>\d+)$"
    path = written(
        tmp_path / "x.fa", ">E coli len=9 class=3\nACGT\n>r2 len=4 class=3\nACGT\n>r2 len=4 class=3\nAC\n"
    )
    fixed(capsys, path, "--header-regex", regex, "--fix", "headers", out=tmp_path / "out")
    assert [header for header, _ in reads_of(tmp_path / "out" / "x.fa")] == [
        "E_coli len=4 class=3",
        "r2 len=4 class=3",
        "r2 len=2 class=3",
    ]


def test_damaged_records_are_set_aside_with_place_and_reason(capsys, tmp_path):
    path = written(
        tmp_path / "x.fq",
        "@lbl|0||4|a/1\nACGT\n+\nIIII\n"
        "@lbl|0||4|b/1\nACGT\n+\nIII\n"
        "@lbl|0||4|c/1\nAC\0T\n+\nIIII\n"
        "@lbl|9||4|d/1\nACGT\n+\nIIII\n"
        "@lbl|0||4|e/1\nNNGT\n+\nIIII\n"
        "@what\nACGT\n+\nIIII\n"
        "@lbl|0||0|f/1\n\n+\n\n"
        "@lbl|0||4|g/1\nACGT\n+\nII",
    )
    mapping = write_mapping(tmp_path / "labels.tsv", 2)
    manifest = fixed(capsys, path, "--mapping", mapping, "--fix", out=tmp_path / "out")
    assert reads_of(tmp_path / "out" / "x.fq") == [("lbl|0||4|a/1", "ACGT")]
    rows = [line.split("\t") for line in (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()]
    assert [(row[1], row[2], row[3]) for row in rows[1:]] == [
        ("2", "5", "sequence and quality differ in length"),
        ("3", "9", "the record holds NUL bytes"),
        ("4", "13", "its class is not in the mapping"),
        ("5", "17", "more than 0.1 of its letters are read as N"),
        ("6", "21", "header: does not start with lbl|"),
        ("7", "25", "the read has no bases"),
        ("8", "29", "the file ends inside the record"),
    ]
    assert sum(counts(manifest, "drop-damaged").values()) == 7
    kept = path.read_bytes().replace(b"@lbl|0||4|a/1\nACGT\n+\nIIII\n", b"") + b"\n"
    # The blank line that an empty read has for its quality is no part of any record.
    assert (tmp_path / "out" / "quarantine.fq").read_bytes() == kept.replace(b"+\n\n@", b"+\n@")


def test_how_many_n_are_tolerated_is_an_option(capsys, tmp_path):
    path = written(tmp_path / "x.fa", ">lbl|0||4|a/1\nNNGT\n>lbl|0||4|b/1\nNNNT\n")
    fixed(capsys, path, "--fix", "drop-damaged", "--max-n", "0.5", out=tmp_path / "out")
    assert reads_of(tmp_path / "out" / "x.fa") == [("lbl|0||4|a/1", "NNGT")]


def test_damage_is_not_copied_silently(capsys, tmp_path):
    path = written(tmp_path / "x.fq", fastq(random_reads(3)) + b"@lbl|1||4|x/1\nACGT\n+\nII\n")
    code, _, err = fix(capsys, path, "--fix", "uppercase", out=tmp_path / "out")
    assert code == 1
    assert "line 13, record 4: " in err and "--fix drop-damaged" in err
