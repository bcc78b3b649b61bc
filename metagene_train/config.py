"""RunConfig: everything a run is told, as typed models. The YAML file is these models, spelled out.

The keys are the ones of the METAGENE classification guide, so that a configuration written for the
guide's trainer loads unchanged; `metagene_train.config_file` reads and writes the YAML, maps
guide-era spellings and reports problems with their line. Lengths are in tokens, never bases.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from metagene_train.reads.headers.pattern import HEADER_REGEX

METAGENE_1 = "metagene-ai/METAGENE-1"
"""The encoder and tokenizer that an unchanged configuration fine-tunes."""

ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")

Fraction = Annotated[float, Field(ge=0, le=1)]

ReadsFiles = str | Annotated[list[str], Field(min_length=1)]
"""A file, a pattern (``reads/*.fa``), or a list of both; `reads.data_set.distinct_files` says which files."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are checked on assignment."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class TokenizerConfig(Section):
    name_or_path: str = METAGENE_1
    """Hub id, directory of a Hugging Face tokenizer, or a minbpe ``.model`` file."""
    use_hf_tokenizer: bool = True
    """False: ``name_or_path`` is a minbpe ``.model`` file."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Longest read kept, in tokens with the special ones; longer reads are cut to it."""
    padding: Literal["longest", "max_length"] = "longest"
    """Pad a batch to its longest read, or every batch to ``max_length`` (wasteful)."""
    truncation: bool = True
    """False: a read longer than ``max_length`` tokens is an error instead of being cut."""
    add_special_tokens: bool = True
    """Append the tokenizer's own special tokens ([EOS] for METAGENE-1), as in pre-training."""


class LoraConfig(Section):
    enabled: bool = True
    """False: the encoder stays frozen and only the head is trained (a linear probe)."""
    r: Annotated[int, Field(ge=1, le=1024)] = 8
    """Adapter rank."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """Adapters are scaled by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout on the adapters' input, one mask for the adapters that share an input."""
    target_modules: list[str] | Literal["all-linear"] = list(ATTENTION_PROJECTIONS)
    """Adapted modules."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases are trained; Llama has none."""
    use_rslora: bool = False
    """Scale by alpha/sqrt(r) instead of alpha/r (arXiv:2312.03732)."""

    @field_validator("target_modules")
    @classmethod
    def _not_empty(cls, value: list[str] | str) -> list[str] | str:
        if not value:
            raise ValueError("name at least one module, or set model.lora.enabled: false")
        return value


class ModelConfig(Section):
    encoder_path: str = METAGENE_1
    """Hub id or directory of a Llama-like encoder."""
    revision: str | None = None
    """Hub commit or tag; None is the hub's main branch at the time of the run."""
    encoder_layers: PositiveInt | None = None
    """Use only the first N layers; None is all of them."""
    pooling: Literal["mean", "max", "cls"] = "mean"
    """Over real tokens only; ``cls`` is the last real token, the only one that saw the whole read."""
    num_classes: PositiveInt | Literal["auto"] = "auto"
    """``auto``: as many as the mapping table has."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Before the linear head."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    """Hold the frozen encoder in 8 or 4 bits (needs the extra ``quant``; much slower on a CPU)."""
    lora: LoraConfig = LoraConfig()


class DatasetConfig(Section):
    train_fasta: ReadsFiles | None = None
    """Training reads: FASTA or FASTQ, plain or compressed; a file, a pattern or a list of them."""
    val_fasta: ReadsFiles | None = None
    """Validation reads, likewise; without them there is no evaluation and no early stopping."""
    test_fasta: ReadsFiles | None = None
    """Reads for ``metagene evaluate``, likewise."""
    mapping_tsv: str | None = None
    """Table of classes."""
    header_regex: str = HEADER_REGEX
    """Pattern of read headers, with a group for the class id."""
    file_format: Literal["auto", "fasta", "fastq"] = "auto"
    gzip: Literal["auto"] | bool = "auto"
    """``auto`` looks at the file; True asks for gzip, False for anything else."""
    strict_classes: bool = True
    """True: a read whose class is not in the mapping is an error; False: skipped and counted."""
    label_column: str = "label_name"
    """Column of the mapping with class names."""
    class_column: str = "class_id"
    """Column of the mapping with class ids."""
    tax_column: str = "tax_id"
    """Column of the mapping with taxonomy ids; may be absent."""
    index_dir: str | None = None
    """Where read indexes are kept; None is ``$METAGENE_CACHE`` or ``~/.cache/metagene``."""
    reverse_complement: bool = False
    """Train on a random strand of each read and average both strands at prediction."""

    @field_validator("header_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import re

        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        if "class_id" not in groups:
            raise ValueError("must have a group (?P<class_id>...)")
        return value


class EarlyStoppingConfig(Section):
    patience: Annotated[int, Field(ge=0)] = 3
    """Evaluations without improvement before the run stops; 0 never stops early."""
    metric: Literal["macro_f1", "micro_f1", "mcc", "accuracy", "loss"] = "macro_f1"
    mode: Literal["max", "min"] | None = None
    """None follows the metric: ``min`` for loss, ``max`` otherwise."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Smaller improvements do not count."""

    @property
    def greater_is_better(self) -> bool:
        return self.metric != "loss" if self.mode is None else self.mode == "max"


class CheckpointConfig(Section):
    save_best: bool = True
    """Keep the checkpoint of the best evaluation, which ``model/`` is made from."""
    save_last: bool = True
    """Keep the newest checkpoints."""
    keep: PositiveInt = 2
    """Checkpoints kept besides the best one."""


class TrainingConfig(Section):
    output_dir: str = "outputs/exp1"
    """The run directory."""
    batch_size: PositiveInt = 128
    """Micro-batch: reads in one forward pass on one device."""
    eval_batch_size: PositiveInt | None = None
    """Reads in one evaluation batch; None is ``batch_size``."""
    grad_accum_steps: PositiveInt = 1
    """Effective batch = batch_size x grad_accum_steps x devices."""
    max_epochs: Annotated[float, Field(gt=0)] = 10
    """Passes over the training reads."""
    max_steps: PositiveInt | None = None
    """Optimizer steps; when given it overrides ``max_epochs``."""
    evals_per_epoch: PositiveInt = 2
    """Evaluations per epoch."""
    eval_steps: PositiveInt | None = None
    """Optimizer steps between evaluations; when given it overrides ``evals_per_epoch``."""
    precision: Literal["bf16-mixed", "fp16-mixed", "bf16-true", "32"] = "bf16-mixed"
    group_by_length: bool = True
    """Batch reads of similar token length together (less padding, same shuffling of batches)."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read and tokenize ahead; 0 does it in the training process."""
    prefetch_factor: PositiveInt = 2
    """Batches each worker keeps ready."""
    persistent_workers: bool = True
    """Keep workers between epochs."""
    pin_memory: bool = True
    """Page-locked host memory for copies to a GPU."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @field_validator("precision", mode="before")
    @classmethod
    def _number_is_name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def effective_batch(self) -> int:
        """Reads per optimizer step on one device."""
        return self.batch_size * self.grad_accum_steps


class OptimizerConfig(Section):
    name: Literal["adamw", "adamw_8bit"] = "adamw"
    """``adamw_8bit`` keeps the optimizer state in 8 bits (extra ``quant``)."""
    lr: Annotated[float, Field(gt=0)] = 2e-4
    """Learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of weight matrices (not of biases) per step, times the learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Clip the global gradient norm; None does not clip."""


class SchedulerConfig(Section):
    name: Literal["linear", "constant", "cosine"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps of linear warm-up; None follows ``warmup_ratio``."""
    warmup_ratio: Fraction | None = None
    """Warm-up as a fraction of all optimizer steps; give this or ``warmup_steps``, not both."""
    num_training_steps: PositiveInt | Literal["auto"] = "auto"
    """Optimizer steps the schedule is laid out for; ``auto`` is the length of the run."""

    @model_validator(mode="after")
    def _one_warmup(self) -> SchedulerConfig:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        return self

    def warmup(self, total_steps: int) -> int:
        """Warm-up in optimizer steps for a run of ``total_steps``.

        When nothing is set: 100 as in the guide, but never more than a tenth of the run, or a short
        run would end before its learning rate is reached.
        """
        if self.warmup_ratio is not None:
            return round(self.warmup_ratio * total_steps)
        return min(100, total_steps // 10) if self.warmup_steps is None else self.warmup_steps


class LossConfig(Section):
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all classes."""
    class_weights: Literal["none", "sqrt", "balanced"] = "none"
    """Weight classes by 1, (N/n)^0.5 or N/n of their training reads, scaled to mean 1 over reads."""


class MetricsConfig(Section):
    primary: Literal["macro_f1", "micro_f1", "mcc", "accuracy"] = "macro_f1"
    compute_auroc: bool = True
    """One-against-rest AUROC in ``evaluate``."""
    confusion_matrix: bool = True
    """Confusion matrix in ``evaluate``."""
    per_class_report: bool = True
    """Per-class table in ``evaluate``."""


class LoggingConfig(Section):
    log_interval: PositiveInt = 10
    """Optimizer steps between lines of metrics.jsonl."""
    use_wandb: bool = False
    """Also log to Weights & Biases (needs the network)."""
    wandb_project: str = "metagene-classification"
    """Its project."""
    wandb_entity: str | None = None
    """Its team."""


class MemoryConfig(Section):
    empty_cache_steps: PositiveInt | None = None
    """Return cached blocks to the driver every N steps: does not lower the peak, costs time."""
    expandable_segments: bool = True
    """PYTORCH_ALLOC_CONF=expandable_segments:True, unless the environment says otherwise."""
    max_split_size_mb: PositiveInt | None = None
    """Allocator setting of the guide; it conflicts with expandable segments, which win."""


class RunConfig(Section):
    """One training run. ``metagene config show`` prints it with every default filled in."""

    seed: int = 42
    """Of fresh adapters and head, dropout, and the order of the reads."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """``cuda`` fails without a GPU, ``auto`` takes one when there is one."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    dataset: DatasetConfig = DatasetConfig()
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    metrics: MetricsConfig = MetricsConfig()
    logging: LoggingConfig = LoggingConfig()
    memory_optimization: MemoryConfig = MemoryConfig()
