"""What happens beside the steps of a run: when to evaluate, when to stop, what the terminal shows."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import Tensor
from transformers import IntervalStrategy, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from metagene_train.config import TrainingConfig
from metagene_train.training.batching import BatchOrder


class InterruptedTraining(Exception):  # noqa: N818
    """Raised between two optimizer steps, where the state of the run is consistent."""


class Interruption:
    """While entered, the first SIGINT or SIGTERM is remembered instead of killing the process.

    A second one is a KeyboardInterrupt at once. Signals reach the main thread only; elsewhere
    nothing is installed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class BeforeTheFirstStep(TrainerCallback):
    """Calls a function when the steps of the run are planned, of a resumed run before those that are left."""

    def __init__(self, act: Callable[[], None]):
        self._act = act

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> None:
        self._act()


class Throughput:
    """Reads, tokens and padding of the steps since the last `take`, per second of training.

    Each of several ``processes`` counts its own equal share, and its rates are given for all of them.
    Evaluation and checkpoints are not training: their seconds are given to `pause`.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._start()

    def _start(self) -> None:
        self._began = time.perf_counter()
        self._paused = self._waited = 0.0
        self._reads = self._tokens = self._cells = 0

    def count(self, batch: dict[str, Tensor]) -> None:
        self._reads += batch["labels"].shape[0]
        self._tokens += int(batch["attention_mask"].sum())
        self._cells += batch["attention_mask"].numel()

    def wait(self, seconds: float) -> None:
        """Seconds in which the next batches were not there yet."""
        self._waited += seconds

    def pause(self, seconds: float) -> None:
        self._paused += seconds

    def take(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._began - self._paused, 1e-9)
        values = {
            "reads_per_s": self._processes * self._reads / seconds,
            "tokens_per_s": self._processes * self._tokens / seconds,
            "padding_fraction": 1 - self._tokens / max(self._cells, 1),
            "data_wait_fraction": min(self._waited / seconds, 1.0),
        }
        self._start()
        return values


class Flow(TrainerCallback):
    """Evaluate (or, without validation reads, save) at even parts of an epoch and after the last step;
    stop when asked to."""

    def __init__(self, settings: TrainingConfig, steps_per_epoch: int, interruption: Interruption):
        self._every = settings.eval_steps
        parts = settings.evals_per_epoch
        self._points = {
            max(1, round(part * steps_per_epoch / parts)) % steps_per_epoch for part in range(1, parts + 1)
        }
        self._steps_per_epoch = steps_per_epoch
        self._interruption = interruption

    def is_due(self, step: int) -> bool:
        if self._every is not None:
            return step % self._every == 0
        return step % self._steps_per_epoch in self._points

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.is_due(state.global_step) or state.global_step >= state.max_steps:
            control.should_log = True
            if args.eval_strategy == IntervalStrategy.NO:
                control.should_save = True
            else:
                control.should_evaluate = True
        if self._interruption.requested:
            control.should_evaluate = False
            control.should_save = True
            control.should_training_stop = True


class Epochs(TrainerCallback):
    """Tells the order of batches which epoch begins.

    transformers tells the loader, but not in every 5.x the one that skips batches after a resume, which
    would then go on in the order of the first epoch.
    """

    def __init__(self, order: BatchOrder, steps_per_epoch: int):
        self._order = order
        self._steps_per_epoch = steps_per_epoch

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._order.set_epoch(state.global_step // self._steps_per_epoch)


class TerminalProgress(TrainerCallback):
    """A bar on a terminal's stderr, or one line per evaluation where stderr is a file."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._latest: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if sys.stderr.isatty():
            self._bar = progress_bar("{task.fields[latest]}")
            self._task = self._bar.add_task(
                "Training", total=state.max_steps, completed=state.global_step, latest=""
            )
            self._bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "train_loss" in logs:
            return
        self._latest |= {key: value for key, value in logs.items() if key in ("loss", "eval_loss")}
        self._latest |= {key: value for key, value in logs.items() if key in ("eval_macro_f1", "eval_mcc")}
        text = "  ".join(f"{key.replace('eval_', 'val ')} {value:.4f}" for key, value in self._latest.items())
        if self._bar:
            self._bar.update(self._task, latest=text)
        elif "eval_loss" in logs:
            sys.stderr.write(f"step {state.global_step}/{state.max_steps}  {text}\n")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def progress_bar(*columns: str) -> Any:
    """A rich progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *(TextColumn(column) for column in columns),
        console=Console(stderr=True),
    )


@contextmanager
def byte_progress(description: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A callable for (bytes done, bytes in all) that moves a bar; None where no bar is wanted."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with progress_bar() as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
