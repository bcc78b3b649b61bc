"""Do the installed packages work, together and with this GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import verb

environment_finding = partial(Finding, scope="environment")


def packages_import(facts: Facts) -> Iterator[Finding]:
    """Every package of a training run imports; each is tried in a process of its own (level deep)."""
    environment = facts.environment
    assert environment
    missing = [
        name
        for name in ("transformers", "peft", "accelerate", "tokenizers", "safetensors")
        if name not in environment.packages
    ]
    if missing:
        yield environment_finding(
            id="E06",
            severity=Severity.ERROR,
            title=f"Not installed: {', '.join(missing)}",
            count=len(missing),
            why="Nothing can be trained or predicted; the data checks work without.",
            remedy=Remedy(
                text=f"Install {verb(len(missing), 'it', 'them')}:",
                commands=(f"pip install {' '.join(missing)}",),
            ),
        )
    quantized = facts.config.model.quantization != "none" or facts.config.optimizer.name == "adamw_8bit"
    if quantized and "bitsandbytes" not in environment.packages:
        yield environment_finding(
            id="E06",
            severity=Severity.ERROR,
            title="The config uses 8-bit or 4-bit numbers, and bitsandbytes is not installed",
            why="The run would stop at its start: model.quantization and adamw_8bit come from it.",
            remedy=Remedy(text="Install it:", commands=("pip install bitsandbytes",)),
        )
    for result in environment.imports or ():
        if result.error is not None and result.module.replace("_", "-") not in missing:
            yield environment_finding(
                id="E06",
                severity=Severity.ERROR,
                title=f"{result.module} {environment.packages.get(result.module, '')} does not "
                f"import: {result.error}",
                measured=result.error,
                why="The installed versions do not fit each other, and training stops at its start.",
                remedy=Remedy(
                    text="Install its newest version:",
                    commands=(f"pip install --upgrade {result.module}",),
                ),
            )


def quantization_works(facts: Facts) -> Iterator[Finding]:
    """bitsandbytes has a native library for this CUDA and GPU, when the config holds the encoder in 4 or 8
    bits; one small layer is computed in a process of its own."""
    environment = facts.environment
    assert environment and environment.quantized
    tried, kind = environment.quantized, facts.config.model.quantization
    if tried.error is None and tried.finite:
        return
    version = environment.packages.get("bitsandbytes", "")
    yield environment_finding(
        id="E07",
        severity=Severity.ERROR,
        title=f"bitsandbytes {version} does not compute in {kind} here: "
        + (tried.error or "its numbers are not finite"),
        measured=tried.error or "not finite",
        why=f"The run would stop when the encoder is loaded in {kind} (model.quantization).",
        remedy=Remedy(
            text="Install a newer one (or set model.quantization: none):",
            commands=("pip install --upgrade bitsandbytes",),
        ),
    )
