"""The extra ``quant``: whether bitsandbytes is installed, and new enough. Imports neither it nor torch."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from metagene_train.errors import ConfigError

OLDEST = "0.46.1"
"""The first bitsandbytes that transformers 5 works with (its ``BITSANDBYTES_MIN_VERSION``)."""


def require_bitsandbytes(setting: str, without: str) -> None:
    """Raises ConfigError when a setting needs bitsandbytes and there is none, or an older one than `OLDEST`.

    ``setting`` is the key and its value, ``without`` the value that needs no package.
    """
    remedy = f"pip install 'bitsandbytes>={OLDEST}', or set it to {without}"
    try:
        installed = version("bitsandbytes")
    except PackageNotFoundError:
        raise ConfigError([f"{setting} needs bitsandbytes: {remedy}"]) from None
    if is_too_old(installed):
        raise ConfigError([f"{setting} needs a newer bitsandbytes than {installed}: {remedy}"])


def is_too_old(installed: str) -> bool:
    """Whether transformers refuses this version of bitsandbytes."""
    return _numbers(installed) < _numbers(OLDEST)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])
