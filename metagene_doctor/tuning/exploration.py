"""Around a recommendation: what each knob would cost, memory over lengths, batches and ranks, and the
guide's row for the same card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metagene_doctor.report.quantities import gib_change, percent
from metagene_doctor.rulebook.schema import Band, Rule
from metagene_doctor.tuning.plan import make
from metagene_doctor.tuning.search import (
    Candidate,
    Predict,
    Recommendation,
    Request,
    configured,
    judge,
    with_values,
    without_long_reads,
)
from metagene_train.config import ATTENTION_PROJECTIONS, RunConfig

LENGTHS = (32, 64, 128, 256, 512)
MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64)
RANKS = (4, 8, 16, 32, 64)
STEPS = "training.grad_accum_steps"


@dataclass(frozen=True)
class Neighbour:
    """The recommendation with one knob turned: what that adds in GiB and does to the speed."""

    knob: str
    was: Any
    value: Any
    candidate: Candidate
    delta_gib: float
    speed_ratio: float
    remark: str = ""
    """What neither memory nor speed shows: reads that would be cut, what longer reads would take."""


@dataclass(frozen=True)
class HeatMap:
    """Device memory with margin in GiB, ``gib[row][column]``, all other settings as recommended."""

    title: str
    row_name: str
    rows: tuple[int, ...]
    column_name: str
    columns: tuple[int, ...]
    gib: tuple[tuple[float, ...], ...]
    usable_gib: float
    recommended: tuple[int, int]


@dataclass(frozen=True)
class GuideRow:
    """The guide's configuration for the same card and reads, and why it was or was not taken."""

    rule: str
    title: str
    candidate: Candidate
    taken: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Exploration:
    neighbours: tuple[Neighbour, ...]
    heat_maps: tuple[HeatMap, ...]
    guide: GuideRow | None
    """None on a CPU, for which the guide has no row."""
    layers: Candidate | None = None
    """When nothing fits: the most layers of the encoder, from the first, that would."""


def explore(recommendation: Recommendation, predict: Predict) -> Exploration:
    return Exploration(
        neighbours=neighbours(recommendation, predict),
        heat_maps=heat_maps(recommendation, predict),
        guide=guide_row(recommendation, predict) if recommendation.request.device.gpu else None,
        layers=None if recommendation.fits else most_layers(recommendation, predict),
    )


def most_layers(recommendation: Recommendation, predict: Predict) -> Candidate | None:
    """The tightest configuration with as many of the first layers as fit; None when not even one does."""
    request, config = recommendation.request, recommendation.config
    best: Candidate | None = None
    low, high = 1, request.architecture.layers - 1
    while low <= high:
        middle = (low + high) // 2
        (found,) = judge(request, [with_values(config, {"model.encoder_layers": middle})], predict)
        if found.fits:
            best, low = found, middle + 1
        else:
            high = middle - 1
    return best


def neighbours(recommendation: Recommendation, predict: Predict) -> tuple[Neighbour, ...]:
    """One knob at a time; the micro-batch moves with accumulation, so the effective batch stays."""
    best, request = recommendation.best, recommendation.request
    turns = list(_turns(best.config, recommendation))
    # Without evaluation's own batch, which is sized for the recommendation and would hide what is saved.
    plain = {"training.eval_batch_size": None}
    found = judge(request, [with_values(best.config, values | plain) for *_, values in turns], predict)
    priced = []
    for (knob, was, value, _), candidate in zip(turns, found, strict=True):
        remark = _remark(recommendation, knob, value)
        if knob == "tokenizer.max_length" and request.reads.cut(value) == 0:
            (full,) = judge(request, [candidate.config], predict, full=True)
            candidate, remark = _of_own_lengths(recommendation, full, predict)
        priced.append(
            Neighbour(
                knob=knob,
                was=was,
                value=value,
                candidate=candidate,
                delta_gib=candidate.needed_gib - best.needed_gib,
                speed_ratio=candidate.speed.reads_per_s / best.speed.reads_per_s,
                remark=remark,
            )
        )
    return tuple(priced)


def _of_own_lengths(
    recommendation: Recommendation, full: Candidate, predict: Predict
) -> tuple[Candidate, str]:
    """A ``max_length`` that cuts no read, with the memory of the reads' own longest batch, and what
    batches of that length (``full``) would take.

    With padding to ``max_length`` every batch is full.
    """
    request, best = recommendation.request, recommendation.best
    if best.config.tokenizer.padding == "max_length":
        return full, ""
    longest = request.reads.longest_batch(full.config.tokenizer.max_length)
    own = best
    if longest > best.config.tokenizer.max_length:
        same = {"tokenizer.max_length": longest, "training.eval_batch_size": None}
        (own,) = judge(request, [with_values(best.config, same)], predict)
    assumed = "" if request.reads.reads else " (assumed)"
    price = gib_change(full.needed_gib - best.needed_gib) + ("" if full.fits else " x")
    return replace(own, config=full.config), f"no read is that long{assumed}; {price} if a batch were"


def _remark(recommendation: Recommendation, knob: str, value: Any) -> str:
    reads = recommendation.request.reads
    if knob == "tokenizer.max_length" and reads.cut(value):
        return f"cuts {percent(reads.cut(value))} of the reads" + (
            "" if reads.reads else " (assumed lengths)"
        )
    if knob == "model.quantization" and value != "none":
        return "needs the extra quant; quality can suffer"
    if knob == "optimizer.name" and value == "adamw_8bit":
        return "needs the extra quant"
    return ""


def _turns(
    config: RunConfig, recommendation: Recommendation
) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    """Knob, value now, new value, and the keys that change."""
    training, lora, model = config.training, config.model.lora, config.model
    request = recommendation.request
    effective = training.effective_batch
    for size in (training.batch_size // 2, training.batch_size * 2):
        if size >= 1 and effective % size == 0:
            sizes = {"training.batch_size": size, "training.grad_accum_steps": effective // size}
            yield "training.batch_size", training.batch_size, size, sizes
    length = config.tokenizer.max_length
    for other in (length // 2, length * 2):
        if 8 <= other <= request.architecture.context:
            yield "tokenizer.max_length", length, other, {"tokenizer.max_length": other}
    if lora.enabled:
        key, on = "model.gradient_checkpointing", model.gradient_checkpointing
        yield key, on, not on, {key: not on}
        for rank in (lora.r // 2, lora.r * 2):
            if rank >= 1:
                values = {"model.lora.r": rank, "model.lora.alpha": lora.alpha * rank / lora.r}
                yield "model.lora.r", lora.r, rank, values
        for targets in ("all-linear", list(ATTENTION_PROJECTIONS), ["q_proj", "v_proj"], ["q_proj"]):
            if targets != lora.target_modules:
                key = "model.lora.target_modules"
                yield key, lora.target_modules, targets, {key: targets}
    if request.device.kind == "cuda":
        for quantization in ("none", "int8", "nf4") if request.device.rates.int8 else ("none", "nf4"):
            if quantization != model.quantization:
                key = "model.quantization"
                yield key, model.quantization, quantization, {key: quantization}
        if lora.enabled and config.optimizer.name != "adamw_8bit":
            yield "optimizer.name", config.optimizer.name, "adamw_8bit", {"optimizer.name": "adamw_8bit"}
        if training.precision != "32":
            yield "training.precision", training.precision, "32", {"training.precision": "32"}


def heat_maps(recommendation: Recommendation, predict: Predict) -> tuple[HeatMap, ...]:
    """Length x micro-batch and length x rank."""
    config, context = recommendation.config, recommendation.request.architecture.context
    length, micro_batch = config.tokenizer.max_length, config.training.batch_size
    lengths = tuple(sorted({value for value in LENGTHS if value <= context} | {length}))
    maps = [
        _heat_map(
            recommendation,
            predict,
            "Memory over length and micro-batch",
            ("reads per micro-batch", "training.batch_size", tuple(sorted({*MICRO_BATCHES, micro_batch}))),
            lengths,
        )
    ]
    if config.model.lora.enabled:
        ranks = ("adapter rank", "model.lora.r", tuple(sorted({*RANKS, config.model.lora.r})))
        maps.append(_heat_map(recommendation, predict, "Memory over length and rank", ranks, lengths))
    return tuple(maps)


def _heat_map(
    recommendation: Recommendation,
    predict: Predict,
    title: str,
    rows: tuple[str, str, tuple[int, ...]],
    lengths: Sequence[int],
) -> HeatMap:
    row_name, key, values = rows
    request, config = recommendation.request, recommendation.config
    sizes = key == "training.batch_size"
    grid = [
        with_values(
            config,
            {
                key: value,
                "tokenizer.max_length": length,
                "training.eval_batch_size": None,
                # The effective batch stays, as far as the micro-batch lets it.
                **({STEPS: max(1, config.training.effective_batch // value)} if sizes else {}),
            },
        )
        for value in values
        for length in lengths
    ]
    needed = [candidate.needed_gib for candidate in judge(request, grid, predict, full=True)]
    width = len(lengths)
    return HeatMap(
        title=title,
        row_name=row_name,
        rows=values,
        column_name="max_length (tokens)",
        columns=tuple(lengths),
        gib=tuple(tuple(needed[start : start + width]) for start in range(0, len(needed), width)),
        usable_gib=request.device.usable_gib,
        recommended=(
            config.training.batch_size if sizes else config.model.lora.r,
            config.tokenizer.max_length,
        ),
    )


def guide_row(recommendation: Recommendation, predict: Predict) -> GuideRow:
    """What ``--policy guide`` would give here, judged by the same memory and speed."""
    request, best = recommendation.request, recommendation.best
    card = request.device.gpu
    assert card is not None
    plan = make(
        "guide",
        request.book,
        request.base,
        request.reads,
        goal="balanced",
        gpu_gb=card.marketed_gb,
        context=request.architecture.context,
        hidden=request.architecture.hidden,
    )
    config = configured(request, plan, {"training.eval_batch_size": None})
    (row,) = judge(request, [config], predict)
    remark = without_long_reads(request, row, predict)
    tier = request.book.rule(plan.settings["training.batch_size"].rule)
    if request.policy == "guide":
        return GuideRow(tier.id, getattr(tier, "title", tier.id), row, True, ("asked for (--policy guide)",))
    return GuideRow(
        rule=tier.id,
        title=getattr(tier, "title", tier.id),
        candidate=row,
        taken=False,
        reasons=(*_against(recommendation, row, best), *filter(None, [remark])),
    )


def _against(recommendation: Recommendation, row: Candidate, best: Candidate) -> Iterator[str]:
    request, device = recommendation.request, recommendation.request.device
    if not row.fits:
        yield (
            f"it does not fit: {row.needed_gib:.1f} GiB with margin, {device.usable_gib:.1f} GiB usable "
            "(predicted)"
        )
    else:
        yield f"it leaves {device.usable_gib - row.needed_gib:.1f} of {device.usable_gib:.1f} GiB unused"
        ratio = best.speed.reads_per_s / row.speed.reads_per_s
        if ratio > 1.05:
            yield f"the recommendation should run {ratio:.1f} times as many reads per second (estimate)"
        elif ratio < 0.95:
            yield f"it would run {1 / ratio:.1f} times as many reads per second (estimate)"
    theirs, ours = row.config, best.config
    if theirs.training.precision.startswith("bf16") and not device.bf16:
        yield f"{device.title} has no bf16 arithmetic, which it asks for"
    cut = request.reads.cut(theirs.tokenizer.max_length)
    if cut > request.reads.cut(ours.tokenizer.max_length):
        yield f"its {theirs.tokenizer.max_length} tokens cut {percent(cut)} of the reads"
    if ours.model.lora.enabled and theirs.model.lora.target_modules != ours.model.lora.target_modules:
        shape = request.architecture
        cost = (
            16
            / 2**30
            * (
                shape.adapter_parameters(ours.model.lora.r, ours.model.lora.target_modules)
                - shape.adapter_parameters(theirs.model.lora.r, theirs.model.lora.target_modules)
            )
        )
        yield (
            f"adapters on {_names(ours.model.lora.target_modules)} at rank {ours.model.lora.r} hold "
            f"{cost:.2f} GiB more (weights, gradients, optimizer) than on "
            f"{_names(theirs.model.lora.target_modules)} at rank {theirs.model.lora.r}, and are better "
            "(EV-TARGETS)"
        )
    yield from _against_batch_and_rate(request, theirs)
    longer, shorter = theirs.training.max_epochs, ours.training.max_epochs
    if longer > shorter:
        yield (
            f"{longer:g} epochs are {longer / shorter:.1f} times as long as {shorter:g}, which METAGENE-1's "
            "authors found enough"
        )


def _against_batch_and_rate(request: Request, theirs: RunConfig) -> Iterator[str]:
    """Where the row leaves the spans that the evidence gives for reads per step and learning rate."""
    reads = theirs.training.effective_batch * request.devices
    batches = _span(request, "EV-EFFECTIVE-BATCH", "effective_batch")
    if batches is not None and reads > batches.high:
        yield (
            f"its effective batch of {reads} lies above {batches.low:g}-{batches.high:g}, where LoRA learns "
            "more from each read (EV-EFFECTIVE-BATCH)"
        )
    rates = _span(request, "EV-LR-SPAN", "optimizer.lr")
    if rates is not None and theirs.optimizer.lr < rates.low:
        yield (
            f"its learning rate of {theirs.optimizer.lr:g} lies below {rates.low:g} to {rates.high:g}, "
            "METAGENE-1's authors' search range (EV-LR-SPAN)"
        )


def _span(request: Request, rule_id: str, key: str) -> Band | None:
    """What a rule permits for a key; None where a laboratory's own rule names a single value."""
    rule = request.book.rule(rule_id)
    value = rule.recommends.get(key) if isinstance(rule, Rule) else None
    return value if isinstance(value, Band) else None


def _names(targets: Sequence[str] | str) -> str:
    return targets if isinstance(targets, str) else ",".join(name.removesuffix("_proj") for name in targets)
