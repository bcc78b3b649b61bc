"""Does pyfastx, a reader that shares no code with ours, read the same records from a file?

Both readers go through the file in step, and every record is compared: the first word of its
header, its sequence, its quality. It runs in a process of its own (``python -m`` this module),
with a handle of its own: pyfastx objects must not cross a fork, and a crash is then an answer.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from metagene_doctor.finding import Frozen

READABLE = ("none", "gzip", "bgzf")
"""Compressions that pyfastx reads."""

SHOWN = 40


class Difference(Frozen):
    """The first record that the two readers see differently; ``line`` is where ours found it."""

    record: int
    line: int
    what: str


class SecondReaderFacts(Frozen):
    version: str
    records: int = 0
    """Records that both read alike, from the start."""
    bases: int = 0
    """Letters of these, blanks not counted."""
    difference: Difference | None = None
    stopped: str | None = None
    """Why pyfastx did not come to the end."""


def collect(path: Path, file_format: str = "auto") -> SecondReaderFacts:
    """Compare the readers on an undamaged file."""
    version = importlib.metadata.version("pyfastx")
    command = [sys.executable, "-m", __spec__.name, str(path), file_format]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return SecondReaderFacts(version=version, stopped=f"it was killed by signal {-done.returncode}")
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return SecondReaderFacts(version=version, **json.loads(done.stdout))


def compare(path: Path, file_format: str = "auto") -> dict[str, Any]:
    """The fields of `SecondReaderFacts`, but for the version."""
    from metagene_train.reads.records.records import Read, iter_reads

    records = bases = 0
    theirs = _records_of_pyfastx(path)
    for ours, second in zip_longest(iter_reads(path, file_format=file_format), theirs):
        if isinstance(second, _Stopped):
            return {"records": records, "bases": bases, "stopped": second.why}
        first = _plain(ours) if isinstance(ours, Read) else None
        if first != second:
            line = ours.line if ours else 0
            difference = {"record": records + 1, "line": line, "what": _described(first, second)}
            return {"records": records, "bases": bases, "difference": difference}
        records += 1
        bases += len(second[1])
    return {"records": records, "bases": bases}


Plain = tuple[str, str, str | None]
"""First word of the header, sequence without blanks, quality."""


class _Stopped:
    """Stands for the rest of the records of a reader that failed."""

    def __init__(self, error: BaseException):
        cause = error.__cause__ or error
        self.why = f"{type(cause).__name__}: {cause}"


def _records_of_pyfastx(path: Path) -> Iterator[Plain | _Stopped]:
    import pyfastx

    try:
        # The path has to be a string: pyfastx crashes on a Path.
        for name, sequence, *rest in pyfastx.Fastx(str(path)):
            yield _first_word(name), "".join(sequence.split()), rest[0] if rest else None
    except (SystemError, RuntimeError, UnicodeDecodeError, ValueError, OSError) as error:
        yield _Stopped(error)


def _plain(read: Any) -> Plain:
    quality = None if read.quality is None else read.quality.decode("latin-1")
    return _first_word(read.header), "".join(read.sequence.decode("latin-1").split()), quality


def _first_word(header: str) -> str:
    return (header.split(maxsplit=1) or [""])[0]


def _described(first: Plain | None, second: Plain | None) -> str:
    if first is None or second is None:
        return "pyfastx has another record there" if first is None else "pyfastx has no such record"
    for part, ours, theirs in zip(("name", "sequence", "quality"), first, second, strict=True):
        if ours != theirs:
            return f"the {part} is {_shown(ours)} here and {_shown(theirs)} to pyfastx"
    raise ValueError("the records are the same")


def _shown(text: str | None) -> str:
    if text is None:
        return "absent"
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…") + f" ({len(text):,} letters)"


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]), sys.argv[2])))
