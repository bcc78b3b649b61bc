"""bitsandbytes without a GPU: what its CUDA code allocates, with kernels that do nothing.

The CUDA backend is Python that allocates tensors and hands their addresses to a native library. Here that
very code runs on CPU tensors, and the library does nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch


def kernels(backend: str) -> dict[str, Callable]:
    """The functions that a backend of bitsandbytes registers as kernels, by operator."""
    import bitsandbytes
    from bitsandbytes import _ops, cextension

    found: dict[str, Callable] = {}

    def register(name: str, *_: object) -> Callable:
        def keep(function: Callable) -> Callable:
            found[name.removeprefix("bitsandbytes::")] = function
            return function

        return keep

    library = mock.MagicMock()
    library.cigemmlt_32.return_value = 0
    path = Path(bitsandbytes.__file__).parent / "backends" / backend / "ops.py"
    spec = importlib.util.spec_from_file_location(f"bitsandbytes.backends.{backend}.recorded", path)
    module = importlib.util.module_from_spec(spec)
    with (
        mock.patch.object(_ops, "register_kernel", register),
        mock.patch.object(cextension, "lib", library),
        mock.patch.object(torch._C, "_cuda_getCurrentRawStream", lambda index: 0, create=True),
        mock.patch.dict(sys.modules, {spec.name: module}),
    ):
        spec.loader.exec_module(module)
    if backend == "cuda":
        module.CUBLAS_Context = mock.MagicMock()
        # The kernel that does not unpack the weight is for few tokens; ask for the other one.
        module._gemm_4bit_use_custom_fn = lambda *_: False
    return found


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Operators of bitsandbytes allocate on CPU tensors what they allocate on CUDA; results mean nothing."""
    from bitsandbytes.autograd import _functions

    operators: dict[str, _Operator] = {}
    for name, kernel in (kernels("default") | kernels("cuda")).items():
        packet, _, overload = name.partition(".")
        setattr(operators.setdefault(packet, _Operator()), overload or "default", kernel)
    with ExitStack() as patches:
        for name, operator in operators.items():
            patches.enter_context(mock.patch.object(torch.ops.bitsandbytes, name, operator))
        # Zeros where there would be whatever was there before, which could look like outliers.
        patches.enter_context(mock.patch.object(torch, "empty", torch.zeros))
        patches.enter_context(mock.patch.object(torch, "empty_like", torch.zeros_like))
        # On a CPU training takes another route than on CUDA.
        patches.enter_context(mock.patch.object(_functions, "MatMul8bitFp", _functions.MatMul8bitLt))
        yield


class _Operator:
    """In place of ``torch.ops.bitsandbytes.NAME``: each overload calls a kernel directly."""

    default: Callable

    def __call__(self, *args: object, **options: object) -> object:
        return self.default(*args, **options)
