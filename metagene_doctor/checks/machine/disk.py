"""Is there room for the encoder, the read index and the checkpoints, on disks fit for them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from shlex import quote

from metagene_doctor.checks.remedies import edit
from metagene_doctor.checks.sizes import (
    INDEX_BYTES_PER_READ,
    checkpoint_bytes,
    run_directory_bytes,
    trainable_parameters,
)
from metagene_doctor.facts.facts import Facts
from metagene_doctor.facts.machine.disk import Place
from metagene_doctor.facts.model.encoder import METAGENE_1_DOWNLOAD_BYTES
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, file_size
from metagene_train.config import METAGENE_1

disk_finding = partial(Finding, scope="host")

NETWORK_FILESYSTEMS = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}

LITTLE_TEMPORARY_SPACE = 1_000_000_000

CLASSES_WHEN_UNKNOWN = 4000
"""For sizes that grow with the head while no mapping is given: about the 3,507 of the guide's authors."""


def room_for_encoder(facts: Facts) -> Iterator[Finding]:
    """The hub cache must hold what is still to be downloaded of the encoder."""
    disk, encoder = facts.disk, facts.encoder
    assert disk and encoder
    if encoder.location is not None or encoder.name != METAGENE_1:
        return
    place = disk.place("hub cache")
    needed = METAGENE_1_DOWNLOAD_BYTES - encoder.incomplete_bytes
    if place.free_bytes < needed:
        yield disk_finding(
            id="S01",
            severity=Severity.ERROR,
            title=f"The download of {METAGENE_1} needs {file_size(needed)}, {file_size(place.free_bytes)} "
            f"are free in {place.path}",
            measured=place.free_bytes,
            threshold=needed,
            unit="bytes free",
            examples=(Example(file=place.path),),
            why="It would stop when the disk is full, and so would everything else that writes there.",
            remedy=Remedy(
                text="Put the hub's cache on a larger disk:", commands=("export HF_HOME=/path/with/room",)
            ),
        )


def network_filesystems(facts: Facts) -> Iterator[Finding]:
    """Reads are drawn at random and the index is memory-mapped: both are slow over a network, and
    tmpfs takes its space from memory."""
    disk = facts.disk
    assert disk
    for place in disk.places:
        remote = place.filesystem in NETWORK_FILESYSTEMS
        in_memory = place.filesystem in ("tmpfs", "ramfs") and place.role in (
            "index directory",
            "output directory",
        )
        if remote and place.role in ("index directory", "training reads"):
            yield disk_finding(
                id="S02",
                severity=Severity.WARN,
                title=f"The {place.role} {_lies(place)} on a network file system ({place.filesystem})",
                measured=place.filesystem,
                examples=(Example(file=place.path),),
                why="Training draws reads in random order, and each one would cross the network.",
                remedy=Remedy(
                    text="Copy them to a disk of this machine:",
                    commands=(f"cp {_training_files(facts)} /local/disk/",),
                )
                if place.role == "training reads"
                else _other_index_directory(
                    facts, "Put it on a disk of this machine", "/local/disk/metagene"
                ),
            )
        elif in_memory:
            yield disk_finding(
                id="S02",
                severity=Severity.WARN,
                title=f"The {place.role} {_lies(place)} in memory ({place.filesystem})",
                measured=place.filesystem,
                examples=(Example(file=place.path),),
                why="What is written there takes host memory, and is gone after a reboot.",
                remedy=edit(facts, "Use a directory on a disk", "training.output_dir", "/path/on/a/disk")
                if place.role == "output directory"
                else _other_index_directory(facts, "Put it on a disk", "/path/on/a/disk"),
            )


def _lies(place: Place) -> str:
    return "lie" if place.role == "training reads" else "lies"


def _other_index_directory(facts: Facts, text: str, directory: str) -> Remedy:
    """The key of the config where it has one, else the variable that every command obeys."""
    if facts.config.dataset.index_dir is not None:
        return edit(facts, text, "dataset.index_dir", directory)
    return Remedy(text=f"{text}:", commands=(f"export METAGENE_CACHE={directory}",))


def room_for_checkpoints(facts: Facts) -> Iterator[Finding]:
    """The output directory must be writable and hold the checkpoints the config keeps.

    A checkpoint is 12 bytes per trained parameter (fp32 weight and two AdamW moments); the frozen
    encoder is not saved. Counted: kept checkpoints, the best one, one being written, the model.
    """
    disk, encoder = facts.disk, facts.encoder
    assert disk and encoder
    place = disk.place("output directory")
    if not place.writable:
        yield disk_finding(
            id="S03",
            severity=Severity.ERROR,
            title=f"The output directory cannot be written: {place.checked}",
            examples=(Example(file=place.path),),
            why="Nothing of the run could be saved, so training would stop at its start.",
            remedy=edit(facts, "Choose another one", "training.output_dir", "/path/of/yours"),
        )
        return
    if encoder.architecture is None:
        return
    classes = len(facts.classes) or CLASSES_WHEN_UNKNOWN
    trainable = trainable_parameters(encoder.architecture, facts.config, classes)
    needed = run_directory_bytes(trainable, facts.config)
    enough = needed <= place.free_bytes
    keep = facts.config.training.checkpoint.keep
    yield disk_finding(
        id="S03",
        severity=Severity.PASS if enough else Severity.ERROR,
        title=f"Checkpoints need up to {file_size(needed)}, {file_size(place.free_bytes)} are free",
        measured=place.free_bytes,
        threshold=needed,
        unit="bytes free",
        examples=(Example(file=place.path),),
        why=f"{count(trainable, 'trained parameter')} make {file_size(checkpoint_bytes(trainable))} "
        f"a checkpoint, {keep + 2} at once." + ("" if enough else " The run would stop when it is full."),
        remedy=None
        if enough
        else edit(facts, "Write to a larger disk or keep fewer", "training.checkpoint.keep", 1)
        if keep > 1
        else edit(facts, "Write to a larger disk", "training.output_dir", "/path/with/room"),
        confidence="estimated",
    )


def temporary_space(facts: Facts) -> Iterator[Finding]:
    """The temporary directory can be written, has some room, and lets programs run.

    Libraries that compile kernels while a run starts (triton, bitsandbytes, torch extensions) put them
    there or in their own caches.
    """
    disk = facts.disk
    assert disk
    place = disk.place("temporary directory")
    use = Remedy(text="Use another one:", commands=("export TMPDIR=/path/with/room",))
    if not place.writable or place.free_bytes < LITTLE_TEMPORARY_SPACE:
        state = f"has {file_size(place.free_bytes)} free" if place.writable else "cannot be written"
        yield disk_finding(
            id="S04",
            severity=Severity.WARN,
            title=f"The temporary directory {place.checked} {state}",
            measured=place.free_bytes,
            threshold=LITTLE_TEMPORARY_SPACE,
            unit="bytes free",
            why="Downloads, and code that is compiled when a run starts, need it for a moment and would "
            "fail.",
            remedy=use,
        )
    elif place.noexec:
        yield disk_finding(
            id="S04",
            severity=Severity.INFO,
            title=f"Programs cannot be run from the temporary directory {place.checked} (noexec)",
            why="GPU code that some libraries compile there when a run starts cannot be loaded.",
            remedy=use,
        )


def fast_enough(facts: Facts) -> Iterator[Finding]:
    """The disk of the training reads gives single reads as fast as the GPU takes them (level deep).

    Measured past the page cache with 4 KiB reads at random. A file that fits the free memory is read
    from the disk in the first epoch only.
    """
    disk, speed, host = facts.disk_speed, facts.speed, facts.host
    assert disk and speed and host
    if disk.random_reads_per_s >= speed.reads_per_s:
        return
    cached = disk.file_bytes < host.memory_free_bytes / 2
    yield disk_finding(
        id="S05",
        severity=Severity.INFO if cached else Severity.WARN,
        title=f"The disk gives {disk.random_reads_per_s:,.0f} random reads per second, the GPU takes about "
        f"{speed.reads_per_s:,.0f}",
        measured=round(disk.random_reads_per_s),
        threshold=round(speed.reads_per_s),
        unit="reads per second",
        why=(
            "In the first epoch the GPU waits; then the file is in memory."
            if cached
            else f"The file ({file_size(disk.file_bytes)}) does not fit the memory, so the GPU waits in "
            "every epoch."
        ),
        remedy=None
        if cached
        else Remedy(
            text="Copy the reads to a local SSD:", commands=(f"cp {_training_files(facts)} /local/ssd/",)
        ),
        confidence="estimated",
    )


def _training_files(facts: Facts) -> str:
    """What to copy, for a command line: quoted, but for a pattern, which the shell has to expand."""
    named = facts.config.dataset.train_fasta or []
    names = [named] if isinstance(named, str) else named
    return " ".join(name if "*" in name else quote(name) for name in names)


def room_for_index(facts: Facts) -> Iterator[Finding]:
    """The index takes 20 bytes per read, and compressed reads are unpacked beside it once."""
    disk = facts.disk
    assert disk
    place = disk.place("index directory")
    if not place.writable:
        yield disk_finding(
            id="S06",
            severity=Severity.ERROR,
            title=f"The index directory cannot be written: {place.checked}",
            examples=(Example(file=place.path),),
            why="Training keeps there where each read lies, and would stop at its start.",
            remedy=_other_index_directory(facts, "Choose another one", "/path/of/yours"),
        )
        return
    needed = sum(
        reads.records * INDEX_BYTES_PER_READ + (0 if reads.compression == "none" else reads.bytes_unpacked)
        for reads in facts.reads
        if not (reads.indexed or reads.stream)
    )
    if needed > place.free_bytes:
        yield disk_finding(
            id="S06",
            severity=Severity.ERROR,
            title=f"The read index needs {file_size(needed)}, {file_size(place.free_bytes)} are free",
            measured=place.free_bytes,
            threshold=needed,
            unit="bytes free",
            examples=(Example(file=place.path),),
            why=f"It takes {INDEX_BYTES_PER_READ} bytes per read, and compressed files are unpacked beside "
            "it. Training would stop at its start.",
            remedy=_other_index_directory(facts, "Put it on a larger disk", "/path/with/room"),
        )
