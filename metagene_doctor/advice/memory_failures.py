"""Out-of-memory messages, as the programs involved print them, turned into numbers.

The device message has changed over the years of PyTorch: up to 2.0 one parenthesis of totals, since
2.1 sentences (with `capacty` until 2.2), the memory of other processes when NVML can see them, a limit
when one was set, private pools of CUDA graphs since 2.4. Inside a container the own process appears
under its host number like any other. All amounts here are GiB = 2^30 bytes.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

GIB = 2**30
UNITS = {"bytes": 1, "byte": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
AMOUNT = r"([\d.]+)\s*(bytes|byte|TiB|GiB|MiB|KiB|B)\b"


@dataclass(frozen=True)
class OutOfMemory:
    """One failed allocation on a GPU. None: this message does not say.

    ``process_gib`` is what the failing process held on the device, CUDA context included;
    ``others_gib`` what other processes that NVML could see held; ``unallocated_gib`` what the caching
    allocator had reserved but not handed out; ``limit_gib`` a per-process limit set by the user;
    ``phase`` what the traceback above the message was doing.
    """

    line: int
    text: str
    device: str = "GPU"
    tried_gib: float | None = None
    capacity_gib: float | None = None
    free_gib: float | None = None
    process_gib: float | None = None
    others_gib: float | None = None
    limit_gib: float | None = None
    allocated_gib: float | None = None
    unallocated_gib: float | None = None
    phase: str | None = None

    @property
    def reserved_gib(self) -> float | None:
        if self.allocated_gib is None or self.unallocated_gib is None:
            return None
        return self.allocated_gib + self.unallocated_gib

    @property
    def foreign_gib(self) -> float | None:
        """Device memory that neither the failing process held nor was free: other processes, the
        desktop, and what the driver keeps for itself."""
        if self.capacity_gib is None or self.free_gib is None:
            return self.others_gib
        own = self.process_gib if self.process_gib is not None else self.reserved_gib
        if own is None:
            return self.others_gib
        return max(self.capacity_gib - self.free_gib - own, self.others_gib or 0.0)


@dataclass(frozen=True)
class HostMemoryFailure:
    """The machine's own memory ran out: ``kind`` is ``allocation``, ``shared memory`` or ``killed``."""

    line: int
    text: str
    kind: str
    tried_gib: float | None = None


DEVICE = re.compile(
    r"(CUDA|HIP|XPU) out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|cuda runtime error \(2\) ?: ?out of memory"
)
HOST = (
    ("allocation", re.compile(r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)")),
    ("allocation", re.compile(r"^(?:numpy\S*MemoryError|\S*ArrayMemoryError|MemoryError)\b")),
    ("shared memory", re.compile(r"killed by signal: Bus error|out of shared memory")),
    ("killed", re.compile(r"oom[-_ ]?kill|Out of memory: Killed process|killed by signal: Killed")),
    ("killed", re.compile(r"^(?:.*: line \d+: +\d+ )?Killed\b|exit(?:ed)? (?:with )?(?:code|status) 137")),
)
PHASES = (
    (
        "evaluation",
        re.compile(r"evaluation_loop|evaluation_step|prediction_step|validation_step|, in evaluate\b"),
    ),
    ("the backward pass", re.compile(r"\.backward\(|run_backward")),
    (
        "the optimizer step",
        re.compile(r"optimizer\.step\(|_single_tensor_adam|_multi_tensor_adam|_fused_adam"),
    ),
    ("loading", re.compile(r"from_pretrained|load_state_dict|load_checkpoint|build_model")),
    ("the forward pass", re.compile(r", in (?:_?forward|_call_impl|training_step)\b")),
)
"""Frames of a traceback -> what the run was doing; the first that occurs anywhere decides."""
TRACEBACK_LINES = 200
"""A traceback is looked for in at most this many lines above its message."""
CONTINUATION_LINES = 10
"""A message wrapped by a terminal or a logger continues over at most this many lines."""


def find_failures(lines: Iterable[str]) -> Iterator[OutOfMemory | HostMemoryFailure]:
    """Every memory failure in the lines of a log, in order; line numbers count from 1.

    A message that is repeated word for word (a traceback printed twice) is given once.
    """
    pending: list[str] = []
    above: collections.deque[str] = collections.deque(maxlen=TRACEBACK_LINES)
    start = 0
    seen: set[str] = set()

    def finish() -> Iterator[OutOfMemory]:
        text = " ".join(" ".join(pending).split())
        pending.clear()
        if text and text not in seen:
            seen.add(text)
            yield dataclasses.replace(parse_device_message(text, start), phase=_phase(above))
            above.clear()

    for number, line in enumerate(lines, 1):
        if DEVICE.search(line):
            yield from finish()
            pending, start = [line], number
        elif pending:
            pending.append(line)
        if pending:
            if _is_whole(" ".join(pending)) or len(pending) > CONTINUATION_LINES:
                yield from finish()
            continue
        if line.startswith("Traceback (most recent call last)"):
            above.clear()
        above.append(line)
        if (failure := _host_failure(line, number)) and failure.text not in seen:
            seen.add(failure.text)
            yield failure
    yield from finish()


def parse_device_message(text: str, line: int = 1) -> OutOfMemory:
    """The numbers of one message, whitespace already single; numbers it lacks are None."""
    begin = DEVICE.search(text)
    text = text[begin.start() :] if begin else text
    end = re.search(r"by PyTorch but unallocated|reserved in total by PyTorch\)?|\d [KMG]iB cached\)", text)
    message = text[: end.end()] if end else text[:400]
    device = re.search(r"GPU (\d+)", message)
    allocated = _amount(rf"{AMOUNT} is allocated by PyTorch", message)
    unallocated = _amount(rf"{AMOUNT} is reserved by PyTorch but unallocated", message)
    own = _amount(rf"this process has {AMOUNT} memory in use", message)
    others = [
        float(value) * UNITS[unit] / GIB
        for value, unit in re.findall(rf"Process \d+ has {AMOUNT} memory in use", message)
    ]
    if allocated is None:
        allocated = _amount(rf"{AMOUNT} already allocated", message)
        reserved = _amount(rf"{AMOUNT} reserved in total", message)
        unallocated = _amount(rf"{AMOUNT} cached\)", message)
        if reserved is not None and allocated is not None:
            unallocated = max(0.0, reserved - allocated)
    if own is None and others and allocated is not None:
        # In a container "this process" carries its host number: it is the one that holds at least
        # what the allocator reserved, and the nearest to it if several do.
        reserved = allocated + (unallocated or 0.0)
        candidates = [amount for amount in others if amount >= reserved - 0.02]
        if candidates:
            own = min(candidates)
            others.remove(own)
    return OutOfMemory(
        line=line,
        text=message,
        device=f"GPU {device.group(1)}" if device else "GPU",
        tried_gib=_amount(rf"Tried to allocate {AMOUNT}", message),
        capacity_gib=_amount(rf"total capac(?:i)?ty of {AMOUNT}", message)
        or _amount(rf"{AMOUNT} total capacity", message),
        free_gib=_first(
            _amount(rf"of which {AMOUNT} is free", message), _amount(rf"[;(] ?{AMOUNT} free", message)
        ),
        process_gib=own,
        others_gib=sum(others) if others else None,
        limit_gib=_amount(rf"{AMOUNT} allowed", message),
        allocated_gib=allocated,
        unallocated_gib=unallocated,
    )


def _phase(above: Iterable[str]) -> str | None:
    frames = "\n".join(above)
    if "Traceback (most recent call last)" not in frames and 'File "' not in frames:
        return None
    return next((phase for phase, pattern in PHASES if pattern.search(frames)), None)


def _is_whole(text: str) -> bool:
    return bool(
        re.search(r"reserved\s+by\s+PyTorch\s+but\s+unallocated|reserved\s+in\s+total|cached\)", text)
        or "CUDA error: out of memory" in text
        or "CUBLAS_STATUS_ALLOC_FAILED" in text
        or "cuda runtime error" in text
    )


def _host_failure(line: str, number: int) -> HostMemoryFailure | None:
    text = " ".join(line.split())
    for kind, pattern in HOST:
        if pattern.search(text):
            tried = re.search(r"tried to allocate (\d+) bytes", text)
            named = _amount(rf"Unable to allocate {AMOUNT}", text)
            return HostMemoryFailure(number, text[:400], kind, int(tried.group(1)) / GIB if tried else named)
    return None


def _amount(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return float(found.group(1)) * UNITS[found.group(2)] / GIB if found else None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
