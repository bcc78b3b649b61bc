"""Which header pattern fits, when the configured one does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from metagene_train.reads.headers.pattern import HEADER_REGEX

HEADER_TEMPLATES = (
    (
        r"^lbl\|(?P<class_id>\d+)\|(?P<tax_id>\d+)?\|(?P<readlen>\d+)?\|(?P<name>.+?)(?:/(?P<mate>\d+))?$",
        "the guide's template with blanks in the name",
    ),
    (
        r"^lbl\|(?P<class_id>\d+)\|(?P<tax_id>\d+)\|(?P<name>.+?)(?:/(?P<mate>\d+))?$",
        "lbl|class_id|tax_id|name",
    ),
    (r"^lbl\|(?P<class_id>\d+)\|(?P<name>.+?)(?:/(?P<mate>\d+))?$", "lbl|class_id|name"),
    (r"kraken:taxid\|(?P<class_id>\d+)", "Kraken's taxonomy tag, the taxon as class"),
    (r"(?:^|[\s|;])(?:label|class|class_id)=(?P<class_id>\d+)", "a class=N field"),
    (r"(?:^|[\s|;])tax(?:id|_id)?=(?P<class_id>\d+)", "a taxid=N field, the taxon as class"),
    (r"\|(?P<class_id>\d+)$", "the class as the last field after |"),
    (r"^(?P<class_id>\d+)[|_ ](?P<name>.+?)(?:/(?P<mate>\d+))?$", "the class as the first field"),
)
"""Header layouts to try when the configured one does not match, most specific first."""

FIELD_SEPARATORS = r"\s|;,:/_-"


def suggest_header(
    headers: tuple[str, ...], configured: str, class_ids: frozenset[int] = frozenset()
) -> tuple[str, str] | None:
    """A (regular expression, description) that matches all of these headers, None if none is known.

    Known layouts come first; then, with the ``class_ids`` of a mapping, any number of the headers that is
    always one of them.
    """
    for regex, description in ((HEADER_REGEX, "the guide's template"), *HEADER_TEMPLATES):
        if headers and regex != configured and all(re.search(regex, header) for header in headers):
            return regex, description
    for regex in _number_fields(headers[0]) if headers and class_ids else ():
        matches = [re.search(regex, header) for header in headers]
        numbers = {int(match["class_id"]) for match in matches if match}
        if all(matches) and numbers <= class_ids and len(numbers) > 1:
            return regex, "headers in which one number is always a class of the mapping"
    return None


def _literal(text: str) -> str:
    """A pattern for a text itself, easy to read: a blank needs no backslash here."""
    return re.escape(text).replace("\\ ", " ")


def _number_fields(header: str) -> Iterator[str]:
    """A pattern for each whole number of a header: the text of its field before it, then the number."""
    for number in re.finditer(r"\d+", header):
        before = re.search(rf"[{FIELD_SEPARATORS}]?[^{FIELD_SEPARATORS}]*$", header[: number.start()])
        context = before.group() if before else ""
        at_start = "^" if len(context) == number.start() else ""
        yield rf"{at_start}{_literal(context)}(?P<class_id>\d+)"
