"""Sizes as formulas: one recording answers for every micro-batch, length, rank and class count.

A tensor's bytes are a product of its dimensions. When the workload's own dimensions are prime numbers
that divide nothing else, the primes in a recorded size say how often each dimension went into it, and
what is left is a constant of the architecture: ``bytes = constant * micro_batch**a * tokens**b * ...``.
Kernels that pad tokens to a multiple of 32 or 128 are covered by choosing a length whose padded
lengths are 32 and 128 times a prime of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Dimensions(NamedTuple):
    """The sizes in which workloads of the same structure differ."""

    micro_batch: int
    tokens: int
    """Length of every read of the batch, padding included."""
    rank: int
    labels: int
    evaluation_batch: int

    @property
    def factors(self) -> tuple[int, ...]:
        """What sizes can be products of: the dimensions and the padded lengths of `PADDINGS`."""
        return (*self, *(-(-self.tokens // padding) for padding in PADDINGS))


PADDINGS = (32, 128)
"""Multiples of tokens that attention kernels pad to."""


def prime_dimensions(architecture: Iterable[int]) -> Dimensions:
    """Dimensions whose factors are primes that divide no number of the architecture."""
    avoid = [number for number in architecture if number > 0]

    def usable(number: int) -> bool:
        return _is_prime(number) and all(size % number for size in avoid)

    def lengths() -> Iterator[int]:
        # Above 60 x 128, so that the padded lengths are primes larger than any small factor.
        number = 7681
        while True:
            padded = [-(-number // padding) for padding in PADDINGS]
            if usable(number) and all(usable(factor) for factor in padded):
                yield number
            number += 2

    tokens = next(lengths())
    taken = {-(-tokens // padding) for padding in PADDINGS}
    primes = (number for number in range(101, tokens) if usable(number) and number not in taken)
    batch, rank, labels, evaluation = (next(primes) for _ in range(4))
    return Dimensions(batch, tokens, rank, labels, evaluation)


@dataclass(frozen=True)
class Formulas:
    """``constants[i] * prod(factors ** powers[kinds[i]])`` bytes (or operations) for each i."""

    constants: np.ndarray
    kinds: np.ndarray
    powers: np.ndarray

    def at(self, dimensions: Dimensions) -> np.ndarray:
        factors = np.array(dimensions.factors, dtype=np.int64)
        products = np.prod(factors[None, :] ** self.powers, axis=1, dtype=np.int64)
        return self.constants * products[self.kinds]


def formulas(numbers: Sequence[int], recorded_at: Dimensions) -> Formulas:
    """Read the formulas off numbers that were recorded at `prime_dimensions`."""
    constants, kinds = [], []
    known: dict[tuple[int, ...], int] = {}
    cache: dict[int, tuple[int, int]] = {}
    for number in numbers:
        if number not in cache:
            rest, powers = number, []
            for factor in recorded_at.factors:
                power = 0
                while rest and rest % factor == 0:
                    rest //= factor
                    power += 1
                powers.append(power)
            cache[number] = (rest, known.setdefault(tuple(powers), len(known)))
        constant, kind = cache[number]
        constants.append(constant)
        kinds.append(kind)
    width = len(recorded_at.factors)
    return Formulas(
        np.array(constants, dtype=np.int64),
        np.array(kinds, dtype=np.int64),
        np.array(list(known) or [(0,) * width], dtype=np.int64).reshape(-1, width),
    )


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
