"""The README says what the program does: help text, commands, options and links are held against it."""

import re
import shlex
from pathlib import Path

import click
import pytest

from metagene_doctor.cli.main import COMMANDS, group, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TYPED = [
    pytest.param(page, line, id=f"{page.name}: {line}")
    for page in PAGES
    for line in re.findall(r"^(?:    |\$ )?(metagene [a-z]+(?: [^`\n]*)?)$", page.read_text(), re.MULTILINE)
    if line.split()[1] in COMMANDS
]


def test_the_help_block_is_what_help_prints(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.strip() in (ROOT / "README.md").read_text()


def test_pages_link_to_pages_that_exist_and_the_readme_to_all():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    readme = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_options_of_documented_commands_exist(page, line):
    words = shlex.split(line.partition("#")[0].partition(" [")[0])[1:]
    command = group.get_command(click.Context(group), words[0])
    for word in words[1:]:
        if isinstance(command, click.Group) and word in command.commands:
            command = command.commands[word]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    assert used <= known | {"--help"}, f"{page.name}: {line}"
