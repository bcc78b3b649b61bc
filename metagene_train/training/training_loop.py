"""transformers' Trainer with this project's step, batches, metrics and checkpoints."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_callback import ExportableState

from metagene_train import run_directory
from metagene_train.config import RunConfig
from metagene_train.errors import RunError
from metagene_train.model import ReadClassifier, load_trained, save_trained
from metagene_train.tokenizer import ReadTokenizer
from metagene_train.training.batching import BatchOrder
from metagene_train.training.callbacks import (
    Epochs,
    Flow,
    InterruptedTraining,
    Interruption,
    TerminalProgress,
    Throughput,
)
from metagene_train.training.dataset import ReadDataset
from metagene_train.training.loading import evaluation_loader, training_loader
from metagene_train.training.machine_watch import MachineWatch
from metagene_train.training.step import build_optimizer, evaluation_step, forward_loss

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from metagene_train.metrics import ConfusionTally

NEVER = 2**31
"""Step interval of transformers' own evaluation and saving: `Flow` decides instead."""

SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
GIB = 2**30

COUNTED_TOGETHER = 256
"""Evaluation batches whose predictions stay on the device until they are counted: 16 bytes a read."""


class ReadTrainer(Trainer):
    """One run. Loss, optimizer and evaluation are `metagene_train.training.step`'s.

    The loss of an optimizer step is the mean over its reads, on all processes and whatever the size
    of the last micro-batch. Losses are read back from the device when they are logged only.
    """

    model: ReadClassifier
    train_dataset: ReadDataset
    eval_dataset: ReadDataset | None
    optimizer: torch.optim.Optimizer
    lr_scheduler: LambdaLR

    def __init__(
        self,
        config: RunConfig,
        model: ReadClassifier,
        tokenizer: ReadTokenizer,
        train_data: ReadDataset,
        validation_data: ReadDataset | None,
        *,
        device: torch.device,
        interruption: Interruption,
        quiet: bool,
    ):
        self.config = config
        self.directory = Path(config.training.output_dir)
        self.last_batch_shape: tuple[int, int] | None = None
        self._tokenizer = tokenizer
        self._interruption = interruption
        super().__init__(
            model=model,
            args=_arguments(config, device, validates=validation_data is not None),
            train_dataset=train_data,
            eval_dataset=validation_data,
        )
        # forward_loss divides by the reads of the whole accumulation; transformers must not divide again.
        self.model_accepts_loss_kwargs = True
        self.throughput = Throughput(self.args.world_size)
        self._machine = (
            MachineWatch(self.directory, self.args.device) if self.is_world_process_zero() else None
        )
        # Several visible GPUs without a launcher would become nn.DataParallel.
        self.args._n_gpu = min(self.args.n_gpu, 1)
        self._first_bad_step = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self._order = BatchOrder(
            len(train_data),
            config.training.batch_size,
            seed=config.seed,
            lengths=train_data.lengths if config.training.group_by_length else None,
            strands=config.dataset.reverse_complement,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        self.steps_per_epoch = math.ceil(len(self._order) / config.training.grad_accum_steps)
        self._flow = Flow(config.training, self.steps_per_epoch, interruption)
        self.remove_callback(PrinterCallback)
        self._progress = None if quiet or not self.is_world_process_zero() else TerminalProgress()
        for callback in self._own_callbacks():
            self.add_callback(callback)

    def _own_callbacks(self) -> list[TrainerCallback]:
        settings = self.config.training
        callbacks: list[TrainerCallback] = [Epochs(self._order, self.steps_per_epoch), self._flow]
        if settings.early_stopping.patience and self.eval_dataset is not None:
            stopping = settings.early_stopping
            callbacks.append(EarlyStoppingCallback(stopping.patience, stopping.min_delta))
        if self._progress:
            callbacks.append(self._progress)
        return callbacks

    def close(self) -> None:
        """Take the bar off the terminal, however the run ended."""
        if self._progress:
            self._progress.close()

    # Batches

    def get_train_dataloader(self) -> DataLoader:
        return training_loader(self.train_dataset, self._order, self.config, self._tokenizer.pad_id)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int]:
        """The micro-batches of one optimizer step and the number of their reads on all processes."""
        began = time.perf_counter()
        batches = list(islice(epoch_iterator, num_batches))
        self.throughput.wait(time.perf_counter() - began)
        for batch in batches:
            self.throughput.count(batch)
        shapes = [(batch["input_ids"].shape[0], batch["input_ids"].shape[1]) for batch in batches]
        self.last_batch_shape = max(shapes, key=math.prod, default=None)
        reads = sum(batch["labels"].shape[0] for batch in batches)
        if self.args.world_size == 1:
            return batches, reads
        return batches, self.accelerator.reduce(torch.tensor(reads, device=device), reduction="sum")

    # The step

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model, self.config)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """The schedule counts optimizer steps, the last and smaller one of each epoch included."""
        settings = self.config.scheduler
        planned = settings.num_training_steps
        total = num_training_steps if planned == "auto" else planned
        self.lr_scheduler = get_scheduler(
            SCHEDULERS[settings.name],
            optimizer or self.optimizer,
            num_warmup_steps=settings.warmup(total),
            num_training_steps=total,
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        # Processes average their gradients; the loss is a share of the reads of all of them.
        return forward_loss(model, inputs, num_items_in_batch) * self.args.world_size  # type: ignore[arg-type]

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        unnoticed = (self._first_bad_step == 0) & ~torch.isfinite(loss)
        self._first_bad_step = torch.where(unnoticed, self.state.global_step + 1, self._first_bad_step)
        return loss

    def _require_finite_loss(self) -> None:
        step = int(self._first_bad_step)
        if step:
            shape = self.lr_scheduler.lr_lambdas[0](step - 1)
            raise RunError(
                f"the loss became NaN or infinite at step {step} with a learning rate of "
                f"{shape * self.config.optimizer.lr:.3g}; the checkpoints before it are sound. Lower "
                "optimizer.lr, raise scheduler.warmup_steps, or lower optimizer.max_grad_norm"
                + (
                    "; fp16 overflows where bf16 does not: training.precision: bf16-mixed"
                    if self.config.training.precision == "fp16-mixed"
                    else ""
                )
            )

    # Metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            self._require_finite_loss()
            line = {
                "step": self.state.global_step,
                "epoch": self.state.epoch,
                "phase": "train",
                "loss": logs["loss"],
                "lr": logs["learning_rate"],
                "grad_norm": logs.get("grad_norm"),
                **self.throughput.take(),
                **peak_memory(self.args.device),
                **(self._machine.sample() if self._machine else {}),
            }
            self._append(line)
        super().log(logs, start_time)

    def _append(self, line: dict[str, Any]) -> None:
        if self.is_world_process_zero():
            run_directory.append_metrics(self.directory, line)

    def evaluate(self, *unused: Any, metric_key_prefix: str = "eval", **ignored: Any) -> dict[str, float]:
        """Plain cross-entropy (no weights, no smoothing: comparable between runs) and headline metrics
        over the validation reads."""
        from metagene_train.metrics import ConfusionTally, metrics_of

        self._require_finite_loss()
        began = time.perf_counter()
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        tally = ConfusionTally(self.model.num_labels)
        waiting: list[Tensor] = []
        assert self.eval_dataset is not None
        loader = evaluation_loader(
            self.eval_dataset,
            self.config,
            self._tokenizer.pad_id,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        for batch in loader:
            if self._interruption.requested:
                raise InterruptedTraining
            batch = self._prepare_inputs(batch)
            logits = evaluation_step(self.model, batch)
            total += functional.cross_entropy(logits, batch["labels"], reduction="sum")
            waiting.append(torch.stack((batch["labels"], logits.argmax(dim=-1))))
            if len(waiting) == COUNTED_TOGETHER:
                _count(tally, waiting)
        _count(tally, waiting)
        summed, table = _gathered(self, total, tally.table)
        metrics = metrics_of(table)
        loss = summed / metrics.reads
        if not math.isfinite(loss):
            raise RunError(
                f"the validation loss is not finite after step {self.state.global_step}; lower optimizer.lr"
            )
        values = {"loss": loss, **metrics.headline}
        seconds = time.perf_counter() - began
        self.throughput.pause(seconds)
        self._append(
            {
                "step": self.state.global_step,
                "epoch": self.state.epoch,
                "phase": "eval",
                **values,
                "seconds": seconds,
            }
        )
        logged = {f"{metric_key_prefix}_{name}": value for name, value in values.items()}
        self.log(logged)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, logged)
        return logged

    def resume(self, checkpoint: Path) -> None:
        """Train on from a checkpoint, making up for the evaluation that an interruption there prevented."""
        step = run_directory.step_of(checkpoint)
        evaluated = run_directory.evaluated_steps(self.directory)
        self.args.eval_on_start = (
            self.eval_dataset is not None and self._flow.is_due(step) and step not in evaluated
        )
        self.train(resume_from_checkpoint=str(checkpoint))

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False
    ) -> dict[str, float]:
        metrics = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        if self.args.eval_on_start and skip_scheduler:
            self._determine_best_metric(metrics)
            if self.control.should_save:
                # The random states of the checkpoint are restored after this; it must keep them.
                self._load_rng_state(str(run_directory.newest_checkpoint(self.directory)))
                self._save_checkpoint()
        return metrics

    # Checkpoints

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any = None) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        wanted = self.config.training.checkpoint
        self.control.should_save = wanted.save_last or (wanted.save_best and is_best)
        return is_best

    def _save_checkpoint(self, model: nn.Module | None = None, trial: Any = None) -> None:
        """Trained weights, optimizer, schedule, scaler, random states and position, as a whole or not at
        all: written beside its place, then renamed."""
        self._require_finite_loss()
        began = time.perf_counter()
        final = self.directory / run_directory.CHECKPOINTS / f"checkpoint-{self.state.global_step}"
        partial = final.with_name(f".{final.name}.partial")
        try:
            self._write_checkpoint(partial, final)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            failure = run_directory.not_written(final, error)
            # What is there of it takes the room that the rest of the run directory needs.
            shutil.rmtree(partial, ignore_errors=True)
            raise failure from error
        if self.is_world_process_zero():
            settings = self.config.training.checkpoint
            best = self.state.best_global_step if settings.save_best else None
            run_directory.prune_checkpoints(self.directory, settings.keep, best)
        self.throughput.pause(time.perf_counter() - began)

    def _write_checkpoint(self, partial: Path, final: Path) -> None:
        main = self.is_world_process_zero()
        if main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_trained(self.model, partial)
        self.accelerator.wait_for_everyone()
        self._save_optimizer_and_scheduler(str(partial))
        self._save_scaler(str(partial))
        self._save_rng_state(str(partial))
        self.accelerator.wait_for_everyone()
        if main:
            stateful: Any = self.state.stateful_callbacks
            for part in [*self.callback_handler.callbacks, self.control]:
                if isinstance(part, ExportableState):
                    stateful[type(part).__name__] = part.state()
            self.state.save_to_json(str(partial / "trainer_state.json"))
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)

    def save_now(self) -> None:
        self._save_checkpoint()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained(self.model, Path(resume_from_checkpoint))


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Peak allocated and reserved memory of this process since its start, GiB; None without CUDA."""
    if device.type != "cuda":
        return {"peak_allocated_gib": None, "peak_reserved_gib": None}
    return {
        "peak_allocated_gib": torch.cuda.max_memory_allocated(device) / GIB,
        "peak_reserved_gib": torch.cuda.max_memory_reserved(device) / GIB,
    }


def _arguments(config: RunConfig, device: torch.device, *, validates: bool) -> TrainingArguments:
    settings = config.training
    stopping = settings.early_stopping
    return TrainingArguments(
        output_dir=str(Path(settings.output_dir) / run_directory.CHECKPOINTS),
        seed=config.seed,
        use_cpu=device.type == "cpu",
        # Unasked, accelerate takes MPI where torch knows it; to MPI each process of torchrun is alone.
        ddp_backend="gloo" if device.type == "cpu" and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.grad_accum_steps,
        num_train_epochs=settings.max_epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=config.optimizer.lr,
        max_grad_norm=config.optimizer.max_grad_norm or 0.0,
        # The model opens its own autocast region; fp16 on CUDA also needs accelerate's loss scaling.
        fp16=settings.precision == "fp16-mixed" and device.type == "cuda",
        bf16=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=NEVER,
        save_strategy="steps",
        save_steps=NEVER,
        metric_for_best_model=stopping.metric if validates else None,
        greater_is_better=stopping.greater_is_better,
        logging_steps=config.logging.log_interval,
        logging_nan_inf_filter=False,
        torch_empty_cache_steps=config.memory_optimization.empty_cache_steps,
        report_to=["wandb"] if config.logging.use_wandb else [],
        disable_tqdm=True,
        log_level="error",
        ddp_find_unused_parameters=False,
    )


def _count(tally: ConfusionTally, waiting: list[Tensor]) -> None:
    """Count batches of true and predicted labels [2, N] that wait on the device, and let go of them. Only
    here the host waits for the device."""
    if waiting:
        labels, predictions = torch.cat(waiting, dim=1).cpu().numpy()
        tally.add(labels, predictions)
        waiting.clear()


def _gathered(trainer: Trainer, total: Tensor, table: csr_array) -> tuple[float, csr_array]:
    """Loss, and reads by true and predicted class [K, K], summed over all processes."""
    own = (float(total), table)
    if trainer.args.world_size == 1:
        return own
    from accelerate.utils import gather_object

    losses, tables = zip(*gather_object([own]), strict=True)
    return sum(losses), sum(tables[1:], start=tables[0])
