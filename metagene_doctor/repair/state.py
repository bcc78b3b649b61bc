"""What a run has finished, so that one that was killed goes on and nothing is written twice."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from metagene_doctor.repair.outputs import PARTIAL, sync_directory
from metagene_doctor.repair.plan import Plan
from metagene_train.errors import InputError

MANIFEST = "manifest.json"
WORK = ".metagene-repair"
_STATE, _LOCK = "state.json", "lock"


class State:
    """The work directory of a run, inside its output directory, and the results of finished stages."""

    def __init__(self, directory: Path, plan: Plan):
        self.directory = directory
        self.work = directory / WORK
        self._path = self.work / _STATE
        self._lock: IO[bytes] | None = None
        self._known: dict[str, Any] = {"key": plan.key(), "done": {}}

    @classmethod
    def begin(cls, directory: Path, plan: Plan) -> State:
        """A new run, or the rest of one. Raises InputError if the directory holds anything else."""
        state = cls(directory, plan)
        with _refusing(directory), ExitStack() as undo:
            undo.callback(state.close)
            state._refuse_foreign()
            state.work.mkdir(parents=True, exist_ok=True)
            state._lock = (state.work / _LOCK).open("wb")
            fcntl.flock(state._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not state._path.exists():
                state._save()
            undo.pop_all()
        return state

    def _refuse_foreign(self) -> None:
        if not self.directory.exists():
            return
        if not self.directory.is_dir():
            raise InputError(f"{self.directory}: is a file; -o names a directory")
        if self._path.exists():
            known = _load(self._path)
            if known.get("key") != self._known["key"]:
                raise InputError(
                    f"{self.directory}: holds an unfinished repair of other inputs, or with other options; "
                    "remove it or choose another directory"
                )
            self._known = known
        elif (self.directory / MANIFEST).exists():
            if _load(self.directory / MANIFEST).get("key") == self._known["key"]:
                raise InputError(f"{self.directory}: holds this repair, finished; nothing is left to do")
            raise InputError(f"{self.directory}: holds a finished repair; choose another directory")
        elif any(entry.name != WORK for entry in self.directory.iterdir()):
            raise InputError(f"{self.directory}: is not empty; choose another directory")

    def result(self, stage: str) -> Any:
        """What a finished stage left, None if it is not finished."""
        return self._known["done"].get(stage)

    def finish(self, stage: str, result: Any) -> None:
        self._known["done"][stage] = result
        self._save()

    def fresh(self, name: str) -> Path:
        """An empty directory for a stage, whatever an earlier attempt left there."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def forget_partial_files(self) -> None:
        for path in self.directory.glob(f"*{PARTIAL}"):
            path.unlink()

    def end(self) -> None:
        """Remove the work directory: the run is finished. The state goes last, so that what is left
        behind by a kill is known as this run's."""
        for entry in self.work.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)
        self.close()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _save(self) -> None:
        partial = self._path.with_name(f"{_STATE}{PARTIAL}")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self._known, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        sync_directory(self.work)


def is_new(directory: Path) -> bool:
    """Whether no repair has started there. Raises InputError if that cannot be seen."""
    with _refusing(directory):
        return not any((directory / name).exists() for name in (WORK, MANIFEST))


@contextmanager
def _refusing(directory: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise InputError(f"{directory}: another repair is writing there") from None
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror})") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); choose another directory") from None
    return known if isinstance(known, dict) else {}
