"""Are the encoder's files here, whole, and what the configuration expects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shlex import quote

from metagene_doctor.checks.remedies import edit
from metagene_doctor.checks.sizes import WEIGHT_BYTES, encoder_parameters, trainable_parameters
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.model.encoder import METAGENE_1_DOWNLOAD_BYTES, EncoderFacts, WeightFile
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, file_size, gib, percent
from metagene_train.config import METAGENE_1

model_finding = partial(Finding, scope="model")

LISTED = 1
"""Weight files that a title names."""

LARGE_SHARE = 0.05
"""Share of trained parameters above which LoRA is no longer a small addition."""


def encoder_present(facts: Facts) -> Iterator[Finding]:
    """The encoder's files must be on this machine, or allowed to be downloaded when training starts."""
    encoder, environment = facts.encoder, facts.environment
    assert encoder and environment
    if encoder.location is not None:
        return
    offline = [
        name
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        if environment.variables.get(name, "").lower() in ("1", "true", "yes", "on")
    ]
    size = f" ({file_size(METAGENE_1_DOWNLOAD_BYTES)})" if encoder.is_metagene_1 else ""
    yield model_finding(
        id="M01",
        severity=Severity.ERROR if offline else Severity.INFO,
        title=f"{encoder.name} is not on this machine"
        + (f", and {offline[0]} forbids the download" if offline else ""),
        why="Training could not start." if offline else f"Training would download it first{size}.",
        remedy=Remedy(
            text="Download it where there is a network (started again, it goes on where it stopped):",
            commands=(f"hf download {encoder.name}",),
        ),
    )


def download_finished(facts: Facts) -> Iterator[Finding]:
    """Partial files in the hub cache are from a download that was interrupted."""
    encoder = facts.encoder
    assert encoder
    if encoder.location is None and not encoder.incomplete_downloads:
        yield model_finding(
            id="M02",
            severity=Severity.SKIP,
            title="Download was finished",
            why=f"{encoder.name} is not on this machine (M01)",
        )
    if encoder.incomplete_downloads:
        yield model_finding(
            id="M02",
            severity=Severity.ERROR if encoder.location else Severity.WARN,
            title=f"The download of {encoder.name} was interrupted: "
            f"{count(len(encoder.incomplete_downloads), 'partial file')}, "
            f"{file_size(encoder.incomplete_bytes)}",
            count=len(encoder.incomplete_downloads),
            examples=tuple(Example(file=path) for path in encoder.incomplete_downloads[:5]),
            why="Weights may be missing, and the encoder then cannot be loaded.",
            remedy=Remedy(text="Go on with it:", commands=(f"hf download {encoder.name}",)),
        )


def weights_complete(facts: Facts) -> Iterator[Finding]:
    """Every weight file the index names is there, and as long as its own header says.

    Only headers are read. Content that was damaged at the right length is not seen; the hub's
    checksums are (``hf cache verify``).
    """
    encoder = facts.encoder
    assert encoder
    if encoder.location is None:
        return
    fetch = _fetch(encoder)
    for problem in encoder.problems:
        yield model_finding(
            id="M03",
            severity=Severity.ERROR,
            title=f"{encoder.name}: {problem}",
            examples=(Example(file=encoder.location),),
            why="The encoder cannot be loaded, so no run can start.",
            remedy=fetch,
        )
    bad = [file for file in encoder.weights if file.state != "complete"]
    if bad:
        yield model_finding(
            id="M03",
            severity=Severity.ERROR,
            title=f"{len(bad)} of {count(len(encoder.weights), 'weight file')} cannot be used: "
            + "; ".join(_describe(file) for file in bad[:LISTED])
            + ("; ..." if len(bad) > LISTED else ""),
            count=len(bad),
            examples=tuple(
                Example(file=f"{encoder.location}/{file.name}", text=_describe(file)) for file in bad[:5]
            ),
            why="The encoder cannot be loaded, so no run can start.",
            remedy=fetch,
        )


def adapters_placed(facts: Facts) -> Iterator[Finding]:
    """LoRA's target modules exist in the encoder, and train a usual part of it.

    The classifier's head is always trained and saved with the adapters.
    """
    encoder, config = facts.encoder, facts.config
    assert encoder
    lora, architecture = config.model.lora, encoder.architecture
    if architecture is None or not lora.enabled:
        return
    known = architecture.linear_shapes
    named = list(known) if lora.target_modules == "all-linear" else list(lora.target_modules)
    unknown = [name for name in named if name not in known]
    if unknown:
        yield model_finding(
            id="M07",
            severity=Severity.ERROR,
            title=f"LoRA targets {', '.join(unknown)}, which {encoder.name} does not have",
            count=len(unknown),
            measured=", ".join(unknown),
            threshold=", ".join(known),
            unit="modules",
            why="Nothing of the encoder would be trained."
            if len(unknown) == len(named)
            else "peft leaves them out without an error: less is trained than the config says.",
            remedy=edit(
                facts,
                f"Name modules it has ({', '.join(known)})",
                "model.lora.target_modules",
                f"[{', '.join(list(known)[:4])}]",
            ),
        )
        return
    classes = len(facts.classes) or 2
    trained = trainable_parameters(architecture, config, classes)
    share = trained / (encoder_parameters(architecture, config.model.encoder_layers) + trained)
    if share > LARGE_SHARE:
        yield model_finding(
            id="M07",
            severity=Severity.INFO,
            title=f"{percent(share)} of the parameters are trained (LoRA rank {lora.r})",
            measured=share,
            threshold=LARGE_SHARE,
            unit="fraction of parameters",
            why="LoRA usually trains about 1 % or less; more takes memory, and memorises sooner.",
        )


def revision_pinned(facts: Facts) -> Iterator[Finding]:
    """An encoder from the hub is named with its revision, so that a later run gets the same weights."""
    encoder, config = facts.encoder, facts.config
    assert encoder
    if not encoder.in_hub_cache or encoder.location is None or config.model.revision is not None:
        return
    yield model_finding(
        id="M08",
        severity=Severity.INFO,
        title=f"{encoder.name} is not pinned to a revision",
        why="The hub may serve other weights under that name later, and the run could not be repeated.",
        remedy=edit(facts, "Pin the one that is here", "model.revision", Path(encoder.location).name),
    )


def _describe(file: WeightFile) -> str:
    if file.state == "pointer":
        return f"{file.name} is a git-lfs pointer"
    if file.state == "truncated" and file.expected_bytes is not None:
        return f"{file.name} has {file_size(file.bytes)} of {file_size(file.expected_bytes)}"
    return f"{file.name} {'is ' + file.state if not file.message else file.message}"


def _fetch(encoder: EncoderFacts) -> Remedy:
    if encoder.in_hub_cache:
        command = f"hf download {encoder.name} --force-download"
        return Remedy(text="Fetch the files again:", commands=(command,))
    if encoder.is_metagene_1:
        command = f"hf download {METAGENE_1} --local-dir {quote(encoder.location or encoder.name)}"
        return Remedy(text="Fetch the files again:", commands=(command,))
    return Remedy(text="Copy the files again from where they came from.")


def stored_precision(facts: Facts) -> Iterator[Finding]:
    """Weights are held in the dtype of ``training.precision``, whatever the files store; fp32 files
    are read in full at every start, and ``precision: 32`` doubles the memory of the encoder."""
    encoder = facts.encoder
    assert encoder
    stored = encoder.weight_bytes_by_dtype
    if encoder.architecture is None:
        return
    precision = facts.config.training.precision
    weights = encoder_parameters(encoder.architecture, facts.config.model.encoder_layers)
    held = weights * WEIGHT_BYTES[precision]
    target = facts.target
    if precision == "32" and target is not None and held > target.usable_bytes >= held / 2:
        yield model_finding(
            id="M04",
            severity=Severity.ERROR,
            title=f"In fp32 the encoder alone takes {gib(held)}, {target.title} has "
            f"{gib(target.usable_bytes)}",
            measured=held,
            threshold=target.usable_bytes,
            unit="bytes",
            why="The run would stop with 'CUDA out of memory'. Frozen weights need no fp32; bf16 takes half.",
            remedy=edit(facts, "Use bf16", "training.precision", "bf16-mixed"),
        )
    elif stored.get("F32", 0) > held:
        yield model_finding(
            id="M04",
            severity=Severity.INFO,
            title=f"The files hold fp32 ({file_size(stored['F32'])}); the run holds {gib(held)} "
            f"({precision})",
            measured=stored["F32"],
            threshold=held,
            unit="bytes",
            why="Every start reads and converts all of them, which takes its time but no GPU memory.",
        )
