"""`train`: a run from its configuration to a model directory."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metagene_train import run_directory
from metagene_train.allocator import configure_allocator
from metagene_train.config import ReadsFiles, RunConfig
from metagene_train.errors import ConfigError, MetageneError, RunError
from metagene_train.labels import LabelMap, read_mapping

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metagene_train.tokenizer import ReadTokenizer
    from metagene_train.training.callbacks import Interruption
    from metagene_train.training.dataset import ReadDataset
    from metagene_train.training.training_loop import ReadTrainer


@dataclass(frozen=True)
class TrainingSummary:
    """What became of a run; ``run.json``. Seconds are of this session, not of those before a resume.
    ``planned_steps`` is None until the first step is about to be taken."""

    status: Literal["running", "finished", "interrupted", "failed"]
    output_dir: str
    device: str
    error: str | None = None
    steps: int = 0
    planned_steps: int | None = None
    epochs: float = 0.0
    seconds: float = 0.0
    resumed_from_step: int | None = None
    train_reads: int = 0
    validation_reads: int = 0
    excluded_reads: int = 0
    classes: int = 0
    trained_parameters: int = 0
    best_metric: str | None = None
    best_value: float | None = None
    best_step: int | None = None
    exported_step: int | None = None
    peak_allocated_gib: float | None = None
    peak_reserved_gib: float | None = None


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    foretell: Callable[[], Mapping[str, Any] | None] | None = None,
    doctor: Mapping[str, Any] | None = None,
) -> TrainingSummary:
    """Train, evaluate, checkpoint and export one run into ``training.output_dir``.

    ``foretell`` is asked, once the reads are open and before the model is built, what is expected of the
    run, and ``doctor`` is what was found in its files; they are kept as ``predicted.json`` and
    ``doctor.json``, beside what is measured.

    ``resume`` continues the run of that directory from its newest checkpoint (or from the start when
    it had none yet), with the same batches and schedule as if it had not stopped. SIGINT and
    SIGTERM save a checkpoint and return with status ``interrupted``. Raises ConfigError, InputError
    (also for a directory that holds another run), DataError, and RunError for what fails on the
    way; ``run.json`` then says so.
    """
    # Before anything that could touch CUDA.
    configure_allocator(config.memory_optimization)
    import torch

    from metagene_train.training.callbacks import BeforeTheFirstStep, Interruption

    device = _device(config)
    labels = _labels(config)
    config = run_directory.as_kept(config)
    _check_reporting(config)
    directory = Path(config.training.output_dir)
    checkpoint = run_directory.claim(directory, config, labels, resume=resume) if _is_main() else None
    checkpoint = checkpoint or (run_directory.newest_checkpoint(directory) if resume else None)
    _keep(directory / run_directory.DOCTOR, doctor)
    began = time.monotonic()
    summary = TrainingSummary("running", str(directory), _device_name(device), classes=len(labels))
    _write_summary(summary)
    trainer: ReadTrainer | None = None
    try:
        tokenizer, train_data, validation_data = _data(config, labels, quiet)
        summary = replace(
            summary,
            train_reads=len(train_data),
            validation_reads=len(validation_data) if validation_data else 0,
            excluded_reads=train_data.excluded_reads
            + (validation_data.excluded_reads if validation_data else 0),
        )
        if foretell is not None and _is_main():
            _keep(directory / run_directory.PREDICTED, foretell())
        interruption = Interruption()
        trainer = _trainer(
            config, tokenizer, train_data, validation_data, labels, device, interruption, quiet
        )
        planned = partial(_write_planned, summary, trainer, checkpoint)
        trainer.add_callback(BeforeTheFirstStep(planned))
        with interruption:
            interrupted = _run(trainer, checkpoint)
        exported = None if interrupted else _export(trainer, tokenizer, labels)
        summary = replace(
            summary, status="interrupted" if interrupted else "finished", exported_step=exported
        )
    except torch.OutOfMemoryError:
        failure = RunError(_out_of_memory(config, trainer, _cuda_memory(device)))
        summary = replace(summary, status="failed", error=str(failure))
        raise failure from None
    except MetageneError as error:
        summary = replace(summary, status="failed", error=str(error))
        raise
    except KeyboardInterrupt:
        summary = replace(summary, status="interrupted", error="interrupted before a checkpoint was saved")
        raise
    except Exception as error:
        summary = replace(summary, status="failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        summary = replace(summary, seconds=time.monotonic() - began, **_progress(trainer, checkpoint))
        # On a full disk the run has failed already, and why is what has to be told.
        with suppress(OSError) if summary.status == "failed" else nullcontext():
            _write_summary(summary)
    return summary


def _keep(path: Path, record: Mapping[str, Any] | None) -> None:
    if record is not None and _is_main():
        run_directory.write_text(path, json.dumps(record, indent=1) + "\n")


def _device(config: RunConfig) -> torch.device:
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(["device: cuda asked for, torch finds no CUDA device; set it to auto or cpu"])
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if config.training.precision.startswith("bf16") and torch.cuda.get_device_capability(device) < (8, 0):
        raise ConfigError(
            [
                f"training.precision: {torch.cuda.get_device_name(device)} has no bf16; "
                "use fp16-mixed (GPUs before Ampere)"
            ]
        )
    return device


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _labels(config: RunConfig) -> LabelMap:
    settings = config.dataset
    missing = [
        f"dataset.{key}: is not set; training needs it"
        for key in ("train_fasta", "mapping_tsv")
        if getattr(settings, key) is None
    ]
    if missing or settings.mapping_tsv is None:
        raise ConfigError(missing)
    labels = LabelMap.from_mapping(
        read_mapping(
            settings.mapping_tsv,
            class_column=settings.class_column,
            label_column=settings.label_column,
            tax_column=settings.tax_column,
        )
    )
    if config.model.num_classes not in ("auto", len(labels)):
        raise ConfigError(
            [
                f"model.num_classes: is {config.model.num_classes}, {settings.mapping_tsv} has "
                f"{len(labels)} classes; set it to auto"
            ]
        )
    return labels


def _check_reporting(config: RunConfig) -> None:
    from importlib.util import find_spec

    if not config.logging.use_wandb:
        return
    if find_spec("wandb") is None:
        raise ConfigError(
            ["logging.use_wandb: wandb is not installed: pip install wandb, or set it to false"]
        )
    os.environ.setdefault("WANDB_PROJECT", config.logging.wandb_project)
    if config.logging.wandb_entity:
        os.environ.setdefault("WANDB_ENTITY", config.logging.wandb_entity)


def _data(
    config: RunConfig, labels: LabelMap, quiet: bool
) -> tuple[ReadTokenizer, ReadDataset, ReadDataset | None]:
    from metagene_train.open_reads import open_reads
    from metagene_train.reads.access.data_set import distinct_files, title_of
    from metagene_train.tokenizer import load_tokenizer
    from metagene_train.training.callbacks import byte_progress
    from metagene_train.training.dataset import ReadDataset

    tokenizer = load_tokenizer(config.tokenizer, config.model.encoder_path)

    def dataset(files: ReadsFiles) -> ReadDataset:
        with byte_progress(f"Indexing {title_of(distinct_files(files))}", quiet) as progress:
            index = open_reads(files, config.dataset, progress)
        return ReadDataset(index, labels, tokenizer, config)

    assert config.dataset.train_fasta is not None
    train_data = dataset(config.dataset.train_fasta)
    validation = config.dataset.val_fasta
    return tokenizer, train_data, dataset(validation) if validation else None


def _trainer(
    config: RunConfig,
    tokenizer: ReadTokenizer,
    train_data: ReadDataset,
    validation_data: ReadDataset | None,
    labels: LabelMap,
    device: torch.device,
    interruption: Interruption,
    quiet: bool,
) -> ReadTrainer:
    from transformers import set_seed

    from metagene_train.model import build_model
    from metagene_train.training.training_loop import ReadTrainer

    set_seed(config.seed)
    model = build_model(config, len(labels), device=device)
    weights = class_weights(train_data.label_counts, config.loss.class_weights)
    model.class_weights = None if weights is None else weights.to(device)
    return ReadTrainer(
        config,
        model,
        tokenizer,
        train_data,
        validation_data,
        device=device,
        interruption=interruption,
        quiet=quiet,
    )


def class_weights(reads: np.ndarray, kind: str) -> torch.Tensor | None:
    """Weight of each class [K] fp32 for ``loss.class_weights``, with mean 1 over its reads [K].

    A class without training reads weighs as one with a single read.
    """
    import numpy as np
    import torch

    if kind == "none":
        return None
    weights = (reads.sum() / np.maximum(reads, 1)) ** (0.5 if kind == "sqrt" else 1.0)
    weights /= (weights * reads).sum() / reads.sum()
    return torch.tensor(weights, dtype=torch.float32)


def _run(trainer: ReadTrainer, checkpoint: Path | None) -> bool:
    """Take the steps; True when a signal ended them early (a checkpoint is then saved)."""
    from metagene_train.training.callbacks import InterruptedTraining

    if _is_main():
        last = run_directory.step_of(checkpoint) if checkpoint else -1
        run_directory.forget_metrics_after(trainer.directory, last)
    try:
        if checkpoint:
            trainer.resume(checkpoint)
        else:
            trainer.train()
    except InterruptedTraining:
        trainer.save_now()
        return True
    finally:
        trainer.close()
    return trainer._interruption.requested and trainer.state.global_step < trainer.state.max_steps


def _export(trainer: ReadTrainer, tokenizer: ReadTokenizer, labels: LabelMap) -> int:
    """Write ``model/`` from the best checkpoint (the last weights where none is kept); its step."""
    from metagene_train.model import load_trained, save_model

    model = trainer.model
    step = trainer.state.global_step
    best = trainer.state.best_global_step
    checkpoint = trainer.directory / run_directory.CHECKPOINTS / f"checkpoint-{best}"
    if trainer.config.training.checkpoint.save_best and best and checkpoint.exists():
        load_trained(model, checkpoint)
        step = best
    if trainer.is_world_process_zero():
        target = trainer.directory / run_directory.MODEL
        try:
            save_model(model, tokenizer, labels, trainer.config, target)
        except Exception as error:
            failure = run_directory.not_written(target, error)
            shutil.rmtree(target, ignore_errors=True)
            raise failure from error
    return step


def _progress(trainer: ReadTrainer | None, checkpoint: Path | None) -> dict[str, Any]:
    from metagene_train.training.training_loop import peak_memory

    if trainer is None:
        return {}
    state = trainer.state
    validates = trainer.eval_dataset is not None and bool(state.best_global_step)
    return {
        "steps": state.global_step,
        "planned_steps": state.max_steps if state.max_steps > 0 else None,
        "epochs": state.epoch or 0.0,
        "resumed_from_step": run_directory.step_of(checkpoint) if checkpoint else None,
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "best_metric": trainer.config.training.early_stopping.metric if validates else None,
        "best_value": state.best_metric if validates else None,
        "best_step": state.best_global_step if validates else None,
        **peak_memory(trainer.args.device),
    }


def _write_planned(summary: TrainingSummary, trainer: ReadTrainer, checkpoint: Path | None) -> None:
    _write_summary(replace(summary, **_progress(trainer, checkpoint)))


def _write_summary(summary: TrainingSummary) -> None:
    if not _is_main():
        return
    packages = ("metagene", "torch", "transformers", "peft")
    document = asdict(summary) | {"versions": {name: version(name) for name in packages}}
    run_directory.write_json(Path(summary.output_dir) / run_directory.SUMMARY, document)


def _cuda_memory(device: torch.device) -> str:
    import torch

    peak = torch.cuda.max_memory_allocated(device) / 2**30
    reserved = torch.cuda.max_memory_reserved(device) / 2**30
    total = torch.cuda.get_device_properties(device).total_memory / 2**30
    return (
        f"{_device_name(device)}: allocated {peak:.2f} GiB and reserved {reserved:.2f} GiB at the peak, "
        f"of {total:.2f} GiB"
    )


def _out_of_memory(config: RunConfig, trainer: ReadTrainer | None, memory: str) -> str:
    settings = config.training
    if trainer is None:
        where = "while loading the encoder"
    else:
        where = f"at step {trainer.state.global_step + 1}"
        if trainer.last_batch_shape:
            reads, tokens = trainer.last_batch_shape
            where += f" (micro-batch of {reads} reads, {tokens} tokens wide)"
    remedies = []
    if settings.batch_size > 1:
        half = settings.batch_size // 2
        accumulation = -(-settings.effective_batch // half)
        remedies.append(
            f"training.batch_size={half} training.grad_accum_steps={accumulation} (the same effective batch)"
        )
    if not config.model.gradient_checkpointing:
        remedies.append("model.gradient_checkpointing=true (about a third more time)")
    if config.tokenizer.padding == "max_length":
        remedies.append("tokenizer.padding=longest")
    if config.model.quantization == "none":
        remedies.append(
            "model.quantization=nf4, or int8 from compute capability 7.5 on (smaller frozen weights)"
        )
    advice = f" In order of effect: {'; '.join(remedies)}." if remedies else ""
    return (
        f"CUDA ran out of memory {where}, {memory}.{advice} "
        "`metagene estimate` computes what a change needs before it runs"
    )
