"""Reads files opened to be read once from start to end: files on disk, pipes and standard input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metagene_train.errors import InputError
from metagene_train.reads.records.formats import ReadFormat, is_stream, name_of, sniff, sniff_stream
from metagene_train.reads.sources.fingerprint import Fingerprint
from metagene_train.reads.sources.raw import Stream
from metagene_train.reads.sources.source import ByteSource, decompressed, open_source


@dataclass(frozen=True)
class OpenReads:
    """``name`` is for messages. ``fingerprint`` is the file's from before it was read, None of a stream."""

    name: str
    form: ReadFormat
    source: ByteSource
    fingerprint: Fingerprint | None
    stream: Stream | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of both ends; of a stream, of what was read so far."""
        if self.fingerprint:
            return self.fingerprint.digest
        assert self.stream
        return self.stream.digest()

    @property
    def was_changed(self) -> bool:
        """Whether the file is another one than when it was opened."""
        return self.fingerprint is not None and not self.fingerprint.still_holds(Path(self.name))


@contextmanager
def opened(
    path: str | Path, file_format: str = "auto", gzip: Literal["auto"] | bool = "auto"
) -> Iterator[OpenReads]:
    """A file or stream (``-`` is standard input) of reads. Raises as `formats.sniff` does."""
    path = Path(path)
    if not is_stream(path):
        form = sniff(path, file_format, gzip)
        fingerprint = Fingerprint.of(path)
        with closing(open_source(path, form.compression)) as source:
            yield OpenReads(str(path), form, source, fingerprint)
        return
    name = name_of(path)
    try:
        stream = Stream.named(path)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    with closing(stream):
        form = sniff_stream(stream, name, file_format, gzip)
        yield OpenReads(name, form, decompressed(stream, form.compression), None, stream)
