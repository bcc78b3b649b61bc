"""``metagene doctor --fix`` under attack: whatever is done to it, one clear message or a result that balances."""

import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_fixtures import opposite, sequences
from reads_corpus import BAD, ODD, REFUSED
from reads_fixtures import bgzf, fasta, random_reads, written
from repair_fixtures import fix, fixed, made, quick_disk

from metagene_doctor.cli.main import main
from metagene_doctor.repair.plan import ORDER

__all__ = ["quick_disk"]

SMALL = b">lbl|0||4|a/1\nacgt\n>lbl|1||4|b/1\nACGT\n>bad\nAC\n"


def one_message(err):
    assert len(err.strip().splitlines()) == 1 and err.startswith("metagene: error: "), err
    return err


# Places


def a_file(place):
    written(place / "out", "mine")


def a_directory_with_other_content(place):
    (place / "out").mkdir()
    written(place / "out" / "notes.txt", "mine")


def inside_a_file(place):
    written(place / "file", "mine")
    return place / "file" / "out"


def a_link_to_nothing(place):
    (place / "out").symlink_to(place / "nowhere")


def a_link_to_itself(place):
    (place / "out").symlink_to(place / "out")


def the_place_of_the_input(place):
    return place


def above_the_input(place):
    (place / "out" / ".metagene-repair").mkdir(parents=True)
    (place / "x.fa").rename(place / "out" / ".metagene-repair" / "x.fa")
    return place / "out", place / "out" / ".metagene-repair" / "x.fa"


def a_name_that_is_too_long(place):
    return place / ("n" * 300)


def a_file_system_without_room(place):
    return Path("/proc/repaired")


PLACES = {
    a_file: "is a file",
    a_directory_with_other_content: "is not empty",
    inside_a_file: "cannot be written (Not a directory)",
    a_link_to_nothing: "cannot be written",
    a_link_to_itself: "leads back to itself",
    the_place_of_the_input: "which is to be repaired",
    above_the_input: "which is to be repaired",
    a_name_that_is_too_long: "File name too long",
    a_file_system_without_room: "/proc/repaired: ",
}


@pytest.mark.parametrize(
    ("arrange", "words"), PLACES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_places_that_cannot_be_written_to_are_refused(capsys, tmp_path, arrange, words):
    path = written(tmp_path / "x.fa", SMALL)
    place = arrange(tmp_path) or tmp_path / "out"
    if isinstance(place, tuple):
        place, path = place
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    code, _, err = fix(capsys, path, "--fix", out=place)
    assert code == 2 and words in one_message(err)
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold root back")
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_directories_without_permission_are_refused(capsys, tmp_path, mode):
    path, place = written(tmp_path / "x.fa", SMALL), tmp_path / "place"
    place.mkdir(mode=mode)
    for out in (place, place / "out"):
        code, _, err = fix(capsys, path, "--fix", out=out)
        assert code == 2 and "Permission denied" in one_message(err)
    if not mode:
        code, _, err = fix(capsys, place / "x.fa", "--fix")
        assert code == 2 and "Permission denied" in one_message(err)


def test_a_link_to_a_directory_is_that_directory(capsys, tmp_path):
    path = written(tmp_path / "x.fa", SMALL)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    fixed(capsys, path, "--fix", out=tmp_path / "out")
    assert (tmp_path / "real" / "x.fa").exists()


# Inputs


def pipe(place):
    os.mkfifo(place / "pipe")
    return [place / "pipe"]


INPUTS = {
    "a directory": (lambda place: [place], "is a directory"),
    "nothing": (lambda place: [place / "gone.fa"], "no such file"),
    "a link to itself": (lambda place: [(place / "l").symlink_to(place / "l") or place / "l"], "cannot be read"),
    "a file twice": (lambda place: [place / "x.fa", place / "x.fa"], "is named twice"),
    "a file and a link to it": (
        lambda place: [place / "x.fa", (place / "l").symlink_to(place / "x.fa") or place / "l"],
        "is named twice",
    ),
    "a file and a hard link": (
        lambda place: [place / "x.fa", (place / "l").hardlink_to(place / "x.fa") or place / "l"],
        "is named twice",
    ),
    "an empty file among others": (lambda place: [place / "x.fa", written(place / "e.fa", "")], "e.fa: is empty"),
    "a pipe": (pipe, "only once"),
    "standard input": (lambda place: ["-"], "only once"),
    "a pattern that matches nothing": (lambda place: [place / "*.fq"], "matches no file"),
}  # fmt: skip


@pytest.mark.parametrize(("arrange", "words"), INPUTS.values(), ids=INPUTS)
def test_inputs_that_cannot_be_repaired_are_refused(capsys, tmp_path, arrange, words):
    written(tmp_path / "x.fa", SMALL)
    code, _, err = fix(capsys, arrange(tmp_path), "--fix", out=tmp_path / "out")
    assert code == 2 and words in one_message(err)
    assert not (tmp_path / "out").exists()


NAMES = {
    b"with blanks and 'quotes'.fa": b"with blanks and 'quotes'.fa",
    b"new\nline.fa": b"new\nline.fa",
    b"not UTF-8 \xff\xfe.fa": b"not UTF-8 \xff\xfe.fa",
    b"a[1]*?.fa": b"a[1]*?.fa",
    b"-x.fa": b"-x.fa",
    b"quarantine.fa": b"repaired-quarantine.fa",
    b".gz": b"reads",
    b"n" * 255: b"n" * 200,
}


@pytest.mark.parametrize(("name", "output"), NAMES.items(), ids=map(ascii, NAMES))
def test_names_of_files_may_be_anything(tmp_path, name, output):
    """As a process of its own, where standard output takes nothing but UTF-8."""
    written(tmp_path / os.fsdecode(name), SMALL)
    command = [
        sys.executable,
        "-c",
        "from metagene_doctor.cli.main import entry_point; entry_point()",
        "doctor",
    ]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "METAGENE_CACHE": str(tmp_path / "cache")}

    def run(*arguments):
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, check=False, env=environment
        )

    done = run("--fasta", name, "--fix", "-o", "out")
    assert (done.returncode, done.stderr) == (0, b"")
    assert output in done.stdout
    names = sorted(os.fsencode(path.name) for path in (tmp_path / "out").iterdir())
    assert names == sorted([output, b"manifest.json", b"quarantine.fa", b"quarantine.tsv"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["inputs"][0]["path"] == os.fsdecode(name)
    assert manifest["outputs"][0]["name"] == os.fsdecode(output)
    # The command that a finding gives is for a shell, and finds the file too.
    found = run("--fasta", name, "--only", "F09")
    command_line = next(line for line in found.stdout.split(b"metagene ")[1:] if b"--fix uppercase" in line)
    shell = (
        b"metagene() { '%s' -c 'from metagene_doctor.cli.main import entry_point; entry_point()' \"$@\"; }\n"
        % (os.fsencode(sys.executable))
    )
    script = shell + b"metagene " + command_line.partition(b" -o repaired")[0] + b" -o repaired\n"
    again = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, check=False, env=environment
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "repaired" / os.fsdecode(output)).read_bytes() == SMALL.replace(b"acgt", b"ACGT")


def test_a_name_that_is_no_utf_8_is_in_every_report(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / os.fsdecode(b"not UTF-8 \xff.fa")
    written(path, SMALL)
    formats = ("json", "html", "markdown", "sarif", "save-facts")
    options = [word for name in formats for word in (f"--{name}", str(tmp_path / name))]
    assert main(["doctor", "--fasta", str(path), "--only", "data", "-q", *options]) == 1
    findings = json.loads((tmp_path / "json").read_text())["findings"]
    assert str(path) in {example["file"] for finding in findings for example in finding["examples"]}
    json.loads((tmp_path / "sarif").read_text())
    assert all("not UTF-8" in (tmp_path / name).read_text() for name in ("html", "markdown"))
    again = ["doctor", "--facts", str(tmp_path / "save-facts"), "--only", "data", "-q"]
    assert main([*again, "--json", str(tmp_path / "replayed")]) == 1
    findings = [json.loads((tmp_path / name).read_text())["findings"] for name in ("json", "replayed")]
    assert [finding["title"] for finding in findings[0]] == [finding["title"] for finding in findings[1]]
    assert not capsys.readouterr().err


CORPUS = {name: one.content for table in (BAD, ODD, REFUSED) for name, one in table.items()}


@pytest.mark.parametrize("name", CORPUS)
def test_every_file_of_the_corpus_with_any_repairs(capsys, tmp_path, name):
    path = written(tmp_path / "x.fa", CORPUS[name])
    source = random.Random(name)
    chosen = [[repair for repair in ORDER if source.random() < 0.5] for _ in range(3)]
    for number, repairs in enumerate([[""], list(ORDER), *chosen]):
        options = [word for repair in repairs or [""] for word in ("--fix", repair)]
        options += ["--salvage"] * source.randrange(2)
        out = tmp_path / str(number)
        code, text, err = fix(capsys, path, *options, out=out)
        if code == 0:
            manifest = json.loads((out / "manifest.json").read_text())
            assert manifest["rechecked"] and manifest["total"]["balances"], options
            assert name not in REFUSED
        else:
            # Nothing of these files should come as far as the re-check and fail there.
            assert code in (1, 2) and str(path) in one_message(err) and not text, (options, text)
            assert not (out / "manifest.json").exists() and not (out / "x.fa").exists()


# Time


def test_an_input_that_changes_after_the_dry_run_is_taken_as_it_is(capsys, tmp_path):
    path = written(tmp_path / "x.fa", SMALL)
    assert "2 kept" in fix(capsys, path, "--fix")[1]
    written(path, SMALL + b">lbl|2||4|c/1\nACGT\n")
    assert fixed(capsys, path, "--fix", out=tmp_path / "out")["total"]["written"]["records"] == 3


@pytest.mark.parametrize("what", ["changed", "removed"])
def test_an_input_that_changes_after_the_survey_is_told(capsys, tmp_path, monkeypatch, what):
    from metagene_doctor.repair import run

    paths = [written(tmp_path / "x.fa", SMALL), written(tmp_path / "y.fa", fasta(random_reads(9)))]
    real = run.survey

    def meanwhile(*arguments, **options):
        found = real(*arguments, **options)
        paths[1].write_bytes(SMALL) if what == "changed" else paths[1].unlink()
        return found

    monkeypatch.setattr(run, "survey", meanwhile)
    code, _, err = fix(capsys, paths, "--fix", out=tmp_path / "out")
    assert code == 1 and f"{paths[1]}: was changed or removed" in one_message(err)
    assert not (tmp_path / "out" / "x.fa").exists()


ALL = ["--fix", "--fix", "deduplicate", "--fix", "headers", "--fix", "shuffle"]


@pytest.fixture
def several(tmp_path):
    pool = sequences(900, 60)
    pool += [opposite(sequence) for sequence in pool[:90]] + [sequence.lower() for sequence in pool[90:180]]
    reads = [(f"lbl|{i % 3}|{i % 3}|60|f{i // 2}/{1 + i % 2}", s) for i, s in enumerate(pool)]
    return [
        written(tmp_path / "a.fa", fasta(reads[:400]) + b">no class\nACGT\n"),
        written(tmp_path / "b.fa.gz", bgzf(fasta(reads[400:800]))),
        written(tmp_path / "c.fa", fasta(reads[800:]).replace(b"\n", b"\r\n")),
    ]


@pytest.mark.parametrize("split", [False, True])
def test_a_full_disk_at_any_byte_is_one_message_and_the_rest_goes_on(capsys, tmp_path, several, split):
    """The stand-in for a full disk is a limit to the size of files, which the system enforces alike."""
    options = [*ALL, "--fix", "split"] if split else ALL
    fixed(capsys, several, *options, out=tmp_path / "undisturbed")
    expected = made(tmp_path / "undisturbed")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    codes = set()
    for limit in (0, 700, 1500, 4000, 6000, 20_000, 40_000, 60_000):
        out = tmp_path / f"out-{limit}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            code, _, err = fix(capsys, several, *options, out=out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        codes.add(code)
        assert not code or "File too large" in one_message(err)
        assert bool(code) != (out / "manifest.json").exists()
        fixed(capsys, several, *options, out=out) if code else None
        assert made(out) == expected
    assert {1, 2} & codes


KILLED = """
import os, signal, sys, threading
from metagene_doctor.cli.main import main
threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
code = main(sys.argv[2:])
os._exit(code)
"""


def test_killed_at_random_it_goes_on_to_the_same_files(capsys, tmp_path, several):
    options = [*ALL, "--fix", "split"]
    fixed(capsys, several, *options, out=tmp_path / "undisturbed")
    expected = made(tmp_path / "undisturbed")
    source = random.Random(7)
    named = [word for path in several for word in ("--fasta", str(path))]
    killed = 0
    for number in range(6):
        out = tmp_path / str(number)
        arguments = ["doctor", *named, *options, "-o", str(out), "-q"]
        for _ in range(3):
            # The clock starts when everything is imported: about as long as the repair itself takes.
            after = str(source.uniform(0.0, 0.6))
            done = subprocess.run([sys.executable, "-c", KILLED, after, *arguments], check=False)
            killed += done.returncode < 0
        assert not (out / "manifest.json").exists() or json.loads((out / "manifest.json").read_text())
        code = main(arguments)
        assert code == 0 or (code == 2 and "nothing is left to do" in capsys.readouterr().err)
        assert made(out) == expected
    assert killed
