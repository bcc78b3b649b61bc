"""Headers: the fields of ``lbl|class_id|tax_id|readlen|name/mate``, or of a pattern of your own."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER_REGEX = (
    r"^lbl\|(?P<class_id>\d+)\|(?P<tax_id>\d+)?\|(?P<readlen>\d+)?"
    r"\|(?P<name>[^/\s]+)(?:/(?P<mate>\d+))?$"
)
"""Header template of the guide (section 8): ``lbl|class_id|tax_id|readlen|name/mate``."""

LARGEST_CLASS_ID = 2**31 - 1
"""Class ids are kept as 32-bit integers in the read index."""

ABSENT = -1
_NUMBERS = ("class_id", "tax_id", "readlen", "mate")
_MOST_DIGITS = 18


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
    """A regular expression with a group ``class_id`` and any of tax_id, readlen, name, mate.

    It is searched for anywhere in the header; ``^`` and ``$`` anchor it.
    """

    regex: str = HEADER_REGEX

    def __post_init__(self) -> None:
        compiled = re.compile(self.regex)
        object.__setattr__(self, "_search", compiled.search)
        object.__setattr__(self, "_groups", tuple(compiled.groupindex.get(name) for name in _NUMBERS))

    def __reduce__(self) -> tuple[type[HeaderPattern], tuple[str]]:
        return HeaderPattern, (self.regex,)

    @property
    def is_standard(self) -> bool:
        """Whether this is the guide's template, for which the scanner has a faster parser."""
        return self.regex == HEADER_REGEX

    def parse(self, header: str) -> HeaderFields | None:
        """Fields of a header (without ``>`` or ``@``), None if it does not match."""
        match: re.Match[str] | None = self._search(header)  # type: ignore[attr-defined]
        numbers = match and self._numbers(match)
        if not match or not numbers:
            return None
        class_id, tax_id, readlen, mate = (None if number == ABSENT else number for number in numbers)
        assert class_id is not None
        return HeaderFields(class_id, tax_id, readlen, match.groupdict().get("name"), mate)

    def parse_numbers(self, header: str) -> tuple[int, ...] | None:
        """Class, tax id, read length and mate of a header, -1 for absent ones; None as `parse` does."""
        match: re.Match[str] | None = self._search(header)  # type: ignore[attr-defined]
        return match and self._numbers(match)

    def _numbers(self, match: re.Match[str]) -> tuple[int, ...] | None:
        groups: tuple[int | None, ...] = self._groups  # type: ignore[attr-defined]
        numbers = tuple(ABSENT if group is None else _number(match[group]) for group in groups)
        return numbers if ABSENT < numbers[0] <= LARGEST_CLASS_ID else None

    def explain(self, header: str) -> str:
        """Why a header does not match: a sentence without values, so that reasons can be counted."""
        if match := self._search(header):  # type: ignore[attr-defined]
            if match["class_id"] and match["class_id"].isdecimal():
                return f"class_id is larger than {LARGEST_CLASS_ID}"
            return "class_id is not a whole number"
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
        if text and not text.isdecimal():
            return f"{label} is not a whole number"
    if re.search(r"\s", name):
        return "name contains a blank"
    if not name or name.startswith("/"):
        return "name is empty"
    return "what follows the / after the name is not one mate number"


def _number(text: str | None) -> int:
    """Digits as a number; anything else, and more digits than 64 bits hold, is absent."""
    return int(text) if text and text.isdecimal() and len(text) <= _MOST_DIGITS else ABSENT
