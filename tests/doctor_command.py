"""The doctor run as a command, and what it found."""

import json

from metagene_doctor.cli.main import main


def doctor(capsys, *arguments):
    """(exit code, stdout, stderr) of one run."""
    code = main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def findings(capsys, *arguments):
    code, out, _ = doctor(capsys, *arguments, "--json")
    return code, {(f["id"], f["severity"]): f for f in json.loads(out)["findings"]}
