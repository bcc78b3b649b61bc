"""Predicted against measured GPU memory: METAGENE-1's architecture with random bf16 weights.

    python benchmarks/gpu_memory.py [--minutes M] [--limit N] [--results benchmarks/results] [--again]

Needs an NVIDIA GPU, and of this project's dependencies torch, transformers, peft, pydantic,
ruamel.yaml, nvidia-ml-py and what these need: no weights, no network, no installation (it runs from a
checkout). Each workload runs in a process of its own (`metagene_doctor.memory.measured.probe`); running
out of memory is a result, and one that fails otherwise is recorded and does not stop the others.

Writes ``gpu_memory_<card>.json`` and a table for docs/memory.md, ``gpu_memory_<card>.md``, after
every workload. Started again it goes on where it stopped: what was measured with the same torch is
kept and compared with a fresh prediction, and ``--again`` measures anew. With ``--minutes`` it starts
no workload that would not end in time. A whole run is 36 workloads of 15 to 40 s each (a guess: not
yet measured on a GPU), and four more of quantised encoders where bitsandbytes is installed.

Exit code 0 when every bar is held: reserved memory within 3 %, nothing above prediction plus margin,
and every configuration that ``metagene autotune`` recommends for 24 GB runs under a 24 GB cap. 1 when
one is missed, 2 without a GPU or a package, 3 when workloads are left to be measured.

Not yet measured on a GPU: this program has run against stand-ins for the card and the probe only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

CHECKOUT = Path(__file__).resolve().parents[1]
# For this process and the probes that it starts: nothing needs to be installed.
sys.path.insert(0, str(CHECKOUT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))

if TYPE_CHECKING:
    from metagene_doctor.memory import MemoryProfile
    from metagene_doctor.memory.measured.measurement import Measurement
    from metagene_doctor.rulebook import Gpu
    from metagene_train.config import RunConfig

PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "pydantic": "pydantic",
    "ruamel.yaml": "ruamel.yaml",
    "numpy": "numpy",
    "pynvml": "nvidia-ml-py",
}
"""Modules that are needed, and what to install for each."""
BAR = 0.03
"""Largest relative error of reserved memory."""
CLASSES = 1000
GOALS = ("balanced", "max-quality", "max-speed", "min-memory")
CAPS_GB = (24, 40)
LONGEST_S = 240
"""A probe that takes longer has hung."""


@dataclass(frozen=True)
class Case:
    """One workload. ``cap`` is the name of the card whose memory it is limited to, None for all there is."""

    name: str
    config: RunConfig
    length: int
    cap: str | None = None


def configuration(
    batch: int,
    length: int,
    rank: int,
    targets: tuple[str, ...] | str,
    checkpointing: bool,
    *,
    evaluation: int | None = None,
    accumulation: int = 1,
    precision: str = "bf16-mixed",
    quantization: str = "none",
) -> RunConfig:
    """A configuration of METAGENE-1 with these settings and defaults otherwise."""
    from metagene_train.config import RunConfig

    config = RunConfig()
    config.tokenizer.max_length = length
    config.model.gradient_checkpointing = checkpointing
    config.model.lora.r = rank
    config.model.lora.alpha = 2 * rank
    config.model.lora.target_modules = targets if isinstance(targets, str) else list(targets)  # type: ignore[assignment]
    config.training.batch_size = batch
    config.training.eval_batch_size = evaluation
    config.training.grad_accum_steps = accumulation
    config.training.precision = precision  # type: ignore[assignment]
    config.model.quantization = quantization  # type: ignore[assignment]
    return config


def grid() -> Iterator[Case]:
    """Lengths 64 to 512, micro-batches 1 to 64, ranks 4 to 64, every target set, both modes, all caps.

    What differs most comes first, so that a run that is cut short has seen a little of everything.
    """
    from metagene_doctor import rulebook
    from metagene_train.config import ATTENTION_PROJECTIONS

    query_value, attention, linear = ("q_proj", "v_proj"), ATTENTION_PROJECTIONS, "all-linear"
    settings: list[tuple[int, int, int, tuple[str, ...] | str, bool]] = [
        (1, 128, 4, query_value, True),
        (16, 128, 16, linear, False),
        (64, 128, 16, linear, True),
        (8, 512, 8, query_value, False),
        (16, 256, 64, linear, True),
        (16, 256, 16, linear, False),
        (32, 64, 16, attention, False),
        (1, 64, 4, query_value, True),
        (1, 512, 8, query_value, True),
        (1, 128, 4, query_value, False),
        (1, 512, 8, query_value, False),
        (4, 128, 16, attention, False),
        (4, 256, 16, attention, True),
        (8, 64, 8, linear, False),
        (8, 128, 8, linear, False),
        (8, 256, 8, linear, True),
        (8, 512, 8, query_value, True),
        (8, 512, 16, linear, False),
        (16, 64, 16, linear, True),
        (32, 64, 16, linear, True),
        (32, 128, 64, linear, True),
        (64, 64, 16, linear, True),
        (64, 64, 16, linear, False),
    ]
    for batch, length, rank, targets, checkpointing in settings:
        config = configuration(batch, length, rank, targets, checkpointing)
        yield Case(_name(config), config, length)
    for config in (
        configuration(4, 128, 16, linear, True, evaluation=256),
        configuration(8, 64, 16, linear, True, accumulation=4),
        configuration(8, 128, 16, linear, True, precision="bf16-true"),
    ):
        yield Case(_name(config), config, config.tokenizer.max_length)
    for quantization in ("nf4", "int8") if _is_there("bitsandbytes") else ():
        for batch, length, checkpointing in ((8, 64, False), (16, 256, True)):
            config = configuration(batch, length, 16, linear, checkpointing, quantization=quantization)
            yield Case(_name(config), config, length)
    for gigabytes in CAPS_GB:
        card = rulebook.load().smallest_gpu(gigabytes)[0]
        for config in (
            configuration(8, 128, 8, linear, False),
            configuration(32, 128, 16, linear, True),
            configuration(32, 64, 16, linear, False),
        ):
            yield Case(f"{_name(config)}, {gigabytes} GB", config, config.tokenizer.max_length, card.name)
    yield from recommended()


def recommended() -> Iterator[Case]:
    """What autotune recommends for 24 GB, for each goal; these must run."""
    from metagene_doctor import rulebook
    from metagene_doctor.memory.costs import read_lengths
    from metagene_doctor.memory.measured import device
    from metagene_doctor.tuning.prediction import predictor
    from metagene_doctor.tuning.search import Request, recommend
    from metagene_doctor.tuning.speed import Architecture
    from metagene_train.config import RunConfig
    from metagene_train.encoder import encoder_architecture

    book = rulebook.load()
    card = book.smallest_gpu(24)[0]
    architecture = Architecture.of(encoder_architecture(RunConfig().model.encoder_path))
    for goal in GOALS:
        request = Request(
            RunConfig(), book, device.of_gpu(card, ""), architecture, read_lengths.assumed(CLASSES), goal=goal
        )
        config = recommend(request, predictor(request)).config
        yield Case(f"recommended, {goal}", config, config.tokenizer.max_length, card.name)


def judged_as(case: Case, here: Gpu) -> Gpu:
    """The card of this machine, or with a cap the memory of the smaller one and the kernels of this."""
    from metagene_doctor import rulebook

    if case.cap is None:
        return here
    limited = rulebook.load().gpu(case.cap)
    return limited.model_copy(update={"compute_capability": here.compute_capability})


def predict(case: Case, card: Gpu) -> MemoryProfile:
    from metagene_doctor.memory import Workload, trace

    return trace(Workload.from_config(case.config, num_labels=CLASSES, length=case.length), gpu=card)


def run(case: Case, predicted: MemoryProfile) -> Measurement:
    """Measure one case. Raises RunError when the probe fails for another reason than memory."""
    from metagene_doctor.memory.costs.measure import measure

    cap = None
    if case.cap is not None and predicted.usable_gib is not None:
        cap = predicted.usable_gib - (predicted.device_gib - predicted.reserved_gib)
    return measure(case.config, num_labels=CLASSES, length=case.length, cap_gib=cap, longest_s=LONGEST_S)


def compare(case: Case, predicted: MemoryProfile, measured: Mapping[str, Any]) -> dict[str, Any]:
    """A result as it is kept: what was predicted beside what was measured, and the bars that it misses."""
    return {
        "case": case.name,
        "cap": case.cap,
        "config": case.config.model_dump(mode="json"),
        "predicted": {name: getattr(predicted, name) for name in PREDICTED}
        | {"timeline": [moment._asdict() for moment in predicted.timeline]},
        "measured": measured,
        "problems": problems(case, predicted, measured),
    }


PREDICTED = (
    *("live_gib", "allocated_gib", "reserved_gib", "device_gib", "margin_gib", "phase", "fits", "retries"),
)


def problems(case: Case, predicted: MemoryProfile, measured: Mapping[str, Any]) -> list[str]:
    """Which bars this case misses."""
    if "failed" in measured:
        return [f"could not be measured: {measured['failed']}"]
    found = []
    if measured["out_of_memory"] is not None:
        if case.name.startswith("recommended") or predicted.fits:
            found.append("ran out of memory, although it was said to fit")
        return found
    error = predicted.reserved_gib / measured["reserved_gib"] - 1
    if abs(error) > BAR and not measured["retries"]:
        found.append(f"reserved is off by {signed(error)}")
    if measured["device_gib"] > predicted.device_gib + predicted.margin_gib:
        found.append("takes more than prediction and margin")
    return found


def signed(error: float) -> str:
    """A relative error with its sign, which nothing has that rounds to zero."""
    text = f"{error:+.1%}"
    return text if text.strip("+-0.%") else text[1:]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """What was measured (and predicted), GiB, a row for each workload."""
    lines = [
        "| workload | live | reserved | error | device (+ margin) | context + kernels | step |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        measured, predicted = result["measured"], result["predicted"]
        if "failed" in measured:
            lines.append(f"| {result['case']} | failed: {measured['failed']} | | | | | |")
            continue
        out_of_memory = measured["out_of_memory"] is not None
        error = predicted["reserved_gib"] / measured["reserved_gib"] - 1
        grown = measured["outside_gib"] - measured["context_gib"]
        step = "out of memory" if out_of_memory else f"{measured['seconds_per_step']:.3f} s"
        lines.append(
            f"| {result['case']} | {measured['live_gib']:.2f} ({predicted['live_gib']:.2f}) "
            f"| {measured['reserved_gib']:.2f} ({predicted['reserved_gib']:.2f}) "
            f"| {'' if out_of_memory else signed(error)} "
            f"| {measured['device_gib']:.2f} ({predicted['device_gib']:.2f} + {predicted['margin_gib']:.2f}) "
            f"| {measured['context_gib']:.2f} + {grown:.2f} "
            f"| {step} |"
        )
    return "\n".join(lines)


def earlier(path: Path, torch_version: str) -> dict[str, dict[str, Any]]:
    """The results of an earlier run with this torch, by case; failures are measured again."""
    if not path.is_file():
        return {}
    return {
        _key(result["case"], result["config"]): result
        for result in json.loads(path.read_text())
        if result["measured"].get("torch") == torch_version
    }


def _key(name: str, config: Mapping[str, Any]) -> str:
    """A case is the same when its configuration is: what autotune recommends can change."""
    return name + json.dumps(config, sort_keys=True)


def _name(config: RunConfig) -> str:
    training, model = config.training, config.model
    targets = model.lora.target_modules
    shown = targets if isinstance(targets, str) else ",".join(name.removesuffix("_proj") for name in targets)
    parts = [f"{training.batch_size} x {config.tokenizer.max_length}", f"r {model.lora.r} {shown}"]
    parts += ["checkpointing"] * model.gradient_checkpointing
    parts += [f"evaluation {training.eval_batch_size}"] * bool(training.eval_batch_size)
    parts += [f"{training.grad_accum_steps} accumulated"] * (training.grad_accum_steps > 1)
    parts += [training.precision] * (training.precision != "bf16-mixed")
    parts += [model.quantization] * (model.quantization != "none")
    return ", ".join(parts)


def missing_packages() -> list[str]:
    """What has to be installed first."""
    return [name for module, name in PACKAGES.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that a dotted name is in
        return False


def write(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Both files, the results as a whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)
    path.with_suffix(".md").write_text(table(results) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure_all(
    cases: Iterator[Case],
    here: Gpu,
    path: Path,
    known: Mapping[str, dict[str, Any]],
    minutes: float | None,
) -> tuple[list[dict[str, Any]], int]:
    """Results of all cases that there was time for, and how many are left. Those of an earlier run stay
    in the file until their turn comes."""
    from metagene_train.errors import RunError

    began, slowest = time.monotonic(), 0.0
    results: list[dict[str, Any]] = []
    waiting = dict(known)
    left = 0
    for case in cases:
        before = waiting.pop(_key(case.name, case.config.model_dump(mode="json")), None)
        measured = None if before is None else before["measured"]
        spent = time.monotonic() - began
        if measured is None and minutes is not None and spent + 1.2 * slowest > 60 * minutes:
            left += 1
            continue
        started = time.monotonic()
        predicted = predict(case, judged_as(case, here))
        how = "kept from before"
        if measured is None:
            try:
                measured = run(case, predicted).to_dict()
            except RunError as error:
                measured = {"failed": str(error)}
            took = time.monotonic() - started
            slowest, how = max(slowest, took), f"{took:.0f} s"
        results.append(compare(case, predicted, measured))
        write(path, [*results, *waiting.values()])
        say(f"{len(results)} {case.name}: {_outcome(results[-1])} ({how})")
    if results and not left:
        write(path, results)
    return results, left


def _outcome(result: Mapping[str, Any]) -> str:
    told = "; ".join(result["problems"]) or "ok"
    if "failed" in result["measured"]:
        return told
    measured, predicted = result["measured"], result["predicted"]
    shown = f"reserved {measured['reserved_gib']:.2f} GiB, predicted {predicted['reserved_gib']:.2f}"
    return f"{told}; {shown}" + (", out of memory" if measured["out_of_memory"] else "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, help="only so many workloads, the first ones of the grid")
    parser.add_argument("--minutes", type=float, help="start no workload that would not end by then")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    options = parser.parse_args(argv)
    missing = missing_packages()
    if missing:
        say(f"gpu_memory: needs {', '.join(missing)}: python -m pip install {' '.join(missing)}")
        return 2
    import torch

    from metagene_doctor.memory.costs.request import choose_card
    from metagene_doctor.memory.measured.calibration import calibration

    if not torch.cuda.is_available():
        say("gpu_memory: no CUDA GPU on this machine; nothing was measured")
        return 2
    here, origin = choose_card(None, None)
    if here is None:
        say(
            "gpu_memory: torch sees a GPU and the driver's library (NVML) tells of none; nothing was measured"
        )
        return 2
    say(f"{origin}; torch {torch.__version__}")
    earlier_measurements = calibration(here.title)
    if earlier_measurements is not None:
        say(
            f"predictions are {earlier_measurements.note}: to judge the model itself, set METAGENE_CACHE "
            "to an empty directory"
        )
    name = re.sub(r"\W+", "_", here.title.removeprefix("NVIDIA ").lower())
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"gpu_memory_{name}.json"
    known = {} if options.again else earlier(path, torch.__version__)
    results, left = measure_all(islice(grid(), options.limit), here, path, known, options.minutes)
    print(table(results))
    missed = sum(bool(result["problems"]) for result in results)
    say(
        f"{len(results)} workloads, {missed} with problems"
        + (f", {left} left: start it again" if left else "")
    )
    return 1 if missed else 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
