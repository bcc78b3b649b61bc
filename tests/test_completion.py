"""`metagene completion`: the scripts, and what a shell is offered through them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metagene_doctor.cli.main import COMMANDS, main

PROGRAM = str(Path(sys.executable).with_name("metagene"))


def offered(shell: str, words: str, word: str) -> str:
    """What the program answers a shell; ``word`` is the place of the word to complete (of fish: itself)."""
    environment = os.environ | {
        "_METAGENE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": word
    }  # fmt: skip
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_this_program(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_METAGENE_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(("shell", "word"), [("bash", "1"), ("zsh", "1"), ("fish", "")])
def test_every_command_is_offered(shell, word):
    answer = offered(shell, "metagene", word)
    assert [name for name in COMMANDS if name not in answer] == []


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("metagene doctor --fasta rea", "file,rea"),
        ("metagene doctor --encoder ", "file,"),
        ("metagene doctor --json ", "file,"),
        ("metagene doctor --level d", "plain,deep"),
        ("metagene doctor --only V0", "\n".join(f"plain,V0{number}" for number in range(1, 10))),
        ("metagene doctor --only T01,t", "plain,T01,tokenizer\nplain,T01,T02"),
        ("metagene doctor --skip sp", "plain,split"),
        ("metagene doctor --fix deduplicate,s", "plain,deduplicate,split\nplain,deduplicate,shuffle"),
        ("metagene doctor --header-regex ", ""),
        ("metagene autotune --fasta rea", "file,rea"),
        ("metagene completion f", "plain,fish"),
        ("metagene config sh", "plain,show"),
    ],
)
def test_options_choices_and_files(words, answer):
    assert offered("bash", words, str(len(words.split(" ")) - 1)) == answer


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(tmp_path):
    script = tmp_path / "completion.sh"
    with script.open("w") as output:
        subprocess.run([PROGRAM, "completion", "bash"], stdout=output, check=True)
    asked = (
        f"source {script}; COMP_WORDS=(metagene doc); COMP_CWORD=1; _metagene_completion {PROGRAM}; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "doctor" and done.stderr == ""


def test_another_shell_is_a_usage_error(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
