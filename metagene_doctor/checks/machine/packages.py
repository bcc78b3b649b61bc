"""Do the installed packages work, together and with this GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite

from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Finding, Remedy, Severity
from metagene_doctor.report.quantities import verb
from metagene_train.quant_extra import OLDEST, is_too_old

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
    found = environment.packages.get("bitsandbytes")
    if quantized and (found is None or is_too_old(found)):
        yield environment_finding(
            id="E06",
            severity=Severity.ERROR,
            title="The config uses 8-bit or 4-bit numbers, and bitsandbytes "
            + ("is not installed" if found is None else f"{found} is too old"),
            measured=found,
            threshold=OLDEST,
            why="The run would stop at its start: model.quantization and adamw_8bit come from it.",
            remedy=Remedy(text="Install it:", commands=(f"pip install 'bitsandbytes>={OLDEST}'",)),
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


QUANTIZED_ERROR = 0.3
"""Three times what rounding to 4 bits costs; what a wrong kernel gives is far above it."""


def quantization_works(facts: Facts) -> Iterator[Finding]:
    """bitsandbytes has a native library for this CUDA and GPU, when the config holds the encoder in 4 or 8
    bits; the product of one small layer and its gradient are computed in a process of its own and compared
    with fp32."""
    environment = facts.environment
    assert environment and environment.quantized
    tried, kind = environment.quantized, facts.config.model.quantization
    error = tried.relative_error
    if error is not None and error <= QUANTIZED_ERROR:
        return
    version = environment.packages.get("bitsandbytes", "")
    yield environment_finding(
        id="E07",
        severity=Severity.ERROR,
        title=f"bitsandbytes {version} does not compute in {kind} here: "
        + (tried.error or f"its results differ from fp32's by {error:.2g}"),
        measured=error if error is not None and isfinite(error) else tried.error or "not a number",
        threshold=QUANTIZED_ERROR,
        unit="relative error",
        why=f"The run would stop when the encoder is loaded in {kind} (model.quantization)."
        if tried.error
        else "The run would learn from wrong numbers.",
        remedy=Remedy(
            text="Install a newer one (or set model.quantization: none):",
            commands=("pip install --upgrade bitsandbytes",),
        ),
    )
