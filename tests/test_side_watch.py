"""What the doctor compares while it scans: the same facts however many processes scan, in one pass."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doctor_fixtures import opposite
from reads_fixtures import bgzf, fasta, fastq, random_reads, written

from metagene_doctor.collect import Request, collect
from metagene_doctor.facts.facts import Facts, Level, RunFacts
from metagene_doctor.facts.side_watch import SideWatch
from metagene_train.config import RunConfig
from metagene_train.reads import scan as scan_module
from metagene_train.reads import watching

POOL = random_reads(400, length=60)
# Copies on either strand, mates, repeats within a file and across files, headers with a blank.
FIRST = [*POOL[:120], *((h + "x", s) for h, s in POOL[:20]), *((h + "y", opposite(s)) for h, s in POOL[5:12])]
SECOND = [*POOL[120:200], ("lbl|1|1|60|with blank", "ACGT" * 15), *POOL[:3]]
VAL = [
    *POOL[200:240],
    *((h.replace("/1", "/2"), s[::-1]) for h, s in POOL[30:40]),
    *((h + "z", opposite(s)) for h, s in POOL[50:60]),
    *((h + "v", "TTTT" + s[:50]) for h, s in POOL[130:150]),
]


def packed(reads: list[tuple[str, str]], kind: str) -> bytes:
    if kind == "misleading":
        # Lines of the qualities look like a record of their own.
        quality = "@I\nACGT\n+\nIIII\n@"
        return "".join(
            f"@{h}\n{s[:9]}\n{s[9:19]}\n{s[19:29]}\n{s[29:39]}\n{s[39:]}\n+\n{quality}{'I' * (len(s) - 12)}\n"
            for h, s in reads
        ).encode()
    content = fastq(reads) if kind == "fastq" else fasta(reads)
    return {"gzip": gzip.compress, "bgzf": partial(bgzf, block=700)}.get(kind, bytes)(content)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def facts(lab: Path, kind: str, level: Level = "standard", **options: Any) -> Facts:
    names = {"a": FIRST, "b": SECOND, "v": VAL}
    paths = {name: str(written(lab / name, packed(reads, kind))) for name, reads in names.items()}
    config = RunConfig.model_validate(
        {"dataset": {"train_fasta": [paths["a"], paths["b"]], "val_fasta": paths["v"]}}
    )
    return collect(Request(run=RunFacts(config=config), level=level, **options))


def compared(known: Facts) -> dict[str, Any]:
    sections = (known.split, known.repeats, known.audit, *known.shared_headers.values())
    assert all(sections)
    return {type(section).__name__: section.model_dump() for section in sections if section}


@pytest.mark.parametrize("kind", ["plain", "gzip", "bgzf", "fastq", "misleading"])
def test_several_processes_find_what_one_finds(lab: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    alone = compared(facts(lab, kind))
    assert alone["SplitFacts"]["same_strand"] == 0
    assert alone["SplitFacts"]["other_strand"] == 10
    assert alone["SplitFacts"]["split_pairs"] == 10
    assert alone["SplitFacts"]["sharing_val_reads"] == 30
    assert alone["SharedHeaders"]["headers"] == 3
    spoilt: list[SideWatch] = []
    original = SideWatch.spoil
    monkeypatch.setattr(SideWatch, "spoil", lambda watch: (spoilt.append(watch), original(watch))[1])
    in_ranges = partial(scan_module.scan, range_bytes=1500, chunk_bytes=900)

    def scan(path: Path, **settings: Any) -> scan_module.ReadScan:
        return in_ranges(path, **settings | {"processes": 2})

    monkeypatch.setattr(scan_module, "scan", scan)
    assert compared(facts(lab, kind)) == alone
    # Where it cannot be told where a record starts, the file is watched again.
    assert bool(spoilt) == (kind == "misleading")


def test_the_reads_are_read_once(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[str] = []
    original = scan_module.scan
    monkeypatch.setattr(
        scan_module,
        "scan",
        lambda path, **settings: (passes.append(path.name), original(path, **settings))[1],
    )
    monkeypatch.setattr(watching, "read_again", lambda path, *_: pytest.fail(f"{path} is read again"))
    assert compared(facts(lab, "plain"))
    assert passes == ["v", "a", "b"]


def test_only_what_is_asked_for_is_compared(lab: Path) -> None:
    every = facts(lab, "plain")
    some = facts(lab, "plain", sections=frozenset({"train", "val", "split"}))
    assert some.split == every.split
    assert some.repeats is None and some.gaps["repeats"].reason == "no chosen check needs it"
    other = facts(lab, "plain", sections=frozenset({"train", "val", "audit"}))
    assert other.split is None and other.audit is not None
    assert other.audit.shortcuts == (every.audit.shortcuts if every.audit else ())
