"""Facts of every kind that a check can find fault with, for tests of what findings say.

Each case is (check id, facts).
"""

from __future__ import annotations

from collections.abc import Iterator

import data_cases
import machine_cases
import model_cases
from case_facts import Case


def cases() -> Iterator[Case]:
    yield from data_cases.cases()
    yield from model_cases.cases()
    yield from machine_cases.cases()
