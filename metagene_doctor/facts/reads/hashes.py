"""Reads as 64-bit hashes: of sequence and segments, the same for both strands, and of the pair's name.

Reads on one line are hashed thousands at a time, in the buffer they were read into; wrapped and
long ones are copied out first. Both ways give the same hash for the same sequence. The sequence
is normalised as training does it, so hashes are equal where training would see equal reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metagene_doctor.facts.reads.prefix_sieve import PrefixSieve, prefix_keys
from metagene_train.reads.counts.bases import WHITESPACE, normalise
from metagene_train.reads.counts.letters import count_letters
from metagene_train.reads.headers.pattern import ABSENT, HeaderPattern
from metagene_train.reads.records.records import decode_header
from metagene_train.reads.watching import Watched
from metagene_train.reads.words import LONGEST_ROW, SPARE, gather_reversed, gather_words, hash_rows

SEGMENT = 31
"""Bases of a segment: two reads that share one are from one genome (4^31 is 5x10^18)."""

_BLOCK_WORDS = 1 << 15
"""What is computed of so many words stays in the processor's cache."""

_FEW = 4
"""Of a batch of which less than one in so many is wanted the wanted are copied out."""

_NORMAL_LETTERS = b"ACGTN\n\0"
"""Of sequences that need not be normalised, with line ends and padding."""

_BLANK, _UNKNOWN = ord(" "), ord("N")
_NORMAL = bytes(_BLANK if byte in WHITESPACE else normalise(bytes([byte]))[0] for byte in range(256))
"""As `normalise` does it byte by byte, but blanks stay: they mark reads that need more care."""
_COMMENT_MATE = re.compile(r"^(\S+) ([12]):[YN]:")
_CLASS_WEIGHT = np.uint64(0x9E3779B97F4A7C15)


class ReadHashes(NamedTuple):
    """Reads of one batch that have bases, in order."""

    places: np.ndarray
    """int64 [N]: which records of the batch these are, from 0."""
    hashed: np.ndarray
    """bool [N]: whether the sequence was hashed; where not, a sieve has turned it away."""
    sequences: np.ndarray
    """uint64 [N]: the smaller of the hashes of the sequence and of its reverse complement."""
    strands: np.ndarray
    """int8 [N]: 1 where that was the reverse complement's, else 0."""
    names: np.ndarray
    """uint64 [N]: hash of what both reads of a pair are called."""
    mates: np.ndarray
    """int8 [N]: mate number 1 or 2, 0 for none."""
    class_ids: np.ndarray
    """int32 [N]: class in the header, -1 where the header does not match."""
    segments: np.ndarray
    """uint64 [M]: strand-neutral hashes of 31-base segments without N, every so many bases."""
    owners: np.ndarray
    """int64 [M]: the read (0..N-1) that each segment is of."""
    prefixes: np.ndarray
    """uint32 [N, 2]: `prefix_keys` of the sequence and of its reverse complement."""

    @classmethod
    def none(cls) -> ReadHashes:
        """Of no reads."""
        nothing = np.zeros(0, dtype=np.int64)
        words, kinds = nothing.view(np.uint64), nothing.astype(np.int8)
        class_ids, prefixes = nothing.astype(np.int32), np.zeros((0, 2), dtype=np.uint32)
        return cls(nothing, kinds.view(bool), words, kinds, words, kinds, class_ids, words, nothing, prefixes)


class Strands(NamedTuple):
    """Normalised sequences in a buffer, and a buffer that has the complement of every base."""

    forward: np.ndarray
    complement: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    places: np.ndarray
    """int64 [N]: which records of the batch these are."""

    @classmethod
    def of(cls, letters: np.ndarray, starts: np.ndarray, lengths: np.ndarray, places: np.ndarray) -> Strands:
        return cls(letters, _complement(letters), starts, lengths, places)


def _complement(letters: np.ndarray) -> np.ndarray:
    """The complement of A, C, G, T and N; of other bytes anything.

    C and G differ in one bit and have the bit of value 2 set, A and T differ in three and have not.
    """
    padded = np.concatenate((letters, np.zeros(-len(letters) % 8, dtype=np.uint8)))
    words = padded.view(np.uint64)
    for start in range(0, len(words), _BLOCK_WORDS):
        block = words[start : start + _BLOCK_WORDS]
        is_c_or_g = block & np.uint64(0x0202020202020202)
        block ^= np.uint64(0x1515151515151515)
        block ^= is_c_or_g << np.uint64(3)
        block ^= is_c_or_g >> np.uint64(1)
    if _UNKNOWN in letters[SPARE:-SPARE]:
        # What N has become by that, and no base can.
        padded[padded == _UNKNOWN ^ 4] = _UNKNOWN
    return padded[: len(letters)]


def hash_batch(watched: Watched, segment_step: int = 0, sieve: PrefixSieve | None = None) -> ReadHashes:
    """Hashes of the reads of a batch that are sound and have bases.

    Segments are taken every ``segment_step`` bases, none for 0; without them the sequences that a
    ``sieve`` turns away are not hashed.
    """
    batch, kept = watched.batch, watched.places
    forward, backward = np.zeros((2, len(batch)), dtype=np.uint64)
    prefixes = np.zeros((len(batch), 2), dtype=np.uint32)
    segments, owners = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    hashed = np.ones(len(kept), dtype=bool)
    if sieve and not segment_step:
        hashed = sieve.may_hold(batch.data, batch.layout.sequence_start[kept])
    for strands in _strands(watched, kept[hashed]):
        if not len(strands.places):
            continue
        forward[strands.places], backward[strands.places], prefixes[strands.places] = _sequence_hashes(
            strands
        )
        if segment_step:
            hashes, reads = _segment_hashes(strands, segment_step)
            segments.append(hashes)
            owners.append(np.searchsorted(kept, strands.places[reads]))
    columns = watched.columns
    names, mates = _names(watched)
    return ReadHashes(
        kept,
        hashed,
        np.minimum(forward, backward)[kept],
        (backward < forward)[kept].astype(np.int8),
        names[kept],
        mates[kept],
        columns.class_id[kept].astype(np.int32),
        np.concatenate(segments),
        np.concatenate(owners),
        prefixes[kept],
    )


def segments_of(sequences: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Strand-neutral hashes [M] uint64 of all segments of sequences, and of which each is [M] int64."""
    if not sequences:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    return _segment_hashes(_laid_out([normalise(sequence) for sequence in sequences]), 1)


def _strands(watched: Watched, wanted: np.ndarray) -> list[Strands]:
    """Reads on one line as they lie in the batch, and the others copied out of it."""
    batch, layout = watched.batch, watched.batch.layout
    starts, lengths = layout.sequence_start[wanted], layout.length[wanted]
    spans = layout.sequence_end[wanted] - starts
    letters = batch.data
    if _FEW * len(wanted) < len(batch) and spans.max(initial=0) <= LONGEST_ROW:
        letters, starts = _copied(letters, starts, spans)
        normal = not bytes(letters).translate(None, _NORMAL_LETTERS)
    else:
        bases = (watched.letters or count_letters(batch)).bases
        normal = bases.acgt + bases.n == bases.total
    special = lengths > LONGEST_ROW
    if normal and not batch.crlf_lines:
        special |= spans - lengths > 1
    else:
        letters = np.frombuffer(bytes(letters).translate(_NORMAL), np.uint8)
        blanks = np.concatenate(([0], np.cumsum(letters == _BLANK, dtype=np.int32)))
        special |= blanks[starts + lengths] > blanks[starts]
    if not special.any():
        return [Strands.of(letters, starts, lengths, wanted)]
    ordinary = Strands.of(letters, starts[~special], lengths[~special], wanted[~special])
    others = _laid_out([normalise(batch.sequence(place)) for place in wanted[special].tolist()])
    return [ordinary, others._replace(places=wanted[special])]


def _laid_out(sequences: Sequence[bytes]) -> Strands:
    """Normalised sequences in a buffer of their own."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    margin = bytes(SPARE)
    joined = np.frombuffer(margin + b"".join(sequences) + margin, np.uint8)
    return Strands.of(joined, SPARE + np.cumsum(lengths) - lengths, lengths, np.arange(len(lengths)))


def _copied(data: np.ndarray, starts: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Short stretches of a buffer in one of their own, each padded with zeros, and where they start in it."""
    rows = gather_words(data, starts, spans)
    width = rows.shape[1] * rows.itemsize
    copy = np.zeros(SPARE + len(starts) * width + SPARE, dtype=np.uint8)
    copy[SPARE:-SPARE] = rows.reshape(-1).view(np.uint8)
    return copy, SPARE + np.arange(len(starts)) * width


def _sequence_hashes(strands: Strands) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes [N] of the sequences and of their reverse complements, and the keys of both prefixes [N, 2]."""
    starts, lengths = strands.starts, strands.lengths
    short = np.where(lengths <= LONGEST_ROW, lengths, 0)
    forward, backward, prefixes = _both_hashes(strands, starts, short)
    for long in np.flatnonzero(lengths > LONGEST_ROW):
        one = slice(long, long + 1)
        forward[one], backward[one], prefixes[one] = _both_hashes(strands, starts[one], lengths[one])
    return forward, backward, prefixes


def _both_hashes(
    strands: Strands, starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ahead = gather_words(strands.forward, starts, lengths)
    back = gather_reversed(strands.complement, starts, lengths)
    prefixes = np.stack((prefix_keys(ahead), prefix_keys(back)), axis=1)
    return hash_rows(ahead, lengths), hash_rows(back, lengths), prefixes


def _segment_hashes(strands: Strands, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Strand-neutral hashes [M] of segments that hold no N, and the reads [M] they are of."""
    counts = np.maximum(0, (strands.lengths - SEGMENT) // step + 1)
    reads = np.repeat(np.arange(len(counts)), counts)
    offsets = (np.arange(len(reads)) - np.repeat(np.cumsum(counts) - counts, counts)) * step
    starts = strands.starts[reads] + offsets
    lengths = np.full(len(starts), SEGMENT)
    rows = gather_words(strands.forward, starts, lengths)
    known = ~(rows.view(np.uint8) == _UNKNOWN).any(axis=1)
    opposite = gather_reversed(strands.complement, starts[known], lengths[known])
    hashes = np.minimum(hash_rows(rows[known], lengths[known]), hash_rows(opposite, lengths[known]))
    return hashes, reads[known]


def hash_strings(strings: Sequence[bytes]) -> np.ndarray:
    """64-bit hashes [N] of strings, such as names, that are about equally long."""
    lengths = np.array([len(string) for string in strings])
    width = -(-max(8, int(lengths.max())) // 8) * 8
    joined = b"".join(string.ljust(width, b"\0") for string in strings)
    return hash_rows(np.frombuffer(joined, "<u8").reshape(len(strings), width // 8), lengths)


def _names(watched: Watched) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the pairs' names [N] and mate numbers [N] of all records."""
    batch, rows, columns, header = watched.batch, watched.rows, watched.columns, watched.header
    mates = np.where((columns.mate == 1) | (columns.mate == 2), columns.mate, 0).astype(np.int8)
    names = np.empty(len(batch), dtype=np.uint64)
    if header.is_standard:
        # Read length and tax id stand before the name and may differ between mates.
        begin = columns.name_start
        end = np.where(mates > 0, rows.lengths - 2, rows.lengths)
        quick = begin >= 0
        starts = batch.layout.header_start + np.where(quick, begin, 0)
        lengths = np.where(quick, end - begin, 0)
        hashed = hash_rows(gather_words(batch.data, starts, lengths), lengths)
        hashed ^= columns.class_id.astype(np.uint64) * _CLASS_WEIGHT
        names[quick] = hashed[quick]
        slow = np.flatnonzero(~quick)
    else:
        slow = np.arange(len(batch))
    if len(slow):
        called = [read_name(header, decode_header(batch.header(record))) for record in slow.tolist()]
        names[slow] = _name_hashes([name for name, _ in called], columns.class_id[slow])
        mates[slow] = [mate for _, mate in called]
    return names, mates


def _name_hashes(names: Sequence[str], class_ids: np.ndarray) -> np.ndarray:
    """As `_names` hashes them where they lie: name and class, -1 for none."""
    hashes = hash_strings([name.encode() for name in names])
    hashes ^= class_ids.astype(np.uint64) * _CLASS_WEIGHT
    return hashes


def read_name(pattern: HeaderPattern, header: str) -> tuple[str, int]:
    """What both reads of a pair are called in their class, and the mate number (0 for none).

    The name where the pattern finds one, else the header without its mate number.
    """
    fields = pattern.parse(header)
    if fields is None or fields.name is None:
        return split_mate(header)
    if fields.mate is None:
        return split_mate(fields.name)
    return (fields.name, fields.mate) if fields.mate in (1, 2) else (f"{fields.name}/{fields.mate}", 0)


def pair_key(pattern: HeaderPattern, header: str) -> int:
    """The hash that ``names`` of `ReadHashes` has for a header, for one that is not in a batch."""
    fields = pattern.parse(header)
    class_id = np.array([ABSENT if fields is None else fields.class_id], dtype=np.int64)
    return int(_name_hashes([read_name(pattern, header)[0]], class_id)[0])


def split_mate(header: str) -> tuple[str, int]:
    """A header without its mate number, and the number: ``name/1`` and ``name 1:N:0``; 0 for none."""
    if header[-2:-1] == "/" and header[-1] in "12":
        return header[:-2], int(header[-1])
    match = _COMMENT_MATE.match(header)
    return (match[1], int(match[2])) if match else (header, 0)
