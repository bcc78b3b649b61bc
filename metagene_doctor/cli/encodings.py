"""Output on terminals and in files whose encoding does not have all our letters."""

from __future__ import annotations

import codecs
import os
import sys
from io import TextIOWrapper

LOOK_ALIKES = {
    "→": "->", "−": "-", "–": "-", "×": "x", "≤": "<=", "≥": ">=", "µ": "u", "²": "^2", "⁶": "^6",
    "✗": "X", "✓": "ok", "‼": "!!", "…": "...",
}  # fmt: skip
"""Letters of our own text, and what stands for them."""

_HANDLER = "metagene-readable"


def take_any_letter() -> None:
    """No text ends a command because stdout or stderr cannot encode it."""
    codecs.register_error(_HANDLER, _readable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """The first letter that cannot be encoded: one of ours as what looks like it, others as the bytes that
    they are in the name of a file, so that a command which names it can be run."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    return LOOK_ALIKES.get(letter) or os.fsencode(letter), error.start + 1
