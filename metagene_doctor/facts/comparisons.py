"""Training reads against validation reads and among each other, in the pass that scans them.

The validation reads are scanned first and held as hashes; the training reads are compared with them as
they are scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from metagene_doctor.facts import audit
from metagene_doctor.facts.collection import ONLY_DEEP, Collection, Request, StartStage
from metagene_doctor.facts.facts import Gap, Section
from metagene_doctor.facts.reads import repeats, second_reader, shared_headers
from metagene_doctor.facts.reads.collect import is_large
from metagene_doctor.facts.reads.expected import expected_reads
from metagene_doctor.facts.reads.facts import ReadsFacts, Role
from metagene_doctor.facts.side_watch import WHOLE, Hashing, HashUser, SideWatch
from metagene_doctor.facts.split import leakage
from metagene_doctor.facts.split.held_reads import HeldReads

User = TypeVar("User")


SECTIONS: tuple[Section, ...] = ("split", "repeats", "audit")

NOT_NEEDED = "no chosen check needs it"


class Comparisons:
    """Watches both sides while they are scanned, validation first, and fills the sections ``split``,
    ``repeats``, ``audit`` and ``shared headers``."""

    def __init__(self, request: Request, files: Mapping[Role, Sequence[Path]]):
        from metagene_train.reads.access.data_set import shared_files

        self._request = request
        self._files = files
        train, val = files.get("train", ()), files.get("val", ())
        self._shared = shared_files(train, val)
        self._compares = bool(train and val) and not self._shared and request.wants("split")
        self._watches: dict[Role, SideWatch] = {}
        self._headers: dict[Role, shared_headers.SharedHeaderTally] = {}
        self._val_sample: tuple[bytes, ...] = ()
        self._comparison: leakage.Comparison | None = None

    def watch(self, role: Role) -> SideWatch | None:
        """Who is to see the reads of a side, if anybody."""
        sides = self._files.values() if self._compares and role == "val" else [self._files[role]]
        if self._request.level == "quick" and any(is_large(path) for side in sides for path in side):
            return None
        watch = self._new_watch(role)
        if watch is not None:
            self._watches[role] = watch
        return watch

    def _new_watch(self, role: Role) -> SideWatch | None:
        files, wants = self._files[role], self._request.wants
        expected = expected_reads(files, self._request.run.config.dataset.file_format)
        headers = None
        if len(files) > 1 and wants("shared headers"):
            headers = shared_headers.SharedHeaderTally()
        if role == "val":
            # A sieve is of no use where repeats are counted too: then every read has to be hashed.
            held = HeldReads(prefixes=not wants("repeats"))
            users: list[HashUser] = [held] if self._compares else []
            hashing, looks = WHOLE, self._compares
        else:
            users, hashing = self._users_in_training(expected)
            looks = wants("audit")
        if not (users or looks or headers):
            return None
        return SideWatch(users, audit.Audit(expected) if looks else None, headers, hashing=hashing)

    def _users_in_training(self, expected: int | None) -> tuple[list[HashUser], Hashing]:
        """Who wants the hashes of about so many training reads, and which."""
        tally = [repeats.RepeatTally()] if self._request.wants("repeats") else []
        comparison = self._comparison_anew(expected)
        if comparison is None:
            return [*tally], WHOLE
        sieve = None if tally else comparison.sieve()
        return [comparison, *tally], Hashing(comparison.segment_step, sieve)

    def _comparison_anew(self, expected: int | None) -> leakage.Comparison | None:
        held = self._user("val", HeldReads)
        if self._comparison is not None:
            self._comparison.forget()
        elif held is not None:
            segments = None
            if self._request.level == "deep" or (expected or 0) <= leakage.SEGMENTS_AT_STANDARD:
                segments = leakage.ValSegments.of(self._val_sample)
            self._comparison = leakage.Comparison(held, segments)
        return self._comparison

    def _user(self, role: Role, kind: type[User]) -> User | None:
        """What a side's watch has of this kind, if it has it."""
        watch = self._watches.get(role)
        users = watch.hash_users if watch else ()
        return next((user for user in users if isinstance(user, kind)), None)

    def scanned(self, side: ReadsFacts, sample: tuple[bytes, ...], stage: StartStage) -> None:
        """A side was scanned, and these are some of its sequences."""
        watch = self._watches.get(side.role)
        if watch is None:
            return
        if side.role == "val":
            self._val_sample = sample
        if watch.spoilt and side.whole:
            watch = self._watches[side.role] = self._watched_again(side.role, watch, stage)
        if watch.headers and not watch.spoilt:
            self._headers[side.role] = watch.headers
        if not side.whole:
            del self._watches[side.role]

    def _watched_again(self, role: Role, spoilt: SideWatch, stage: StartStage) -> SideWatch:
        from metagene_train.reads.headers.pattern import HeaderPattern

        dataset = self._request.run.config.dataset
        again = self._new_watch(role) or spoilt
        header = HeaderPattern(dataset.header_regex)
        for path in self._files[role]:
            again.read(path, header, dataset.file_format, stage("Comparing reads"))
        return again

    def conclude(self, found: Collection) -> None:
        """Fill the sections, or say why they cannot be."""
        train, val = found.known.get("train"), found.known.get("val")
        watch = self._watches.get("train")
        if train is None or watch is None:
            gap = found.gaps["train"] if train is None else _why_not(train)
            for section in SECTIONS:
                if self._request.wants(section):
                    found.gaps[section] = gap
                else:
                    found.skip(section, NOT_NEEDED)
        else:
            self._conclude_split(found, val)
            tally = self._user("train", repeats.RepeatTally)
            if tally:
                found.add("repeats", tally.result)
            else:
                found.skip("repeats", NOT_NEEDED)
            if ours := watch.audit:
                theirs = self._watches["val"].audit if val and "val" in self._watches else None
                classes = [side.class_counts if side else {} for side in (train, val)]
                found.add("audit", lambda: audit.conclude(ours, theirs, *classes))
            else:
                found.skip("audit", NOT_NEEDED)
        self._conclude_headers(found)

    def _conclude_split(self, found: Collection, val: ReadsFacts | None) -> None:
        comparison = self._user("train", leakage.Comparison)
        if val is None:
            found.gaps["split"] = found.gaps["val"]
        elif self._shared:
            shared = tuple(str(path) for path in self._shared)
            found.known["split"] = leakage.SplitFacts(same_file=True, shared_files=shared)
        elif not self._request.wants("split"):
            found.skip("split", NOT_NEEDED)
        elif comparison is None:
            found.gaps["split"] = _why_not(val)
        else:
            found.add("split", comparison.result)

    def _conclude_headers(self, found: Collection) -> None:
        """Headers that several files share, of sides that have several."""
        known: dict[Role, shared_headers.SharedHeaders] = {}
        for role, tally in self._headers.items():
            result = found.add("shared headers", partial(tally.result, found.known[role]))
            if result is None:
                return
            known[role] = result
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


def _why_not(side: ReadsFacts) -> Gap:
    file = next((file for file in side.files if file.damage), side)
    if file.damage:
        return Gap(reason=f"{file.name} is damaged; what could not be read cannot be compared")
    return Gap(reason="large files are not compared at this level", enable="use --level standard")
