"""What the doctor is asked for, and the facts while they are being collected."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metagene_doctor.facts.facts import Gap, Level, RunFacts, Section
from metagene_train.errors import InputError, MetageneError


@dataclass(frozen=True)
class Request:
    """What the doctor is asked to look at."""

    run: RunFacts
    level: Level = "standard"
    gpu: str | None = None
    gpu_mem: float | None = None
    index_dir: Path | None = None
    """Where read indexes are kept; None is the configured or default place."""
    argv: tuple[str, ...] = ()
    sections: frozenset[Section] | None = None
    """Sections that the chosen checks need; costly others are not collected. None is all."""

    def wants(self, section: Section) -> bool:
        return self.sections is None or section in self.sections


NAMED_BY_USER: frozenset[Section] = frozenset({"train", "val", "mapping", "encoder", "tokens"})
"""Sections made from a file or directory that was named: when it is not there, nothing is judged."""

ONLY_DEEP = ("takes minutes", "use --level deep")
"""Reason and remedy of the gaps that the deepest level fills."""

StartStage = Callable[[str], Callable[[int, int], None]]
"""Told the name of a stage that takes long, gives what to call with bytes done and to be done."""


def silent(stage: str) -> Callable[[int, int], None]:
    return lambda done, total: None


@dataclass
class Collection:
    """Facts while they are being collected."""

    request: Request
    known: dict[str, Any] = field(default_factory=dict)
    gaps: dict[Section, Gap] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, section: Section, collector: Callable[[], Any]) -> Any:
        """Run one collector. Missing inputs end the doctor; anything else that breaks is a gap."""
        if not self.request.wants(section):
            self.skip(section, "no chosen check needs it")
            return None
        started = time.perf_counter()
        try:
            self.known[section] = collector()
        except MetageneError as error:
            if isinstance(error, InputError) and section in NAMED_BY_USER:
                raise
            self.gaps[section] = Gap(reason=str(error))
        except Exception as error:
            place = "".join(traceback.format_tb(error.__traceback__)[-2:]).strip()
            reason = f"the {section} facts could not be collected ({type(error).__name__}: {error})"
            self.gaps[section] = Gap(reason=reason, failed=True, details=place)
        self.seconds[section] = time.perf_counter() - started
        return self.known.get(section)

    def skip(self, section: Section, reason: str, enable: str = "") -> None:
        self.gaps[section] = Gap(reason=reason, enable=enable)
