"""The command to go on with when nothing is in the way."""

from __future__ import annotations

from collections.abc import Sequence

from metagene_doctor.checks.commands import Sides, autotune_command, train_command
from metagene_doctor.checks.repairs import needed_repair
from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Finding, Severity
from metagene_doctor.repair.plan import joint_name


def next_step(facts: Facts, findings: Sequence[Finding]) -> str:
    """Train with the config, or without one let autotune write it.

    Where C05 asks for validation reads, they are held out first, and taken along: nobody who copies the
    command trains without them unawares.
    """
    dataset = facts.config.dataset
    if facts.run.path is None and dataset.train_fasta is None:
        return "metagene doctor --fasta train.fa --mapping labels.tsv"
    if facts.previous_run is not None and facts.previous_run.continues:
        return train_command(facts, resume=True)
    first, sides = _held_out(facts, findings)
    then = autotune_command if facts.run.path is None else train_command
    return first + then(facts, sides=sides)


def _held_out(facts: Facts, findings: Sequence[Finding]) -> tuple[str, Sides]:
    """The command that makes the validation reads which C05 misses, and the files of both sides then."""
    missed = facts.config.dataset.val_fasta is None and any(
        finding.id == "C05" and finding.severity is Severity.WARN and finding.ignored is None
        for finding in findings
    )
    if not missed or facts.train is None:
        return "", {}
    needed = needed_repair(findings, [file.path for file in facts.files])
    if needed is None or "split" not in needed[0].repairs:
        # No repair makes them of a stream, or of FASTA and FASTQ.
        return "", {"val": ["val.fa"]}
    repair, directory = needed
    packed = any(file.compression != "none" for file in facts.train.files)
    return f"{repair.command(directory)} && ", {
        role: [f"{directory}/{joint_name(role, facts.train.kind, packed=packed)}"]
        for role in ("train", "val")
    }
