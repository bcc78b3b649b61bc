"""The examples of docs/memory.md and docs/autotune.md, run as they are written."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from metagene_doctor.memory import profiling

DOCS = Path(__file__).parents[1] / "docs"


def example(document: str) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / document).read_text(), re.MULTILINE | re.DOTALL)
    return found


def test_the_example_of_any_model_runs(capsys):
    names: dict[str, object] = {}
    exec(compile(example("memory.md"), "docs/memory.md", "exec"), names)
    out = capsys.readouterr().out
    assert re.match(r"\d+\.\d\d GiB in \w+, fits: (True|False)\n\{'weights': ", out)
    answer = names["answer"]
    assert isinstance(answer, profiling.MemoryProfile)
    # 16 layers of 202 million parameters and two tables of 131 million, in bf16, with gradients and
    # two moments of the same size each; the peak comes on top.
    parameters = 16 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 2 * 32000 * 4096 + 4096
    assert answer.breakdown["adapters"] * 2**30 == pytest.approx(2 * parameters, rel=0.001)
    assert answer.live_gib * 2**30 > 4 * 2 * parameters


def test_the_module_shows_the_same_example_on_one_line_less():
    """`help(metagene_doctor.memory.profiling)` and the documentation do not drift apart."""

    def lines(text: str) -> list[str]:
        found = [line.strip() for line in text.splitlines() if line.strip()]
        return [line for line in found if not line.startswith("print(")]

    written = inspect.getdoc(profiling) or ""
    assert lines(example("memory.md")) == lines(written.split("step:\n", 1)[1])


def test_the_example_of_autotune_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path))
    exec(compile(example("autotune.md"), "docs/autotune.md", "exec"), {})
    out = capsys.readouterr().out
    needed, speed = out.split("\n")[0].split(" ")
    assert 12 < float(needed) < 24 and float(speed) > 1
    assert "batch_size:" in out and "[EV-" in out
