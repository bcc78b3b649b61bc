"""What is installed and how the environment steers it, learned without importing torch here.

Versions come from package metadata and the CUDA version of the torch build from its version file,
so that a missing, broken or crashing torch is a fact and not the end of the doctor.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from metagene_doctor.finding import Frozen

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "pyfastx",
    "bitsandbytes",
    "flash-attn",
    "nvidia-ml-py",
)
"""Distributions whose versions a report should quote, whether or not they are required."""

IMPORTED_TOGETHER = ("numpy", "torch", "tokenizers", "safetensors", "transformers", "accelerate", "peft")
"""Modules a training run imports, in that order; the deep level imports each in a process of its own."""

WATCHED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_INJECTION32_PATH",
    "CUDA_INJECTION64_PATH",
    "CUDA_AUTO_BOOST",
    "CUDA_ENABLE_COREDUMP_ON_EXCEPTION",
    "CUDA_COREDUMP_FILE",
    "CUDA_DEVICE_WAITS_ON_EXCEPTION",
    "CUDA_PROFILE",
    "COMPUTE_PROFILE",
    "OPENCL_PROFILE",
    "NSIGHT_CUDA_DEBUGGER",
    "NCCL_P2P_DISABLE",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "TORCH_USE_CUDA_DSA",
    "TOKENIZERS_PARALLELISM",
    "OMP_NUM_THREADS",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)
"""Variables that change how a run behaves; none of them can hold a secret."""

PROBE_TIMEOUT_S = 120.0

_PROBE = """
import json, torch
facts = {"arch_list": torch._C._cuda_getArchFlags().split() if torch.version.cuda else [],
         "available": torch.cuda.is_available(), "devices": []}
if facts["available"]:
    for i in range(torch.cuda.device_count()):
        facts["devices"].append([torch.cuda.get_device_name(i), list(torch.cuda.get_device_capability(i))])
print(json.dumps(facts))
"""


class TorchProbe(Frozen):
    """What torch itself reports, asked in a process of its own."""

    arch_list: tuple[str, ...] = ()
    """Kernels in the build: ``sm_80`` machine code, ``compute_90`` portable code."""
    available: bool = False
    devices: tuple[tuple[str, tuple[int, int]], ...] = ()
    """(name, compute capability) of each device torch can use."""
    error: str | None = None
    """Why torch could not be asked: it does not import, crashed, or did not answer in time."""


_COMPUTE = """
import json, torch
torch.manual_seed(0)
first, second = torch.randn(1024, 1024), torch.randn(1024, 1024)
native = torch.cuda.is_bf16_supported(including_emulation=False)
dtype = torch.bfloat16 if native else torch.float16
def gradient(device, compute):
    left = first.to(dtype).to(device, compute).requires_grad_()
    product = left @ second.to(dtype).to(device, compute)
    product.float().square().mean().backward()
    return left.grad.float().cpu()
expected = gradient("cpu", torch.float32)
error = (gradient("cuda", dtype) - expected).norm() / expected.norm()
print(json.dumps({"relative_error": error.item()}))
"""


class ComputeProbe(Frozen):
    """A product of two 1024 x 1024 matrices and its gradient, on the GPU in 16 bits and on the CPU."""

    relative_error: float | None = None
    """Norm of the difference over the norm of the CPU's gradient; 0.002 is rounding to bf16 (measured)."""
    error: str | None = None
    """Why there is no result."""


_QUANTIZED = """
import json, sys, torch, bitsandbytes
torch.manual_seed(0)
kind, device = sys.argv[1:]
if kind == "nf4":
    settings = {"quant_type": "nf4", "compute_dtype": torch.float16}
    layer = bitsandbytes.nn.Linear4bit(256, 256, bias=False, **settings)
else:
    layer = bitsandbytes.nn.Linear8bitLt(256, 256, bias=False, has_fp16_weights=False, threshold=6.0)
weight = layer.weight.detach().float().clone()
reads = torch.randn(600, 256).half()
layer = layer.to(device)
packed = reads.to(device).requires_grad_()
output = layer(packed)
output.float().sum().backward()
def error(found, expected):
    return ((found.float().cpu() - expected).norm() / expected.norm()).item()
errors = error(output, reads.float() @ weight.t()), error(packed.grad, weight.sum(0).expand(600, 256))
print(json.dumps({"relative_error": max(errors)}))
"""


class QuantizedProbe(Frozen):
    """A product of a small quantised layer of bitsandbytes, and its gradient, on the GPU, tried in a
    process of its own."""

    relative_error: float | None = None
    """Norm of the difference to the layer in fp32 over the norm of that, the larger of both. Rounding the
    weights makes it 0.08 in nf4 and 0.01 in int8 (measured)."""
    error: str | None = None
    """Why there is no result."""


class ImportResult(Frozen):
    module: str
    error: str | None = None


class EnvironmentFacts(Frozen):
    python: str
    platform: str
    packages: dict[str, str]
    """Distribution -> version, for those of ``PACKAGES`` that are installed."""
    torch_cuda: str | None = None
    """CUDA version torch was built for; None for a CPU build or no torch."""
    torch_hip: str | None = None
    variables: dict[str, str]
    probe: TorchProbe | None = None
    compute: ComputeProbe | None = None
    """None when the GPU was not tried."""
    quantized: QuantizedProbe | None = None
    """None when it was not tried."""
    imports: tuple[ImportResult, ...] | None = None
    """Result of importing each of ``IMPORTED_TOGETHER``; None when that was not tried."""


def collect(
    *,
    ask_torch: bool = False,
    compute: bool = False,
    try_imports: bool = False,
    quantization: str | None = None,
) -> EnvironmentFacts:
    """Facts about this Python environment; the options start processes, which takes seconds.

    ``quantization`` (``nf4`` or ``int8``) is tried on the GPU.
    """
    build = torch_build()
    return EnvironmentFacts(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=installed_versions(),
        torch_cuda=build.get("cuda"),
        torch_hip=build.get("hip"),
        variables={name: os.environ[name] for name in WATCHED_VARIABLES if name in os.environ},
        probe=probe_torch() if ask_torch and importlib.util.find_spec("torch") else None,
        compute=try_compute() if compute and importlib.util.find_spec("torch") else None,
        quantized=try_quantized(quantization) if quantization else None,
        imports=tuple(try_import(module) for module in IMPORTED_TOGETHER) if try_imports else None,
    )


def installed_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def torch_build() -> dict[str, str]:
    """``cuda`` and ``hip`` of the installed torch, read from ``torch/version.py`` without running it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    version_file = Path(spec.origin).with_name("version.py")
    if not version_file.is_file():
        return {}
    return dict(re.findall(r"^(cuda|hip)\b[^=\n]*=\s*['\"]([^'\"]+)", version_file.read_text(), re.MULTILINE))


def probe_torch(timeout_s: float = PROBE_TIMEOUT_S) -> TorchProbe:
    """Ask torch in a process of its own: a segmentation fault or a hang becomes ``error``."""
    output, error = _run(_PROBE, timeout_s)
    if error:
        return TorchProbe(error=error)
    return TorchProbe.model_validate(json.loads(output.splitlines()[-1]))


def try_compute(timeout_s: float = PROBE_TIMEOUT_S) -> ComputeProbe:
    """Let the GPU compute something whose result is known; a hang or a crash becomes ``error``."""
    output, error = _run(_COMPUTE, timeout_s)
    if error:
        return ComputeProbe(error=error)
    return ComputeProbe.model_validate(json.loads(output.splitlines()[-1]))


def try_quantized(kind: str, timeout_s: float = PROBE_TIMEOUT_S, *, device: str = "cuda") -> QuantizedProbe:
    """Let bitsandbytes compute one layer: its native library may be missing for this CUDA."""
    output, error = _run(_QUANTIZED, timeout_s, kind, device)
    if error:
        return QuantizedProbe(error=error)
    return QuantizedProbe.model_validate(json.loads(output.splitlines()[-1]))


def try_import(module: str, timeout_s: float = PROBE_TIMEOUT_S) -> ImportResult:
    _, error = _run(f"import {module}", timeout_s)
    return ImportResult(module=module, error=error)


def _what_it_said(errors: str) -> str:
    """The first line of the last exception, which may go on with advice; without one the last line."""
    raised = re.findall(r"^([\w.]+(?:Error|Exception)):\s*(\S.*)", errors, re.MULTILINE)
    if raised:
        return f"{raised[-1][0]}: {raised[-1][1]}"
    return (errors.strip().splitlines() or [""])[-1]


def _run(code: str, timeout_s: float, *arguments: str) -> tuple[str, str | None]:
    """Output of ``python -c code`` and, when it failed, what it said or how it died."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {timeout_s:.0f} s"
    if done.returncode < 0:
        return "", f"killed by signal {-done.returncode}"
    if done.returncode:
        return "", _what_it_said(done.stderr) or f"exit status {done.returncode}"
    return done.stdout, None
