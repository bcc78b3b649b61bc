"""What lies in the output directory: training starts in an empty one, or resumes the same config's run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

from metagene_doctor.finding import Frozen
from metagene_train.config import RunConfig


class PreviousRun(Frozen):
    """``state`` of the directory named by ``training.output_dir``."""

    directory: str
    state: Literal["free", "other files", "run"]
    step: int | None = None
    """Of its newest checkpoint."""
    finished: bool = False
    """It has exported its model."""
    differences: tuple[str, ...] = ()
    """Keys that keep this config from resuming the run there: ``model.lora.r was 8, is 16``."""
    free_directory: str
    """A directory of a similar name that does not exist."""

    @property
    def continues(self) -> bool:
        """An unfinished run of this config, which --resume goes on with."""
        return self.state == "run" and not self.finished and not self.differences


def collect(config: RunConfig) -> PreviousRun:
    """Raises ConfigError when the directory holds a run whose config is damaged."""
    from metagene_train import run_directory

    named = config.training.output_dir
    directory = Path(named)
    state = run_directory.state_of(directory)
    is_run = state == "run"
    others = (f"{named.rstrip('/')}-{number}" for number in itertools.count(2))
    newest = run_directory.newest_checkpoint(directory) if is_run else None
    return PreviousRun(
        directory=named,
        state=state,
        step=None if newest is None else run_directory.step_of(newest),
        finished=is_run and (directory / run_directory.MODEL).exists(),
        differences=tuple(run_directory.differences(directory, run_directory.as_kept(config)))
        if is_run
        else (),
        free_directory=next(other for other in others if not Path(other).exists()),
    )
