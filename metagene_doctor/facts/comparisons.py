"""Training reads against validation reads and among each other, in one pass over each file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from metagene_doctor.facts import audit
from metagene_doctor.facts.collection import ONLY_DEEP, Collection, Request, StartStage
from metagene_doctor.facts.facts import Gap, Section
from metagene_doctor.facts.reads import repeats, second_reader, shared_headers
from metagene_doctor.facts.reads.facts import ReadsFacts, Role
from metagene_doctor.facts.reads.joined import Member
from metagene_doctor.facts.split import leakage

SECTIONS: tuple[Section, ...] = ("split", "repeats", "audit")


def collect_comparisons(found: Collection, request: Request, stage: StartStage) -> None:
    """Fill the sections `SECTIONS` and ``shared headers``. Everything that looks at all training reads
    looks at the same pass."""
    watched = _compare(found, request, stage)
    _collect_shared_headers(found, request, stage, watched)


def _compare(found: Collection, request: Request, stage: StartStage) -> list[audit.Audit]:
    """All but the last section; those who have watched the reads of a side."""
    from metagene_train.reads.headers.pattern import HeaderPattern

    dataset = request.run.config.dataset
    header, tally = HeaderPattern(dataset.header_regex), repeats.RepeatTally()
    train, val = found.known.get("train"), found.known.get("val")
    if train is None or train.stream or not train.whole:
        reason = _not_comparable(train) if train is not None else found.gaps["train"]
        found.gaps.update(dict.fromkeys(SECTIONS, reason))
        return []
    if val is None:
        found.gaps["split"] = found.gaps["val"]
    elif not val.stream and (shared := _shared(train, val)):
        found.known["split"] = leakage.SplitFacts(same_file=True, shared_files=shared)
    elif val.stream or not val.whole:
        found.gaps["split"] = _not_comparable(val)
    elif request.wants("split"):
        advance = stage("Comparing training and validation reads")
        ours, theirs = audit.Audit(train, header), audit.Audit(val, header)
        compared = found.add(
            "split",
            lambda: leakage.collect(
                _members(train),
                _members(val),
                header,
                dataset.file_format,
                segments=request.level == "deep" or train.records <= leakage.SEGMENTS_AT_STANDARD,
                watch=tally.add,
                look=ours.look,
                look_at_val=theirs.look,
                progress=advance,
            ),
        )
        if compared is not None:
            found.known["repeats"] = tally.result()
            found.add("audit", lambda: audit.conclude(ours, theirs))
            return [ours, theirs]
    else:
        found.skip("split", "no chosen check needs it")
    if request.wants("repeats"):
        advance = stage("Looking for repeated reads")
        alone = audit.Audit(train, header)
        counted = found.add(
            "repeats",
            lambda: repeats.collect(_members(train), header, dataset.file_format, alone.look, advance),
        )
        if counted is not None:
            found.add("audit", lambda: audit.conclude(alone, None))
            return [alone]
        found.gaps["audit"] = found.gaps["repeats"]
    else:
        for section in SECTIONS[1:]:
            found.skip(section, "no chosen check needs it")
    return []


def _collect_shared_headers(
    found: Collection, request: Request, stage: StartStage, watched: list[audit.Audit]
) -> None:
    """Headers that several files share, of sides that have several; the section ``shared headers``."""
    tallies = {each.reads.role: each.headers for each in watched}
    known: dict[Role, shared_headers.SharedHeaders] = {}
    file_format = request.run.config.dataset.file_format

    def counted(side: ReadsFacts) -> shared_headers.SharedHeaders:
        tally = tallies.get(side.role)
        if tally is not None and tally.complete:
            return tally.result()
        return shared_headers.collect(side, file_format, stage("Comparing headers"))

    for role in ("train", "val"):
        side = found.known.get(role)
        if side is None or not side.parts or side.partial or side.stream:
            continue
        result = found.add("shared headers", partial(counted, side))
        if result is None:
            return
        known[side.role] = result
    found.known.pop("shared headers", None)
    found.known["shared_headers"] = known


def collect_second_reader(found: Collection, request: Request, stage: StartStage) -> None:
    """Let pyfastx read the undamaged files too; the section ``second reader``."""
    if request.level != "deep":
        found.skip("second reader", *ONLY_DEEP)
        return
    if "files" in found.gaps:
        found.gaps["second reader"] = found.gaps["files"]
        return
    sides = [found.known[role] for role in ("train", "val") if role in found.known]
    files = [file for side in sides for file in side.files]
    whole = [f for f in files if f.whole and not f.stream and f.compression in second_reader.READABLE]

    def read_again() -> dict[str, second_reader.SecondReaderFacts]:
        stage("Reading with pyfastx")
        file_format = request.run.config.dataset.file_format
        return {f.path: second_reader.collect(Path(f.path), file_format) for f in whole}

    agreed = found.add("second reader", read_again)
    if agreed is not None:
        found.known["second_reader"] = found.known.pop("second reader")


def _members(side: ReadsFacts) -> list[Member]:
    return [Member(Path(file.path), file.records) for file in side.files]


def _shared(train: ReadsFacts, val: ReadsFacts) -> tuple[str, ...]:
    """Validation files that are training files too, whatever they are called."""
    states = [[Path(file.path).stat() for file in side.files] for side in (train, val)]
    ours = {(state.st_dev, state.st_ino) for state in states[0]}
    return tuple(
        file.path
        for file, state in zip(val.files, states[1], strict=True)
        if (state.st_dev, state.st_ino) in ours
    )


def _not_comparable(side: ReadsFacts) -> Gap:
    file = next((file for file in side.files if file.damage or file.stream), side)
    if file.damage:
        return Gap(reason=f"{file.name} is damaged; what could not be read cannot be compared")
    if file.stream:
        return Gap(
            reason=f"{file.name} can be read only once, and comparing reads takes a second pass",
            enable="save the reads to a file",
        )
    return Gap(reason="large files are not compared at this level", enable="use --level standard")
