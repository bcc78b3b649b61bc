"""From a run directory, a log or just the name of a symptom to findings and a changed configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from metagene_doctor.advice.budget import Budget, bias, usable_after_failure
from metagene_doctor.advice.changes import ConfigChange, shown
from metagene_doctor.advice.confusion import concentrated_errors
from metagene_doctor.advice.dry_run import Predictor, predictor
from metagene_doctor.advice.evidence import Evidence, read_run
from metagene_doctor.advice.explain import compare_memory, compare_speed, explain_memory
from metagene_doctor.advice.findings import healthy, other_findings, remedy_findings, symptom_finding
from metagene_doctor.advice.logs import read_log
from metagene_doctor.advice.remedies import TAKES_MEMORY, Plan, Situation, plan
from metagene_doctor.advice.symptom import Symptom, gib
from metagene_doctor.advice.symptoms import detect
from metagene_doctor.facts.machine import host
from metagene_doctor.finding import Finding, Severity
from metagene_doctor.rulebook import Rulebook
from metagene_doctor.rulebook.schema import Gpu
from metagene_train.config import RunConfig
from metagene_train.config_file import load_config, set_keys
from metagene_train.errors import InputError, MetageneError

ORDER = ("oom", "host-memory", "host-growth", "disk", "instability", "overfitting", "underfitting", "slow")
"""Gravest first: a run that does not fit or does not converge has no speed to improve."""
OF_THE_MACHINE = {"host-memory", "host-growth", "disk"}
"""What other programs or the run's surroundings can cause as well as its configuration."""
WHATEVER_IS_ASKED = ("host-memory", "host-growth", "disk", "card", "drift", "ending")
"""Symptoms that are told although another one was asked for."""


@dataclass(frozen=True)
class Advice:
    """What the run shows, what to do about it, and the sentence that sums it up.

    ``set_aside``: fixes that are set already or ruled out, for those who want to know.
    """

    findings: tuple[Finding, ...]
    verdict: str
    plan: Plan | None = None
    set_aside: tuple[Finding, ...] = ()


def collect(
    run_dir: Path | None, log: Path | None, config: Path | None, longest_read: int | None = None
) -> Evidence:
    """The evidence of a run directory or a log, with the configuration in ``config`` and the tokens of the
    longest read where these are given."""
    if run_dir is not None and log is not None:
        raise InputError("give --run or --log, not both")
    evidence = Evidence(source="")
    if run_dir is not None:
        evidence = read_run(run_dir)
    elif log is not None:
        evidence = read_log(log)
    if config is not None:
        evidence = dataclasses.replace(evidence, config=load_config(config).config)
    if evidence.num_labels is None and evidence.config and evidence.config.model.num_classes != "auto":
        evidence = dataclasses.replace(evidence, num_labels=evidence.config.model.num_classes)
    if longest_read is not None:
        evidence = dataclasses.replace(evidence, longest_read_tokens=longest_read)
    return evidence


def advise(
    evidence: Evidence,
    rulebook: Rulebook,
    *,
    symptom: str | None = None,
    gpu: Gpu | None = None,
    predict: Predictor | None = None,
) -> Advice:
    """Findings and a plan for what the evidence shows, or for the named ``symptom``.

    ``gpu`` is the card the run is for, by default the one it ran on; where the rule book does not know
    that one, an out-of-memory message still says what it had.
    ``predict`` stands in for the dry run. Without a configuration the fixes are those for an unchanged
    one, and nothing can be said about memory or about what is set already.
    """
    config = evidence.config
    gpu = gpu or _card_of_run(evidence, rulebook)
    usable = usable_after_failure(evidence, gpu.usable_gib if gpu else None)
    detected = [found for found in detect(evidence, usable) if _asked_for(found, symptom)]
    named = [name for name in ORDER if name == symptom or any(found.symptom == name for found in detected)]
    if config is None and "host-memory" in named:
        # Its one setting is that of a default config already; the symptom itself names it.
        named.remove("host-memory")
    findings = [symptom_finding(found) for found in detected]
    if evidence.source and not findings:
        findings.append(healthy(evidence))
    budget: Budget | None = None
    unknown: tuple[Finding, ...] = ()
    # The dry run takes seconds: for memory itself, and where a fix could outgrow a card that is known.
    if config and ("oom" in named or (usable is not None and set(named) & set(TAKES_MEMORY))):
        budget, unknown = _budget(evidence, config, usable, gpu, predict or predictor(evidence, gpu))
    if budget and config:
        findings.append(explain_memory(evidence, config, usable, budget.predict(config)))
    else:
        findings += compare_memory(evidence)
    findings += compare_speed(evidence)
    findings += concentrated_errors(evidence)
    findings += unknown
    if not named:
        return Advice(tuple(findings), _nothing_found(evidence, findings))
    on_cpu = (evidence.summary or {}).get("device") == "cpu" or (
        config is not None and config.device == "cpu"
    )
    situation = Situation(
        evidence,
        rulebook,
        budget,
        processors=host.collect().cpus_usable,
        bf16=gpu.bf16 if gpu else True,
        int8=gpu.int8 if gpu else True,
        on_cpu=on_cpu,
    )
    made = plan(named, config or RunConfig(), situation)
    findings += remedy_findings(made)
    verdict = _verdict(made, named, has_config=config is not None)
    return Advice(tuple(findings), verdict, made, tuple(other_findings(made)))


def card(rulebook: Rulebook, gpu: str | None, gpu_mem: float | None) -> Gpu | None:
    """The card by name, or the smallest sold with ``gpu_mem`` GB. Raises InputError if unknown."""
    if gpu is not None:
        return rulebook.gpu(gpu)
    return rulebook.smallest_gpu(gpu_mem)[0] if gpu_mem is not None else None


def _card_of_run(evidence: Evidence, rulebook: Rulebook) -> Gpu | None:
    """The card that run.json names, if the rule book knows it."""
    name = (evidence.summary or {}).get("device")
    if not isinstance(name, str) or name == "cpu":
        return None
    try:
        return rulebook.gpu(name)
    except InputError:
        return None


def _asked_for(found: Symptom, symptom: str | None) -> bool:
    return symptom is None or found.symptom in (symptom, *WHATEVER_IS_ASKED)


def _budget(
    evidence: Evidence, config: RunConfig, usable: float | None, gpu: Gpu | None, predict: Predictor
) -> tuple[Budget | None, tuple[Finding, ...]]:
    """What the device has and the run needs; a finding instead, when the dry run cannot tell."""
    try:
        predicted = predict(config)
    except MetageneError as error:
        return None, (
            Finding(
                id="A03.prediction",
                title="Memory could not be predicted",
                severity=Severity.SKIP,
                scope="model",
                why=str(error),
            ),
        )
    # One token costs 2 operations per weight, and a 16-bit weight is 2 bytes to read.
    busy = gpu.bf16_tflops * 1e12 / (gpu.bandwidth_gbs * 1e9) if gpu else 0.0
    return Budget(usable, predict, bias(evidence, predicted), busy), ()


def rewritten(advice: Advice, run_dir: Path | None, config: Path | None) -> str:
    """The configuration that was judged, as it is written, with the plan's changes.

    Raises InputError when there is no configuration to change or nothing to change in it.
    """
    source = config or (run_dir / "config.yaml" if run_dir is not None else None)
    if source is None or not source.exists():
        raise InputError("-o writes a changed config, so it needs one: give --config, or --run with one")
    if advice.plan is None or not advice.plan.changes:
        raise InputError(f"{source}: nothing to change, so no config was written")
    return changed_config(source.read_text(encoding="utf-8"), advice.plan)


def changed_config(text: str, made: Plan) -> str:
    """The YAML text with the plan's changes and a comment on each; everything else stays as it was."""
    changes: dict[str, ConfigChange] = {change.key: change for change in made.changes}
    return set_keys(
        text,
        {key: change.new for key, change in changes.items()},
        {key: f"was {shown(change.old)}: {_reason(made, key)}" for key, change in changes.items()},
    )


def _reason(made: Plan, key: str) -> str:
    return next(
        f"metagene advise, {item.fix.id}"
        for item in reversed(made.advised)
        if any(change.key == key for change in item.changes)
    )


def _nothing_found(evidence: Evidence, findings: list[Finding]) -> str:
    if any(finding.severity in (Severity.ERROR, Severity.WARN) for finding in findings):
        return "See above; the rule book has no other setting against it."
    if not evidence.training and not evidence.evaluations:
        return f"{evidence.source}: nothing to judge: no losses, speeds or memory failures found."
    return "Healthy: none of the five symptoms shows."


def _verdict(made: Plan, named: list[str], has_config: bool) -> str:
    now = sum(item.at_once for item in made.advised)
    later = len(made.advised) - now
    parts = [f"{', '.join(named)}: {'1 fix to make' if now == 1 else f'{now} fixes to make in this order'}"]
    if later:
        parts[0] += f", {later} more if that is not enough"
    if not made.advised:
        what = "no setting to change, see above" if set(named) <= OF_THE_MACHINE else "nothing to change"
        parts = [f"{', '.join(named)}: {what}"]
    if made.need_gib is not None and "oom" in named:
        room = f" of {gib(made.usable_gib)} usable" if made.usable_gib is not None else ""
        parts.append(
            f"predicted need {('', 'with it ', 'with them ')[min(now, 2)]}{gib(made.need_gib)}{room}"
        )
        if made.usable_gib is not None and made.need_gib > made.usable_gib:
            parts.append("that still does not fit: a larger card, or fewer layers (model.encoder_layers)")
    if has_config and made.changes:
        parts.append(
            "-o FILE writes them into a new config" if now > 1 else "-o FILE writes it into a new config"
        )
    if not has_config:
        parts.append("judged against the default config: give --config or --run for your own")
    return "; ".join(parts) + "."
