"""Numbers as a reader of a report wants them: grouped counts, percentages, GiB and GB, durations."""

from __future__ import annotations

import math
from itertools import pairwise

GIB = 2**30


def count(number: int, noun: str = "") -> str:
    """``1234567`` as ``1,234,567``; with a noun the plural follows the number."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """English plural of the nouns reports use (read, class, row, entry, match)."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def verb(number: int, singular: str, plural: str) -> str:
    """The form of a verb for so many things: "has" for 1, "have" for all other numbers."""
    return singular if number == 1 else plural


def percent(fraction: float) -> str:
    """A fraction with as many decimals as it needs not to read as 0 % or 100 %."""
    value = 100 * fraction
    if value in (0, 100):
        return f"{value:.0f} %"
    decimals = 1 if 0.1 <= value <= 99.9 else 2 if 0.01 <= value <= 99.99 else 4
    return f"{value:.{decimals}f} %"


def whole_percent(fraction: float, sign: str = "") -> str:
    """A fraction without decimals, as tables have it; with ``sign`` "+" a change: ``+12 %``."""
    return f"{_no_negative_zero(100 * fraction, 0):{sign}.0f} %"


def gib_change(gib: float) -> str:
    """GiB more or less: ``+1.25``, ``-0.40``, ``+0.00``."""
    return f"{_no_negative_zero(gib, 2):+.2f}"


def _no_negative_zero(value: float, decimals: int) -> float:
    return round(value, decimals) + 0.0


def rate(per_second: float) -> str:
    """Something per second that is known roughly: whole from ten on, two digits below."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def rate_in_table(per_second: float) -> str:
    """Something per second with the digits that tell neighbours in a table apart: 124, 60.0, 4.95, 0.167."""
    decimals = 0 if per_second >= 100 else 1 if per_second >= 10 else 2 if per_second >= 1 else 3
    return f"{per_second:,.{decimals}f}"


def at_most_percent(fraction: float) -> str:
    """An upper limit as a percentage, rounded up: 0.00146 is 0.2 %."""
    step = 0.001 if fraction >= 0.001 else 0.0001 if fraction >= 0.0001 else 0.000001
    return percent(math.ceil(round(fraction / step, 6)) * step)


def gib(number_of_bytes: float) -> str:
    """Memory: binary gibibytes, or MiB below half a GiB."""
    if number_of_bytes < GIB / 2:
        return f"{number_of_bytes / 2**20:.3g} MiB"
    return f"{number_of_bytes / GIB:.1f} GiB"


def file_size(number_of_bytes: float) -> str:
    """Files and disks in decimal units, as disks are sold."""
    return _decimal(number_of_bytes, "B", "bytes")


def base_count(bases: float) -> str:
    """Amounts of sequence: bp, kbp, Mbp, Gbp."""
    return _decimal(bases, "bp", "bp")


def _decimal(number: float, unit: str, smallest: str) -> str:
    for prefix, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            value = number / size
            return f"{value:,.0f} {prefix}{unit}" if value >= 100 else f"{value:.3g} {prefix}{unit}"
    return f"{number:.0f} {smallest}"


def duration(seconds: float) -> str:
    """One unit, or two where the first is below ten: ``45 s``, ``3 min 20 s``, ``31 h``, ``2 d 4 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    for (size, name), (smaller, smaller_name) in pairwise(units):
        if seconds >= 10 * size:
            return f"{seconds / size:.0f} {name}"
        if seconds >= size:
            whole, rest = divmod(round(seconds / smaller), size // smaller)
            return f"{whole} {name} {rest} {smaller_name}" if rest else f"{whole} {name}"
    return f"{seconds:.0f} s"
