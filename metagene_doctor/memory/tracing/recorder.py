"""Recording a training step under fake tensors: no GPU, no weights, every allocation.

A fake tensor has a shape, a dtype and a storage, and no data. `record` builds the model on the meta
device, puts fake CPU tensors in place of its parameters, runs real training steps, and notes each
storage when an operation creates it and when the last reference to it goes.

The model is built outside the fake mode (moving modules inside it fails once weak references
exist), storages rather than tensors are counted (views share them), and their end is seen through
weak references.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from metagene_doctor.memory.tracing.cuda_semantics import (
    DEFAULT_CAPABILITY,
    CudaSemantics,
    attention_workspace,
    cublas_workspace,
)
from metagene_doctor.memory.tracing.recording import (
    NO_LAYER,
    REPEATED_LAYER,
    Category,
    Event,
    Operation,
    Phase,
    Recording,
)
from metagene_train.errors import ConfigError

Build = Callable[[], tuple[nn.Module, torch.optim.Optimizer]]
Step = Callable[[nn.Module, torch.optim.Optimizer], object]


def record(
    build: Build,
    step: Step,
    *,
    steps: int = 2,
    repeated_layers: str | None = None,
    keep_layers: int | None = None,
    compute_capability: tuple[int, int] | None = DEFAULT_CAPABILITY,
    evaluate: Step | None = None,
) -> Recording:
    """Run ``steps`` training steps (and then ``evaluate`` once) and record every allocation.

    ``repeated_layers`` is the dotted name of the ``nn.ModuleList`` of identical layers; events inside
    them carry the layer's index, and with ``keep_layers`` the list is cut to that many.
    ``compute_capability`` None records what a CPU would do instead of a CUDA card. Raises
    ConfigError when the name is not a ModuleList, or when the step looks at values, which fake
    tensors do not have.
    """
    with torch.device("meta"):
        module, optimizer = build()
    layers = None if repeated_layers is None else _layer_list(module, repeated_layers)
    if layers is not None and keep_layers is not None:
        del layers[keep_layers:]
    fake = FakeTensorMode()
    semantics: AbstractContextManager[object] = nullcontext()
    recorder = Recorder(cublas_workspace=0)
    if compute_capability is not None:
        semantics = CudaSemantics(compute_capability).everywhere()
        recorder = Recorder(cublas_workspace(compute_capability))
    with fake, _without_garbage_collection():
        with recorder:
            _materialise(module, optimizer)
        recorder.parameters(module, layers)
        if compute_capability is not None:
            _follow_cuda_defaults(optimizer)
        try:
            with _hooks(module, layers, optimizer, recorder), semantics, recorder:
                for number in range(1, steps + 1):
                    recorder.start(number)
                    step(module, optimizer)
                    recorder.optimizer_state(optimizer)
                if evaluate is not None:
                    recorder.start(steps, Phase.EVALUATION)
                    evaluate(module, optimizer)
                recorder.start(steps, Phase.SAVE)
        except torch._subclasses.fake_tensor.DataDependentOutputException as error:
            raise ConfigError(
                [
                    f"the step looks at a value ({error.func}), and a dry run has only shapes: "
                    "leave out .item(), printing of losses and branches on tensors"
                ]
            ) from error
    recorder.close()
    return recorder.recording


def count_layers(build: Build, repeated_layers: str) -> int:
    """How many layers the model has under that name. Raises ConfigError when it names no ModuleList."""
    with torch.device("meta"):
        module, _ = build()
    return len(_layer_list(module, repeated_layers))


class Recorder(TorchDispatchMode):
    """Notes storages as operations create them and as they are released."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch wraps each dispatch of a mode against being compiled; nothing here is compiled."""
        return False

    def __init__(self, cublas_workspace: int) -> None:
        super().__init__()
        self._cublas_workspace = cublas_workspace
        self._cublas_handles: set[bool] = set()
        self.recording = Recording()
        self.phase = Phase.LOAD
        self.step = 0
        self.layer = NO_LAYER
        self.leaving = False
        """The layer's forward pass is over: it ends with the next operation, because the caller
        releases the layer's input (its last reference) only after the layer has returned."""
        self.updating = False
        """Inside ``optimizer.step()``."""
        self._numbers: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._made_with_grad: list[bool] = []
        self._closed = False

    def start(self, step: int, phase: Phase = Phase.FORWARD) -> None:
        self.step, self.phase, self.layer = step, phase, NO_LAYER
        if phase is Phase.FORWARD:
            self.recording.operations.clear()

    def close(self) -> None:
        """Storages that die with the fake model afterwards are no part of the recording."""
        self._closed = True

    def parameters(self, module: nn.Module, layers: nn.ModuleList | None) -> None:
        """Say what the storages of parameters are, and which repeated layer they belong to."""
        for parameter in module.parameters():
            number = self._number(parameter)
            if parameter.requires_grad:
                self.recording.categories[number] = Category.ADAPTERS
                parameter.register_post_accumulate_grad_hook(self._gradient)
            else:
                self.recording.categories[number] = Category.WEIGHTS
        for buffer in module.buffers():
            self.recording.categories[self._number(buffer)] = Category.WEIGHTS
        for index, layer in enumerate(layers or ()):
            for tensor in (*layer.parameters(), *layer.buffers()):
                self.recording.layers[self._number(tensor)] = index

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Say which storages are optimizer state, and of which layer."""
        for parameter, state in optimizer.state.items():
            for tensor in state.values():
                if isinstance(tensor, Tensor):
                    number = self._number(tensor)
                    self.recording.categories[number] = Category.OPTIMIZER
                    self.recording.layers[number] = self.recording.layers[self._number(parameter)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            # A question, not an operation, and the most frequent one: answered as FakeTensorMode would.
            tensor = args[0]
            return _META if tensor.fake_mode.in_kernel_invocation else tensor.fake_device
        if self.leaving:
            self.layer, self.leaving = NO_LAYER, False
        if torch._C._current_graph_task_id() != -1:
            self.phase = Phase.BACKWARD
        elif self.phase is Phase.BACKWARD:
            self.phase, self.layer = Phase.OPTIMIZER, NO_LAYER
        in_backward = self.phase is Phase.BACKWARD
        if self.updating:
            self._follow_update(args)
        needs_handle = self._cublas_workspace and func in _MATRIX_PRODUCTS
        if needs_handle and in_backward not in self._cublas_handles:
            # One workspace per thread, kept for good; the backward pass runs on a thread of its own.
            self._cublas_handles.add(in_backward)
            self._allocate(self._cublas_workspace, NO_LAYER)
        workspace = [self._allocate(size) for size in attention_workspace(func, args)]
        result = func(*args, **(kwargs or {}))
        for number in workspace:
            self._free(number)
        if isinstance(result, Tensor):
            new = self._see(result, self._layer_of(args))
            if new is not None and args and isinstance(args[0], tuple | list):
                self._spans_layers(new, args[0])
        elif isinstance(result, tuple | list):
            sources = args[0] if args and isinstance(args[0], tuple | list) else ()
            for index, item in enumerate(result):
                if isinstance(item, Tensor):
                    source = sources[index : index + 1] if len(sources) == len(result) else args
                    self._see(item, self._layer_of(source))
        if self.phase is not Phase.EVALUATION:
            self._count(func, args, result)
        return result

    def _follow_update(self, args: Any) -> None:
        """An optimizer that updates one parameter after another is, like the passes, in one layer at a
        time; one that updates lists is in none."""
        first = next((item for item in args if isinstance(item, Tensor | list | tuple)), None)
        if first is not None:
            self.layer = NO_LAYER
            self.layer = self._layer_of(args) if isinstance(first, Tensor) else NO_LAYER

    def _layer_of(self, args: Any) -> int:
        """In the optimizer a result belongs to the layer of the tensor it is computed from."""
        if self.layer != NO_LAYER or self.phase is not Phase.OPTIMIZER:
            return self.layer
        for item in args:
            if isinstance(item, Tensor):
                number = self._numbers.get(item.untyped_storage()._cdata)
                return NO_LAYER if number is None else self.recording.layers[number]
        return NO_LAYER

    def _spans_layers(self, number: int, parts: Any) -> None:
        """A tensor put together from parts of every layer grows with each layer."""
        layers = [self._layer_of((part,)) for part in parts]
        if self.layer == NO_LAYER and (repeated := layers.count(REPEATED_LAYER)):
            self.recording.growth[number] = self.recording.sizes[number] * repeated // len(layers)

    def _see(self, tensor: Tensor, layer: int) -> int | None:
        """Note the storage of a result; its number when it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._numbers:
            return None
        size = storage.nbytes()
        if size == 0:
            return None
        number = self._allocate(size, layer)
        self._numbers[key] = number

        def released(_: object) -> None:
            del self._numbers[key], self._references[key]
            self._free(number)

        self._references[key] = weakref.ref(storage, released)
        return number

    def _allocate(self, size: int, layer: int | None = None) -> int:
        recording = self.recording
        number = len(recording.sizes)
        recording.sizes.append(size)
        recording.categories.append(Category.TEMPORARIES)
        recording.layers.append(self.layer if layer is None else layer)
        recording.events.append(Event(number, self.phase, self.step, self.layer))
        self._made_with_grad.append(torch.is_grad_enabled())
        return number

    def _free(self, number: int) -> None:
        if self._closed:
            return
        recording = self.recording
        # What the graph holds goes with it, after the backward pass, in no layer.
        after = self.phase is Phase.BACKWARD and torch._C._current_graph_task_id() == -1
        layer = NO_LAYER if after else self.layer
        recording.events.append(Event(~number, self.phase, self.step, layer))
        # Made by the forward pass (or its recomputation), which runs with gradients on, and
        # released by the backward pass, which runs without: it was saved for backward.
        saved = self._made_with_grad[number] and self.phase is Phase.BACKWARD and not torch.is_grad_enabled()
        if saved and recording.categories[number] is Category.TEMPORARIES:
            recording.categories[number] = Category.ACTIVATIONS

    def _number(self, tensor: Tensor) -> int:
        return self._numbers[tensor.untyped_storage()._cdata]

    def _gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.recording.categories[self._number(parameter.grad)] = Category.GRADIENTS

    def _count(self, func: Any, args: Any, result: Any) -> None:
        creates_state = self.updating and func is torch.ops.aten.zeros_like.default
        if creates_state or _launches_nothing(func):
            return
        if self.phase is Phase.OPTIMIZER:
            # One launch works on the parameters of all layers; each layer has its share.
            shares: dict[int, list[int]] = {}
            for tensor in (*_tensors(args), *_tensors((result,))):
                shares.setdefault(self._layer_of((tensor,)), []).append(tensor.numel() * tensor.itemsize)
            for layer, share in shares.items():
                self.recording.operations[Operation(self.phase, layer, 0, tuple(share))] += 1
            return
        counter = flop_registry.get(func._overloadpacket)
        flops = 0 if counter is None else int(counter(*_with_equal_heads(func, args), out_val=result))
        tensors = tuple(
            tensor.numel() * tensor.itemsize
            for tensor in (*_tensors(args), *_tensors((result,)))
            if tensor.numel()
        )
        drawn = next(_tensors((result,))).numel() if func in _RANDOM else 0
        self.recording.operations[Operation(self.phase, self.layer, flops, tensors, drawn)] += 1


_META = torch.device("meta")
_MATRIX_PRODUCTS = frozenset(
    {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}
)
_RANDOM = frozenset({torch.ops.aten.native_dropout.default, torch.ops.aten.bernoulli_.float})
_WITHOUT_KERNEL = frozenset(
    f"aten::{name}"
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "lift_fresh", "detach", "_unsafe_view")
)
_SILENT: dict[Any, bool] = {}


def _with_equal_heads(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of an attention kernel with as many heads of keys and values as of queries.

    A grouped-query kernel does the work of all heads; torch 2.6 refuses to count it otherwise.
    """
    name = func._schema.name
    if not name.startswith("aten::_scaled_dot_product_"):
        return args
    at = name.endswith("_backward")  # the gradient comes first there
    query, key, value = args[at : at + 3]
    heads = query.shape[1]
    if key.shape[1] == heads:
        return args
    repeated = (tensor[:, :1].expand(-1, heads, -1, -1) for tensor in (key, value))
    return (*args[:at], query, *repeated, *args[at + 3 :])


def _launches_nothing(func: Any) -> bool:
    """An operation that only allocates, or only looks at its input in another way."""
    known = _SILENT.get(func)
    if known is None:
        returns = func._schema.returns
        alias = returns[0].alias_info if returns else None
        is_view = alias is not None and not alias.is_write
        known = _SILENT[func] = is_view or func._schema.name in _WITHOUT_KERNEL
    return known


def _tensors(group: Any) -> Iterator[Tensor]:
    for item in group:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, tuple | list):
            yield from _tensors(item)


def _layer_list(module: nn.Module, name: str) -> nn.ModuleList:
    try:
        found = module.get_submodule(name)
    except AttributeError:
        found = None
    if not isinstance(found, nn.ModuleList):
        lists = [path for path, child in module.named_modules() if isinstance(child, nn.ModuleList)]
        raise ConfigError([f"repeated_layers: {name!r} is no ModuleList of the model; it has {lists}"])
    return found


def _materialise(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a fake CPU tensor in place of every meta tensor of the model and of the optimizer."""
    new: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in new:
            # Allocated through the active modes: this is the event of loading the tensor.
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            new[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        return new[id(tensor)]

    for child in module.modules():
        named: Any
        for named in (child._parameters, child._buffers, child.__dict__):
            for name, tensor in list(named.items()):
                if isinstance(tensor, Tensor) and tensor.is_meta:
                    named[name] = fake(tensor)
    for group in optimizer.param_groups:
        # Parameters of layers that were cut off are no longer in the model.
        group["params"] = [new[id(parameter)] for parameter in group["params"] if id(parameter) in new]


def _follow_cuda_defaults(optimizer: torch.optim.Optimizer) -> None:
    """On CUDA torch.optim takes the for-each implementation unless told otherwise; on a CPU it does not."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True


@contextmanager
def _hooks(
    module: nn.Module,
    layers: nn.ModuleList | None,
    optimizer: torch.optim.Optimizer,
    recorder: Recorder,
) -> Iterator[None]:
    """Tell the recorder which phase and which repeated layer is running, forwards and backwards."""

    def model_starts(*_: Any) -> None:
        if recorder.phase is not Phase.EVALUATION:
            recorder.phase = Phase.FORWARD

    def update_starts(*_: Any) -> None:
        recorder.phase, recorder.layer, recorder.updating = Phase.OPTIMIZER, NO_LAYER, True

    def update_ends(*_: Any) -> None:
        recorder.layer, recorder.updating = NO_LAYER, False

    def enter(index: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            recorder.layer, recorder.leaving = index, False

        return hook

    def leave(index: int) -> Callable[..., None]:
        def backward_starts(*_: Any) -> None:
            recorder.layer = index

        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            recorder.leaving = True
            first = next(_tensors((output,)), None)
            if first is not None and first.grad_fn is not None:
                first.grad_fn.register_prehook(backward_starts)

        return hook

    handles: list[Any] = [
        module.register_forward_pre_hook(model_starts),
        optimizer.register_step_pre_hook(update_starts),
        optimizer.register_step_post_hook(update_ends),
    ]
    for index, layer in enumerate(layers or ()):
        handles += [
            layer.register_forward_pre_hook(enter(index)),
            layer.register_forward_hook(leave(index)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """The cyclic collector would free at arbitrary moments; what waits for it is held in a real run too."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
