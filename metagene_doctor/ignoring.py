"""Findings that a laboratory has decided to live with: a YAML list of check, reason and expiry date.

    - id: F15
      reason: reads are repeated on purpose, to oversample rare classes
      until: 2027-01-31

An ignored finding stays in every report with its reason, and is counted in the last line; it only
no longer decides whether a run is ready.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from metagene_doctor.finding import Finding, Severity
from metagene_train.errors import InputError

KEYS = ("id", "reason", "until")


class Entry(NamedTuple):
    """One line of the list; ``until`` is the last day on which it holds, None for ever."""

    id: str
    reason: str
    until: datetime.date | None
    line: int


def load(path: str, known_ids: Collection[str]) -> tuple[Entry, ...]:
    """The entries of a file. Raises InputError, with the line, for anything that is not one."""
    try:
        document = YAML(typ="rt").load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        place = f"{path}:{mark.line + 1}" if mark else path
        raise InputError(f"{place}: not valid YAML") from None
    if document is None:
        return ()
    if not isinstance(document, CommentedSeq):
        raise InputError(f"{path}:1: has to be a list of entries, each with id and reason")
    return tuple(
        _entry(path, document.lc.item(number)[0] + 1, item, known_ids) for number, item in enumerate(document)
    )


def _entry(path: str, line: int, item: object, known_ids: Collection[str]) -> Entry:
    place = f"{path}:{line}"
    if not isinstance(item, dict):
        raise InputError(f"{place}: an entry has to have id and reason, not {item!r}")
    if unknown := [str(key) for key in item if key not in KEYS]:
        raise InputError(f"{place}: unknown key {unknown[0]} (an entry has {', '.join(KEYS)})")
    check_id = str(item.get("id", "")).upper()
    if check_id not in known_ids:
        near = difflib.get_close_matches(check_id, known_ids, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{place}: no check {check_id!r}; {hint}(metagene doctor --list-checks shows all)")
    reason = item.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise InputError(f"{place}: {check_id} needs a reason, so that others know why it is ignored")
    until = item.get("until")
    if until is not None and (isinstance(until, datetime.datetime) or not isinstance(until, datetime.date)):
        raise InputError(f"{place}: until has to be a date such as 2027-01-31, not {until!r}")
    return Entry(check_id, reason.strip(), until, line)


def apply(
    entries: Sequence[Entry], findings: Iterable[Finding], today: datetime.date | None = None
) -> tuple[Finding, ...]:
    """The same findings; warnings, errors and skips of valid entries carry the reason in ``ignored``."""
    today = today or datetime.date.today()
    reasons = {entry.id: entry.reason for entry in entries if not expired(entry, today)}
    ignorable = (Severity.WARN, Severity.ERROR, Severity.SKIP)
    return tuple(
        finding.model_copy(update={"ignored": reasons[finding.id]})
        if finding.id in reasons and finding.severity in ignorable
        else finding
        for finding in findings
    )


def expired(entry: Entry, today: datetime.date | None = None) -> bool:
    """Whether an entry's last day is over."""
    return entry.until is not None and entry.until < (today or datetime.date.today())
