"""From doctor to train: the report on the same files goes into the run directory, a stale one does not."""

import json
from pathlib import Path

from train_fixtures import tiny_config

from metagene_doctor.cli.main import main
from metagene_train.config_file import dump_config


def test_a_run_takes_the_report_on_its_files_along_unless_they_changed(tmp_path: Path, capsys):
    config = tiny_config(tmp_path)
    reads = Path(config.dataset.train_fasta)
    reads.write_text(reads.read_text() + ">lbl|99|1|8|stray/1\nACGTACGT\n")
    (tmp_path / "c.yaml").write_text(dump_config(config))
    train = ["train", "--config", str(tmp_path / "c.yaml"), "--quiet", "dataset.strict_classes=false"]
    report = tmp_path / "report.json"
    assert main(["doctor", "--config", str(tmp_path / "c.yaml"), "--json", str(report), "-q"]) == 1
    capsys.readouterr()

    assert main([*train, f"training.output_dir={tmp_path / 'first'}"]) == 0
    assert json.loads((tmp_path / "first" / "doctor.json").read_text()) == json.loads(report.read_text())
    assert "doctor found L02" in capsys.readouterr().err

    reads.write_text(reads.read_text().replace("stray", "other"))
    assert main([*train, f"training.output_dir={tmp_path / 'second'}"]) == 0
    assert not (tmp_path / "second" / "doctor.json").exists()
    assert "doctor found" not in capsys.readouterr().err


def test_a_report_of_other_classes_is_none_of_this_run(tmp_path: Path, capsys):
    """Without the table, with another one or another header pattern, other things are found."""
    config = tiny_config(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config))
    dataset = config.dataset
    sides = ["--fasta", str(dataset.train_fasta), "--val", str(dataset.val_fasta), "-q"]
    other = tmp_path / "other.tsv"
    other.write_text("taxon\tnumber\na\t1\n")

    def warned(name, *doctor):
        main(["doctor", *sides, *doctor])
        capsys.readouterr()
        run = tmp_path / name
        options = ["--quiet", "training.max_steps=1", f"training.output_dir={run}"]
        assert main(["train", "--config", str(path), *options]) == 0
        return (run / "doctor.json").exists(), "doctor found" in capsys.readouterr().err

    assert warned("table", "--mapping", str(other)) == (False, False)
    assert warned("pattern", "--header-regex", r"x(?P<class_id>\d)") == (False, False)
    assert warned("none")[0]


def test_a_part_of_the_checks_is_no_report_to_keep(tmp_path: Path):
    config = tiny_config(tmp_path)
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert main(["doctor", "--config", str(tmp_path / "c.yaml"), "--only", "labels", "-q"]) == 0
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--quiet", "training.max_steps=1"]) == 0
    assert not (tmp_path / "run" / "doctor.json").exists()
