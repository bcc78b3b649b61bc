"""Commands that write a class into headers which name none, for classes that are known from elsewhere.

The headers that they write are those of the template ``lbl|class_id|||name/mate``: without blanks.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from shlex import quote

from metagene_doctor.checks.remedies import run
from metagene_doctor.facts.reads.facts import ReadsFacts
from metagene_doctor.finding import Remedy

_UNPACK = {"gzip": "gzip -cd", "bgzf": "gzip -cd", "zstd": "zstd -cd", "xz": "xz -cd", "bzip2": "bzip2 -cd"}

_ACCESSION = re.compile(r"(?![SED]RR\d)(?=[A-Z])(?:[A-Z]+_)?[A-Z]*\d{5,}(?:\.\d+)?")
"""NC_000913.3, NZ_CP012345.1, U49845.1, GCF_000005845.2; no run of the Sequence Read Archive, whose reads
are of many organisms."""
_SAME_IN_AWK = "([A-Z]+_)?[A-Z]*[0-9][0-9][0-9][0-9][0-9]+([.][0-9]+)?"


def write_classes(reads: ReadsFacts) -> Remedy:
    """Classes from a table of accessions where headers begin with several, else one for the whole file."""
    found = [_ACCESSION.match(header) for header in reads.rejected_headers]
    if all(found) and len({match[0] for match in found if match}) > 1:
        return run(
            "Give a pattern with a group (?P<class_id>...) as --header-regex. Or write the class of each "
            "accession into its reads, from a table (accession, tab, class id)",
            _command(reads, _look_up(reads), "accessions.tsv"),
        )
    return run(
        "Give a pattern with a group (?P<class_id>...) as --header-regex. Where a file is all of "
        "one class, write that into it (here 17)",
        _command(reads, _one_for_all(reads)),
    )


def _one_for_all(reads: ReadsFacts) -> str:
    lines, sign = ("/^>/", ">") if reads.kind == "fasta" else ("1~4", "@")
    edits = [f"s/^{sign}/{sign}lbl|17|||/"]
    if any(" " in header for header in reads.rejected_headers):
        edits += [r"s# ([12]):[YN]:.*#/\1#", "s/[ \\t]/_/g"]
    return f"sed -E '{lines}{{{';'.join(edits)}}}'"


def _look_up(reads: ReadsFacts) -> str:
    """Headers of accessions that the table lacks stay as they are, and the doctor counts them again. An
    accession may lack its version in the table."""
    sign = ">" if reads.kind == "fasta" else "@"
    header = "" if reads.kind == "fasta" else "FNR % 4 == 1 && "
    return (
        'awk \'NR == FNR {sub(/\\r$/, ""); class[$1] = $2; next} '
        f"{header}match($0, /^{sign}{_SAME_IN_AWK}/) {{name = substr($0, 2, RLENGTH - 1); "
        'if (!(name in class)) sub(/[.].*/, "", name); '
        f'if (name in class) {{sub(/^{sign}/, "{sign}lbl|" class[name] "|||"); '
        'if ($1 ~ "/[12]$") $0 = $1; else gsub(/[ \\t]/, "_")}} 1\''
    )


def _command(reads: ReadsFacts, edit: str, *tables: str) -> tuple[str, ...]:
    """The edit of one file into a copy, unpacked; none for reads that came through a pipe."""
    if reads.stream:
        return ()
    path, name = quote(reads.path), PurePath(reads.path).name
    words = " ".join((edit, *tables))
    if reads.compression == "none":
        return (f"{words} {path} > {quote(f'labelled-{name}')}",)
    name = name.rpartition(".")[0] or name
    source = " -" if tables else ""
    return (f"{_UNPACK[reads.compression]} {path} | {words}{source} > {quote(f'labelled-{name}')}",)
