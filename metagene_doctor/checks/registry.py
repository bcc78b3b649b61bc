"""Every check of the doctor, in the order in which their findings are reported within a severity."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence

from metagene_doctor.checks import config, resuming
from metagene_doctor.checks.machine import disk, environment, gpu, hardware, host, packages
from metagene_doctor.checks.model import encoder, tokens
from metagene_doctor.checks.reads import access, data, integrity, labels, letters, second_reader, shortcuts
from metagene_doctor.checks.runner import Check
from metagene_doctor.checks.split import audit, leakage
from metagene_doctor.facts.facts import Section
from metagene_doctor.report.sarif import Rule
from metagene_train.errors import InputError

CHECKS = (
    Check("F01", "Files are FASTA or FASTQ", "data", integrity.file_type, ("files",)),
    Check("F02", "Compressed files are whole", "data", integrity.compression_whole, ("train",)),
    Check("F03", "BGZF files have their end block", "data", integrity.blocks_whole, ("train",)),
    Check("F04", "Compression allows random access", "data", access.seekable_compression, ("train",)),
    Check("F05", "No foreign bytes in reads files", "data", integrity.text_encoding, ("train",)),
    Check("F06", "FASTQ records are sound", "data", integrity.fastq_structure, ("train",)),
    Check("F07", "Headers match the template", "data", data.header_matches, ("train",)),
    Check("F08", "Headers differ in their first word", "data", access.first_words_differ, ("train", "audit")),
    Check("F09", "No lower-case bases", "data", letters.letter_case, ("train",)),
    Check("F10", "No U bases", "data", letters.uracil, ("train",)),
    Check("F11", "No letters besides A, C, G, T and N", "data", letters.other_letters, ("train",)),
    Check("F12", "Few N", "data", letters.unknown_bases, ("train",)),
    Check("F13", "Read lengths are as declared", "data", data.read_lengths, ("train",)),
    Check("F14", "Headers are unique", "data", data.duplicate_names, ("train",), ("shared headers",)),
    Check("F15", "Reads do not repeat", "data", data.repeated_reads, ("train", "repeats")),
    Check("F16", "Indexes beside the reads are theirs", "data", access.indexes_belong, ("files",)),
    Check("F18", "What there is", "data", data.plan, ("train",)),
    Check("F19", "A second reader agrees", "data", second_reader.readers_agree, ("train", "second reader")),
    Check("T01", "No unknown tokens", "tokenizer", tokens.unknown_tokens, ("train", "tokens")),
    Check("T02", "Reads fit max_length", "tokenizer", tokens.token_lengths, ("train", "tokens", "encoder")),
    Check("L01", "Mapping table is usable", "labels", labels.mapping_usable, ("mapping",)),
    Check(
        "L02", "Classes are in the mapping", "labels", labels.classes_known, ("train", "mapping", "classes")
    ),
    Check("L03", "Classes have reads", "labels", labels.classes_have_reads, ("train", "mapping", "classes")),
    Check("L04", "Tax ids agree", "labels", labels.tax_ids_agree, ("train", "mapping", "classes")),
    Check("L05", "Class ids are contiguous", "labels", labels.ids_contiguous, ("mapping", "classes")),
    Check("L06", "Classes are balanced", "labels", labels.balance, ("train",)),
    Check("L07", "Classes are in random order", "labels", labels.order, ("train",)),
    Check(
        "L08",
        "Nothing but the sequence tells the class",
        "labels",
        shortcuts.no_shortcuts,
        ("train", "audit"),
    ),
    Check(
        "L09", "No sequence has two classes", "labels", labels.classes_distinguishable, ("train", "repeats")
    ),
    Check(
        "V01",
        "Training and validation are two files",
        "split",
        leakage.separate_files,
        ("train", "val", "split"),
    ),
    Check("V02", "No copies across the split", "split", leakage.copies, ("train", "val", "split")),
    Check("V03", "Mates are on the same side", "split", leakage.pairs_together, ("train", "val", "split")),
    Check(
        "V04", "Reads do not overlap across the split", "split", leakage.overlaps, ("train", "val", "split")
    ),
    Check(
        "V05",
        "Genomes are on one side of the split",
        "split",
        audit.groups_apart,
        ("train", "val", "split", "audit"),
    ),
    Check("V06", "Validation classes are trained", "split", leakage.classes_trained, ("train", "val")),
    Check(
        "V07",
        "Training classes are validated",
        "split",
        leakage.classes_validated,
        ("train", "val"),
        ("split",),
    ),
    Check(
        "V08",
        "Validation reads are like training reads",
        "split",
        audit.no_drift,
        ("train", "val", "split", "audit"),
    ),
    Check("V09", "Evaluations are cheap", "split", audit.evaluation_share, ("config file", "train", "val")),
    Check("C01", "Config is valid", "config", config.config_read),
    Check("C02", "Run fits the GPU", "config", config.fits_gpu, ("target", "memory")),
    Check("C03", "Schedule fits the data", "config", config.schedule, ("config file", "train")),
    Check(
        "C04",
        "Output directory is usable",
        "config",
        resuming.output_directory_usable,
        ("config file", "previous run"),
    ),
    Check("C07", "Training time", "config", config.training_time, ("train", "target", "speed")),
    Check("C05", "Validation can judge the run", "config", config.held_out, ("train",)),
    Check("M01", "Encoder is here", "model", encoder.encoder_present, ("encoder", "environment")),
    Check("M02", "Download was finished", "model", encoder.download_finished, ("encoder",)),
    Check("M03", "Weight files are complete", "model", encoder.weights_complete, ("encoder", "weights")),
    Check("M04", "Weights have a fitting precision", "model", encoder.stored_precision, ("encoder",)),
    Check(
        "M05", "Tokenizer belongs to the encoder", "tokenizer", tokens.tokenizer_fits, ("tokens", "encoder")
    ),
    Check("M06", "Padding token is usable", "tokenizer", tokens.padding_usable, ("tokens", "encoder")),
    Check("M07", "LoRA has its targets", "model", encoder.adapters_placed, ("encoder",)),
    Check("M08", "Encoder is pinned", "model", encoder.revision_pinned, ("encoder",)),
    Check(
        "E01", "torch fits this machine", "environment", environment.torch_sees_gpu, ("environment", "gpu")
    ),
    Check(
        "E02",
        "Driver supports torch's CUDA",
        "environment",
        environment.driver_supports_build,
        ("environment", "gpu", "devices"),
    ),
    Check("E03", "Driver answers", "environment", environment.driver_answers, ("gpu",)),
    Check(
        "E04",
        "torch has kernels for the GPU",
        "environment",
        environment.kernels_for_gpu,
        ("environment", "probe"),
    ),
    Check("E05", "GPU has bf16", "environment", environment.precision_supported, ("target",)),
    Check("E06", "Packages import", "environment", packages.packages_import, ("environment",)),
    Check(
        "E07",
        "Quantisation works",
        "environment",
        packages.quantization_works,
        ("environment", "quantized"),
    ),
    Check("E08", "GPU computes", "environment", environment.gpu_computes, ("environment", "compute")),
    Check("E09", "GPU is visible", "environment", environment.gpu_visible, ("environment", "gpu", "devices")),
    Check("E10", "No variables in the way", "environment", environment.debugging_left_on, ("environment",)),
    Check(
        "E11",
        "GPU memory is free",
        "environment",
        gpu.enough_free_memory,
        ("gpu", "devices", "target", "memory"),
    ),
    Check("E12", "GPU is not shared", "environment", gpu.other_processes, ("gpu", "devices")),
    Check("E13", "No desktop on the GPU", "environment", hardware.no_desktop, ("gpu", "devices")),
    Check("E14", "GPU memory is healthy", "environment", gpu.memory_faults, ("gpu", "devices")),
    Check(
        "E15",
        "No GPU errors in the kernel log",
        "environment",
        hardware.no_kernel_errors,
        ("gpu", "devices", "kernel log"),
    ),
    Check("E16", "GPU holds its clock", "environment", hardware.clock_held, ("gpu", "devices", "gpu load")),
    Check("E17", "GPU has its full power", "environment", gpu.power_capped, ("gpu", "devices")),
    Check("E18", "GPU has all its lanes", "environment", hardware.full_width, ("gpu", "devices")),
    Check("E19", "GPU is whole and open", "environment", gpu.sharing_mode, ("gpu", "devices")),
    Check("E20", "GPUs are alike", "environment", hardware.equal_gpus, ("gpu", "devices")),
    Check("H01", "No limit below the memory of the machine", "host", host.memory_ceiling, ("host",)),
    Check("H02", "Host memory suffices", "host", host.host_memory, ("host",)),
    Check("H03", "Shared memory suffices", "host", host.shared_memory, ("host",)),
    Check("H04", "Machine does not swap", "host", host.swapping, ("host",)),
    Check("H05", "Enough open files", "host", host.open_files, ("host",)),
    Check("H06", "Workers have processors", "host", host.workers_fit, ("host",)),
    Check("H07", "Job has time for the run", "host", host.time_left, ("host", "train", "speed")),
    Check("H08", "Threads are set well", "host", host.thread_settings, ("environment", "host")),
    Check("S01", "Hub cache has room", "host", disk.room_for_encoder, ("disk", "encoder")),
    Check("S02", "Disks are local", "host", disk.network_filesystems, ("disk",)),
    Check("S03", "Output directory has room", "host", disk.room_for_checkpoints, ("disk", "encoder")),
    Check("S04", "Temporary directory is usable", "host", disk.temporary_space, ("disk",)),
    Check("S05", "Disk is fast enough", "host", disk.fast_enough, ("speed", "host", "disk speed")),
    Check("S06", "Index directory has room", "host", disk.room_for_index, ("disk",)),
)


ALWAYS: frozenset[Section] = frozenset(
    {"environment", "gpu", "host", "disk", "encoder", "train", "val", "mapping"}
)
"""Quick to collect, or named by the user, who then expects them to be read."""


def select(only: Sequence[str] = (), skip: Sequence[str] = ()) -> tuple[Check, ...]:
    """Checks by id or by scope (``data``, ``labels``, ...); without ``only`` all but the skipped.

    Raises InputError for a name that is neither.
    """
    for name in (*only, *skip):
        _known(name)
    return tuple(check for check in CHECKS if (not only or _named(check, only)) and not _named(check, skip))


def sections(checks: Sequence[Check]) -> frozenset[Section]:
    """What these checks need to know, and what that is made from."""
    needed = {section for check in checks for section in (*check.needs, *check.also)}
    if needed & {"memory", "speed"}:
        needed |= {"tokens", "train", "classes"}
    return frozenset(needed | ALWAYS)


def explain(check_id: str) -> str:
    """Title and reasoning of one check. Raises InputError for an unknown id."""
    _known(check_id, scopes=False)
    check = next(check for check in CHECKS if check.id == check_id.upper())
    return f"{check.id}  {check.title}  ({check.scope})\n\n{inspect.getdoc(check.judge)}"


def rules(checks: Sequence[Check] = CHECKS) -> tuple[Rule, ...]:
    """The checks as a report describes them."""
    return tuple(Rule(check.id, check.title, inspect.getdoc(check.judge) or "") for check in checks)


def names() -> list[str]:
    """What `select` takes: scopes, then ids."""
    return [*dict.fromkeys(check.scope for check in CHECKS), *(check.id for check in CHECKS)]


def _named(check: Check, names: Sequence[str]) -> bool:
    return check.id in {name.upper() for name in names} or check.scope in {name.lower() for name in names}


def _known(name: str, scopes: bool = True) -> None:
    ids = [check.id for check in CHECKS]
    names = ids + (sorted({check.scope for check in CHECKS}) if scopes else [])
    if name.upper() not in ids and name.lower() not in names:
        near = difflib.get_close_matches(name.upper(), ids, n=3, cutoff=0.5)
        hint = f": did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"no check {name!r}{hint} (metagene doctor --list-checks shows all)")
