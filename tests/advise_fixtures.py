"""Run directories with made-up losses, and what `metagene advise` says of them."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from usable_commands import assert_usable

from metagene_doctor.cli.main import main
from metagene_train.config import RunConfig
from metagene_train.config_file import dump_config

CLASSES = 20


GUESSING = math.log(CLASSES)


def predicted_gib(config: RunConfig) -> float:
    """A made-up dry run with the right signs: weights + activations of a micro-batch."""
    weights = {"none": 12.1, "int8": 6.5, "nf4": 3.4}[config.model.quantization]
    weights *= 2 if config.training.precision == "32" else 1
    per_token = 0.0004 if config.model.gradient_checkpointing else 0.006
    adapters = 0.01 * config.model.lora.r
    return weights + config.training.batch_size * config.tokenizer.max_length * per_token + adapters


def write_run(
    directory: Path, training: list[dict], evaluations: list[dict], config: RunConfig | None = None, **summary
) -> Path:
    """A run directory as `metagene train` leaves it."""
    directory.mkdir()
    lines = [{"phase": "train", **entry} for entry in training]
    lines += [{"phase": "eval", **entry} for entry in evaluations]
    lines.sort(key=lambda entry: (entry["step"], entry["phase"] == "eval"))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "config.yaml").write_text(dump_config(config or RunConfig()))
    rows = [{"label": i, "class_id": i, "name": f"class {i}", "tax_id": None} for i in range(CLASSES)]
    (directory / "labels.json").write_text(json.dumps({"format_version": 1, "labels": rows}))
    (directory / "run.json").write_text(json.dumps({"status": "finished", **summary}))
    return directory


def losses(values: list[float], every: int = 10, **more: float) -> list[dict]:
    return [
        {"step": every * (i + 1), "epoch": (i + 1) / len(values), "loss": v, "grad_norm": 1.0, **more}
        for i, v in enumerate(values)
    ]


def falling(start: float, end: float, count: int = 100, noise: float = 0.02) -> list[float]:
    generator = random.Random(7)
    return [
        (end + (start - end) * math.exp(-5 * i / count)) * (1 + noise * generator.uniform(-1, 1))
        for i in range(count)
    ]


def evaluated(values: list[float], every: int = 100, **more: float) -> list[dict]:
    return [
        {"step": every * (i + 1), "epoch": float(i + 1), "loss": v, "macro_f1": 0.6, "mcc": 0.5, **more}
        for i, v in enumerate(values)
    ]


def found(capsys, *argv: str) -> tuple[int, dict]:
    """Exit code and the JSON report of one `metagene advise`."""
    code = main(["advise", *map(str, argv), "--json"])
    report = json.loads(capsys.readouterr().out)
    _assert_readable(report["findings"])
    return code, report


def _assert_readable(findings: list[dict]) -> None:
    """A symptom says what it is in one line of 120 columns, and why; a fix is one command that exists."""
    for finding in findings:
        shown = finding["severity"] in ("warn", "error")
        assert len(finding["title"]) <= (114 if shown else 228), finding["title"]
        assert finding["why"] or not shown, finding["title"]
        if finding["remedy"] is not None:
            commands = finding["remedy"]["commands"]
            assert len(commands) <= 1 and finding["remedy"]["text"][-1] == (":" if commands else "."), finding
            for command in commands:
                assert_usable(command)


def titles(report: dict, *severities: str) -> list[str]:
    return [f["title"] for f in report["findings"] if f["severity"] in severities]


MESSAGES = {
    "1.0": (
        "RuntimeError: CUDA out of memory. Tried to allocate 16.00 GiB (GPU 0; 11.93 GiB total capacity; "
        "4.00 GiB already allocated; 7.33 GiB free; 179.00 KiB cached)",
        {"tried_gib": 16.0, "capacity_gib": 11.93, "allocated_gib": 4.0, "free_gib": 7.33, "unallocated_gib": 179 / 2**20},
    ),
    "1.13 and 2.0": (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 1; 23.65 GiB total "
        "capacity; 22.10 GiB already allocated; 5.81 MiB free; 22.50 GiB reserved in total by PyTorch) If "
        "reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation.",
        {
            "device": "GPU 1", "tried_gib": 20 / 1024, "capacity_gib": 23.65, "allocated_gib": 22.1,
            "free_gib": 5.81 / 1024, "unallocated_gib": 0.4, "process_gib": None,
        },
    ),
    "2.1, other process": (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 138.00 MiB. GPU 0 has a total capacty "
        "of 15.90 GiB of which 8.44 MiB is free. Process 1246069 has 577.00 MiB memory in use. Including "
        "non-PyTorch memory, this process has 15.32 GiB memory in use. Of the allocated memory 14.12 GiB is "
        "allocated by PyTorch, and 410.41 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
        "memory is large try setting max_split_size_mb to avoid fragmentation.",
        {
            "tried_gib": 138 / 1024, "capacity_gib": 15.9, "free_gib": 8.44 / 1024, "process_gib": 15.32,
            "others_gib": 577 / 1024, "allocated_gib": 14.12, "unallocated_gib": 410.41 / 1024,
        },
    ),
    "2.2 in a container: own process under its host number": (
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 1 has a total capacty "
        "of 79.10 GiB of which 364.31 MiB is free. Process 175080 has 1.46 GiB memory in use. Process 175356 has "
        "77.26 GiB memory in use. Of the allocated memory 72.12 GiB is allocated by PyTorch, and 3.78 GiB is "
        "reserved by PyTorch but unallocated.",
        {"process_gib": 77.26, "others_gib": 1.46, "capacity_gib": 79.10, "allocated_gib": 72.12},
    ),
    "2.5 and later": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 226.00 MiB. GPU 0 has a total capacity of "
        "15.70 GiB of which 210.38 MiB is free. Including non-PyTorch memory, this process has 15.48 GiB memory in "
        "use. Of the allocated memory 14.81 GiB is allocated by PyTorch, and 336.73 MiB is reserved by PyTorch but "
        "unallocated. If reserved but unallocated memory is large try setting "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
        {"tried_gib": 226 / 1024, "capacity_gib": 15.70, "process_gib": 15.48, "others_gib": None, "limit_gib": None},
    ),
    "set fraction and private pools": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        "79.15 GiB of which 60.00 GiB is free. Including non-PyTorch memory, this process has 19.50 GiB memory in "
        "use. 20.00 GiB allowed; Of the allocated memory 18.00 GiB is allocated by PyTorch, with 24.00 MiB "
        "allocated in private pools (e.g., CUDA Graphs), and 1.00 GiB is reserved by PyTorch but unallocated.",
        {"limit_gib": 20.0, "allocated_gib": 18.0, "unallocated_gib": 1.0, "free_gib": 60.0},
    ),
    "WSL: no process is listed, nothing free": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 730.00 MiB. GPU 0 has a total capacity of "
        "8.00 GiB of which 0 bytes is free. Of the allocated memory 6.52 GiB is allocated by PyTorch, and 666.27 "
        "MiB is reserved by PyTorch but unallocated.",
        {"free_gib": 0.0, "process_gib": None, "allocated_gib": 6.52, "unallocated_gib": 666.27 / 1024},
    ),
    "AMD": (
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 15.98 "
        "GiB of which 512.00 MiB is free. Of the allocated memory 14.00 GiB is allocated by PyTorch, and 1.00 GiB "
        "is reserved by PyTorch but unallocated.",
        {"tried_gib": 1.5, "capacity_gib": 15.98, "allocated_gib": 14.0},
    ),
    "outside the allocator": (
        "RuntimeError: CUDA error: out of memory",
        {"tried_gib": None, "capacity_gib": None, "allocated_gib": None},
    ),
}  # fmt: skip


OUT_OF_MEMORY = MESSAGES["2.5 and later"][0].replace("15.70", "23.64").replace("15.48", "23.40")
