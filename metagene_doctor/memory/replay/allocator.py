"""A model of PyTorch's CUDA caching allocator: what a stream of allocations makes it reserve.

PyTorch does not ask the driver for every tensor. It takes *segments* from the driver, cuts them into
*blocks*, and keeps freed blocks for later requests, so that the memory a process holds (reserved) is
more than what its tensors need (live). `replay` feeds a recorded stream of allocations and frees
through the same rules and reports both. The rules and the names of the constants are those of
``c10/cuda/CUDACachingAllocator.cpp`` and ``c10/core/AllocatorConfig.h`` (PyTorch 2.6 to 2.13), for one
stream and without the options ``garbage_collection_threshold``, ``max_split_size_mb`` and
``roundup_power2_divisions``. All sizes are in bytes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metagene_doctor.memory.replay import unlimited

MIN_BLOCK = 512
"""kMinBlockSize: every request is rounded up to a multiple of it (``round_size``)."""
SMALL_REQUEST = 1 << 20
"""kSmallSize: requests up to this size live in the small pool (``get_pool``)."""
SMALL_SEGMENT = 2 << 20
"""kSmallBuffer: segment size of the small pool, and its page with expandable segments."""
LARGE_SEGMENT = 20 << 20
"""kLargeBuffer: segment size for requests below LARGE_REQUEST, and the large pool's page."""
LARGE_REQUEST = 10 << 20
"""kMinLargeAlloc: requests from this size on get a segment of their own (``get_allocation_size``)."""
LARGE_ROUNDING = 2 << 20
"""kRoundLarge: such a segment is rounded up to a multiple of it."""

_ADDRESS_BITS = 56
"""Free blocks are ordered by (size, address), kept as one integer: size << 56 | address."""
_ADDRESS_SPACE = 1 << 50
"""Bytes of address space of an expandable segment. PyTorch takes 1.125 times the card, as good as endless."""


class OutOfMemoryError(Exception):
    """The capacity cannot hold a request even after every cached block was given back."""

    def __init__(self, requested: int, reserved: int, capacity: int):
        self.requested, self.reserved, self.capacity = requested, reserved, capacity
        super().__init__(f"tried to allocate {requested} bytes with {reserved} of {capacity} reserved")


class Block:
    """A piece of a segment: allocated to a tensor, cached, or (expandable only) not mapped."""

    __slots__ = ("address", "allocated", "mapped", "next", "pool", "previous", "size")

    def __init__(self, address: int, size: int, pool: Pool, previous: Block | None, mapped: bool = True):
        self.address = address
        self.size = size
        self.pool = pool
        self.previous = previous
        self.next: Block | None = None
        self.allocated = False
        self.mapped = mapped


class Pool:
    """The free blocks of one size class, ordered as ``BlockComparatorSize`` orders them."""

    __slots__ = ("base", "blocks", "keys", "page", "small", "unmapped")

    def __init__(self, small: bool):
        self.small = small
        self.page = SMALL_SEGMENT if small else LARGE_SEGMENT
        self.keys: list[int] = []
        self.blocks: dict[int, Block] = {}
        self.base = _ADDRESS_SPACE if small else 0
        self.unmapped: list[Block] = []
        """With expandable segments: address space without memory behind it, in address order."""

    def insert(self, block: Block) -> None:
        key = block.size << _ADDRESS_BITS | block.address
        insort(self.keys, key)
        self.blocks[key] = block

    def remove(self, block: Block) -> None:
        key = block.size << _ADDRESS_BITS | block.address
        del self.keys[bisect_left(self.keys, key)]
        del self.blocks[key]


def rounded(size: int) -> int:
    """The bytes a request of ``size`` takes inside a segment (``round_size``)."""
    return MIN_BLOCK if size < MIN_BLOCK else -(-size // MIN_BLOCK) * MIN_BLOCK


def segment_size(size: int) -> int:
    """The segment taken from the driver for a rounded request (``get_allocation_size``)."""
    if size <= SMALL_REQUEST:
        return SMALL_SEGMENT
    if size < LARGE_REQUEST:
        return LARGE_SEGMENT
    return -(-size // LARGE_ROUNDING) * LARGE_ROUNDING


class CachingAllocator:
    """One device, one stream. ``capacity`` bounds reserved bytes (None: never out of memory).

    ``expandable`` is ``PYTORCH_ALLOC_CONF=expandable_segments:True``: one growing segment per pool
    in which pages are mapped at the end, so that differently sized blocks can share memory.
    """

    def __init__(self, capacity: int | None = None, *, expandable: bool = False):
        self.capacity = capacity
        self.expandable = expandable
        self.reserved = 0
        self.allocated = 0
        self.retries = 0
        self._small, self._large = Pool(small=True), Pool(small=False)
        self._next_address = 0
        self._heads: dict[int, Block] = {}

    def allocate(self, request: int) -> Block:
        """A block for ``request`` bytes. Raises OutOfMemoryError."""
        size = (request + MIN_BLOCK - 1) // MIN_BLOCK * MIN_BLOCK or MIN_BLOCK
        pool = self._small if size <= SMALL_REQUEST else self._large
        keys = pool.keys
        position = bisect_left(keys, size << _ADDRESS_BITS)
        if position < len(keys):
            key = keys.pop(position)
            block = pool.blocks.pop(key)
            if self.expandable and block.next is not None and not block.next.mapped:
                pool.insert(block)
                block = self._least_growth(pool, position)
        else:
            grown = self._grow(pool, size)
            if grown is None:
                self.release_cached()
                self.retries += 1
                grown = self._grow(pool, size)
                if grown is None:
                    raise OutOfMemoryError(request, self.reserved, self.capacity or 0)
            block = grown
        remaining = block.size - size
        # should_split: large blocks of a fixed segment keep up to 1 MiB of slack.
        if remaining and (pool.small or self.expandable or remaining > SMALL_REQUEST):
            rest = Block(block.address + size, remaining, pool, block)
            after = rest.next = block.next
            if after is not None:
                after.previous = rest
            block.next = rest
            block.size = size
            key = remaining << _ADDRESS_BITS | rest.address
            insort(keys, key)
            pool.blocks[key] = rest
        block.allocated = True
        self.allocated += block.size
        return block

    def free(self, block: Block) -> None:
        """Cache the block, merged with free neighbours of its segment (``free_block``)."""
        size = block.size
        self.allocated -= size
        block.allocated = False
        keys, blocks = block.pool.keys, block.pool.blocks
        before, after = block.previous, block.next
        if before is not None and not before.allocated and before.mapped:
            key = before.size << _ADDRESS_BITS | before.address
            del keys[bisect_left(keys, key)], blocks[key]
            before.next = after
            if after is not None:
                after.previous = before
            size += before.size
            block = before
        if after is not None and not after.allocated and after.mapped:
            key = after.size << _ADDRESS_BITS | after.address
            del keys[bisect_left(keys, key)], blocks[key]
            following = block.next = after.next
            if following is not None:
                following.previous = block
            size += after.size
        block.size = size
        key = size << _ADDRESS_BITS | block.address
        insort(keys, key)
        blocks[key] = block

    def release_cached(self) -> None:
        """Give whole cached segments (or pages) back to the driver (``release_cached_blocks``)."""
        for pool in (self._small, self._large):
            for block in list(pool.blocks.values()):
                if self.expandable:
                    self._unmap(block)
                elif block.previous is None and block.next is None:
                    pool.remove(block)
                    del self._heads[block.address]
                    self.reserved -= block.size

    def segments(self) -> list[list[tuple[int, int, bool, bool]]]:
        """Every segment as (address, size, allocated, mapped) of its blocks, in address order."""
        listing: list[list[tuple[int, int, bool, bool]]] = []
        for head in self._heads.values():
            blocks, block = [], head
            while block is not None:
                blocks.append((block.address, block.size, block.allocated, block.mapped))
                block = block.next  # type: ignore[assignment]
            listing.append(blocks)
        return listing

    def _grow(self, pool: Pool, size: int) -> Block | None:
        if self.expandable:
            return self._grow_expandable(pool, size)
        segment = segment_size(size)
        if self.capacity is not None and self.reserved + segment > self.capacity:
            return None
        block = Block(self._next_address, segment, pool, None)
        self._next_address += segment
        self._heads[block.address] = block
        self.reserved += segment
        return block

    def _grow_expandable(self, pool: Pool, size: int) -> Block | None:
        """Map pages behind a free block, or at the end (``try_allocate_expandable_block``)."""
        first = self._expandable_start(pool, size)
        missing, pages = size, 0
        block: Block | None = first
        while missing > 0:
            assert block is not None
            if not block.mapped:
                pages += -(-min(missing, block.size) // pool.page) * pool.page
            missing -= block.size
            block = block.next
        if self.capacity is not None and self.reserved + pages > self.capacity:
            return None
        self.reserved += pages
        if first.mapped:
            pool.remove(first)
        else:
            self._map(first, min(size, first.size))
        while first.size < size:
            following = first.next
            assert following is not None
            if following.mapped:
                pool.remove(following)
            else:
                self._map(following, min(size - first.size, following.size))
            self._absorb(first, following)
        after = first.next
        if after is not None and after.mapped and not after.allocated:
            pool.remove(after)
            self._absorb(first, after)
        return first

    def _expandable_start(self, pool: Pool, size: int) -> Block:
        """The lowest address with room for ``size``, cached or not mapped (``find_expandable_block``)."""
        if not pool.unmapped:
            space = Block(pool.base, _ADDRESS_SPACE, pool, None, mapped=False)
            pool.unmapped.append(space)
            self._heads[pool.base] = space
        for unmapped in pool.unmapped:
            before = unmapped.previous
            start = before if before is not None and not before.allocated else unmapped
            room, reach = 0, start
            while reach is not None and not reach.allocated and room < size:
                room += reach.size
                reach = reach.next  # type: ignore[assignment]
            if room >= size:
                return start
        raise AssertionError("the address space of an expandable segment never ends")

    def _map(self, block: Block, size: int) -> None:
        """Put memory behind the first pages of an unmapped block; the rest stays unmapped."""
        pool = block.pool
        mapped = min(-(-size // pool.page) * pool.page, block.size)
        position = pool.unmapped.index(block)
        block.mapped = True
        if mapped == block.size:
            del pool.unmapped[position]
            return
        rest = Block(block.address + mapped, block.size - mapped, pool, block, mapped=False)
        rest.next = block.next
        if rest.next is not None:
            rest.next.previous = rest
        block.next = rest
        block.size = mapped
        pool.unmapped[position] = rest

    def _unmap(self, block: Block) -> None:
        """Give back the whole pages inside a cached block (``unmap_block``)."""
        pool, page = block.pool, block.pool.page
        begin = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if end <= begin:
            return
        pool.remove(block)
        self.reserved -= end - begin
        if begin > block.address:
            front = Block(block.address, begin - block.address, pool, block.previous)
            self._link(block.previous, front, block)
            pool.insert(front)
        if block.address + block.size > end:
            back = Block(end, block.address + block.size - end, pool, block)
            self._link(block, back, block.next)
            pool.insert(back)
        block.address, block.size, block.mapped = begin, end - begin, False
        if block.previous is None:
            self._heads[pool.base] = block
        following, before = block.next, block.previous
        if following is not None and not following.mapped:
            pool.unmapped.remove(following)
            self._absorb(block, following)
        if before is not None and not before.mapped:
            self._absorb(before, block)
        else:
            pool.unmapped.append(block)
            pool.unmapped.sort(key=lambda space: space.address)

    def _link(self, before: Block | None, middle: Block, after: Block | None) -> None:
        middle.previous, middle.next = before, after
        if before is not None:
            before.next = middle
        else:
            self._heads[middle.pool.base] = middle
        if after is not None:
            after.previous = middle

    @staticmethod
    def _absorb(left: Block, right: Block) -> None:
        left.size += right.size
        left.next = right.next
        if right.next is not None:
            right.next.previous = left

    @staticmethod
    def _least_growth(pool: Pool, position: int) -> Block:
        """The best fit when a block that can still grow counts with all it can grow to.

        ``get_free_block`` goes on to larger blocks while the next one reaches less far.
        """
        keys, blocks = pool.keys, pool.blocks

        def reach(index: int) -> int:
            block = blocks[keys[index]]
            following = block.next
            growth = following.size if following is not None and not following.mapped else 0
            return block.size + growth

        while position + 1 < len(keys) and reach(position + 1) < reach(position):
            position += 1
        return blocks.pop(keys.pop(position))


@dataclass(frozen=True)
class Replay:
    """What a stream of allocations needs at its peaks, in bytes.

    ``live`` is what the tensors asked for, ``allocated`` the blocks that held them
    (``torch.cuda.max_memory_allocated``), ``reserved`` the segments taken from the driver
    (``torch.cuda.max_memory_reserved``). ``reserved_at`` is the event at which the reserved peak
    was reached first. ``retries`` counts returns of all cached blocks near the capacity;
    ``failed_at`` is the event that ran out of memory, None when none did.
    """

    live: int
    allocated: int
    reserved: int
    reserved_at: int
    retries: int = 0
    failed_at: int | None = None


def replay(
    events: Sequence[int] | np.ndarray,
    sizes: Sequence[int] | np.ndarray,
    *,
    capacity: int | None = None,
    expandable: bool = False,
) -> Replay:
    """Run an allocation stream through the allocator.

    An event ``i >= 0`` allocates storage ``i`` of ``sizes[i]`` bytes; ``~i`` frees it. When the
    capacity cannot hold a request the replay ends there and says so in ``failed_at``.
    """
    if capacity is None:
        return _unlimited(np.asarray(events, dtype=np.int64), np.asarray(sizes, dtype=np.int64), expandable)
    allocator = CachingAllocator(capacity, expandable=expandable)
    allocate, free = allocator.allocate, allocator.free
    held: dict[int, Block] = {}
    live = live_peak = allocated_peak = reserved_peak = reserved_at = 0
    for at, event in enumerate(events):
        if event < 0:
            free(held.pop(~event))
            live -= sizes[~event]
            continue
        try:
            held[event] = allocate(sizes[event])
        except OutOfMemoryError:
            return Replay(live_peak, allocated_peak, reserved_peak, reserved_at, allocator.retries, at)
        live += sizes[event]
        if live > live_peak:
            live_peak = live
        if allocator.allocated > allocated_peak:
            allocated_peak = allocator.allocated
        if allocator.reserved > reserved_peak:
            reserved_peak, reserved_at = allocator.reserved, at
    return Replay(live_peak, allocated_peak, reserved_peak, reserved_at, allocator.retries)


def _unlimited(events: np.ndarray, sizes: np.ndarray, expandable: bool) -> Replay:
    """The replay of both pools, one after the other."""
    storages, signs = np.where(events < 0, ~events, events), np.where(events < 0, -1, 1)
    units = np.maximum(-(-sizes // MIN_BLOCK), 1)
    is_small = units <= SMALL_REQUEST // MIN_BLOCK
    blocks, listed = units.copy(), units.tolist()
    reserved = reserved_at = 0
    for small in (True, False):
        mine = np.flatnonzero(is_small[storages] == small)
        if not len(mine):
            continue
        part = events[mine].tolist()
        if expandable:
            page = (SMALL_SEGMENT if small else LARGE_SEGMENT) // MIN_BLOCK
            pool = unlimited.in_expandable_segment(part, listed, page)
        else:
            slack = 0 if small else SMALL_REQUEST // MIN_BLOCK
            pool = unlimited.in_segments(part, listed, _segment_units, slack)
        reserved += pool.reserved
        reserved_at = max(reserved_at, int(mine[pool.grew_at]))
        blocks[list(pool.taken)] = list(pool.taken.values())
    return Replay(
        live=int(np.cumsum(signs * sizes[storages]).max(initial=0)),
        allocated=int(np.cumsum(signs * blocks[storages]).max(initial=0)) * MIN_BLOCK,
        reserved=reserved * MIN_BLOCK,
        reserved_at=reserved_at,
    )


def _segment_units(units: int) -> int:
    return segment_size(units * MIN_BLOCK) // MIN_BLOCK
