"""The allocator model: hand-computed traces and properties that must hold for any trace."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_doctor.memory.replay.allocator import (
    CachingAllocator,
    OutOfMemoryError,
    replay,
    rounded,
    segment_size,
)

KIB, MIB = 1 << 10, 1 << 20


def test_request_sizes_follow_the_documented_classes():
    assert [rounded(n) for n in (0, 1, 512, 513, 1000)] == [512, 512, 512, 1024, 1024]
    assert segment_size(rounded(1)) == 2 * MIB
    assert segment_size(MIB) == 2 * MIB
    assert segment_size(MIB + 512) == 20 * MIB
    assert segment_size(10 * MIB - 512) == 20 * MIB
    assert segment_size(10 * MIB) == 10 * MIB
    assert segment_size(11 * MIB) == 12 * MIB


def test_small_requests_share_a_two_mebibyte_segment():
    result = replay([0, 1, 2], [100, 600, MIB])
    assert (result.live, result.allocated, result.reserved) == (MIB + 700, 512 + 1024 + MIB, 2 * MIB)


def test_a_freed_large_block_is_split_only_when_more_than_a_mebibyte_remains():
    # 16 MiB freed, then 15 MiB asked: 1 MiB remains, the block is used whole.
    assert replay([0, ~0, 1], [16 * MIB, 15 * MIB]).allocated == 16 * MIB
    # 14.5 MiB leave 1.5 MiB, which the next request finds: nothing new is reserved.
    result = replay([0, ~0, 1, 2], [16 * MIB, 14 * MIB + 512 * KIB, MIB + 512 * KIB])
    assert (result.allocated, result.reserved) == (16 * MIB, 16 * MIB)


def test_best_fit_takes_the_smallest_block_that_is_large_enough():
    # 30, 20 and 12 MiB are cached; 11.5 MiB goes into the 12, so 30 and 20 fit again without growth.
    sizes = [30 * MIB, 20 * MIB, 12 * MIB, 11 * MIB + 512 * KIB, 30 * MIB, 20 * MIB]
    assert replay([0, 1, 2, ~0, ~1, ~2, 3, 4, 5], sizes).reserved == 62 * MIB


def test_neighbours_merge_when_freed():
    # Two 8 MiB blocks of one 20 MiB segment become room for 9 MiB.
    allocator = CachingAllocator()
    first, second = allocator.allocate(8 * MIB), allocator.allocate(8 * MIB)
    allocator.free(first)
    allocator.free(second)
    assert allocator.segments() == [[(0, 20 * MIB, False, True)]]
    allocator.allocate(9 * MIB)
    assert allocator.reserved == 20 * MIB


def test_growing_requests_fragment_segments_but_not_expandable_ones():
    sizes = [n * 10 * MIB for n in range(1, 9)]
    events = [event for i in range(8) for event in (i, ~i)]
    assert replay(events, sizes).reserved == sum(sizes)
    assert replay(events, sizes, expandable=True).reserved == sizes[-1]


def test_expandable_segments_grow_by_pages_of_two_and_twenty_mebibytes():
    assert replay([0], [1], expandable=True).reserved == 2 * MIB
    assert replay([0], [2 * MIB], expandable=True).reserved == 20 * MIB
    assert replay([0, 1], [15 * MIB, 15 * MIB], expandable=True).reserved == 40 * MIB


def test_cached_segments_are_given_back_before_running_out():
    sizes = [60 * MIB, 80 * MIB]
    free = replay([0, ~0, 1], sizes)
    assert (free.reserved, free.retries) == (140 * MIB, 0)
    for expandable in (False, True):
        capped = replay([0, ~0, 1], sizes, capacity=100 * MIB, expandable=expandable)
        assert capped.failed_at is None
        assert capped.reserved <= 100 * MIB
    assert replay([0, ~0, 1], sizes, capacity=100 * MIB).retries == 1


def test_out_of_memory_is_a_result_and_says_where():
    result = replay([0, 1], [60 * MIB, 80 * MIB], capacity=100 * MIB)
    assert (result.failed_at, result.reserved) == (1, 60 * MIB)
    with pytest.raises(OutOfMemoryError, match="tried to allocate"):
        CachingAllocator(capacity=MIB).allocate(2 * MIB)


def test_a_mebibyte_is_small_and_one_byte_more_is_large():
    assert replay([0, 1], [MIB, MIB]).reserved == 2 * MIB
    assert replay([0, 1], [MIB, MIB + 1]).reserved == 22 * MIB
    # The pools do not lend to each other: 18.9 MiB are free in the large one.
    assert replay([0, 1, 2], [MIB + 1, MIB, MIB + 1]).reserved == 22 * MIB
    # From 10 MiB on a segment is as large as its request, in steps of 2 MiB.
    assert replay([0], [10 * MIB - 512]).reserved == 20 * MIB
    assert replay([0], [10 * MIB + 1]).reserved == 12 * MIB


def test_of_equal_free_blocks_the_one_at_the_lowest_address_is_taken():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(12 * MIB) for _ in range(3)]
    for block in reversed(blocks):
        allocator.free(block)
    assert allocator.allocate(12 * MIB).address == 0


def test_small_and_expandable_blocks_are_split_down_to_512_bytes():
    # A freed MiB is cut by 512 bytes: the rest serves the third request, nothing is reserved anew.
    assert replay([0, 1, ~0, 2, 3], [MIB, MIB, MIB - 512, 512]).reserved == 2 * MIB
    # Of a freed 16 MiB segment 15.5 MiB take all, and half a MiB is lost; an expandable one is cut.
    sizes = [16 * MIB, 16 * MIB, 15 * MIB + 512 * KIB]
    assert replay([0, ~0, 2, 1], sizes).allocated == 32 * MIB
    assert replay([0, ~0, 2, 1], sizes, expandable=True).allocated == 31 * MIB + 512 * KIB


def test_the_free_end_of_an_expandable_segment_is_used_last():
    # 40 MiB are mapped: 8 cached in front, 8 in use, 24 free at the end, which could grow. 5 MiB go to the
    # front, 20 to the end, and 12 more make the end grow by a page.
    sizes = [8 * MIB, 8 * MIB, 24 * MIB, 5 * MIB, 20 * MIB, 12 * MIB]
    result = replay([0, 1, 2, ~2, ~0, 3, 4, 5], sizes, expandable=True)
    assert (result.reserved, result.reserved_at) == (60 * MIB, 7)


def test_a_segment_that_is_partly_in_use_is_not_given_back():
    # Two 8 MiB blocks share a 20 MiB segment; one stays. 40 MiB more do not fit 50, although 30 would
    # be free without the rest of that segment.
    sizes = [8 * MIB, 8 * MIB, 40 * MIB]
    result = replay([0, 1, ~1, 2], sizes, capacity=50 * MIB)
    assert (result.failed_at, result.retries, result.reserved) == (3, 1, 20 * MIB)
    # A page of an expandable segment is given back when all of it is free.
    held = CachingAllocator(50 * MIB, expandable=True)
    blocks = [held.allocate(24 * MIB), held.allocate(8 * MIB)]
    assert held.reserved == 40 * MIB
    held.free(blocks[0])
    held.release_cached()
    assert held.reserved == 20 * MIB


SIZES = st.one_of(st.integers(1, 4096), st.integers(1, 3 * MIB), st.integers(1, 64 * MIB))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(SIZES, st.integers(0, 12)), max_size=60),
    st.sampled_from([None, 40 * MIB, 200 * MIB]),
    st.booleans(),
)
def test_any_trace_keeps_the_books(requests, capacity, expandable):
    """Blocks never overlap, tile their segments, and the totals are what the blocks add up to."""
    allocator = CachingAllocator(capacity, expandable=expandable)
    held = []
    for size, frees in requests:
        try:
            held.append((allocator.allocate(size), size))
        except OutOfMemoryError:
            assert capacity is not None
        for _ in range(min(frees, len(held)) if frees > 6 else 0):
            allocator.free(held.pop(frees % len(held))[0])
        live = sum(size for _, size in held)
        blocks = [block for segment in allocator.segments() for block in segment]
        assert allocator.allocated == sum(size for _, size, used, _ in blocks if used)
        assert allocator.reserved == sum(size for _, size, _, mapped in blocks if mapped)
        assert live <= allocator.allocated <= allocator.reserved
        assert capacity is None or allocator.reserved <= capacity
        assert all(mapped for _, _, used, mapped in blocks if used)
        for segment in allocator.segments():
            for left, right in itertools.pairwise(segment):
                assert left[0] + left[1] == right[0], "a gap or an overlap"
                same_kind = left[3] == right[3] and not left[2] and not right[2]
                assert not same_kind, "free neighbours were not merged"
    for block, _ in held:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator.release_cached()
    assert allocator.reserved == 0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(SIZES, st.integers(0, 12)), max_size=120), st.booleans())
def test_the_fast_replay_without_a_limit_is_the_same_as_with_one_out_of_reach(requests, expandable):
    """Two implementations of the rules: numbers only, and blocks that know their neighbours."""
    events, held = [], []
    for storage, (_, frees) in enumerate(requests):
        events.append(storage)
        held.append(storage)
        for _ in range(min(frees - 5, len(held)) if frees > 5 else 0):
            events.append(~held.pop(frees * 7 % len(held)))
    sizes = [size for size, _ in requests]
    assert replay(events, sizes, expandable=expandable) == replay(
        events, sizes, capacity=1 << 50, expandable=expandable
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(SIZES, st.integers(0, 12)), min_size=2, max_size=60),
    st.booleans(),
    st.floats(0.3, 1.0),
)
def test_a_limit_costs_retries_or_the_run_and_never_more_memory(requests, expandable, share):
    """Near the limit cached memory goes back; what still does not fit is where the replay ends."""
    events, held = [], []
    for storage, (_, frees) in enumerate(requests):
        events.append(storage)
        held.append(storage)
        for _ in range(min(frees - 5, len(held)) if frees > 5 else 0):
            events.append(~held.pop(0))
    sizes = [size for size, _ in requests]
    free = replay(events, sizes, expandable=expandable)
    capacity = int(free.reserved * share)
    limited = replay(events, sizes, capacity=capacity, expandable=expandable)
    assert limited.reserved <= capacity
    if limited.failed_at is None:
        assert limited.live == free.live
        assert limited.retries or limited == free
    else:
        assert limited.retries and events[limited.failed_at] >= 0
        assert replay(
            events[: limited.failed_at], sizes, capacity=capacity, expandable=expandable
        ) == replace(limited, failed_at=None, retries=limited.retries - 1)
