"""Bases by kind, the alphabet of the tokenizer, and the other strand."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_train.reads.counts.bases import BaseCounts, count_bases, normalise, reverse_complement


@pytest.mark.parametrize(
    "sequence, expected",
    [
        (b"ACGTN", b"ACGTN"),
        (b"acgtn", b"ACGTN"),
        (b"ACUu", b"ACTT"),
        (b"ARYSWKMBDHVr", b"ANNNNNNNNNNN"),
        (b"A-.*?\xe9\0C", b"ANNNNNNC"),
        (b" A C\tG\r\nT\x0b\x0c", b"ACGT"),
        (b"", b""),
    ],
)
def test_normalised_sequences(sequence: bytes, expected: bytes) -> None:
    assert normalise(sequence) == expected


@given(st.binary(max_size=200))
def test_normalised_sequences_have_five_letters_and_are_stable(sequence: bytes) -> None:
    once = normalise(sequence)
    assert set(once) <= set(b"ACGTN")
    assert normalise(once) == once
    assert len(once) == len(sequence) - count_bases(sequence).whitespace


def test_counts_by_kind() -> None:
    assert count_bases(b"ACGTTacguUnNRr-*. \tX") == BaseCounts(
        acgt=5, lower=3, u=2, n=2, iupac=2, whitespace=2, other=4
    )


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_counts_add_up(one: bytes, two: bytes) -> None:
    total = count_bases(one) + count_bases(two)
    assert total == count_bases(one + two)
    assert total.total == len(one) + len(two)
    assert all(value >= 0 for value in dataclasses.astuple(total))


def test_reverse_complement_knows_ambiguity_codes_and_keeps_case() -> None:
    assert reverse_complement(b"AACGTN") == b"NACGTT"
    assert reverse_complement(b"acgRYKMBVDHSW") == b"WSDHBVKMRYcgt"
    assert reverse_complement(b"AU") == b"AT"


@given(st.text("ACGTRYSWKMBDHVNacgtryswkmbdhvn").map(str.encode))
def test_the_other_strand_of_the_other_strand_is_the_first(sequence: bytes) -> None:
    assert reverse_complement(reverse_complement(sequence)) == sequence


def test_the_real_tokenizer_knows_every_normalised_letter() -> None:
    directory = os.environ.get("METAGENE_TOKENIZER")
    if not directory:
        pytest.skip("METAGENE_TOKENIZER is not set")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    unknown = tokenizer.token_to_id("[UNK]")
    every_byte = bytes(range(256)) * 2
    assert unknown in tokenizer.encode(every_byte.decode("latin-1")).ids
    assert unknown not in tokenizer.encode(normalise(every_byte).decode()).ids
