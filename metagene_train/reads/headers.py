"""Headers: the fields of ``lbl|class_id|tax_id|readlen|name/mate``, or of a pattern of your own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from metagene_train.config import HEADER_REGEX

LARGEST_CLASS_ID = 2**31 - 1
"""Class ids are kept as 32-bit integers in the read index."""


@dataclass(frozen=True)
class HeaderFields:
    """What a header says. Fields that the pattern does not have, or the header omits, are None."""

    class_id: int
    tax_id: int | None = None
    readlen: int | None = None
    name: str | None = None
    mate: int | None = None


@dataclass(frozen=True)
class HeaderPattern:
    """A regular expression with a group ``class_id`` and any of tax_id, readlen, name, mate."""

    regex: str = HEADER_REGEX

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", re.compile(self.regex))

    @property
    def is_standard(self) -> bool:
        """Whether this is the guide's template, for which the scanner has a faster parser."""
        return self.regex == HEADER_REGEX

    def parse(self, header: str) -> HeaderFields | None:
        """Fields of a header (without ``>`` or ``@``), None if it does not match."""
        match: re.Match[str] | None = self._compiled.search(header)  # type: ignore[attr-defined]
        if match is None:
            return None
        found = match.groupdict()
        numbers = {name: _number(found.get(name)) for name in ("class_id", "tax_id", "readlen", "mate")}
        class_id = numbers.pop("class_id")
        if class_id is None or class_id > LARGEST_CLASS_ID:
            return None
        return HeaderFields(class_id, name=found.get("name"), **numbers)

    def explain(self, header: str) -> str:
        """Why a header does not match: a sentence without values, so that reasons can be counted."""
        if match := self._compiled.search(header):  # type: ignore[attr-defined]
            if _number(match["class_id"]) is None:
                return "class_id is not a whole number"
            return f"class_id is larger than {LARGEST_CLASS_ID}"
        if not self.is_standard:
            return "does not match dataset.header_regex"
        return _explain_standard(header)


def _explain_standard(header: str) -> str:
    if not header:
        return "is empty"
    if not header.startswith("lbl|"):
        return "does not start with lbl|"
    fields = header.split("|", 4)
    if len(fields) < 5:
        return "has fewer than the five fields of lbl|class_id|tax_id|readlen|name/mate"
    _, class_id, tax_id, readlen, name = fields
    if not class_id:
        return "class_id is empty"
    for label, text in (("class_id", class_id), ("tax_id", tax_id), ("readlen", readlen)):
        if text and _number(text) is None:
            return f"{label} is not a whole number"
    if re.search(r"\s", name):
        return "name contains a blank"
    if not name or name.startswith("/"):
        return "name is empty"
    return "what follows the / after the name is not one mate number"


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
