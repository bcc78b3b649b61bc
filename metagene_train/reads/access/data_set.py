"""A data set is one reads file or several, in the order in which they are named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from metagene_train.errors import InputError
from metagene_train.reads.records.formats import is_stream, name_of

_WILDCARDS = "*?["


def distinct_files(named: str | Path | Sequence[str | Path], output: str | Path | None = None) -> list[Path]:
    """The files that are meant, names with ``*``, ``?`` or ``[`` replaced by the files they match, sorted.

    A pattern does not match ``output``, the file or directory that is being written, nor anything in it:
    the same command means the same files when it is given again.

    Raises InputError for a name that matches nothing, for a file that is named twice, also by another
    name, and for standard input named twice.
    """
    names = [named] if isinstance(named, (str, Path)) else list(named)
    files = [file for name in names for file in _matches(name, output)]
    seen: dict[tuple[int, int] | str, Path] = {}
    for file in files:
        identity = _identity(file)
        if identity in seen:
            earlier = name_of(seen[identity])
            other = "" if earlier == name_of(file) else f" (as {earlier} and as {name_of(file)})"
            raise InputError(f"{name_of(file)}: is named twice{other}; its reads would count twice")
        seen[identity] = file
    return files


def spelled_out(named: str | Sequence[str]) -> str | list[str]:
    """What was named with its patterns replaced by the files they match now: a name, or a list of them.

    Raises InputError as `distinct_files` does.
    """
    files = [str(file) for file in distinct_files(named)]
    return files[0] if len(files) == 1 else files


def shared_files(first: Sequence[Path], second: Sequence[Path]) -> list[Path]:
    """Files of the second list that are also in the first, whatever they are called."""
    known = {_identity(file) for file in first}
    return [file for file in second if _identity(file) in known]


def title_of(files: Sequence[str | Path]) -> str:
    """A name for all of them in a sentence: ``a.fa``, ``a.fa and b.fa``, ``a.fa and 11 more files``."""
    names = [name_of(Path(file)) for file in files]
    if len(names) > 2:
        return f"{names[0]} and {len(names) - 1} more files"
    return " and ".join(names)


def _matches(name: str | Path, output: str | Path | None) -> list[Path]:
    text = str(name)
    if not any(letter in text for letter in _WILDCARDS) or _state(Path(text)) is not None:
        return [Path(text)]
    pattern = Path(text).expanduser()
    found = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    if output is not None:
        place = Path(output).resolve()
        found = [file for file in found if not file.resolve().is_relative_to(place)]
    if not found:
        raise InputError(f"{text}: matches no file")
    return found


def _identity(file: Path) -> tuple[int, int] | str:
    """What two names of one file share. Files that cannot be found are left for the reader to report."""
    state = None if str(file) == "-" or is_stream(file) else _state(file)
    return str(file) if state is None else (state.st_dev, state.st_ino)


def _state(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
