"""Everything a scan counts of a file, or of a range of it, and the index being written."""

from __future__ import annotations

import numpy as np

from metagene_train.reads.counts.bases import KINDS, BaseCounts
from metagene_train.reads.counts.class_tally import ClassTally
from metagene_train.reads.counts.distinct import RepeatCounter
from metagene_train.reads.counts.letters import Letters, count_letters
from metagene_train.reads.counts.report import ReadScan
from metagene_train.reads.counts.sample import Sample
from metagene_train.reads.counts.tallies import (
    Examples,
    Histogram,
    OrderTally,
    Origin,
    Problems,
    QualityTally,
    Rejections,
)
from metagene_train.reads.headers.columns import HeaderColumns, HeaderParser, HeaderRows
from metagene_train.reads.headers.pattern import ABSENT, HeaderPattern
from metagene_train.reads.index.held import HeldColumns, HeldHashes
from metagene_train.reads.index.writer import IndexWriter
from metagene_train.reads.problems import Problem
from metagene_train.reads.records.batches import RecordBatch
from metagene_train.reads.records.formats import ReadFormat
from metagene_train.reads.records.layout import FAULTS, MIXED, SOUND
from metagene_train.reads.records.opening import OpenReads
from metagene_train.reads.records.records import decode_header
from metagene_train.reads.watching import Watched

_OTHER = KINDS.index("other")


class Tally:
    """Everything counted so far, and the index being written."""

    def __init__(
        self,
        form: ReadFormat,
        header: HeaderPattern | None,
        writer: IndexWriter | HeldColumns | None,
        repeats: RepeatCounter | HeldHashes,
    ):
        self._plain = form.compression == "none"
        self._header = header
        self._writer = writer
        self._repeats = repeats
        self.problems = Problems()
        self._rejections = Rejections()
        self._lengths = Histogram()
        self._unusual = np.zeros(len(KINDS), dtype=np.int64)
        self._quality = QualityTally()
        self._classes = ClassTally()
        self._mates = Histogram()
        self._order = OrderTally()
        self._readlen = Examples()
        self.sample: Sample[bytes] = Sample()
        self.ends_with_a_sound_record = True
        self._records = self._accepted = self._lines = self._crlf_lines = 0
        self._total_bases = self._non_ascii = self._header_sum = 0

    def add(self, batch: RecordBatch, parser: HeaderParser | None) -> Watched | None:
        """Count one batch, the headers of which the parser of the file takes apart.

        Returns what others may want to know of it; None without records or without a parser.
        """
        self._lines += batch.lines
        self._crlf_lines += batch.crlf_lines
        if not len(batch):
            return None
        layout = batch.layout
        sound = layout.faults == SOUND
        accepted = usable = sound & (layout.length > 0)
        rows = HeaderRows.of(batch)
        columns = parser.parse(batch, rows) if parser else None
        if columns:
            accepted = usable & columns.matched
        offsets = batch.offsets()

        self._count_headers(batch, rows)
        places = np.arange(len(batch)) if usable.all() else np.flatnonzero(usable)
        letters = self._count_sequences(batch, offsets, sound, places)
        self._count_damage(batch, _is_spotless(batch, columns, letters))
        if columns:
            self._count_classes(batch, columns, letters, accepted)
        if not accepted.all():
            self._reject(batch, columns, accepted)
        if self._writer:
            class_ids = columns.class_id if columns else np.full(len(batch), ABSENT)
            spans = layout.ends - layout.starts
            self._writer.append(
                *(_chosen(values, accepted) for values in (offsets, spans, layout.length, class_ids))
            )
        self.ends_with_a_sound_record = bool(sound[-1])
        self._records += len(batch)
        self._accepted += int(np.count_nonzero(accepted))
        if not columns or not self._header:
            return None
        return Watched(batch, places, rows, columns, self._header, letters)

    def _count_damage(self, batch: RecordBatch, spotless: bool) -> None:
        damaged = []
        if batch.layout.quality_start is not None:
            damaged = [("fastq", record, FAULTS[batch.layout.faults[record]]) for record in batch.faulty()]
        if not spotless:
            damaged += [("nul", record, "the record holds NUL bytes") for record in batch.damaged_by_nul()]
            damaged += [("mixed", record, MIXED) for record in batch.mixed_with_fastq()]
        # By record, whatever a batch holds: the order is the same however the file is cut.
        for kind, record, message in sorted(damaged, key=lambda one: one[1]):
            offset = int(batch.offsets()[record]) if self._plain else None
            self.problems.add(Problem(kind, message, batch.line(record), batch.first_record + record, offset))

    def _count_headers(self, batch: RecordBatch, rows: HeaderRows) -> None:
        hashes = rows.hashes(batch)
        self._repeats.add(hashes)
        self._header_sum = (self._header_sum + int(hashes.sum())) % 2**64
        self._non_ascii += rows.non_ascii(batch)

    def _count_sequences(
        self, batch: RecordBatch, offsets: np.ndarray, sound: np.ndarray, places: np.ndarray
    ) -> Letters:
        """Returns the letters. The records at ``places`` are sound and have bases."""
        letters = count_letters(batch)
        if len(letters.records):
            self._unusual += letters.kinds.sum(axis=0)
        lengths = _chosen(batch.layout.length, sound)
        self._lengths.add(lengths)
        self._total_bases += letters.total
        if len(places) < len(batch):
            offsets = offsets[places]
        self.sample.offer(offsets, lambda wanted: batch.sequences(places[wanted]))
        if batch.layout.quality_start is not None:
            self._quality.add(offsets, lambda wanted: batch.quality(places[wanted]) or b"")
        return letters

    def _count_classes(
        self, batch: RecordBatch, columns: HeaderColumns, letters: Letters, accepted: np.ndarray
    ) -> None:
        lengths = batch.layout.length
        class_ids = _chosen(columns.class_id, accepted)
        self._classes.add(class_ids, _chosen(columns.tax_id, accepted), _chosen(lengths, accepted))
        if len(letters.records):
            of_accepted = accepted[letters.records]
            records = letters.records[of_accepted]
            if len(records):
                self._classes.add_unusual(columns.class_id[records], letters.kinds[of_accepted])
        self._mates.add(np.maximum(_chosen(columns.mate, accepted), 0))
        self._order.add(class_ids)
        stale = columns.readlen != lengths
        if stale.any():
            stale &= accepted & (columns.readlen != ABSENT)
            for record in np.flatnonzero(stale)[: self._readlen.wanted].tolist():
                header = decode_header(batch.header(record))
                self._readlen.show(batch.line(record), batch.first_record + record, header)
            self._readlen.count += int(np.count_nonzero(stale))

    def _reject(self, batch: RecordBatch, columns: HeaderColumns | None, accepted: np.ndarray) -> None:
        rejected = np.flatnonzero(~accepted)
        for record in rejected.tolist():
            text = decode_header(batch.header(record))
            fault = batch.layout.faults[record]
            if fault != SOUND:
                kind, reason = "cut" if batch.layout.quality_start is None else "fastq", FAULTS[fault]
            elif self._header and columns and not columns.matched[record]:
                kind, reason = "header", self._header.explain(text)
            else:
                kind, reason = "empty", "the read has no bases"
            self._rejections.add(kind, reason, batch.line(record), batch.first_record + record, text)
        if self._writer:
            self._writer.skip(self._accepted + np.cumsum(accepted)[rejected])

    def merge(self, later: Tally) -> None:
        """Count what another tally holds of the range of the file that follows."""
        origin = Origin(self._lines, self._records)
        self.problems.merge(later.problems, origin)
        self._rejections.merge(later._rejections, origin)
        self._readlen.merge(later._readlen, origin)
        for name in ("_lengths", "_quality", "_classes", "_mates", "_order", "sample"):
            getattr(self, name).merge(getattr(later, name))
        assert isinstance(later._repeats, HeldHashes)
        for hashes in later._repeats.held:
            self._repeats.add(hashes)
        if self._writer:
            assert isinstance(later._writer, HeldColumns)
            later._writer.pour(self._writer, self._accepted)
        self._unusual += later._unusual
        self._header_sum = (self._header_sum + later._header_sum) % 2**64
        for name in ("_records", "_accepted", "_lines", "_crlf_lines", "_total_bases", "_non_ascii"):
            setattr(self, name, getattr(self, name) + getattr(later, name))

    def result(self, reads: OpenReads, examined: int) -> ReadScan:
        """The counts of the whole file."""
        assert isinstance(self._repeats, RepeatCounter)
        repeats = self._repeats.repeats()
        other_kinds = self._unusual[1:].tolist()
        bases = BaseCounts(self._total_bases - sum(other_kinds), *other_kinds)
        return ReadScan(
            path=reads.name,
            format=reads.form,
            bytes_present=reads.source.size,
            bytes_examined=examined,
            digest=reads.digest,
            records=self._records,
            accepted=self._accepted,
            rejected=self._rejections.as_tuple(),
            problems=self.problems.as_tuple(),
            lengths=self._lengths.clipped(),
            total_bases=self._total_bases,
            longest=max(self._lengths.as_dict(), default=0),
            bases=bases,
            quality_range=self._quality.range,
            lines=self._lines,
            crlf_lines=self._crlf_lines,
            class_counts=self._classes.reads(),
            class_bases=self._classes.bases(),
            tax_ids=self._classes.tax_ids(),
            mates=self._mates.as_dict(),
            readlen_mismatches=self._readlen.count,
            readlen_examples=tuple(self._readlen.places),
            adjacent_same_class=self._order.same,
            duplicate_headers=repeats.count,
            duplicate_examples=tuple((first + 1, again + 1) for first, again in repeats.examples),
            non_ascii_headers=self._non_ascii,
            headers_digest=f"{self._header_sum:016x}",
            sample=self.sample.items,
        )


def _chosen(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The wanted values; mostly they are all wanted, and need not be copied."""
    return values if wanted.all() else values[wanted]


def _is_spotless(batch: RecordBatch, columns: HeaderColumns | None, letters: Letters) -> bool:
    """Whether it is known of FASTA that there are neither NUL bytes nor lines of FASTQ in it.

    A header that was taken apart with the others has printable characters only; NUL, @ and + among the
    letters would be counted as other ones.
    """
    if columns is None or batch.layout.quality_start is not None or batch.layout.faults.any():
        return False
    return not letters.kinds[:, _OTHER].any() and bool((columns.name_start >= 0).all())
