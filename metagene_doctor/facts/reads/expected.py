"""About how many reads there will be, from the start of each file: to choose settings, not to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from metagene_train.errors import MetageneError


def expected_reads(files: Sequence[Path], file_format: str = "auto") -> int | None:
    """Reads of all files; None where one is a stream, or cannot be read.

    From the first 2 MiB of each, unpacked; exact for files that are no larger.
    """
    from metagene_train.reads.records.batches import iter_batches
    from metagene_train.reads.records.formats import sniff
    from metagene_train.reads.sources.source import open_source

    reads = 0.0
    for path in files:
        try:
            form = sniff(path, file_format)
            with closing(open_source(path, form.compression)) as source:
                first = next(iter_batches(source, form), None)
                if first is None:
                    return None
                seen = first.end - first.begin if form.compression == "none" else source.position
                reads += len(first) * max(1.0, source.size / max(seen, 1))
        except MetageneError:
            return None
    return round(reads)
