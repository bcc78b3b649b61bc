"""Facts of every kind that a check can find fault with, for tests of what findings say.

Each case is (check id, facts). Numbers are what real runs show: one read, some, hundreds of millions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from doctor_fixtures import (
    GIB,
    PACKAGES,
    device,
    encoder,
    environment,
    facts,
    gpu,
    host,
    reads,
    table,
    target,
)

from metagene_doctor.facts.audit import AuditFacts
from metagene_doctor.facts.facts import Facts, RunFacts
from metagene_doctor.facts.machine.disk import DiskFacts, Place
from metagene_doctor.facts.machine.disk_speed import DiskSpeedFacts
from metagene_doctor.facts.machine.environment import (
    ComputeProbe,
    ImportResult,
    QuantizedProbe,
    TorchProbe,
)
from metagene_doctor.facts.machine.gpu import GpuProcess
from metagene_doctor.facts.machine.gpu_load import GpuLoadFacts
from metagene_doctor.facts.machine.host import CgroupFacts
from metagene_doctor.facts.machine.kernel_log import KernelLogFacts, Xid
from metagene_doctor.facts.mapping import MappingFacts
from metagene_doctor.facts.model.encoder import WeightFile, metagene_1
from metagene_doctor.facts.model.tokens import TokenFacts
from metagene_doctor.facts.prediction import MemoryFacts, SpeedFacts
from metagene_doctor.facts.previous_run import PreviousRun
from metagene_doctor.facts.reads.companions import Companion
from metagene_doctor.facts.reads.facts import Bases, Damage, InputFile, ReadsFacts, Rejected
from metagene_doctor.facts.reads.first_words import FirstWordFacts
from metagene_doctor.facts.reads.repeats import RepeatFacts
from metagene_doctor.facts.reads.second_reader import Difference, SecondReaderFacts
from metagene_doctor.facts.reads.shared_headers import SharedHeaders
from metagene_doctor.facts.reads.shortcuts import Shortcut
from metagene_doctor.facts.split.drift import Drift
from metagene_doctor.facts.split.leakage import Overlap, SplitFacts
from metagene_doctor.facts.split.name_groups import GroupFacts
from metagene_doctor.finding import Example
from metagene_train.config import RunConfig

Case = tuple[str, Facts]

MANY = 558_000_000
"""Reads of the largest training set that is known to have been used."""

SNAPSHOT = "/home/lab/.cache/huggingface/hub/models--metagene-ai--METAGENE-1/snapshots/1f3a9c4be7d2"
OTHER_HEADER = r"^(?P<name>\S+) class=(?P<class_id>\d+)$"
PLACE = Example(file="train.fa", line=4_817_644, record=1_204_411, text="lbl|17|562|150|ecoli_17/1")


def cases() -> Iterator[Case]:
    yield from _files()
    yield from _reads()
    yield from _tokens()
    yield from _labels()
    yield from _split()
    yield from _config()
    yield from _encoder()
    yield from _environment()
    yield from _devices()
    yield from _host()
    yield from _disk()


def large(role: str = "train", **changes: Any) -> ReadsFacts:
    """Reads as many as anybody has trained on, in 3,507 classes."""
    values = {
        "records": MANY, "accepted": MANY, "lengths": {150: MANY}, "bases": Bases(acgt=150 * MANY),
        "bytes": 106_000_000_000, "bytes_examined": 106_000_000_000, "lines": 2 * MANY,
        "class_counts": dict.fromkeys(range(3507), MANY // 3507), "seconds": 840.0,
    }  # fmt: skip
    return reads(role, **(values | changes))


def glance(role: str = "train", places: int = 0, **changes: Any) -> ReadsFacts:
    """What level quick sees of a large file: its start, or many places."""
    estimated = {"places": places, "estimated_reads": MANY} if places else {}
    return reads(role, partial=True, bytes=106_000_000_000, **(estimated | changes))


def several(*parts: ReadsFacts) -> ReadsFacts:
    records = sum(part.records for part in parts)
    return parts[0].model_copy(update={"parts": parts, "records": records, "accepted": records})


def with_config(changes: dict[str, Any], path: str | None = "run.yaml", **sections: Any) -> Facts:
    warnings = sections.pop("warnings", ())
    run = RunFacts(config=RunConfig.model_validate(changes), path=path, warnings=warnings)
    return facts(run=run, **sections)


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


def tokens(**changes: Any) -> TokenFacts:
    values = {
        "source": "metagene-ai/METAGENE-1", "vocab_size": 1024, "is_metagene_1": True,
        "golden_ids": (252, 77, 290, 4), "special_tokens": 1, "pad_id": 3, "unknown_id": 0,
        "reads": 100_000, "lengths": {36: 60_000, 40: 39_900, 46: 100}, "tokens": 3_760_600,
        "bases": 15_000_000, "raw_tokens": 3_760_600,
    }  # fmt: skip
    return TokenFacts.model_validate(values | changes)


def _tokens() -> Iterator[Case]:
    for unknown in (3, 18_000, 1_400_000):
        yield "T01", facts(train=reads(), tokens=tokens(unknown_tokens=unknown))
    masked = tokens(raw_unknown_tokens=1_400_000, unusual=Bases(lower=52_000, u=40, iupac=12, other=1))
    yield "T01", facts(train=reads(), tokens=masked)
    for settings in (
        {"tokenizer": {"max_length": 1024}},
        {"tokenizer": {"max_length": 32}},
        {"tokenizer": {"max_length": 32, "truncation": False}},
        {"tokenizer": {"max_length": 512, "padding": "max_length"}},
        {},
    ):
        yield "T02", facts(settings, train=reads(), tokens=tokens(), encoder=encoder())
    long = tokens(
        lengths={48: 100, 1_557: 40_000, 4_887: 100}, reads=40_200, tokens=62_773_500, bases=245_000_000
    )
    for settings in ({}, {"tokenizer": {"truncation": False}}):
        yield "T02", facts(settings, train=reads(), tokens=long, encoder=encoder())
    uneven = tokens(lengths={8: 50_000, 400: 50_000})
    ungrouped = {"training": {"group_by_length": False}}
    yield "T02", facts(ungrouped, train=reads(), tokens=uneven, encoder=encoder())
    here = encoder(location=SNAPSHOT)
    foreign = {"is_metagene_1": False, "golden_ids": (1, 65, 67, 71, 84), "source": "/data/lab/tokenizer"}
    yield "M05", facts(tokens=tokens(**foreign), encoder=here)
    small = encoder(
        name="/data/lab/encoder", architecture=metagene_1().model_copy(update={"vocab_size": 512})
    )
    yield "M05", facts(tokens=tokens(), encoder=small)
    yield "M05", facts(tokens=tokens(golden_ids=(252, 77, 290)), encoder=here)
    yield "M06", facts(tokens=tokens(pad_id=1024), encoder=here)
    yield "M06", facts(tokens=tokens(pad_id=7), encoder=here)


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


def memory(device_gib: float, margin_gib: float = 0.9) -> MemoryFacts:
    return MemoryFacts(
        live_gib=device_gib - 2, reserved_gib=device_gib - 1, device_gib=device_gib, margin_gib=margin_gib,
        phase="backward", breakdown={"weights": 12.1, "activations": 3.2, "temporaries": 0.4, "adapters": 0.1},
        length=48, classes=3507,
    )  # fmt: skip


SPEED = SpeedFacts(reads_per_s=212, slowest=120, fastest=300, limit="arithmetic")


def _config() -> Iterator[Case]:
    warnings = (
        "run.yaml:14: model.type is not used: the encoder's own config.json says what it is",
        "run.yaml:22: training.fp16 is written training.precision: fp16-mixed here",
    )
    yield "C01", with_config({}, warnings=warnings)
    yield "C01", with_config({}, warnings=warnings * 20)
    for path in (None, "run.yaml", "my runs/first.yaml"):
        for needed in (18.0, 31.0):
            fitting = {
                "memory": memory(needed),
                "target": target(note="24 GB is taken as GeForce RTX 3090 Ti"),
            }
            yield "C02", with_config({}, path, train=reads(), val=reads("val"), **fitting)
    for settings in (
        {"scheduler": {"warmup_steps": 100}},
        {"scheduler": {"warmup_steps": 10_000}},
        {"scheduler": {"warmup_steps": None, "warmup_ratio": 0.5}},
        {"training": {"eval_steps": 50_000}},
        {"training": {"evals_per_epoch": 5_000}},
        {"training": {"batch_size": 512, "grad_accum_steps": 32}},
    ):
        yield "C03", with_config(settings, train=reads())
    yield "C03", with_config({"training": {"batch_size": 512, "grad_accum_steps": 1}}, train=large())
    yield "C03", with_config({}, train=glance())
    there = {"directory": "runs/first", "free_directory": "runs/first-2"}
    changed = tuple(f"{key} was 1, is 2" for key in ("model.lora.r", "optimizer.lr", "seed"))
    for changes in (
        {"state": "other files"},
        {"state": "run", "step": 1, "differences": changed[:1]},
        {"state": "run", "step": 31_250, "differences": changed},
        {"state": "run", "step": 31_250, "finished": True},
        {"state": "run", "step": 31_250},
    ):
        yield "C04", with_config({}, previous_run=PreviousRun.model_validate(there | changes))
    for side in (reads(), large()):
        yield "C07", facts(train=side, target=target(), speed=SPEED)
    yield "C05", facts(train=reads())
    yield "C05", facts(train=reads(stream=True))
    yield "C05", facts(train=reads(accepted=0, class_counts={}))
    by_accuracy = {"dataset": {"val_fasta": "val.fa"}, "training": {"early_stopping": {"metric": "accuracy"}}}
    for smallest in (1, 3):
        counts = {0: 412 * smallest, 1: smallest}
        yield "C05", with_config(by_accuracy, train=reads(class_counts=counts), val=reads("val"))


def _encoder() -> Iterator[Case]:
    yield "M01", facts(encoder=encoder(), environment=environment())
    yield "M01", facts(encoder=encoder(), environment=environment(variables={"HF_HUB_OFFLINE": "1"}))
    yield "M02", facts(encoder=encoder())
    for location in (None, SNAPSHOT):
        for partial in (1, 4):
            files = ("blobs/9c.incomplete",) * partial
            half = encoder(location=location, incomplete_downloads=files, incomplete_bytes=9_100_000_000)
            yield "M02", facts(encoder=half)
    yield "M03", facts(encoder=encoder(location=SNAPSHOT, problems=("it has no config.json",)))
    own = {"name": "/data/lab/encoder", "location": "/data/lab/encoder", "in_hub_cache": False}
    shards = (
        WeightFile(name="model-00001-of-00006.safetensors", state="missing"),
        WeightFile(name="model-00002-of-00006.safetensors", state="pointer", bytes=135),
        WeightFile(name="model-00003-of-00006.safetensors", state="truncated", bytes=10**9, expected_bytes=5 * 10**9),
        WeightFile(name="model-00004-of-00006.safetensors", state="unreadable", message="header is not JSON"),
    )  # fmt: skip
    for bad in (shards[:1], shards):
        yield "M03", facts(encoder=encoder(location=SNAPSHOT, weights=bad))
        yield "M03", facts(encoder=encoder(**own, weights=bad))
    parameters = {"F32": 6_480_000_000}
    stored = (WeightFile(name="model.safetensors", state="complete", parameters=parameters),)
    yield "M04", facts(encoder=encoder(location=SNAPSHOT, weights=stored), target=target())
    yield "M04", facts({"training": {"precision": "32"}}, encoder=encoder(), target=target())
    for modules in (["query", "value"], ["q_proj", "value"]):
        yield "M07", facts({"model": {"lora": {"target_modules": modules}}}, encoder=encoder())
    full = {"model": {"lora": {"target_modules": "all-linear", "r": 64}, "encoder_layers": 2}}
    yield "M07", facts(full, encoder=encoder(), **table(*((n, f"species {n}", None) for n in range(3507))))
    yield "M08", facts(encoder=encoder(location=SNAPSHOT))


def _environment() -> Iterator[Case]:
    without = {name: version for name, version in PACKAGES.items() if name not in ("torch", "peft")}
    yield "E01", facts(environment=environment(packages=without), gpu=gpu())
    yield "E01", facts(environment=environment(), gpu=gpu(device()))
    yield "E01", facts(environment=environment(), gpu=gpu(state="failed", device_nodes=("/dev/nvidia0",)))
    yield "E02", facts(environment=environment(torch_cuda="13.0"), gpu=gpu(device()))
    for state in ("driver not loaded", "version mismatch", "gpu lost", "no permission", "failed"):
        yield (
            "E03",
            facts(gpu=gpu(state=state, message="Driver/library mismatch", device_nodes=("/dev/nvidia0",))),
        )
    yield "E03", facts(gpu=gpu(state="binding not installed"))
    yield "E03", facts(gpu=gpu(state="no library"))
    yield "E03", facts(gpu=gpu(state="no library"), target=target())
    yield "E03", facts({"device": "cuda"}, gpu=gpu(state="no library"))
    wheel = {"arch_list": ("sm_75", "sm_80", "sm_90"), "available": True}
    for card in (("NVIDIA GeForce RTX 5090", (12, 0)), ("Tesla P100-PCIE-16GB", (6, 0))):
        yield "E04", facts(environment=environment(probe=TorchProbe(**wheel, devices=(card,))))
    broken = "ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory"
    yield "E04", facts(environment=environment(probe=TorchProbe(error=broken)))
    yield "E05", facts(target=target(title="Tesla T4", compute_capability=(7, 5)))
    int8 = {"model": {"quantization": "int8"}, "training": {"precision": "fp16-mixed"}}
    yield "E05", facts(int8, target=target(title="Tesla V100", compute_capability=(7, 0)))
    yield "E06", facts(environment=environment(packages=without))
    for packages in (PACKAGES, PACKAGES | {"bitsandbytes": "0.45.5"}):
        yield "E06", facts({"model": {"quantization": "nf4"}}, environment=environment(packages=packages))
    imports = (ImportResult(module="peft", error="ImportError: cannot import name 'HybridCache'"),)
    yield "E06", facts(environment=environment(imports=imports))
    nf4 = {"model": {"quantization": "nf4"}}
    for tried in (
        QuantizedProbe(error="RuntimeError: no kernel image is available"),
        QuantizedProbe(relative_error=0.9),
    ):
        with_bits = environment(packages=PACKAGES | {"bitsandbytes": "0.48.1"}, quantized=tried)
        yield "E07", facts(nf4, environment=with_bits)
    for compute in (ComputeProbe(error="no answer within 120 s"), ComputeProbe(relative_error=0.5)):
        yield "E08", facts(environment=environment(compute=compute))
    for visible in ("", "0,3"):
        yield (
            "E09",
            facts(environment=environment(variables={"CUDA_VISIBLE_DEVICES": visible}), gpu=gpu(device())),
        )
    for names in (("CUDA_LAUNCH_BLOCKING",), ("CUDA_LAUNCH_BLOCKING", "CUDA_PROFILE", "NCCL_P2P_DISABLE")):
        yield "E10", facts(environment=environment(variables=dict.fromkeys(names, "1")))
    for setting in ("expandable_segments:True,max_split_size_mb:128", "max_split_size_mb:128"):
        yield "E10", facts(environment=environment(variables={"PYTORCH_CUDA_ALLOC_CONF": setting}))


def _devices() -> Iterator[Case]:
    busy = {"free_bytes": 11 * GIB, "used_bytes": 12 * GIB}
    here = target(origin="this machine", index=0)
    for processes in ((GpuProcess(pid=77, used_bytes=12 * GIB),), (), (GpuProcess(pid=1),) * 12):
        card = device(**busy, processes=processes)
        yield "E11", facts(gpu=gpu(card), target=here, memory=memory(18.0))
        yield "E12", facts(gpu=gpu(card))
    yield "E13", facts(gpu=gpu(device(display_active=True)))
    for fault in ({"remap_failed": True}, {"remap_pending": True}, {"uncorrected_ecc_errors": 3}):
        yield "E14", facts(gpu=gpu(device(**fault)))
    yield (
        "E15",
        facts(gpu=gpu(device()), kernel_log=KernelLogFacts(unreadable="dmesg: Operation not permitted")),
    )
    for code, times in ((79, 1), (13, 4), (140, 2)):
        xid = Xid(code=code, pci="0000:41:00", count=times, text=f"NVRM: Xid (PCI:0000:41:00): {code}")
        yield "E15", facts(gpu=gpu(device()), kernel_log=KernelLogFacts(xids=(xid,)))
    loaded = {"index": 0, "name": "NVIDIA GeForce RTX 4090", "samples": 30}
    for reason in ("heat (driver)", "power brake"):
        load = GpuLoadFacts(
            **loaded, reasons={reason: 20}, first_clock=2520, last_clock=1410, highest_temperature=88
        )
        yield "E16", facts(gpu=gpu(device()), gpu_load=load)
    yield "E16", facts(gpu=gpu(device()), gpu_load=GpuLoadFacts(**loaded, error="out of memory"))
    yield "E17", facts(gpu=gpu(device(power_limit_w=250, default_power_limit_w=450)))
    for width in (4, 8):
        yield "E18", facts(gpu=gpu(device(pcie_width=width, pcie_max_width=16)))
    yield "E19", facts(gpu=gpu(device(mig=True, name="NVIDIA A100-SXM4-80GB")))
    yield "E19", facts(gpu=gpu(device(compute_mode="prohibited")))
    yield "E19", facts(gpu=gpu(device(compute_mode="exclusive process", processes=(GpuProcess(pid=77),))))
    mixed = (device(), device(index=1, name="NVIDIA GeForce RTX 3060", total_bytes=12 * GIB))
    yield "E20", facts(gpu=gpu(*mixed))
    yield "E20", facts(gpu=gpu(device(), device(index=1), peers=((0, 1, False),)))


def _host() -> Iterator[Case]:
    for kills in (1, 12):
        limits = CgroupFacts(version=2, memory_limit_bytes=16 * GIB, out_of_memory_kills=kills)
        yield "H01", facts(host=host(cgroup=limits))
    yield "H01", facts(host=host(wsl=True))
    container = CgroupFacts(version=2, memory_limit_bytes=4 * GIB)
    yield "H02", facts(host=host(cgroup=container), train=large(), target=target(), encoder=encoder())
    for available, total, config in ((60, 64, {}), (1, 64, {}), (1, 1, {}), (7, 8, {"device": "cpu"})):
        machine = host(memory_available_bytes=available * GIB, memory_total_bytes=total * GIB)
        card = None if config else target()
        yield "H02", facts(config, host=machine, train=large(), target=card, encoder=encoder())
    yield "H02", facts(host=host(memory_available_bytes=GIB), train=reads(), encoder=encoder())
    workers = {"training": {"num_workers": 8, "batch_size": 512}}
    cramped = host(
        shared_memory_free_bytes=64_000_000, open_files_limit=100, cpus_of_machine=64, cpus_allowed=2
    )
    for check in ("H03", "H05", "H06"):
        yield check, facts(workers, host=cramped)
    yield "H04", facts(host=host(swap_used_bytes=20 * GIB, memory_available_bytes=GIB))
    for config in (facts(), with_config({})):
        late = config.model_copy(
            update={"host": host(job_seconds_left=3600), "train": large(), "speed": SPEED}
        )
        yield "H07", late
    crowded = environment(variables={"TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "1"})
    yield "H08", facts(workers | {"device": "cpu"}, environment=crowded, host=host())


def places(**changes: Any) -> DiskFacts:
    roles = ("hub cache", "output directory", "index directory", "training reads", "temporary directory")
    values = {"filesystem": "ext4", "total_bytes": 10**12, "free_bytes": 5 * 10**11, "writable": True}
    return DiskFacts(
        places=tuple(
            Place(role=role, path=f"/data/{role}", checked="/data", **(values | changes)) for role in roles
        )
    )


def _disk() -> Iterator[Case]:
    full = places(free_bytes=9_000_000)
    yield "S01", facts(disk=full, encoder=encoder())
    config = {"dataset": {"train_fasta": ["data/*.fa", "more reads.fa"]}}
    yield "S02", facts(config, disk=places(filesystem="nfs4"), train=reads())
    yield "S02", facts(config, disk=places(filesystem="tmpfs"), train=reads())
    for keep in (3, 1):
        yield "S03", facts({"training": {"checkpoint": {"keep": keep}}}, disk=full, encoder=encoder())
    yield "S03", facts(disk=places(writable=False), encoder=encoder())
    yield "S04", facts(disk=full)
    yield "S04", facts(disk=places(writable=False))
    yield "S04", facts(disk=places(noexec=True))
    for size in (10**9, 10**11):
        slow = DiskSpeedFacts(
            path="train.fa", file_bytes=size, random_reads_per_s=120, sequential_bytes_per_s=180_000_000
        )
        yield "S05", facts(config, disk_speed=slow, speed=SPEED, host=host())
    yield "S06", facts(disk=places(writable=False), train=reads())
    yield "S06", facts(disk=full, train=large())
