"""The caching allocator when nothing limits it: the rules of `memory.replay.allocator`, faster.

Without a limit nothing is ever given back to the driver. Three things follow, and a search over a
thousand candidates lives on them. The two pools do not touch each other, so each is replayed on its
own. Reserved memory only grows. An expandable segment is one stretch of memory that grows at its end.
Free blocks are then plain numbers: where they start, where they end, and their order by size. What
this gives equals what `CachingAllocator` gives, which a test holds it to.

Sizes and addresses are in units of 512 bytes, to which the allocator rounds every request.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple

_ADDRESS_BITS = 40
"""A free block is kept as size << 40 | address: ordered by size, then by address."""
_ADDRESS = (1 << _ADDRESS_BITS) - 1
_NOTHING = -1
"""In place of an address: no such block."""


class Pool(NamedTuple):
    """What the events of one pool come to."""

    reserved: int
    grew_at: int
    """The event at which it grew last."""
    taken: dict[int, int]
    """Storage -> size of its block, where that is larger than the rounded request."""


def in_expandable_segment(events: list[int], sizes: list[int], page: int) -> Pool:
    """Replay the events of one pool whose segment grows in pages of ``page`` units.

    Of the free blocks the smallest that fits is cut; when none does, the free end of the segment, which
    grows as far as it must. (The allocator counts the end with all it could grow to: every other block
    that fits is smaller.)

    Besides the end (``tail`` to ``top``) one more free block is kept out of ``order``: the one last freed
    or cut, ``fresh`` to ``fresh_end``, as it is often the next to be cut or to be merged with.
    """
    order: list[int] = []
    end_of: dict[int, int] = {}
    start_of: dict[int, int] = {}
    held = [0] * len(sizes)
    tail = top = grew_at = 0
    fresh = fresh_end = _NOTHING
    for at, event in enumerate(events):
        if event >= 0:
            size = sizes[event]
            position = bisect_left(order, size << _ADDRESS_BITS)
            room = fresh_end - fresh
            if room >= size and (position == len(order) or (room << _ADDRESS_BITS | fresh) < order[position]):
                held[event] = fresh
                if room == size:
                    fresh = fresh_end = _NOTHING
                else:
                    fresh += size
            elif position == len(order):
                held[event] = tail
                tail += size
                if tail > top:
                    top += -(-(tail - top) // page) * page
                    grew_at = at
            else:
                address = order.pop(position) & _ADDRESS
                held[event] = address
                end = end_of.pop(address)
                del start_of[end]
                address += size
                if address != end:
                    if room:
                        insort(order, room << _ADDRESS_BITS | fresh)
                        end_of[fresh] = fresh_end
                        start_of[fresh_end] = fresh
                    fresh, fresh_end = address, end
            continue
        address = held[~event]
        end = address + sizes[~event]
        if address == fresh_end:
            address = fresh
            fresh = fresh_end = _NOTHING
        else:
            before = start_of.pop(address, _NOTHING)
            if before != _NOTHING:
                del order[bisect_left(order, (address - before) << _ADDRESS_BITS | before)]
                del end_of[before]
                address = before
            if end == fresh:
                fresh = address
                continue
        if end == tail:
            tail = address
            continue
        after = end_of.pop(end, _NOTHING)
        if after != _NOTHING:
            del order[bisect_left(order, (after - end) << _ADDRESS_BITS | end)]
            del start_of[after]
            end = after
        if fresh != _NOTHING:
            insort(order, (fresh_end - fresh) << _ADDRESS_BITS | fresh)
            end_of[fresh] = fresh_end
            start_of[fresh_end] = fresh
        fresh, fresh_end = address, end
    return Pool(top, grew_at, {})


def in_segments(events: list[int], sizes: list[int], segment: Callable[[int], int], slack: int) -> Pool:
    """Replay the events of one pool that takes ``segment(size)`` units when nothing fits ``size``.

    The smallest free block that fits is cut where more than ``slack`` units remain.
    """
    order: list[int] = []
    end_of: dict[int, int] = {}
    start_of: dict[int, int] = {}
    held: dict[int, tuple[int, int]] = {}
    taken: dict[int, int] = {}
    next_address = reserved = grew_at = 0
    for at, event in enumerate(events):
        if event >= 0:
            size = sizes[event]
            position = bisect_left(order, size << _ADDRESS_BITS)
            if position < len(order):
                address = order.pop(position) & _ADDRESS
                end = end_of.pop(address)
            else:
                address, grew_at = next_address, at
                end = address + segment(size)
                reserved += end - address
                # A gap of one unit, so that blocks of two segments never touch.
                next_address = end + 1
            rest = address + size
            if rest + slack < end:
                insort(order, (end - rest) << _ADDRESS_BITS | rest, 0, position)
                end_of[rest] = end
                start_of[end] = rest
                held[event] = address, rest
            else:
                start_of.pop(end, None)
                held[event] = address, end
                if rest < end:
                    taken[event] = end - address
            continue
        address, end = held.pop(~event)
        before = start_of.pop(address, None)
        if before is not None:
            del order[bisect_left(order, (address - before) << _ADDRESS_BITS | before)]
            address = before
        after = end_of.pop(end, None)
        if after is not None:
            del order[bisect_left(order, (after - end) << _ADDRESS_BITS | end)]
            end = after
        insort(order, (end - address) << _ADDRESS_BITS | address)
        end_of[address] = end
        start_of[end] = address
    return Pool(reserved, grew_at, taken)
