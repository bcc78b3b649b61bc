"""The search: which micro-batch, accumulation, checkpointing, precision and quantisation fit a
device and run fastest, for what the rules have decided already.

`recommend` is the entry. Memory and speed come from a function given to it (that of
`metagene_doctor.tuning.prediction`), so that the search itself knows neither fake tensors nor
allocators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from metagene_doctor.memory.costs.read_lengths import ReadStatistics
from metagene_doctor.memory.measured.device import Device
from metagene_doctor.report.quantities import percent, whole_percent
from metagene_doctor.rulebook import Rulebook
from metagene_doctor.rulebook.schema import Policy
from metagene_doctor.tuning.plan import EFFECTIVE_BATCH, MAX_TRUNCATION, Plan, Setting, make
from metagene_doctor.tuning.speed import Architecture, Speed
from metagene_train.config import RunConfig

SMALLEST_RANK = 8
"""The search does not go below it: it would save tenths of a GiB (see GM-OOM-4)."""
AS_FAST = 0.97
"""A candidate at 97 % of the best speed counts as equally fast."""
AS_FAST_IN_LARGER_PASSES = 0.9
"""And one that differs in nothing but larger passes at 90 %. Smaller ones hold less padding, which is
simulated, but launch more often, whose cost is known less well: on a CPU 8 x 4 reads were estimated 2 %
faster than 32 x 1, and ran 27 % slower (the demo, once each)."""
ROOMY = 0.85
"""Of equally fast candidates, the largest micro-batch that needs at most this share of the memory is
taken: fewer, larger passes are safer where launching is slower than estimated, and a sixth of the
memory stays free for what else may run."""
EVALUATION_BATCHES = (256, 128, 64, 32)


class Memory(Protocol):
    """Peak memory of one configuration on one device, in GiB."""

    @property
    def live_gib(self) -> float: ...
    @property
    def reserved_gib(self) -> float: ...
    @property
    def device_gib(self) -> float: ...
    @property
    def margin_gib(self) -> float: ...
    @property
    def phase(self) -> str: ...
    @property
    def breakdown(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Prediction:
    """What one configuration takes on the request's device."""

    memory: Memory
    speed: Speed


Predict = Callable[[Sequence[RunConfig]], Sequence[Prediction]]


@dataclass(frozen=True)
class Request:
    """What is to be tuned. ``base`` holds what the user has fixed: paths, encoder, tokenizer."""

    base: RunConfig
    book: Rulebook
    device: Device
    architecture: Architecture
    reads: ReadStatistics
    goal: str = "balanced"
    policy: Policy = "evidence"
    devices: int = 1
    max_truncation: float | None = None
    epochs: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A configuration with its predicted memory and speed on the request's device."""

    config: RunConfig
    memory: Memory
    speed: Speed
    needed_gib: float
    """Device memory (on a CPU that of the process) with the prediction's margin."""
    fits: bool

    @property
    def reads_per_pass(self) -> int:
        return self.config.training.batch_size


@dataclass(frozen=True)
class Recommendation:
    """``best`` is what to run when ``fits``; otherwise it is the tightest candidate there is."""

    request: Request
    plan: Plan
    best: Candidate
    candidates: tuple[Candidate, ...]
    """Everything that was searched, best first; those that do not fit last."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Configuration key -> value with its reason."""
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.best.fits

    @property
    def config(self) -> RunConfig:
        return self.best.config


def recommend(request: Request, predict: Predict) -> Recommendation:
    """The best configuration for the request under its policy and goal."""
    card = request.device.gpu
    plan = make(
        request.policy,
        request.book,
        request.base,
        request.reads,
        goal=request.goal,
        gpu_gb=card.marketed_gb if card else None,
        context=request.architecture.context,
        hidden=request.architecture.hidden,
        max_truncation=request.max_truncation,
        epochs=request.epochs,
    )
    if request.policy == "guide":
        return _follow_guide(request, plan, predict)
    tried: list[Candidate] = []
    for relaxed, notes in _relaxations(request, plan):
        configs = [configured(request, relaxed, choice) for choice in _choices(request, relaxed)]
        if notes:
            # A concession is for cards that are too small: only the smallest candidate may tell.
            (smallest,) = judge(request, [min(configs, key=_activations)], predict)
            if not smallest.fits:
                tried.append(smallest)
                continue
        found = judge(request, configs, predict)
        tried += found
        feasible = [candidate for candidate in found if candidate.fits]
        if feasible:
            best = _best(feasible, request)
            best = _with_evaluation_batch(request, best, predict)
            ranked = _ranked(tried, best, request.goal)
            settings = _explained(request, relaxed, best, feasible)
            told = (*plan.notes, *notes, *_too_many_devices(request, relaxed))
            return Recommendation(request, relaxed, best, ranked, settings, told)
    tightest = min(tried, key=lambda candidate: candidate.needed_gib)
    ranked = tuple(sorted(tried, key=lambda candidate: candidate.needed_gib))
    return Recommendation(request, plan, tightest, ranked, plan.settings, plan.notes)


def judge(
    request: Request, configs: Sequence[RunConfig], predict: Predict, *, full: bool = False
) -> list[Candidate]:
    """Memory and speed of each configuration, and whether it fits the request's device.

    Batches are as long as these reads make them; with ``full``, and where reads are assumed, every read of
    the longest has ``max_length`` tokens.
    """
    judged = []
    run = configs if full else [_with_own_lengths(request, config) for config in configs]
    for config, found in zip(configs, predict(run), strict=True):
        needed = found.memory.device_gib + found.memory.margin_gib
        fits = needed <= request.device.usable_gib
        judged.append(Candidate(config, found.memory, found.speed, needed, fits))
    return judged


def _with_own_lengths(request: Request, config: RunConfig) -> RunConfig:
    settings = config.tokenizer
    length = request.reads.longest_batch(settings.max_length)
    if request.reads.reads is None or settings.padding == "max_length" or length == settings.max_length:
        return config
    return with_values(config, {"tokenizer.max_length": length})


def without_long_reads(request: Request, row: Candidate, predict: Predict) -> str:
    """What full batches of a ``max_length`` that no read reaches would take; empty where reads reach it."""
    length = row.config.tokenizer.max_length
    if _with_own_lengths(request, row.config) is row.config:
        return ""
    (full,) = judge(request, [row.config], predict, full=True)
    return (
        f"no read has more than {request.reads.longest} tokens: full batches of {length} would take "
        f"{full.needed_gib:.1f} GiB with margin" + ("" if full.fits else ", which does not fit")
    )


def configured(request: Request, plan: Plan, choice: Mapping[str, Any]) -> RunConfig:
    """The base configuration with the plan's values and then those of ``choice``."""
    values = {key: setting.value for key, setting in plan.settings.items()} | dict(choice)
    return with_values(
        request.base, {k: v for k, v in values.items() if k not in (EFFECTIVE_BATCH, MAX_TRUNCATION)}
    )


def with_values(base: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A copy of ``base`` with dotted keys set, validated as a whole."""
    tree = base.model_dump()
    for dotted, value in values.items():
        *parents, leaf = dotted.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    return RunConfig.model_validate(tree)


def _choices(request: Request, plan: Plan) -> Iterator[dict[str, Any]]:
    """Every micro-batch that divides the effective batch of one device, with and without checkpointing."""
    per_device = max(1, round(plan.value(EFFECTIVE_BATCH) / request.devices))
    trains_encoder = plan.value("model.lora.enabled")
    for micro_batch in (size for size in range(1, per_device + 1) if per_device % size == 0):
        for checkpointing in (False, True) if trains_encoder else (False,):
            yield {
                "training.batch_size": micro_batch,
                "training.grad_accum_steps": per_device // micro_batch,
                "training.eval_batch_size": None,
                "model.gradient_checkpointing": checkpointing,
            }


def _too_many_devices(request: Request, plan: Plan) -> Iterator[str]:
    effective = plan.settings[EFFECTIVE_BATCH]
    if request.devices > effective.value:
        yield (
            f"{request.devices:,} devices take at least {request.devices:,} reads in a step, more than the "
            f"{effective.value} of {effective.rule}: {effective.why}"
        )


def _activations(config: RunConfig) -> tuple[bool, int]:
    """Order by activation memory: checkpointing first, then few reads in a pass."""
    return not config.model.gradient_checkpointing, config.training.batch_size


def _relaxations(request: Request, plan: Plan) -> Iterator[tuple[Plan, tuple[str, ...]]]:
    """The plan as it is, then with one concession after another until something may fit."""
    book, device = request.book, request.device
    rule = book.rule("EV-PRECISION")
    if device.kind == "cpu":
        precision, why = "32", "a CPU computes fastest and exactly in fp32"
    elif device.bf16:
        precision, why = "bf16-mixed", f"{device.title} has bf16: {rule.why}"
    else:
        precision, why = "fp16-mixed", f"{device.title} has no bf16 arithmetic; fp16 with a loss scaler"
    plan = plan.with_setting("training.precision", Setting(precision, why, rule.id, rule.source))
    for key, value, rule_id in (
        ("model.quantization", "none", "EV-QUANTIZATION"),
        ("optimizer.name", "adamw", "EV-OPTIMIZER"),
    ):
        reason = book.rule(rule_id)
        plan = plan.with_setting(key, Setting(value, reason.why, reason.id, reason.source))
    yield plan, ()
    lower_rank = "because a higher one does not fit"
    for rank in _smaller_ranks(plan.value("model.lora.r")):
        yield _concession(plan, {"model.lora.r": (rank, lower_rank)})
    smallest: dict[str, tuple[Any, str]] = {}
    if plan.value("model.lora.r") > SMALLEST_RANK:
        smallest["model.lora.r"] = (SMALLEST_RANK, lower_rank)
    if device.kind == "cpu":
        why = "because fp32 does not fit; slow on many processors"
        yield _concession(plan, {"training.precision": ("bf16-true", why), **smallest})
        return
    why = "optimizer state in 8 bits (extra quant), because 32 do not fit"
    yield _concession(plan, {"optimizer.name": ("adamw_8bit", why), **smallest})
    packed = [("int8", 8, "16 do not fit"), ("nf4", 4, "neither 16 nor 8 fit")]
    if not device.rates.int8:
        packed = [("nf4", 4, f"16 do not fit, and {device.title} does not multiply 8")]
    for quantization, bits, because in packed:
        why = (
            f"the frozen encoder in {bits} bits (extra quant), because {because}: products have weights "
            "to unpack, and quality can suffer"
        )
        quantized = {"model.quantization": (quantization, why)}
        yield _concession(plan, quantized)
        if smallest:
            yield _concession(plan, quantized | smallest)


def _concession(plan: Plan, changes: Mapping[str, tuple[Any, str]]) -> tuple[Plan, tuple[str, ...]]:
    """The plan with the values of ``changes`` (key -> value and why), and a note on each that is new."""
    rank_was = plan.value("model.lora.r")
    notes = []
    for key, (value, why) in changes.items():
        if value != plan.value(key):
            plan = plan.with_setting(key, replace(plan.settings[key], value=value, why=why))
            notes.append(f"{key}: {value}, {why}")
    rank = plan.value("model.lora.r")
    if rank != rank_was:
        alpha = plan.settings["model.lora.alpha"]
        plan = plan.with_setting("model.lora.alpha", replace(alpha, value=alpha.value * rank / rank_was))
    return plan, tuple(notes)


def _smaller_ranks(rank: int) -> Iterator[int]:
    while rank // 2 >= SMALLEST_RANK:
        rank //= 2
        yield rank


def _best(feasible: Sequence[Candidate], request: Request) -> Candidate:
    if request.goal == "min-memory":
        least = min(candidate.needed_gib for candidate in feasible)
        near = [candidate for candidate in feasible if candidate.needed_gib <= least + 0.05]
        return max(near, key=lambda candidate: candidate.speed.reads_per_s)
    fastest = max(candidate.speed.reads_per_s for candidate in feasible)
    if request.goal == "max-speed":
        return max(feasible, key=lambda candidate: candidate.speed.reads_per_s)
    near = [candidate for candidate in feasible if candidate.speed.reads_per_s >= AS_FAST * fastest]
    roomy = [candidate for candidate in near if _is_roomy(candidate, request)]
    if not roomy:
        return min(near, key=lambda candidate: candidate.needed_gib)
    alike = {_choice_of(candidate)[1:] for candidate in roomy}
    roomy += [
        candidate
        for candidate in feasible
        if _choice_of(candidate)[1:] in alike
        and candidate.speed.reads_per_s >= AS_FAST_IN_LARGER_PASSES * fastest
        and _is_roomy(candidate, request)
    ]
    return max(roomy, key=lambda candidate: (candidate.reads_per_pass, -candidate.needed_gib))


def _is_roomy(candidate: Candidate, request: Request) -> bool:
    return candidate.needed_gib <= ROOMY * request.device.usable_gib


def _ranked(tried: Sequence[Candidate], best: Candidate, goal: str) -> tuple[Candidate, ...]:
    """Best first, then the rest that fits by the goal, then what does not fit."""
    by_goal: Callable[[Candidate], float] = (
        (lambda candidate: candidate.needed_gib)
        if goal == "min-memory"
        else (lambda candidate: -candidate.speed.reads_per_s)
    )
    others = [c for c in tried if _choice_of(c) != _choice_of(best)]
    fitting = sorted((c for c in others if c.fits), key=by_goal)
    return (best, *fitting, *sorted((c for c in others if not c.fits), key=lambda c: c.needed_gib))


def _choice_of(candidate: Candidate) -> tuple[object, ...]:
    """The size of its passes, and everything else that the search decides."""
    config = candidate.config
    return (
        config.training.batch_size,
        config.model.gradient_checkpointing,
        config.model.lora.r,
        config.model.quantization,
        config.optimizer.name,
        config.training.precision,
    )


def _with_evaluation_batch(request: Request, best: Candidate, predict: Predict) -> Candidate:
    """The largest evaluation batch that does not raise the peak of training."""
    for size in EVALUATION_BATCHES:
        if size <= best.config.training.batch_size:
            break
        config = with_values(best.config, {"training.eval_batch_size": size})
        (found,) = judge(request, [config], predict)
        if found.needed_gib <= best.needed_gib + 0.01:
            return found
    return best


def _explained(
    request: Request, plan: Plan, best: Candidate, feasible: Sequence[Candidate]
) -> dict[str, Setting]:
    """The plan's settings and those of the search, each with its reason."""
    book, config, training = request.book, best.config, best.config.training
    checkpointing = config.model.gradient_checkpointing
    fits_without = [c for c in feasible if not c.config.model.gradient_checkpointing]
    largest_without = max((c.reads_per_pass for c in fits_without), default=0)
    if not checkpointing:
        why = f"activations of {training.batch_size} reads fit, so nothing is computed twice"
    elif largest_without:
        why = (
            f"without it only {largest_without} reads fit, which is slower than {training.batch_size} with it"
            if largest_without < training.batch_size
            else "takes the least memory"
        )
    else:
        why = "activations of one read do not fit without it"
    effective = plan.settings[EFFECTIVE_BATCH]
    on_devices = f" x {request.devices} devices" if request.devices > 1 else ""
    product = f"{training.batch_size} x {training.grad_accum_steps}{on_devices}"
    total = training.effective_batch * request.devices
    near = "" if total == effective.value else f", as near to {effective.value} as they come"
    objective = {
        "min-memory": "least memory of those that fit",
        "max-speed": "fastest that fits (estimate)",
    }.get(
        request.goal,
        f"largest within {whole_percent(1 - AS_FAST_IN_LARGER_PASSES)} of the fastest (estimate) that leaves "
        "room to spare"
        if _is_roomy(best, request)
        else f"within {whole_percent(1 - AS_FAST)} of the fastest that fits (estimate), of those the one of "
        "least memory",
    )
    micro = Setting(training.batch_size, f"micro-batch: {objective}", "EV-EFFECTIVE-BATCH")
    decided = {
        "training.batch_size": micro,
        "training.grad_accum_steps": Setting(
            training.grad_accum_steps,
            f"{product} = effective batch {total}{near}: {effective.why}",
            effective.rule,
            effective.source,
        ),
        "training.eval_batch_size": Setting(
            training.eval_batch_size,
            "largest that keeps evaluation below the peak of training (dry run)"
            if training.eval_batch_size
            else "as in training",
        ),
        "model.gradient_checkpointing": Setting(
            checkpointing, why, "EV-CHECKPOINTING", book.rule("EV-CHECKPOINTING").source
        ),
    }
    return {**plan.settings, **decided}


def _follow_guide(request: Request, plan: Plan, predict: Predict) -> Recommendation:
    """The guide's row for the card as it stands, whether it fits or not."""
    config = configured(request, plan, {"training.eval_batch_size": None})
    (candidate,) = judge(request, [config], predict)
    notes = list(plan.notes)
    if not request.device.bf16 and config.training.precision.startswith("bf16"):
        notes.append(f"{request.device.title} has no bf16 arithmetic; the guide does not mention it")
    cut = request.reads.cut(config.tokenizer.max_length)
    if cut:
        notes.append(f"the guide's max_length cuts {percent(cut)} of the reads")
    if remark := without_long_reads(request, candidate, predict):
        notes.append(remark)
    return Recommendation(request, plan, candidate, (candidate,), plan.settings, tuple(notes))
