"""The jobs of `benchmarks/reads.py`. Each is run in a process of its own:

    python benchmarks/reads_jobs.py JOB FOLDER READS

and prints what it found as JSON. Other libraries are given the same job as our scan: records, lengths,
classes, letters, repeated and unusable headers, declared lengths that are wrong, empty reads. As under
`metagene doctor`, NumPy starts no threads for algebra, which would cost 0.05 s.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RANDOM_READS = 100_000
BATCH = 256
FULL_SCALE = 558_000_000
"""Reads of the guide's authors."""
INDEX_OF_SCAN = "scratch-index"


def make(folder: Path, reads: int) -> dict[str, int]:
    import reads_files

    fasta = folder / "train.fa"
    reads_files.write_fasta(fasta, reads)
    reads_files.write_mapping(folder / "mapping.tsv")
    return {"bytes": fasta.stat().st_size}


def make_more(folder: Path, reads: int) -> dict[str, int]:
    """Gzip and the validation reads."""
    import reads_files

    reads_files.write_gzip(folder / "train.fa.gz", folder / "train.fa")
    reads_files.write_validation(folder / "val.fa", max(reads // 10, reads_files.COPIED))
    return {}


def make_layouts(folder: Path, reads: int) -> dict[str, int]:
    """Wrapped FASTA and FASTQ."""
    import reads_files

    reads_files.write_other_layouts(folder / "wrapped.fa", folder / "train.fq", reads)
    return {}


def _scan(path: Path, index_dir: Path | None = None, **options: Any) -> dict[str, Any]:
    from metagene_train.reads.headers.pattern import HeaderPattern
    from metagene_train.reads.scan import scan

    found = scan(path, header=HeaderPattern(), index_dir=index_dir, **options)
    return {"records": found.records, "accepted": found.accepted, "bases": found.bases.acgt}


def scan_and_index(folder: Path, reads: int) -> dict[str, Any]:
    """The index stays in a folder that ``remove_index`` takes away."""
    index_dir = folder / INDEX_OF_SCAN
    found = _scan(folder / "train.fa", index_dir)
    found["index_bytes"] = sum(file.stat().st_size for file in index_dir.rglob("*") if file.is_file())
    return found


def remove_index(folder: Path) -> None:
    shutil.rmtree(folder / INDEX_OF_SCAN, ignore_errors=True)


def scan_in_parallel(folder: Path, reads: int) -> dict[str, Any]:
    """On every processor that may be used; no index, as `seqkit stats -a` writes none."""
    from metagene_train.processors import usable_processors

    processes = usable_processors()
    return {**_scan(folder / "train.fa", processes=processes), "processes": processes}


def scan_only(folder: Path, reads: int) -> dict[str, Any]:
    return _scan(folder / "train.fa")


def scan_gzip(folder: Path, reads: int) -> dict[str, Any]:
    return _scan(folder / "train.fa.gz")


def scan_wrapped(folder: Path, reads: int) -> dict[str, Any]:
    return _scan(folder / "wrapped.fa")


def scan_fastq(folder: Path, reads: int) -> dict[str, Any]:
    return _scan(folder / "train.fq")


def _one_by_one(records: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Our scan's job for a library that hands out headers and sequences."""
    from metagene_train.reads.headers.pattern import HeaderPattern

    parse = HeaderPattern().parse_numbers
    lengths: Counter[int] = Counter()
    classes: Counter[int] = Counter()
    letters: Counter[str] = Counter()
    seen: set[int] = set()
    found = repeated = unusable = stale = empty = 0
    for header, sequence in records:
        found += 1
        lengths[len(sequence)] += 1
        for letter in "ACGTN":
            letters[letter] += sequence.count(letter)
        key = hash(header)
        repeated += key in seen
        seen.add(key)
        numbers = parse(header)
        if numbers is None:
            unusable += 1
            continue
        classes[numbers[0]] += 1
        stale += numbers[2] >= 0 and numbers[2] != len(sequence)
        empty += not sequence
    return {"records": found, "accepted": found - unusable - empty, "bases": letters.total() - letters["N"]}


def biopython(folder: Path, reads: int) -> dict[str, Any]:
    from Bio import SeqIO

    records = SeqIO.parse(folder / "train.fa", "fasta")
    return _one_by_one((record.description, str(record.seq)) for record in records)


def pyfastx_loop(folder: Path, reads: int) -> dict[str, Any]:
    import pyfastx

    return _one_by_one((name, sequence) for name, sequence, *_ in pyfastx.Fastx(str(folder / "train.fa")))


def _index(folder: Path) -> Any:
    from metagene_train.reads.access.read_index import ReadIndex
    from metagene_train.reads.headers.pattern import HeaderPattern

    return ReadIndex.open_or_build(folder / "train.fa", header=HeaderPattern(), index_dir=folder / "index")


def _positions(reads: int) -> list[int]:
    import numpy as np

    return np.random.default_rng(0).integers(0, reads, RANDOM_READS).tolist()


def _rate(work: Callable[[], int]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    bases = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"per_wall_s": RANDOM_READS / wall, "per_cpu_s": RANDOM_READS / cpu, "bases": bases}


def random_reads(folder: Path, reads: int) -> dict[str, float]:
    index, positions = _index(folder), _positions(reads)
    return _rate(
        lambda: sum(
            len(sequence)
            for start in range(0, RANDOM_READS, BATCH)
            for sequence in index.sequences(positions[start : start + BATCH])
        )
    )


def random_reads_pyfastx(folder: Path, reads: int) -> dict[str, float]:
    import pyfastx

    reader = pyfastx.Fasta(str(folder / "train.fa"), index_file=str(folder / "train.fxi"))
    positions = _positions(reads)
    return _rate(lambda: sum(len(reader[position].seq) for position in positions))


CHECKED_BLOCKS = 8
_EVERY = 10


def _wrong(index: Any, numbers: list[int]) -> int:
    """Reads of some blocks that are not what was written."""
    import reads_files

    wrong = 0
    for number in numbers:
        offsets = range(0, reads_files.BLOCK, _EVERY)
        expected = reads_files.block(number)
        positions = [number * reads_files.BLOCK + offset for offset in offsets]
        found = index.sequences(positions)
        for offset, position, sequence in zip(offsets, positions, found, strict=True):
            whole = index.read(position)
            wrong += (whole.header.encode(), whole.sequence) != expected[offset]
            wrong += sequence != whole.sequence
    return wrong


def right_everywhere(folder: Path, reads: int) -> dict[str, int]:
    """Wrong reads of one index that is used by four processes or threads at the same time."""
    import reads_files

    index = _index(folder)
    index.read(0)
    last = reads // reads_files.BLOCK - 1
    numbers = sorted({last * part // (CHECKED_BLOCKS - 1) for part in range(CHECKED_BLOCKS)})
    found = {}
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(4) as pool:
            found[method] = sum(pool.starmap(_wrong, [(index, numbers)] * 4))
    with ThreadPoolExecutor(4) as threads:
        found["threads"] = sum(threads.map(_wrong, [index] * 4, [numbers] * 4))
    return {**found, "checked": 4 * len(numbers) * (reads_files.BLOCK // _EVERY)}


def first_batch(folder: Path, reads: int) -> dict[str, float]:
    """From an index that is there to the first batch of tensors; imports are not counted."""
    from metagene_train.config import RunConfig
    from metagene_train.labels import LabelMap, read_mapping
    from metagene_train.tokenizer import load_tokenizer
    from metagene_train.training.batching import BatchOrder
    from metagene_train.training.dataset import ReadDataset
    from metagene_train.training.loading import training_loader

    config = RunConfig.model_validate(
        {
            "tokenizer": {"name_or_path": os.environ["METAGENE_TOKENIZER"], "max_length": 128},
            "dataset": {"train_fasta": str(folder / "train.fa"), "mapping_tsv": str(folder / "mapping.tsv")},
            "training": {"num_workers": 0},
        }
    )
    started = time.perf_counter()
    tokenizer = load_tokenizer(config.tokenizer)
    labels = LabelMap.from_mapping(read_mapping(folder / "mapping.tsv"))
    dataset = ReadDataset(_index(folder), labels, tokenizer, config)
    order = BatchOrder(
        len(dataset), config.training.batch_size, seed=0, lengths=dataset.lengths, strands=True
    )
    batch = next(iter(training_loader(dataset, order, config, tokenizer.pad_id)))
    return {"seconds": time.perf_counter() - started, "reads": len(batch["labels"])}


def shuffled_order(folder: Path, reads: int) -> dict[str, float]:
    """The first and last thousand batches of an epoch of 558 million reads."""
    from metagene_train.training.batching import BatchOrder

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    order = BatchOrder(FULL_SCALE, 32, seed=0, strands=True)
    seen = 0
    for start in (0, len(order) - 1000):
        for _, batch in zip(range(1000), order.batches(0, start), strict=False):
            seen += len(batch)
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"added_mib": added / 1024, "seconds": time.process_time() - started, "reads": seen}


def leakage(folder: Path, reads: int) -> dict[str, int]:
    """Validation reads that are training reads, on either strand, and mates; without a scan."""
    from metagene_doctor.facts.side_watch import Hashing, SideWatch
    from metagene_doctor.facts.split.held_reads import HeldReads
    from metagene_doctor.facts.split.leakage import Comparison
    from metagene_train.reads.headers.pattern import HeaderPattern

    held = HeldReads(prefixes=True)
    SideWatch([held]).read(folder / "val.fa", HeaderPattern(), "auto")
    comparison = Comparison(held)
    watch = SideWatch([comparison], hashing=Hashing(sieve=comparison.sieve()))
    watch.read(folder / "train.fa", HeaderPattern(), "auto")
    found = comparison.result()
    return {"copies": found.same_strand + found.other_strand, "val": found.val_reads}


def every_comparison(folder: Path, reads: int) -> dict[str, int]:
    """What the doctor finds out about the reads of both sides at level standard, in its one pass."""
    from metagene_doctor.collect import Request, collect
    from metagene_doctor.facts.facts import RunFacts
    from metagene_train.config import RunConfig

    config = RunConfig.model_validate(
        {"dataset": {"train_fasta": str(folder / "train.fa"), "val_fasta": str(folder / "val.fa")}}
    )
    facts = collect(
        Request(
            RunFacts(config=config),
            index_dir=folder / INDEX_OF_SCAN,
            sections=frozenset({"train", "val", "split", "repeats", "audit"}),
        )
    )
    assert facts.train and facts.split and facts.repeats and facts.audit
    return {
        "records": facts.train.records,
        "copies": facts.split.same_strand + facts.split.other_strand,
        "sharing": facts.split.sharing_val_reads,
        "repeated": facts.repeats.repeated,
    }


JOBS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    job.__name__: job  # type: ignore[attr-defined]
    for job in (
        make,
        make_more,
        make_layouts,
        scan_and_index,
        scan_in_parallel,
        scan_only,
        scan_gzip,
        scan_wrapped,
        scan_fastq,
        biopython,
        pyfastx_loop,
        random_reads,
        random_reads_pyfastx,
        right_everywhere,
        first_batch,
        shuffled_order,
        leakage,
        every_comparison,
    )
}


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    print(json.dumps(JOBS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
