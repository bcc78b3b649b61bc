"""Cases of findings about reads, labels and split."""

from __future__ import annotations

from collections.abc import Iterator

from case_facts import (
    OTHER_HEADER,
    PLACE,
    Case,
    glance,
    large,
    several,
    tokens,
    with_config,
)
from doctor_fixtures import (
    facts,
    reads,
    table,
)

from metagene_doctor.facts.audit import AuditFacts
from metagene_doctor.facts.mapping import MappingFacts
from metagene_doctor.facts.reads.companions import Companion
from metagene_doctor.facts.reads.facts import Bases, Damage, InputFile, Rejected
from metagene_doctor.facts.reads.first_words import FirstWordFacts
from metagene_doctor.facts.reads.repeats import RepeatFacts
from metagene_doctor.facts.reads.second_reader import Difference, SecondReaderFacts
from metagene_doctor.facts.reads.shared_headers import SharedHeaders
from metagene_doctor.facts.reads.shortcuts import Shortcut
from metagene_doctor.facts.split.drift import Drift
from metagene_doctor.facts.split.leakage import Overlap, SplitFacts
from metagene_doctor.facts.split.name_groups import GroupFacts
from metagene_doctor.finding import Example


def cases() -> Iterator[Case]:
    yield from _files()
    yield from _reads()
    yield from _labels()
    yield from _split()


def _files() -> Iterator[Case]:
    refused = InputFile(
        role="train", path="train.fa", bytes=4_096,
        refused="train.fa: not FASTA or FASTQ: is an HTML page (a failed download?)",
    )  # fmt: skip
    yield "F01", facts(files=(refused,))
    cut = Damage(
        kind="gzip_truncated", byte_offset=51_204_118_016, line=562_008_224, record=281_004_112,
        message="the file ends at byte 51,204,118,016 inside the gzip member that starts at byte 0",
    )  # fmt: skip
    damaged = large(path="train.fa.gz", compression="gzip", damage=(cut,), records=281_004_112)
    yield "F02", facts(train=damaged)
    yield "F02", facts(train=glance(compression="gzip"))
    blocks = Damage(
        kind="bgzf_no_end", byte_offset=180_000,
        message="it was cut between two blocks (its end block is missing); gzip -t does not notice",
    )  # fmt: skip
    yield "F03", facts(train=reads(path="train.fa.gz", compression="bgzf", damage=(blocks,)))
    for compression, path in (("gzip", "train.fa.gz"), ("gzip", "my reads.gzip"), ("zstd", "train.fa.zst")):
        yield "F04", facts(train=large(path=path, compression=compression, bytes=30_000_000_000))
    for kind, message, count in (
        ("nul", "2,048 NUL bytes in 3 records", 3),
        ("mixed", "a FASTQ record begins in a FASTA file", 1),
        ("changed", "the file was changed while it was being read", 1),
        ("record_too_long", "a record is longer than 2,147,483,648 bytes: not reads", 1),
        ("unreadable", "cannot be read after byte 4,096 (Input/output error)", 1),
    ):
        damage = Damage(kind=kind, message=message, line=812, record=406, count=count)
        yield "F05", facts(train=reads(damage=(damage,)))
    for lines in (1, 2_000):
        yield "F05", facts(train=reads(crlf_lines=lines))
    for headers in (1, 312):
        yield "F05", facts(train=reads(non_ascii_headers=headers))
    yield "F05", facts(train=glance())
    fastq = {"kind": "fastq", "path": "train.fq"}
    yield "F06", facts(train=reads(**fastq, quality_range=(66, 104)))
    for count, first in ((1, PLACE), (41_022, PLACE), (3, Example(text="@read 7"))):
        broken = Rejected(kind="fastq", reason="150 bases, 149 qualities", count=count, examples=(first,))
        yield "F06", facts(train=reads(**fastq, rejected=(broken,)))
    ends = Damage(kind="fastq_truncated", message="the file ends inside record 1,204,411 (line 4,817,644)")
    yield "F06", facts(train=reads(**fastq, damage=(ends,)))
    yield "F06", facts(train=glance(**fastq))


def _reads() -> Iterator[Case]:
    header = Rejected(kind="header", reason="does not match dataset.header_regex", count=1, examples=(PLACE,))
    yield "F07", facts(train=reads(rejected=(header,), accepted=999))
    some = header.model_copy(update={"count": 3_906_000})
    nothing = Rejected(kind="header", reason="is empty", count=12, examples=(Example(text="line 9"),))
    yield "F07", facts(train=large(rejected=(some, nothing)), **table((0, "a", None)))
    all_reads = header.model_copy(update={"count": 1000})
    for examples in (("SRR1.7 class=17", "SRR1.8 class=4"), ("contig 7 sample", "contig 9 sample"),
                     ("NC_000913.3-7", "NZ_CP012345.1-8")):  # fmt: skip
        unlike = reads(rejected=(all_reads,), accepted=0, rejected_headers=examples, class_counts={})
        yield "F07", facts(train=unlike)
        yield "F07", with_config({}, train=unlike)
    yield "F07", facts(train=glance(places=8_192))
    for kept, lost in ((1000, 1), (1000, 999)):
        words = FirstWordFacts(
            with_blank=1000, kept=kept, distinct=1000, distinct_first_words=1000 - lost,
            example="lbl|0|7|150|Azorhizobium caulinodans/1",
        )  # fmt: skip
        yield "F08", facts(train=reads(), audit=AuditFacts(first_words={"train": words}))
    blank = FirstWordFacts(
        with_blank=9, kept=9, distinct=9, distinct_first_words=1, example="SRR1.7 class=17"
    )  # fmt: skip
    needed = {"dataset": {"header_regex": OTHER_HEADER}}
    yield "F08", facts(needed, train=reads(), audit=AuditFacts(first_words={"train": blank}))
    yield "F08", facts(train=reads(), audit=AuditFacts())
    for letters in ({"lower": 78_000}, {"u": 37_000}, {"iupac": 1}, {"iupac": 900, "other": 12, "whitespace": 4},
                    {"other": 90_000}, {"n": 9_000}):  # fmt: skip
        odd = reads(bases=Bases(acgt=150_000 - sum(letters.values()), **letters))
        for check in ("F09", "F10", "F11", "F12"):
            yield check, facts(train=odd, tokens=tokens(raw_unknown_tokens=14_000))
    yield "F12", facts(train=glance())
    for count in (1, 4_011):
        empty = Rejected(kind="empty", reason="has no bases", count=count, examples=(PLACE,))
        yield "F13", facts(train=reads(rejected=(empty,)))
        yield "F13", facts(train=reads(lengths={12: count, 150: 100_000}, records=104_011))
    yield "F13", facts(train=reads(lengths={12: 400, 150: 600}))
    wrong = {"readlen_mismatches": 1, "readlen_examples": (Example(file="train.fa", record=1000),)}
    yield "F13", facts(train=reads(**wrong))
    for count in (1, 122_000):
        other = {"readlen_mismatches": count, "readlen_examples": (PLACE,)}
        yield "F13", facts(train=reads(accepted=1_000_000, records=1_000_000, **other))
    for count in (1, 204):
        yield "F14", facts(train=reads(duplicate_headers=count))
    own = {"dataset": {"header_regex": r"^(?P<class_id>\d+)$"}}
    yield "F14", facts(own, train=reads(duplicate_headers=204, first_header="17"))
    yield "F14", facts(train=glance())
    joined = several(reads(), reads(path="more.fa"))
    yield "F14", facts(train=joined)
    for headers in (1, 1_204):
        shared = SharedHeaders(headers=headers, examples=((17, 1_204),))
        yield "F14", facts(train=joined, shared_headers={"train": shared})
    for distinct, one_in in ((999, 1), (820, 1), (820, 8)):
        yield (
            "F15",
            facts(train=reads(), repeats=RepeatFacts(reads=1000, distinct=distinct, kept_one_in=one_in)),
        )
    for companion in (
        Companion(path="data/train.fa.fxi", tool="pyfastx", records=1, bases=150),
        Companion(path="data/train.fa.fxi", tool="pyfastx", records=1000, bases=149_999),
        Companion(path="data/train.fa.fxi", tool="pyfastx", problem="its build was interrupted"),
        Companion(path="data/train.fa.fai", tool="samtools", older=True),
    ):
        file = InputFile(role="train", path="data/train.fa", bytes=180_000, companions=(companion,))
        yield "F16", facts(train=reads(path="data/train.fa"), files=(file,))
    for plan in (reads(), large(indexed=True), reads(stream=True), glance(), glance(places=8_192),
                 several(glance(places=64), glance(places=64)), reads(accepted=0, class_counts={})):  # fmt: skip
        yield "F18", facts(train=plan)
    seen = {"version": "2.3.1", "records": 1000, "bases": 150_000}
    for second in (
        SecondReaderFacts(**seen),
        SecondReaderFacts(**seen | {"records": 999}),
        SecondReaderFacts(**seen, stopped="SystemError: index error"),
        SecondReaderFacts(
            **seen | {"records": 41},
            difference=Difference(record=42, line=84, what="its sequence is 'ACGT' here and 'ACG' there"),
        ),
    ):
        yield "F19", facts(train=reads(), second_reader={"train.fa": second})
    for missing in (
        reads(stream=True),
        reads(partial=True),
        reads(damage=(Damage(kind="nul", message="x"),)),
    ):
        yield "F19", facts(train=missing)


def _labels() -> Iterator[Case]:
    known = table((0, "Escherichia coli", 562), (1, "Bacillus subtilis", 1423))
    one = "labels.tsv:207: class_id 118 is also in line 119"
    for problems in ((one,), (one,) * 41):
        yield "L01", facts(mapping=MappingFacts(path="labels.tsv", problems=problems))
    other = MappingFacts(
        path="labels.tsv", problems=("labels.tsv:1: no column class_id",), likely_columns=("Class ID", "Name")
    )
    named = {"dataset": {"train_fasta": "my reads.fa", "mapping_tsv": "labels.tsv"}}
    yield "L01", facts(named, mapping=other)
    yield "L01", with_config(named, mapping=other)
    for strict in (True, False):
        config = {"dataset": {"strict_classes": strict}}
        yield "L02", facts(config, train=reads(class_counts={0: 999, 7: 1}), **known)
        yield "L02", with_config(config, train=large(), **known)
    yield "L02", facts(train=glance(places=8_192), **known)
    yield "L03", facts(train=reads(class_counts={0: 1000}), **known)
    yield "L03", facts(train=reads(class_counts={0: 999, 1: 1}), **known)
    rows = table(*((number, f"species {number}", None) for number in range(3507)))
    yield "L03", facts(train=reads(class_counts={0: 1000}), **rows)
    yield "L03", facts(train=reads(class_counts=dict.fromkeys(range(3507), 3)), **rows)
    yield "L03", facts(train=glance(), **known)
    yield "L04", facts(train=reads(tax_ids={0: {561: 1}}), **known)
    yield "L04", facts(train=large(
        tax_ids={0: {561: 88_012, 564: 3}, 1: {1: 70}}), **known)  # fmt: skip
    yield "L04", facts(train=glance(places=8_192), **known)
    yield "L04", facts(train=reads(), **table((0, "a", 562), (1, "b", 562)))
    yield "L05", facts(**table((3, "a", None), (9, "b", None)))
    yield "L06", facts(train=several(glance(places=64), glance(places=64)))
    yield "L06", facts(train=reads(class_counts={0: 1000}))
    for classes in ({0: 500, 1: 500}, {0: 998, 1: 2}):
        yield "L06", facts(train=reads(class_counts=classes))
    yield "L07", facts(train=glance())
    yield "L07", facts(train=reads(class_order=1.0))
    for trait, part in (("read length", None), ("GC content", None), ("name", 4), ("quality", None)):
        found = Shortcut(trait=trait, part=part, correct=0.61, baseline=0.18, mcc=0.52, reads=25_000)
        yield "L08", facts(train=reads(), audit=AuditFacts(shortcuts=(found,)))
    for unknown in (30, 300):
        bases = {
            number: Bases(acgt=1000 - n, n=n) for number, n in enumerate((0, 0, unknown, unknown // 2 + 10))
        }
        train = reads(class_counts=dict.fromkeys(range(4), 250), class_bases=bases)
        yield "L08", facts(train=train, audit=AuditFacts())
    few = Shortcut(trait="read length", correct=0.6, baseline=0.5, mcc=0.2, reads=20)
    yield "L08", facts(train=reads(), audit=AuditFacts(shortcuts=(few,)))
    for shared in (1, 32):
        found = RepeatFacts(reads=1000, distinct=990, shared_reads=shared, best_correct=1000 - shared)
        yield "L09", facts(train=reads(), repeats=found)


def _split() -> Iterator[Case]:
    sides = {"train": reads(), "val": reads("val")}
    pair = Overlap(val_record=17, train_record=204)
    yield "V01", facts(**sides, split=SplitFacts(same_file=True, shared_files=("val.fa",)))
    joined = {"train": several(reads(), reads(path="more.fa")), "val": reads("val")}
    yield "V01", facts(**joined, split=SplitFacts(same_file=True, shared_files=("more.fa",)))
    yield "V01", facts(**sides, split=SplitFacts(same_reads=True, val_reads=1000))
    same = {"train": reads(headers_digest="d"), "val": reads("val", headers_digest="d")}
    for copied in (0, 1000):
        yield "V01", facts(**same, split=SplitFacts(val_reads=1000, same_strand=copied))
    for copied in (1, 28, 280):
        split = SplitFacts(val_reads=1000, same_strand=copied, sequence_examples=(pair,))
        yield "V02", facts(**sides, split=split)
    for mates in (1, 98):
        split = SplitFacts(val_reads=1000, paired_val_reads=1000, split_pairs=mates, pair_examples=(pair,))
        yield "V03", facts(**sides, split=split)
    yield "V03", facts(**sides, split=SplitFacts(val_reads=9, paired_val_reads=9, names_identify=False))
    for sharing in (100, 1_000, 9_880):
        split = SplitFacts(val_reads=50_000_000, segment_val_reads=10_000, sharing_val_reads=sharing)
        yield "V04", facts(**sides, split=split)
    overlapping = SplitFacts(val_reads=10, segment_val_reads=10, sharing_val_reads=9)
    yield "V04", facts(**sides, split=overlapping)
    yield "V04", facts(**sides, split=overlapping, audit=AuditFacts())
    for per_class in (1.0, 4.0):
        told = GroupFacts(
            kind="accession", train_groups=8, val_groups=8, shared_groups=8, val_reads=10, shared_val_reads=9,
            classes_per_group=1.0, groups_per_class=per_class,
        )  # fmt: skip
        yield "V04", facts(**sides, split=overlapping, audit=AuditFacts(groups=told))
    yield "V04", facts(**sides, split=SplitFacts(val_reads=10))
    for check in ("V02", "V03", "V04", "V05", "V08"):
        one_file = SplitFacts(same_file=True, shared_files=("val.fa",))
        yield check, facts(**sides, split=one_file, audit=AuditFacts())
    for kind, groups_per_class in (("accession", 1), ("flow cell", 2), ("name prefix", 1)):
        groups = GroupFacts(
            kind=kind, train_groups=400, val_groups=314, shared_groups=312, val_reads=1000,
            shared_val_reads=990, classes_per_group=1, groups_per_class=groups_per_class,
            examples=("GCF_000005845.2",),
        )  # fmt: skip
        yield "V05", facts(**sides, split=SplitFacts(val_reads=9), audit=AuditFacts(groups=groups))
    only_val = reads("val", class_counts={0: 958, 9: 41, 12: 1})
    yield "V06", facts(train=reads(), val=only_val)
    yield "V06", facts(train=reads(), val=reads("val", class_counts=dict.fromkeys(range(2, 1002), 1)))
    yield "V06", facts(train=reads(), val=glance("val"))
    yield "V06", facts(train=glance(), val=only_val)
    yield "V07", facts(train=reads(), val=reads("val", class_counts={0: 12}))
    yield "V07", facts(train=large(), val=reads("val"))
    lone = {"train": reads(class_counts={0: 998, 1: 1, 2: 1}), "val": reads("val", class_counts={0: 1000})}
    yield "V07", facts(**lone)
    yield "V07", facts(**lone | {"val": reads("val", class_counts={0: 999, 2: 1})})
    some = reads(class_counts={0: 990, 1: 6, 2: 4})
    yield "V07", facts(train=some, val=lone["val"], split=SplitFacts(lone_classes=(2,)))
    yield "V07", facts(train=reads(), val=glance("val"))
    drifts = (
        Drift(trait="class shares", effect=0.2),
        Drift(trait="read length", effect=0.9, train=150, val=100),
        Drift(trait="GC content", effect=0.3, train=0.51, val=0.43),
        Drift(trait="N content", effect=0.2, train=0.001, val=0.03),
        Drift(trait="quality", effect=0.4, train=70, val=63),
    )
    for drift in (drifts[:1], drifts[1:2], drifts):
        yield "V08", facts(**sides, split=SplitFacts(val_reads=9), audit=AuditFacts(drift=drift))
    often = {"training": {"evals_per_epoch": 20}}
    yield "V09", with_config(often, **sides)
    yield "V09", with_config({"training": {"evals_per_epoch": 1}}, train=reads(), val=large("val"))
