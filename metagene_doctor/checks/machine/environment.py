"""Is the software able to use the GPU: torch build, driver, kernels, precision, variables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite

from metagene_doctor.checks.remedies import edit
from metagene_doctor.facts.facts import Facts
from metagene_doctor.finding import Example, Finding, Remedy, Severity
from metagene_doctor.report.quantities import count, verb
from metagene_train import allocator

environment_finding = partial(Finding, scope="environment")

DRIVER_FAULTS = {
    "driver not loaded": ("The NVIDIA kernel driver is not loaded", "Load it:", "sudo modprobe nvidia"),
    "version mismatch": (
        "The NVIDIA library and the loaded kernel driver have different versions",
        "The driver was updated and not loaded since; start the machine again:",
        "sudo reboot",
    ),
    "gpu lost": (
        "The driver has lost a GPU (it no longer answers on its slot)",
        "Start the machine again; if that happens once more, the card or its power supply is faulty:",
        "sudo reboot",
    ),
    "no permission": (
        "This user may not talk to the NVIDIA driver",
        "Have yourself added to the group that may, which this shows:",
        "ls -l /dev/nvidia*",
    ),
    "failed": ("The NVIDIA driver does not answer", "See what the driver's own tool says:", "nvidia-smi"),
}
"""NVML state -> what it means, what to do, and the command that does it or shows how."""

DEBUGGING_VARIABLES = {
    "CUDA_LAUNCH_BLOCKING": "makes every kernel launch wait",
    "CUDA_INJECTION32_PATH": "loads a profiler into every process",
    "CUDA_INJECTION64_PATH": "loads a profiler into every process",
    "CUDA_AUTO_BOOST": "overrides the clock policy",
    "CUDA_ENABLE_COREDUMP_ON_EXCEPTION": "writes GPU core dumps",
    "CUDA_COREDUMP_FILE": "writes GPU core dumps",
    "CUDA_DEVICE_WAITS_ON_EXCEPTION": "stops the GPU at an exception",
    "CUDA_PROFILE": "profiles every launch",
    "COMPUTE_PROFILE": "profiles every launch",
    "OPENCL_PROFILE": "profiles every launch",
    "NSIGHT_CUDA_DEBUGGER": "attaches a debugger",
    "NCCL_P2P_DISABLE": "sends GPU-to-GPU traffic through host memory",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "asks the driver for every tensor",
    "TORCH_USE_CUDA_DSA": "compiles assertions into kernels",
}
"""Variables of DCGM's debug-environment check and torch's own, with what each one costs."""

AGAINST_EXPANDABLE = ("max_split_size_mb", "garbage_collection_threshold")
"""Settings of the allocator that expandable segments do not go with (pytorch#134338)."""

COMPUTE_ERROR = 0.03
"""Relative error of a gradient above which a GPU computes wrongly; rounding to bf16 gives 0.002."""

HARMLESS_VALUES = {"", "0", "false", "no", "off"}


SELECTOR = "pytorch.org/get-started/locally"
"""Where PyTorch names the command that installs each of its builds."""


def torch_sees_gpu(facts: Facts) -> Iterator[Finding]:
    """Training needs torch, and on a machine with an NVIDIA GPU a torch that was built for CUDA.

    The CPU build imports and runs without complaint; it is just many times slower. The build
    is read from torch's version file, the GPU from the driver.
    """
    environment, gpu = facts.environment, facts.gpu
    assert environment and gpu
    version = environment.packages.get("torch")
    if version is None:
        yield environment_finding(
            id="E01",
            severity=Severity.ERROR,
            title="torch is not installed",
            why="Nothing can be trained or predicted; the doctor's data checks work without it.",
            remedy=Remedy(text="Install it:", commands=("pip install torch",)),
        )
    elif (
        (gpu.devices or gpu.device_nodes) and environment.torch_cuda is None and environment.torch_hip is None
    ):
        name = gpu.devices[0].name if gpu.devices else f"an NVIDIA GPU ({gpu.device_nodes[0]})"
        yield environment_finding(
            id="E01",
            severity=Severity.ERROR,
            title=f"torch {version} is a CPU-only build, but this machine has {name}",
            measured="CPU build",
            threshold="CUDA build",
            why="Training would run on the CPU, many times slower.",
            remedy=Remedy(
                text=f"Uninstall it, then install the CUDA build that {SELECTOR} names for this driver:",
                commands=("pip uninstall --yes torch",),
            ),
        )


def driver_supports_build(facts: Facts) -> Iterator[Finding]:
    """A CUDA build runs on drivers of its own major version or newer; minor versions are compatible.

    Source: CUDA compatibility guide (minor version compatibility).
    """
    environment, gpu = facts.environment, facts.gpu
    assert environment and gpu
    if environment.torch_cuda is None or gpu.cuda_driver is None:
        return
    needed = int(environment.torch_cuda.split(".")[0])
    if gpu.cuda_driver[0] < needed:
        supported = ".".join(map(str, gpu.cuda_driver))
        yield environment_finding(
            id="E02",
            severity=Severity.ERROR,
            title=f"Driver {gpu.driver_version} runs CUDA up to {supported}, torch is built for "
            f"{environment.torch_cuda}",
            measured=supported,
            threshold=environment.torch_cuda,
            unit="CUDA version",
            why="torch would see no GPU, and training would run on the CPU.",
            remedy=Remedy(
                text=f"Uninstall torch, then install the build for CUDA {gpu.cuda_driver[0]} that {SELECTOR} "
                "names (or update the driver):",
                commands=("pip uninstall --yes torch",),
            ),
        )


def driver_answers(facts: Facts) -> Iterator[Finding]:
    """The NVIDIA driver must answer when there is a GPU, and there must be one for ``device: cuda``."""
    gpu = facts.gpu
    assert gpu
    if gpu.state in DRIVER_FAULTS and (gpu.device_nodes or gpu.state != "driver not loaded"):
        meaning, what_to_do, command = DRIVER_FAULTS[gpu.state]
        yield environment_finding(
            id="E03",
            severity=Severity.ERROR,
            title=meaning,
            measured=gpu.message,
            why="No program can use the GPU, and training would run on the CPU.",
            remedy=Remedy(text=what_to_do, commands=(command,)),
        )
    elif gpu.state == "binding not installed":
        yield environment_finding(
            id="E03",
            severity=Severity.SKIP,
            title="Driver answers",
            why="nvidia-ml-py is not installed",
            remedy=Remedy(text="pip install nvidia-ml-py"),
        )
    elif not gpu.devices:
        needed = facts.config.device == "cuda"
        yield environment_finding(
            id="E03",
            severity=Severity.ERROR if needed else Severity.INFO,
            title="No NVIDIA GPU on this machine" + (", but the config says device: cuda" if needed else ""),
            measured=gpu.message or gpu.state,
            why="The run would stop at its start." if needed else "A run here would use the CPU.",
            remedy=edit(
                facts,
                "Use a machine with a GPU (the login node of a cluster has none), or train on the CPU",
                "device",
                "cpu",
            )
            if needed
            else None
            if facts.target is not None
            else Remedy(text="To judge for the card of the run, name it with --gpu NAME or --gpu-mem GB."),
        )


def kernels_for_gpu(facts: Facts) -> Iterator[Finding]:
    """The torch build must hold code for the GPU: machine code of the same major and an equal or
    older minor version, or portable code (PTX) that is not newer than the GPU.

    Exact membership is not needed: a card of capability 8.9 runs the code for 8.6.
    """
    environment = facts.environment
    assert environment
    probe = environment.probe
    assert probe
    if probe.error is not None:
        yield environment_finding(
            id="E04",
            severity=Severity.ERROR,
            title=f"torch does not work: {probe.error}",
            measured=probe.error,
            why="Nothing can be trained or predicted with it.",
            remedy=Remedy(text="Install it anew:", commands=("pip install --force-reinstall torch",)),
        )
        return
    for name, capability in probe.devices:
        if not runs_on(probe.arch_list, capability):
            yield environment_finding(
                id="E04",
                severity=Severity.ERROR,
                title=f"This build of torch has no code for {name} "
                f"(compute capability {capability[0]}.{capability[1]})",
                measured=f"sm_{capability[0]}{capability[1]}",
                threshold=", ".join(probe.arch_list),
                why="The first operation on the GPU would fail with 'no kernel image is available'.",
                remedy=Remedy(
                    text="Uninstall it, then install the build for CUDA "
                    + (
                        "12.8 or newer"
                        if capability >= (9, 0)
                        else "12.6, the last with code for such cards,"
                    )
                    + f" that {SELECTOR} names:",
                    commands=("pip uninstall --yes torch",),
                ),
            )


def runs_on(arch_list: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Whether any kernel of a build (``sm_86``, ``compute_90``, ``sm_90a``) runs on a capability."""
    for arch in arch_list:
        kind, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        version = (int(digits[:-1]), int(digits[-1]))
        if kind == "compute" and version <= capability:
            return True
        if kind == "sm" and version[0] == capability[0] and version[1] <= capability[1]:
            return True
    return False


def precision_supported(facts: Facts) -> Iterator[Finding]:
    """bf16 needs compute capability 8.0 (Ampere); older cards only emulate it, many times slower. Products
    in 8 bits need 7.5 (Turing)."""
    target, precision = facts.target, facts.config.training.precision
    assert target
    capability = target.compute_capability
    if precision.startswith("bf16") and capability is not None and capability < (8, 0):
        yield environment_finding(
            id="E05",
            severity=Severity.ERROR,
            title=f"{target.title} has no bf16 units, and training.precision is {precision}",
            measured=".".join(map(str, capability)),
            threshold="8.0",
            unit="compute capability",
            why="Training refuses that: torch would emulate bf16, far slower than fp16.",
            remedy=edit(facts, "Use fp16", "training.precision", "fp16-mixed"),
        )
    if facts.config.model.quantization == "int8" and capability is not None and capability < (7, 5):
        yield environment_finding(
            id="E05",
            severity=Severity.ERROR,
            title=f"{target.title} has no 8-bit products, and model.quantization is int8",
            measured=".".join(map(str, capability)),
            threshold="7.5",
            unit="compute capability",
            why="bitsandbytes would fail in the first step.",
            remedy=edit(facts, "Use 4 bits", "model.quantization", "nf4"),
        )


def gpu_computes(facts: Facts) -> Iterator[Finding]:
    """The GPU multiplies two matrices in 16 bits, with gradient, and agrees with the CPU (level deep).

    Tried in a process of its own with a time limit, so a card that hangs is found as well.
    """
    environment = facts.environment
    assert environment and environment.compute
    compute = environment.compute
    if compute.error is not None:
        yield environment_finding(
            id="E08",
            severity=Severity.ERROR,
            title=f"The GPU does not compute: {compute.error}",
            measured=compute.error,
            why="Two matrices could not be multiplied on it, so no run can work.",
            remedy=Remedy(text="See what the driver wrote about it:", commands=("sudo dmesg | grep NVRM",)),
        )
    elif compute.relative_error is not None and not compute.relative_error < COMPUTE_ERROR:  # or NaN
        yield environment_finding(
            id="E08",
            severity=Severity.ERROR,
            title=f"The GPU computes wrong numbers: a gradient differs from the CPU's by "
            f"{compute.relative_error:.2g}",
            measured=compute.relative_error if isfinite(compute.relative_error) else "not a number",
            threshold=COMPUTE_ERROR,
            unit="relative error",
            why="Memory or arithmetic of the card is faulty, and training on it would fail or learn "
            "nonsense.",
            remedy=Remedy(text="Do not train on it. Its error counters:", commands=("nvidia-smi -q -d ECC",)),
        )


def gpu_visible(facts: Facts) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES must name GPUs that exist: an unknown entry hides it and all that follow."""
    environment, gpu = facts.environment, facts.gpu
    assert environment and gpu
    setting = environment.variables.get("CUDA_VISIBLE_DEVICES")
    if setting is None or not gpu.devices:
        return
    if not setting.strip() or setting.strip() == "-1":
        yield environment_finding(
            id="E09",
            severity=Severity.ERROR,
            title=f"CUDA_VISIBLE_DEVICES={setting!r} hides {count(len(gpu.devices), 'GPU')} of this machine",
            measured=setting,
            why="Training would run on the CPU (or stop, with device: cuda).",
            remedy=Remedy(text="Remove the variable:", commands=("unset CUDA_VISIBLE_DEVICES",)),
        )
        return
    for entry in setting.split(","):
        known = (
            int(entry) < len(gpu.devices)
            if entry.strip().isdigit()
            else any(device.uuid.startswith(entry.strip()) for device in gpu.devices)
            or entry.strip().startswith("MIG-")
        )
        if not known:
            yield environment_finding(
                id="E09",
                severity=Severity.ERROR,
                title=f"CUDA_VISIBLE_DEVICES={setting} names {entry.strip()}, which this machine "
                f"does not have",
                measured=setting,
                threshold=f"0 to {len(gpu.devices) - 1}, or a UUID",
                why="CUDA ignores that entry and all that follow: fewer GPUs than meant, or none, would be "
                "used.",
                remedy=Remedy(text="Name GPUs of this list:", commands=("nvidia-smi -L",)),
            )
            return


def debugging_left_on(facts: Facts) -> Iterator[Finding]:
    """Variables of debuggers and profilers slow every kernel launch when they are left set, and those of
    torch's allocator replace what the config says of it."""
    environment = facts.environment
    assert environment
    yield from _allocator_settings(facts, environment.variables)
    left_on = [
        name
        for name in DEBUGGING_VARIABLES
        if environment.variables.get(name, "").strip().lower() not in HARMLESS_VALUES
    ]
    if left_on:
        yield environment_finding(
            id="E10",
            severity=Severity.WARN,
            title=f"{count(len(left_on), 'debugging variable')} {verb(len(left_on), 'is', 'are')} set: "
            + ", ".join(left_on[:3])
            + (", ..." if len(left_on) > 3 else ""),
            count=len(left_on),
            examples=tuple(Example(text=f"{name} {DEBUGGING_VARIABLES[name]}") for name in left_on),
            why="Training gets slower: "
            + "; ".join(f"{name} {DEBUGGING_VARIABLES[name]}" for name in left_on[:2])
            + ("; ..." if len(left_on) > 2 else "."),
            remedy=Remedy(
                text=f"Remove {verb(len(left_on), 'it', 'them')} for training:",
                commands=(f"unset {' '.join(left_on)}",),
            ),
        )


def _allocator_settings(facts: Facts, variables: dict[str, str]) -> Iterator[Finding]:
    """The allocator's variable: settings that work against each other, and the config's that it replaces."""
    name = next((name for name in allocator.NAMES if variables.get(name)), None)
    if name is None:
        return
    settings = {
        part.split(":", 1)[0].strip(): part.rpartition(":")[2].strip().lower()
        for part in variables[name].split(",")
    }
    expandable = settings.get("expandable_segments") == "true"
    against = [key for key in settings if key in AGAINST_EXPANDABLE]
    if expandable and against:
        yield environment_finding(
            id="E10",
            severity=Severity.WARN,
            title=f"{name} has expandable_segments and {against[0]}, which work against each other",
            measured=variables[name],
            threshold="expandable_segments:True",
            why="Near the card's limit some versions of torch stop with a failed assertion (pytorch#134338).",
            remedy=Remedy(
                text="Keep the first alone:", commands=(f"export {name}=expandable_segments:True",)
            ),
            rule="GM-4090-ALLOCATOR",
        )
    elif not expandable and facts.config.memory_optimization.expandable_segments:
        yield environment_finding(
            id="E10",
            severity=Severity.INFO,
            title=f"{name} replaces the config's memory_optimization.expandable_segments",
            measured=variables[name],
            threshold="expandable_segments:True",
            why="Memory is predicted with them; without, batches of changing length may need more.",
            remedy=Remedy(text="Leave it to the config:", commands=(f"unset {name}",)),
        )
