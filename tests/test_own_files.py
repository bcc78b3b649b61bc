"""Files as laboratories have them, not as the template wants them: what doctor says leads on."""

import gzip
import json
import shlex
import subprocess

import pytest
from doctor_fixtures import sequences
from reads_fixtures import fasta, fastq, written
from train_fixtures import write_encoder, write_tokenizer

from metagene_doctor.cli.main import main
from metagene_train.config_file import load_config
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.scan import scan


def findings(capsys, *arguments):
    main(["doctor", *map(str, arguments), "--json"])
    return {finding["id"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}


ILLUMINA = [(f"A00123:45:HXXYZ:1:1101:{n}:7 1:N:0:ATCACG", s) for n, s in enumerate(sequences(30))]
SIMULATED = [(f"NC_000913.3-{n}/1", s) for n, s in enumerate(sequences(30))]
FILES = {
    "FASTQ of a sequencer": ("it's mine.fastq.gz", gzip.compress(fastq(ILLUMINA))),
    "FASTQ of a simulator": ("art.fq", fastq(SIMULATED)),
    "FASTA of a simulator": ("art.fa", fasta(SIMULATED)),
}


@pytest.mark.parametrize(("name", "content"), FILES.values(), ids=FILES)
def test_the_class_of_a_whole_file_is_written_into_it_by_the_command_given(
    capsys, tmp_path, monkeypatch, name, content
):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / name, content)
    (command,) = findings(capsys, "--fasta", path)["F07"]["remedy"]["commands"]
    assert "--fix" not in command, "the repair has nothing to make a class of"
    subprocess.run(["bash", "-c", command], check=True)
    (new,) = set(tmp_path.glob("labelled-*"))
    found = scan(new, header=HeaderPattern())
    assert (found.accepted, found.records, dict(found.class_counts)) == (30, 30, {17: 30})


GENOMES = ("NC_000913.3", "NZ_CP012345.1", "U49845.1", "GCF_000005845.2", "NC_999999.1")
BY_GENOME = [(f"{GENOMES[n % 5]}-{n}/1 sampled", s) for n, s in enumerate(sequences(30))]
FILES_OF_GENOMES = {
    "FASTA": ("art.fa", fasta(BY_GENOME)),
    "FASTQ, packed": ("it's art.fq.gz", gzip.compress(fastq(BY_GENOME))),
}


@pytest.mark.parametrize(("name", "content"), FILES_OF_GENOMES.values(), ids=FILES_OF_GENOMES)
def test_classes_of_accessions_are_written_in_by_the_command_given(
    capsys, tmp_path, monkeypatch, name, content
):
    """With and without versions in the table, whose lines a spreadsheet ended; what the table lacks is told of again, not lost."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / name, content)
    table = ["NC_000913.3\t562", "NZ_CP012345\t1280", "U49845.1\t4932\tyeast", "GCF_000005845\t562"]
    written(tmp_path / "accessions.tsv", "\r\n".join(table).encode())
    (command,) = findings(capsys, "--fasta", path)["F07"]["remedy"]["commands"]
    subprocess.run(["bash", "-c", command], check=True)
    (new,) = set(tmp_path.glob("labelled-*"))
    found = scan(new, header=HeaderPattern())
    assert (found.records, dict(found.class_counts)) == (30, {562: 12, 1280: 6, 4932: 6})
    left = findings(capsys, "--fasta", new)["F07"]
    assert left["count"] == 6 and "NC_999999.1-4/1 sampled" in left["examples"][0]["text"]


def test_headers_that_hold_a_class_are_left_to_the_repair(capsys, tmp_path):
    path = written(
        tmp_path / "x.fa", fasta([(f"lbl | {n % 2} | r{n}", s) for n, s in enumerate(sequences(9))])
    )
    assert "--fix headers" in findings(capsys, "--fasta", path)["F07"]["remedy"]["commands"][0]


TABLES = {
    "a column of taxa": ("taxon\tTaxID\trank\n", ("TaxID", "taxon")),
    "blanks and another id": ("Name\tLength\tClass ID\n", ("Class ID", "Name")),
}


@pytest.mark.parametrize(("header", "columns"), TABLES.values(), ids=TABLES)
def test_columns_of_other_names_go_into_a_config(capsys, tmp_path, monkeypatch, header, columns):
    monkeypatch.chdir(tmp_path)
    rows = [("E. coli", 562, 0), ("B|subtilis", 1423, 1), ("β", 7, 2)]
    order = {"TaxID": 1, "Length": 1, "Class ID": 2}
    lines = [
        "\t".join(
            "species" if name == "rank" else str(row[order.get(name, 0)])
            for name in header.strip().split("\t")
        )
        for row in rows
    ]
    mapping = written(tmp_path / "my classes.tsv", ("\ufeff" + header + "\n".join(lines) + "\n").encode())
    classes = [row[order[columns[0]]] for row in rows]
    regex = r"taxid\|(?P<class_id>\d+)"
    reads = [(f"kraken:taxid|{classes[n % 3]}|r{n}", s) for n, s in enumerate(sequences(60))]
    train = written(tmp_path / "train.fa", fasta(reads))
    found = findings(capsys, "--fasta", train.name, "--mapping", mapping.name, "--header-regex", regex)["L01"]
    assert f"dataset.label_column: {columns[1]}" in found["title"]
    (command,) = found["remedy"]["commands"]
    assert main(shlex.split(command)[1:]) == 0
    dataset = load_config(tmp_path / "run.yaml").config.dataset
    assert (dataset.class_column, dataset.label_column) == columns and dataset.header_regex == regex
    capsys.readouterr()
    after = findings(capsys, "--config", "run.yaml")
    assert [after[check]["severity"] for check in ("L01", "L02", "F07")] == ["pass"] * 3


def test_a_table_of_numbers_alone_is_not_guessed_at(capsys, tmp_path):
    mapping = written(tmp_path / "m.tsv", "a\tb\n1\t2\n3\t4\n")
    found = findings(capsys, "--mapping", mapping)["L01"]
    assert "or set dataset.class_column and dataset.label_column" in found["title"]
    assert "--only L01" in found["remedy"]["commands"][0]


def test_genomes_are_held_out_only_where_names_tell_them(capsys, tmp_path):
    genomes = sequences(6, 3000, 5)

    def sides(name):
        reads = [
            (f"lbl|{g % 3}|||{name(g, n)}/1", genomes[g][n * 20 : n * 20 + 90])
            for n in range(140)
            for g in range(6)
        ]
        train = written(tmp_path / "t.fa", fasta([read for n, read in enumerate(reads) if n % 5]))
        val = written(tmp_path / "v.fa", fasta(reads[::5]))
        return findings(capsys, "--fasta", train, "--val", val)["V04"]["remedy"]

    nameless = sides(lambda g, n: f"r{n}x{g}")
    assert not nameless["commands"] and "--genome-regex" in nameless["text"]
    one_each = sides(lambda g, n: f"NC_00000{g % 3}.1-{n}x{g}")
    assert not one_each["commands"] and "reads of other genomes" in one_each["text"]
    assert "--split-by genome" in sides(lambda g, n: f"NC_00000{g}.1-{n}")["commands"][0]


def test_an_encoder_brings_its_tokenizer_also_with_a_config_that_names_all_keys(capsys, tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    write_tokenizer(encoder)
    config, output = tmp_path / "run.yaml", tmp_path / "new.yaml"
    train = written(
        tmp_path / "t.fa", fasta([(f"lbl|{n % 2}|||r{n}", s) for n, s in enumerate(sequences(40))])
    )
    assert main(["config", "init", "-o", str(config), f"dataset.train_fasta={train}"]) == 0
    arguments = ["--config", str(config), "--encoder", str(encoder)]
    assert main(["autotune", *arguments, "--device", "cpu", "-q", "-o", str(output)]) == 0
    assert load_config(output).config.tokenizer.name_or_path == str(encoder)
    capsys.readouterr()
    assert findings(capsys, *arguments)["T01"]["severity"] == "pass"
    (tmp_path / "other").mkdir()
    write_tokenizer(tmp_path / "other")
    own = written(tmp_path / "kept.yaml", f"tokenizer: {{name_or_path: {tmp_path / 'other'}}}\n")
    main(["autotune", "--config", str(own), "--encoder", str(encoder), "--fasta", str(train), "--device", "cpu", "-q",
          "-o", str(tmp_path / "kept-new.yaml")])  # fmt: skip
    assert load_config(tmp_path / "kept-new.yaml").config.tokenizer.name_or_path == str(tmp_path / "other")


def test_a_tokenizer_that_is_not_there_is_told(capsys, tmp_path):
    train = written(
        tmp_path / "t.fa", fasta([(f"lbl|{n % 2}|||r{n}", s) for n, s in enumerate(sequences(9))])
    )
    for command in ("autotune", "doctor"):
        assert main([command, "--fasta", str(train), "--tokenizer", str(tmp_path / "no")]) == 2
        assert f"{tmp_path / 'no'}: no such" in capsys.readouterr().err


def test_the_config_is_written_also_when_the_report_is_cut_off(tmp_path, monkeypatch):
    from metagene_doctor.tuning import report

    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr(report, "render", gone)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    output = tmp_path / "new.yaml"
    encoder = write_encoder(tmp_path / "encoder")
    assert main(["autotune", "--device", "cpu", "--encoder", str(encoder), "-o", str(output)]) == 0
    assert load_config(output).config.training.batch_size


def test_reads_longer_than_the_encoder_takes_are_a_warning_with_a_command(capsys, tmp_path):
    """Long reads of which no setting would see more than the start."""
    encoder = write_encoder(tmp_path / "encoder")
    write_tokenizer(encoder)
    context = json.loads((encoder / "config.json").read_text())["max_position_embeddings"]
    reads = [(f"lbl|{n % 2}|||r{n}/1", s) for n, s in enumerate(sequences(30, 40 * context))]
    path = written(tmp_path / "long reads.fq", fastq(reads))
    config = written(tmp_path / "run.yaml", f"tokenizer: {{max_length: {context}}}\n")
    found = findings(capsys, "--fasta", path, "--encoder", encoder, "--config", config)["T02"]
    assert found["severity"] == "warn" and found["measured"] == 1.0
    (command,) = found["remedy"]["commands"]
    words = shlex.split(command)
    assert words[:2] == ["seqkit", "sliding"] and str(path) in words
    window = int(words[words.index("--window") + 1])
    pieces = [
        (f"{h}_sliding:{i + 1}-{i + window}", s[i : i + window])  # as seqkit names them
        for h, s in reads
        for i in range(0, len(s), window)
    ]
    renamed = subprocess.run(
        words[words.index("|") + 1 : words.index(">")], input=fasta(pieces), capture_output=True, check=True
    )
    cut = written(tmp_path / words[-1], renamed.stdout)
    after = findings(capsys, "--fasta", cut, "--encoder", encoder, "--config", config)
    assert (after["T02"]["severity"], after["F07"]["severity"]) == ("info", "pass")
