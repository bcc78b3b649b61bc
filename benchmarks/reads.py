"""What reading costs, beside the tools that labs use for it; files are made up for the purpose.

    python benchmarks/reads.py --reads 5000000 --rounds 3 --growth 1000000 5000000 [--layouts]

Every job is a process of its own, on files that have just been written (a warm page cache). CPU is user
and system time of the process and its children, start-up and imports included. Figures are medians
of the rounds, ratios medians of the ratios within each round; the jobs of a round follow each other, so
that other load on the machine meets all of them. Jobs marked * are slow and run in the first round only. What
is not installed (seqkit, Biopython, pyfastx) is left out. Nothing is judged here: docs/reads.md says what
figures were met.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measured import Cost, cost_of, typical
from reads_jobs import remove_index

JOBS = Path(__file__).with_name("reads_jobs.py")
FULL_SCALE = 558_000_000


@dataclass(frozen=True)
class Job:
    """A command to be measured: one of `reads_jobs`, or an outside tool's."""

    title: str
    needs: str | None = None
    """A program or module that has to be there."""
    job: str | None = None
    command: tuple[str, ...] = ()
    slow: bool = False

    @property
    def missing(self) -> bool:
        if self.needs is None:
            return False
        return shutil.which(self.needs) is None and importlib.util.find_spec(self.needs) is None

    def line(self, folder: Path, reads: int) -> list[str]:
        if self.job:
            return [sys.executable, str(JOBS), self.job, str(folder), str(reads)]
        return [part.format(folder=folder) for part in self.command]


def seqkit(title: str, *arguments: str) -> Job:
    return Job(title, "seqkit", command=("seqkit", *arguments))


STATS, STATS_ALL = "seqkit stats", "seqkit stats -a"
STATS_GZIP = "seqkit stats, gzip"
SCAN = "scan and index"
PARALLEL = "scan, on all processors"
SCAN_GZIP = "scan, gzip"
BIOPYTHON, PYFASTX = "Biopython SeqIO, same job", "pyfastx.Fastx, same job"
LEAKAGE, COMMON = "leakage, a tenth as many validation reads", "seqkit common -s"
EVERY_COMPARISON = "doctor: scan, index and every comparison, on all processors"
FROM_INDEX, FROM_PYFASTX = "100,000 reads at random, batches of 256", "100,000 reads at random, pyfastx fa[i]"

SCANS = (
    seqkit(STATS, "stats", "{folder}/train.fa"),
    seqkit(STATS_ALL, "stats", "-a", "{folder}/train.fa"),
    Job(SCAN, job="scan_and_index"),
    Job("scan", job="scan_only"),
    Job(PARALLEL, job="scan_in_parallel"),
    seqkit(STATS_GZIP, "stats", "{folder}/train.fa.gz"),
    Job(SCAN_GZIP, job="scan_gzip"),
    Job(PYFASTX, "pyfastx", job="pyfastx_loop", slow=True),
    Job(BIOPYTHON, "Bio", job="biopython", slow=True),
)
LAYOUTS = (
    Job("scan, wrapped", job="scan_wrapped"),
    Job("scan, FASTQ", job="scan_fastq"),
)
ACCESS = (
    Job(FROM_INDEX, job="random_reads"),
    Job(FROM_PYFASTX, "pyfastx", job="random_reads_pyfastx"),
)
LEAKS = (
    Job(LEAKAGE, job="leakage"),
    Job(EVERY_COMPARISON, job="every_comparison"),
    seqkit(COMMON, "common", "-s", "{folder}/train.fa", "{folder}/val.fa", "-o", "{folder}/common.fa"),
)

RATIOS = (
    (SCAN, STATS, "cpu_s"),
    (SCAN_GZIP, STATS_GZIP, "cpu_s"),
    (BIOPYTHON, SCAN, "cpu_s"),
    (PYFASTX, SCAN, "cpu_s"),
    (COMMON, LEAKAGE, "cpu_s"),
    (PARALLEL, STATS_ALL, "wall_s"),
)


class Bench:
    """Measures jobs on the files of one folder and prints what it found."""

    def __init__(self, folder: Path, reads: int, rounds: int):
        self._folder = folder
        self._reads = reads
        self._rounds = rounds
        self.costs: dict[str, list[Cost]] = {}

    def once(self, job: str) -> Cost:
        return cost_of(Job(job, job=job).line(self._folder, self._reads))

    def measure(self, jobs: tuple[Job, ...]) -> None:
        """Every job in turn, as many times as there are rounds."""
        for job in jobs:
            if job.missing:
                print(f"{job.title}: left out, {job.needs} is not installed")
        present = [job for job in jobs if not job.missing]
        for number in range(self._rounds):
            for job in present:
                if not job.slow or not number:
                    cost = cost_of(job.line(self._folder, self._reads))
                    remove_index(self._folder)
                    self._check(job, cost)
                    self.costs.setdefault(job.title, []).append(cost)

    def _check(self, job: Job, cost: Cost) -> None:
        if isinstance(cost.answer, dict) and cost.answer.get("records", self._reads) != self._reads:
            raise SystemExit(f"{job.title}: {cost.answer['records']:,} of {self._reads:,} reads")

    def table(self, jobs: tuple[Job, ...]) -> None:
        print("\n| job | CPU s | wall s | µs CPU a read | peak MiB |\n|---|---|---|---|---|")
        for job in jobs:
            if job.title in self.costs:
                cost = typical(self.costs[job.title])
                print(
                    f"| {job.title}{'*' * job.slow} | {cost.cpu_s:.2f} | {cost.wall_s:.2f} "
                    f"| {1e6 * cost.cpu_s / self._reads:.2f} | {cost.peak_mib:.0f} |"
                )

    def ratios(self) -> None:
        print("\n| ratio | of | |\n|---|---|---|")
        for above, below, what in RATIOS:
            if above in self.costs and below in self.costs:
                pairs = zip(self.costs[above], self.costs[below], strict=False)
                ratio = median(getattr(one, what) / getattr(other, what) for one, other in pairs)
                print(f"| {above} : {below} | {'CPU' if what == 'cpu_s' else 'wall'} | {ratio:.2f} |")

    def rates(self) -> None:
        rates = {title: self.costs[title] for title in (FROM_INDEX, FROM_PYFASTX) if title in self.costs}
        print("\n| reads at random | a second | a CPU second |\n|---|---|---|")
        for title, costs in rates.items():
            wall, cpu = (median(cost.answer[key] for cost in costs) for key in ("per_wall_s", "per_cpu_s"))
            print(f"| {title} | {wall:,.0f} | {cpu:,.0f} |")
        if len(rates) == 2:
            pairs = zip(*rates.values(), strict=True)
            ratio = median(one.answer["per_wall_s"] / other.answer["per_wall_s"] for one, other in pairs)
            print(f"| ratio | {ratio:.1f} | |")


def growth(folder: Path, sizes: list[int], rounds: int) -> None:
    """Cost of the scan and its index at several sizes, and a straight line through the last two."""
    print("\n| reads | CPU s | peak MiB | index MB |\n|---|---|---|---|")
    rows = []
    for reads in sizes:
        bench = Bench(folder, reads, rounds)
        bench.once("make")
        bench.measure((Job(SCAN, job="scan_and_index"),))
        cost = typical(bench.costs[SCAN])
        rows.append((reads, cost.cpu_s, cost.peak_mib, cost.answer["index_bytes"] / 1e6))
        print("| {:,} | {:.2f} | {:.0f} | {:,.0f} |".format(*rows[-1]))
    if len(rows) > 1:
        (some, *before), (more, *after) = rows[-2:]
        cpu_s, _, index_mb = (
            last + (last - first) / (more - some) * (FULL_SCALE - more)
            for first, last in zip(before, after, strict=True)
        )
        print(f"| {FULL_SCALE:,} (extrapolated) | {cpu_s:,.0f} | | {index_mb:,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reads", type=int, default=1_000_000, help="training reads (default 1,000,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", type=int, nargs="*", default=[], help="sizes at which growth is measured")
    parser.add_argument("--layouts", action="store_true", help="also wrapped FASTA, and FASTQ")
    parser.add_argument("--directory", type=Path, help="where the files are made (default: temporary)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        folder = Path(name)
        os.environ.setdefault("METAGENE_CACHE", str(folder / "cache"))
        bench = Bench(folder, options.reads, options.rounds)
        size = bench.once("make").answer["bytes"]
        bench.once("make_more")
        print(
            f"{options.reads:,} reads, {size / 1e6:,.0f} MB, {options.rounds} rounds, {os.cpu_count()} cores"
        )
        if options.layouts:
            bench.once("make_layouts")
            bench.measure(LAYOUTS)
        bench.measure(SCANS)
        bench.measure(LEAKS)
        bench.once("random_reads")  # builds the index; the readers of pyfastx do so at first use
        if not ACCESS[1].missing:
            bench.once("random_reads_pyfastx")
        bench.measure(ACCESS)
        bench.table((*SCANS, *LAYOUTS, *LEAKS))
        bench.ratios()
        bench.rates()
        right = bench.once("right_everywhere").answer
        print("\nWrong reads of {checked:,}: fork {fork}, spawn {spawn}, threads {threads}".format(**right))
        order = bench.once("shuffled_order").answer
        print(
            f"Shuffled order of {FULL_SCALE:,} reads: {order['added_mib']:.1f} MiB more than before, "
            f"{order['reads']:,} reads in {order['seconds']:.2f} s"
        )
        if os.environ.get("METAGENE_TOKENIZER"):
            first = [bench.once("first_batch").answer["seconds"] for _ in range(options.rounds)]
            print(f"First training batch, index there, after imports: {median(first):.2f} s")
        else:
            print("First training batch: left out, METAGENE_TOKENIZER does not name a tokenizer")
        growth(folder, options.growth, min(options.rounds, 3))


if __name__ == "__main__":
    main()
