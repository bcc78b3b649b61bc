"""What a pass over a reads file costs, on files made up for the purpose.

    python benchmarks/reads.py [--reads 1000000] [--directory DIR]

Each job runs in a process of its own, on files that have just been written (a warm page cache). CPU
seconds are user and system time of the job without start-up and imports; memory is the peak of the
whole process (Linux only). pyfastx only hands out records: it counts and checks nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

READ_LENGTH = 150
CLASSES = 500
RANDOM_READS = 100_000


def make_files(directory: Path, reads: int) -> dict[str, Path]:
    """The same random reads as FASTA, wrapped FASTA, FASTQ and gzip."""
    names = {"fasta": "reads.fa", "wrapped": "wrapped.fa", "fastq": "reads.fq", "gzip": "reads.fa.gz"}
    paths = {kind: directory / name for kind, name in names.items()}
    source = np.random.default_rng(0)
    with (
        paths["fasta"].open("wb") as fasta,
        paths["wrapped"].open("wb") as wrapped,
        paths["fastq"].open("wb") as fastq,
        gzip.open(paths["gzip"], "wb", compresslevel=1) as packed,
    ):
        for start in range(0, reads, 20_000):
            count = min(20_000, reads - start)
            bases = np.frombuffer(b"ACGT", np.uint8)[source.integers(0, 4, (count, READ_LENGTH))]
            classes = source.integers(0, CLASSES, count)
            parts = [
                (
                    f"lbl|{label}|{10**6 + label}|{READ_LENGTH}|read{start + i:09d}/1".encode(),
                    bases[i].tobytes(),
                )
                for i, label in enumerate(classes.tolist())
            ]
            plain = b"".join(b">%s\n%s\n" % part for part in parts)
            fasta.write(plain)
            packed.write(plain)
            wrapped.writelines(b">%s\n%s\n%s\n%s\n" % (h, s[:60], s[60:120], s[120:]) for h, s in parts)
            quality = b"I" * READ_LENGTH
            fastq.writelines(b"@%s\n%s\n+\n%s\n" % (h, s, quality) for h, s in parts)
    return paths


def scan_file(path: Path, index_dir: Path | None = None) -> int:
    from metagene_train.reads.headers import HeaderPattern
    from metagene_train.reads.scan import scan

    return scan(path, header=HeaderPattern(), index_dir=index_dir).records


def index_file(path: Path) -> int:
    with tempfile.TemporaryDirectory(dir=path.parent) as index_dir:
        return scan_file(path, Path(index_dir))


def iterate(path: Path) -> int:
    from metagene_train.reads.records import iter_reads

    return sum(1 for _ in iter_reads(path))


def iterate_with_pyfastx(path: Path) -> int:
    import pyfastx

    return sum(1 for _ in pyfastx.Fastx(str(path)))


def read_at_random(path: Path) -> int:
    from metagene_train.reads.headers import HeaderPattern
    from metagene_train.reads.index import ReadIndex

    index = ReadIndex.open_or_build(path, header=HeaderPattern(), index_dir=path.parent / "index")
    chosen = np.random.default_rng(0).integers(0, len(index), RANDOM_READS)
    started = time.process_time()
    for position in chosen.tolist():
        index.read(position)
    return round(RANDOM_READS / (time.process_time() - started))


JOBS: dict[str, tuple[str, Callable[[Path], int]]] = {
    "scan, FASTA": ("fasta", scan_file),
    "scan, FASTA, writing the index": ("fasta", index_file),
    "scan, wrapped FASTA": ("wrapped", scan_file),
    "scan, FASTQ": ("fastq", scan_file),
    "scan, gzip": ("gzip", scan_file),
    "iter_reads, FASTA": ("fasta", iterate),
    "pyfastx.Fastx, FASTA": ("fasta", iterate_with_pyfastx),
}


def run_job(name: str, path: Path) -> None:
    """In a process of its own: do a job and print what it cost."""
    job = JOBS[name][1]
    if not name.startswith("pyfastx"):
        import metagene_train.reads.scan  # noqa: F401 (imports are not what is measured)
    started = time.process_time()
    records = job(path)
    cpu_s = time.process_time() - started
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text().split()
    peak_kib = int(status[status.index("VmHWM:") + 1])
    print(json.dumps({"records": records, "cpu_s": cpu_s, "peak_mib": peak_kib / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reads", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="where the files are made (default: temporary)")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(options.job[0], Path(options.job[1]))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        paths = make_files(Path(directory), options.reads)
        print(f"{options.reads:,} reads of {READ_LENGTH} bases, {CLASSES} classes\n")
        print("| job | MB on disk | CPU s | µs/read | MB/s | peak MiB |")
        print("|---|---|---|---|---|---|")
        for name, (kind, _) in JOBS.items():
            megabytes = paths[kind].stat().st_size / 1e6
            command = [sys.executable, __file__, "--job", name, str(paths[kind])]
            cost = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            if cost["records"] != options.reads:
                raise SystemExit(f"{name}: found {cost['records']:,} of {options.reads:,} reads")
            cpu_s = cost["cpu_s"]
            print(
                f"| {name} | {megabytes:.0f} | {cpu_s:.2f} | {1e6 * cpu_s / options.reads:.2f} "
                f"| {megabytes / cpu_s:.0f} | {cost['peak_mib']:.0f} |"
            )
        print(f"\nReads at random positions, FASTA: {read_at_random(paths['fasta']):,} per CPU second")


if __name__ == "__main__":
    main()
