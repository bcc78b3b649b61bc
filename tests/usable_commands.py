"""Whether a command that a report names exists: its program, its options, its keys of the config."""

from __future__ import annotations

import importlib
import re
import shlex
import tempfile
from itertools import pairwise
from pathlib import Path

import click

from metagene_doctor.cli.main import COMMANDS
from metagene_doctor.repair.plan import ORDER
from metagene_train.config_file import load_config

PROGRAMS = {
    "awk", "bzip2", "cp", "docker", "dmesg", "export", "gzip", "head", "hf", "ls", "lsof", "modprobe", "nvidia-smi",
    "pip", "ps", "reboot", "rm", "sbatch", "sed", "seqkit", "ulimit", "unset", "xz", "zstd",
}  # fmt: skip
"""What fixes may start with besides metagene: all of them exist under that name wherever they apply."""

CONFIG_LINE = re.compile(r"[a-z_]+(\.[a-z_]+)*: \S")
OVERRIDES = re.compile(r"'?[a-z_]+(\.[a-z_]+)+=\S")
WSL_LINE = re.compile(r"memory=\d+GB$")


def assert_usable(command: str) -> None:
    """A config line loads as it stands, overrides load, options and repairs of metagene exist."""
    if CONFIG_LINE.match(command):
        with tempfile.TemporaryDirectory() as directory:
            config = Path(directory) / "run.yaml"
            config.write_text(command + "\n")
            loaded = load_config(config)
        assert not loaded.warnings and command.partition(":")[0] in loaded.lines, command
    elif OVERRIDES.match(command):
        assert not load_config(None, shlex.split(command)).warnings, command
    elif not WSL_LINE.match(command):
        words = shlex.split(command)
        program, *arguments = words[1:] if words[0] == "sudo" else words
        if program == "metagene":
            _assert_options_exist(arguments)
        else:
            assert program in PROGRAMS, command


def _assert_options_exist(words: list[str]) -> None:
    name, *arguments = words
    assert name in COMMANDS
    command = importlib.import_module(f"metagene_doctor.cli.{name}").command
    if isinstance(command, click.Group):
        command = command.get_command(click.Context(command), arguments.pop(0))
    assert isinstance(command, click.Command) and arguments, words
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = {word for word in arguments if re.match(r"--?[a-z]", word)}
    assert not given - known, words
    for word, value in pairwise([*arguments, ""]):
        if word == "--fix":
            assert value in ORDER, words
