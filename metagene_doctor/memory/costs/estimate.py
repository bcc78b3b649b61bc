"""One configuration before it runs: peak memory, whether it fits, time and disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from metagene_doctor.memory.answer import trace
from metagene_doctor.memory.costs.disk import DiskEstimate, disk
from metagene_doctor.memory.costs.throughput import TimeEstimate, throughput
from metagene_doctor.memory.profiling import MemoryProfile, resolve
from metagene_doctor.memory.workload import Workload
from metagene_train.config import RunConfig

if TYPE_CHECKING:
    from metagene_doctor.rulebook import Gpu

__all__ = ["Estimate", "Workload", "estimate", "trace"]


@dataclass(frozen=True)
class TradeOff:
    """A setting that buys memory for something else, against the same run without it."""

    key: str
    value: str | int
    delta_gib: float
    """On the device, margin included; negative is what it saves."""
    fits_without: bool | None
    """None when no card was named."""
    speed_ratio: float | None
    """Reads per second against those without it (an estimate); None without a card."""
    price: str
    """What neither shows, in words."""


QUANTIZATION_PRICE = "products have weights to unpack, and quality can suffer (EV-QUANTIZATION)"
LAYERS_PRICE = "the upper layers are dropped; what that costs in quality is not known"


@dataclass(frozen=True)
class Estimate:
    """What a configuration needs. ``gpu`` is the card's title; ``time`` is None without a card.

    With several ``devices``, ``memory`` is that of each and ``time`` that of all together."""

    gpu: str | None
    devices: int
    effective_batch: int
    """Reads of one optimizer step, on all devices."""
    memory: MemoryProfile
    time: TimeEstimate | None
    disk: DiskEstimate
    num_labels: int
    token_length: int
    """Tokens of the longest batch, for which memory is given."""
    reads: int | None
    trade_offs: tuple[TradeOff, ...] = ()

    @property
    def fits(self) -> bool | None:
        return self.memory.fits

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable: sizes in GiB or bytes as their names say, ranges as expected, low, high."""
        memory = asdict(self.memory)
        memory["timeline"] = [moment._asdict() for moment in self.memory.timeline]
        time = None
        if self.time is not None:
            time = {
                name: value._asdict() if hasattr(value, "_asdict") else value
                for name, value in vars(self.time).items()
            }
        return {
            "gpu": self.gpu,
            "devices": self.devices,
            "effective_batch": self.effective_batch,
            "fits": self.fits,
            "memory": memory,
            "time": time,
            "disk": {**asdict(self.disk), "total": self.disk.total},
            "trade_offs": [asdict(trade_off) for trade_off in self.trade_offs],
            "assumptions": {
                "num_labels": self.num_labels,
                "token_length": self.token_length,
                "reads": self.reads,
            },
        }


def estimate(
    config: RunConfig,
    gpu: str | Gpu | None = None,
    *,
    num_labels: int,
    token_length: int | None = None,
    padded_tokens: float | None = None,
    reads: int | None = None,
    devices: int = 1,
) -> Estimate:
    """Memory, time and disk of one configuration on one card, or on several by data parallelism.

    ``token_length`` is the longest batch in tokens (None: ``tokenizer.max_length``) and decides
    memory; ``padded_tokens`` is the mean length of a padded batch (None: the longest) and decides
    time with ``reads``, the number of training reads. Of several ``devices`` each runs the
    configuration's micro-batches, as under `torchrun`. Raises InputError (unknown card or encoder)
    and ConfigError (target modules that do not exist, more layers than the encoder has).
    """
    card = resolve(gpu)
    workload = Workload.from_config(config, num_labels=num_labels, length=token_length)

    def judged(work: Workload) -> tuple[MemoryProfile, TimeEstimate | None]:
        memory = trace(work, gpu=card, devices=devices)
        if card is None:
            return memory, None
        time = throughput(
            work,
            card,
            accumulation=config.training.grad_accum_steps,
            padded_tokens=padded_tokens,
            reads=reads,
            epochs=config.training.max_epochs,
            max_steps=config.training.max_steps,
            devices=devices,
        )
        return memory, time

    memory, time = judged(workload)
    return Estimate(
        gpu=None if card is None else card.title,
        devices=devices,
        effective_batch=config.training.effective_batch * devices,
        memory=memory,
        time=time,
        disk=disk(config, workload, gpu=card, reads=reads),
        num_labels=num_labels,
        token_length=workload.length,
        reads=reads,
        trade_offs=tuple(
            _trade_off(key, value, price, (memory, time), judged(without))
            for key, value, price, without in _concessions(workload)
        ),
    )


def _concessions(workload: Workload) -> Iterator[tuple[str, str | int, str, Workload]]:
    """Key, value, price in words, and the workload without it."""
    if workload.quantization != "none":
        plain = replace(workload, quantization="none")
        yield "model.quantization", workload.quantization, QUANTIZATION_PRICE, plain
    if workload.encoder_layers is not None:
        whole = replace(workload, encoder_layers=None)
        yield "model.encoder_layers", workload.encoder_layers, LAYERS_PRICE, whole


def _trade_off(
    key: str,
    value: str | int,
    price: str,
    with_it: tuple[MemoryProfile, TimeEstimate | None],
    without: tuple[MemoryProfile, TimeEstimate | None],
) -> TradeOff:
    (memory, time), (plain, slower) = with_it, without
    needs = memory.device_gib + memory.margin_gib - plain.device_gib - plain.margin_gib
    ratio = None if time is None or slower is None else time.reads_per_s[0] / slower.reads_per_s[0]
    return TradeOff(key, value, needs, plain.fits, ratio, price)
