"""The facts of several reads files as those of one set of reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from metagene_doctor.facts.reads.facts import Bases, ReadsFacts, Rejected
from metagene_train.reads.access.data_set import title_of

SAMPLE_READS = 10_000
"""Reads in the sample of a scan, and of several together."""


def join(files: Sequence[ReadsFacts]) -> ReadsFacts:
    """Counts of all files, which keep their own as ``parts``; one file stays as it is.

    ``duplicate_headers`` are those within a file; `shared_headers` has those of two files. Where
    a file was only sampled the set has no ``places``: its files were not sampled in proportion.
    """
    if len(files) == 1:
        return files[0]
    digests = [file.headers_digest for file in files]
    qualities = [file.quality_range for file in files if file.quality_range]
    return ReadsFacts(
        role=files[0].role,
        path=title_of([file.path for file in files]),
        kind=files[0].kind,
        compression=files[0].compression,
        bytes=sum(file.bytes for file in files),
        bytes_examined=sum(file.bytes_examined for file in files),
        partial=any(file.partial for file in files),
        stream=any(file.stream for file in files),
        indexed=all(file.indexed for file in files),
        records=sum(file.records for file in files),
        accepted=sum(file.accepted for file in files),
        rejected=_rejected(files),
        damage=tuple(damage for file in files for damage in file.damage),
        lengths=_sum(file.lengths for file in files),
        bases=_all_bases(file.bases for file in files),
        lines=sum(file.lines for file in files),
        crlf_lines=sum(file.crlf_lines for file in files),
        non_ascii_headers=sum(file.non_ascii_headers for file in files),
        class_counts=_sum(file.class_counts for file in files),
        class_bases={
            class_id: _all_bases(file.class_bases[class_id] for file in files if class_id in file.class_bases)
            for class_id in sorted({class_id for file in files for class_id in file.class_bases})
        }
        if not any(file.partial for file in files)
        else {},
        tax_ids={
            class_id: _sum(file.tax_ids.get(class_id, {}) for file in files)
            for class_id in sorted({class_id for file in files for class_id in file.tax_ids})
        },
        mates=_sum(file.mates for file in files),
        readlen_mismatches=sum(file.readlen_mismatches for file in files),
        readlen_examples=tuple(example for file in files for example in file.readlen_examples)[:5],
        duplicate_headers=sum(file.duplicate_headers for file in files),
        class_order=_class_order(files),
        headers_digest=f"{sum(int(d, 16) for d in digests) % (1 << 64):016x}" if all(digests) else "",
        quality_range=(min(low for low, _ in qualities), max(high for _, high in qualities))
        if qualities
        else None,
        rejected_headers=tuple(header for file in files for header in file.rejected_headers),
        seconds=sum(file.seconds for file in files),
        parts=tuple(files),
    )


def join_samples(files: Sequence[ReadsFacts], samples: Sequence[tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """A sample of all files from uniform samples of each: as many reads of a file as its share is."""
    if len(files) == 1:
        return samples[0]
    reads = sum(file.expected_reads for file in files)
    # A file whose sample is all it has gives its share; rounding up keeps files of a few reads in it.
    chosen = []
    for file, sample in zip(files, samples, strict=True):
        wanted = min(len(sample), -(-SAMPLE_READS * file.expected_reads // max(reads, 1)))
        # Evenly: the sample is in the order of the file.
        chosen += [sample[number * len(sample) // wanted] for number in range(wanted)]
    return tuple(chosen)


def _all_bases(parts: Iterable[Bases]) -> Bases:
    listed = list(parts)
    return Bases(**{kind: sum(getattr(part, kind) for part in listed) for kind in Bases.model_fields})


def _sum(counts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _rejected(files: Sequence[ReadsFacts]) -> tuple[Rejected, ...]:
    found: dict[tuple[str, str], Rejected] = {}
    for file in files:
        for one in file.rejected:
            earlier = found.get((one.kind, one.reason))
            if earlier is not None:
                examples = (*earlier.examples, *one.examples)[:5]
                one = one.model_copy(update={"count": earlier.count + one.count, "examples": examples})
            found[one.kind, one.reason] = one
    return tuple(sorted(found.values(), key=lambda one: -one.count))


def _class_order(files: Sequence[ReadsFacts]) -> float | None:
    """As `ReadScan.class_order` of the files one after the other, but for the pairs across two files.

    A file of one class is in that class's order all through.
    """
    from metagene_train.reads.counts.tallies import ORDER_LAG

    accepted = sum(file.accepted for file in files)
    alike = pairs = 0.0
    for file in files:
        own = file.accepted - ORDER_LAG
        if own <= 0:
            continue
        by_chance = _chance(file.class_counts, file.accepted)
        order = 1.0 if file.class_order is None else file.class_order
        alike += (order * (1 - by_chance) + by_chance) * own
        pairs += own
    by_chance = _chance(_sum(file.class_counts for file in files), accepted)
    return (alike / pairs - by_chance) / (1 - by_chance) if pairs and by_chance < 1 else None


def _chance(class_counts: Mapping[int, int], accepted: int) -> float:
    return sum((count / accepted) ** 2 for count in class_counts.values()) if accepted else 1.0
