"""Encoders in 8 and 4 bits and the 8-bit optimizer: what is refused, and, with bitsandbytes, the real thing.

bitsandbytes runs on a CPU as well. What it would allocate on CUDA is seen by running the Python code of its
CUDA backend on CPU tensors (`bitsandbytes_fixtures.as_on_cuda`).
"""

from __future__ import annotations

import configparser
import functools
import gc
import importlib.metadata
import weakref
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from bitsandbytes_fixtures import as_on_cuda
from run_fixtures import assert_same_weights, metrics, stop_after
from train_fixtures import change, random_batch, tiny_config, write_encoder

from metagene_doctor.memory import Workload
from metagene_doctor.memory.measured import probe
from metagene_doctor.memory.tracing import rehearsal
from metagene_doctor.memory.tracing.quantized import CODE_VALUES
from metagene_doctor.memory.tracing.recorder import Recorder, record
from metagene_doctor.memory.tracing.recording import Category, Phase
from metagene_train.errors import ConfigError
from metagene_train.lean import LeanMLP
from metagene_train.model import build_model, encoder_architecture, load_model
from metagene_train.precision import autocast
from metagene_train.quant_extra import OLDEST, is_too_old
from metagene_train.quantized import prepare
from metagene_train.training.step import build_optimizer, evaluation_step, training_step
from metagene_train.training.trainer import train

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (the extra quant)"
)
kinds = pytest.mark.parametrize("kind", ["nf4", "int8"])


@pytest.fixture
def config(tmp_path):
    """Layers large enough for whole blocks of scales, without dropout."""
    config = tiny_config(tmp_path, training__precision="bf16-mixed", model__dropout=0.0)
    write_encoder(tmp_path / "encoder", hidden_size=256, intermediate_size=704)
    return change(config, model__lora__dropout=0.0)


# What is refused


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (None, "needs bitsandbytes: pip install 'bitsandbytes>=0"),
        ("0.45.5", "newer bitsandbytes than 0.45.5"),
    ],
)
@pytest.mark.parametrize(
    ("key", "value", "without"),
    [
        ("model.quantization", "int8", "none"),
        ("model.quantization", "nf4", "none"),
        ("optimizer.name", "adamw_8bit", "adamw"),
    ],
)
def test_a_missing_or_old_package_says_what_to_do(
    config, monkeypatch, installed, message, key, value, without
):
    plain = build_model(config, 3)

    def version(package):
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed

    monkeypatch.setattr("metagene_train.quant_extra.version", version)
    config = change(config, **{key.replace(".", "__"): value})
    with pytest.raises(ConfigError) as caught:
        build_optimizer(plain, config) if key.startswith("optimizer") else build_model(config, 3)
    assert f"{key}: {value} needs" in str(caught.value)
    assert message in str(caught.value)
    assert f"or set it to {without}" in str(caught.value)


def test_the_oldest_version_is_what_transformers_asks_for():
    from transformers.utils import BITSANDBYTES_MIN_VERSION

    assert OLDEST == BITSANDBYTES_MIN_VERSION
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    assert setup["options.extras_require"]["quant"].split() == [f"bitsandbytes>={OLDEST}"]
    assert [is_too_old(found) for found in ("0.45.5", "0.46.0", "0.46.1", "0.50.2", "1.0")] == [
        *(True, True),
        *(False, False, False),
    ]


@needs_bitsandbytes
@kinds
def test_weights_that_cannot_be_packed_say_why(config, monkeypatch, kind):
    """As without a library for the CUDA of this machine; transformers itself only points at its log."""

    def missing_library(*_, **__):
        raise RuntimeError("Configured CUDA binary not found at libbitsandbytes_cuda999.so\nmore help")

    name = "quantize_4bit" if kind == "nf4" else "int8_vectorwise_quant"
    monkeypatch.setattr(f"bitsandbytes.functional.{name}", missing_library)
    with pytest.raises(
        ConfigError, match=rf"cannot pack the encoder in {kind} on cpu .*cuda999\.so\)"
    ) as caught:
        build_model(change(config, model__quantization=kind), 3)
    assert "more help" not in str(caught.value)


@needs_bitsandbytes
@kinds
def test_running_out_of_memory_while_packing_is_running_out_of_memory(config, monkeypatch, kind):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 86.00 MiB.")

    name = "quantize_4bit" if kind == "nf4" else "int8_vectorwise_quant"
    monkeypatch.setattr(f"bitsandbytes.functional.{name}", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 86\.00 MiB"):
        build_model(change(config, model__quantization=kind), 3)


# The real thing


@needs_bitsandbytes
@kinds
def test_every_projection_is_packed_and_nothing_else(config, kind):
    model = build_model(change(config, model__quantization=kind), 3)
    packed = {name for name, p in model.named_parameters() if p.dtype in (torch.uint8, torch.int8)}
    projections = {
        name for name, p in model.named_parameters() if "proj" in name and "lora" not in name and p.ndim == 2
    }
    assert packed == projections
    assert len(packed) == 2 * 7
    dtypes = {name: p.dtype for name, p in model.named_parameters() if name not in packed}
    assert {dtype for name, dtype in dtypes.items() if "lora" in name or "head" in name} == {torch.float32}
    frozen = {dtype for name, dtype in dtypes.items() if "lora" not in name and "head" not in name}
    assert frozen == {torch.bfloat16}


@needs_bitsandbytes
@pytest.mark.parametrize(("kind", "error"), [("nf4", 0.3), ("int8", 0.05)])
def test_packed_weights_give_about_the_hidden_states_of_whole_ones(config, kind, error):
    batch = random_batch(40, 33, 12)
    whole, packed = (build_model(change(config, model__quantization=how), 3).eval() for how in ("none", kind))
    with torch.no_grad(), autocast(config, "cpu"):
        expected = whole.encoder(input_ids=batch["input_ids"]).last_hidden_state.float()
        found = packed.encoder(input_ids=batch["input_ids"]).last_hidden_state.float()
    assert (found - expected).norm() < error * expected.norm()


def gradients(model, batch):
    model.zero_grad()
    model(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@needs_bitsandbytes
@kinds
def test_an_evaluation_leaves_the_gradients_as_they_were(config, kind):
    """On processors with AVX512-BF16 bitsandbytes would pack the weights into a form without gradients."""
    model, batch = build_model(change(config, model__quantization=kind), 3), random_batch(40, 33, 12)
    model.train()
    before = gradients(model, batch)
    evaluation_step(model, batch)
    model.train()
    after = gradients(model, batch)
    assert before.keys() == after.keys()
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=0, atol=0)
        assert "lora_B" not in name or gradient.abs().sum() > 0


@needs_bitsandbytes
@pytest.mark.parametrize("cuda_route", [True, False])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_inputs_of_8_bit_products_are_released_and_change_no_gradient(
    config, monkeypatch, cuda_route, checkpointing
):
    """bitsandbytes keeps them out of reach of checkpointing."""
    from bitsandbytes.autograd import _functions

    if cuda_route:
        monkeypatch.setattr(_functions, "MatMul8bitFp", _functions.MatMul8bitLt)
    config = change(config, model__quantization="int8", model__gradient_checkpointing=checkpointing)
    batch = random_batch(40, 33, 12)

    def run(prepared):
        with monkeypatch.context() as patch:
            if not prepared:
                patch.setattr("metagene_train.encoder.prepare", lambda encoder: None)
            torch.manual_seed(0)
            model = build_model(config, 3).train()
        inputs = []
        for module in model.modules():
            if type(module).__name__ == "Linear8bitLt" and not hasattr(module, "lora_A"):
                module.register_forward_pre_hook(
                    lambda _, args: inputs.append(weakref.ref(args[0].untyped_storage()))
                )
        loss = model(**batch).loss
        gc.collect()
        held = sum(reference() is not None for reference in inputs)
        loss.backward()
        return held, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    (kept, expected), (released, found) = run(prepared=False), run(prepared=True)
    assert kept == 14
    # Without checkpointing adapters and the MLP's activation keep theirs; with it only layer inputs stay.
    assert released == 0 if checkpointing else released < kept
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0)


@needs_bitsandbytes
@pytest.mark.usefixtures("allocator_setting_kept")
@kinds
def test_a_quantised_run_is_resumed_and_its_model_loads(config, tmp_path, monkeypatch, kind):
    """With the 8-bit optimizer, rank 16 so that its state is in 8 bits."""
    config = change(
        config,
        model__quantization=kind,
        optimizer__name="adamw_8bit",
        model__lora__r=16,
        training__max_steps=6,
    )
    whole = change(config, training__output_dir=str(tmp_path / "whole"))
    train(whole, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert train(config, quiet=True).status == "interrupted"
    assert train(config, resume=True, quiet=True).status == "finished"
    losses = [[line["loss"] for line in metrics(tmp_path / run, "train")] for run in ("run", "whole")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0]
    assert_same_weights(tmp_path / "run" / "model", tmp_path / "whole" / "model")
    state = next((tmp_path / "run" / "checkpoints").glob("checkpoint-*/optimizer.pt"))
    saved = torch.load(state, weights_only=True)
    assert sum(tensor.dtype is torch.uint8 for tensor in _tensors(saved)) > 8

    loaded = load_model(tmp_path / "run" / "model")
    assert any(p.dtype in (torch.uint8, torch.int8) for p in loaded.model.parameters())


def _tensors(tree):
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)


# The dry run against it

LENGTH = 40


def sizes(recording, wanted):
    """Bytes allocated (positive) and released (negative), in order, in the wanted events."""
    return [
        recording.sizes[event.storage] if event.storage >= 0 else -recording.sizes[~event.storage]
        for event in recording.events
        if wanted(event)
    ]


def real_allocations(config, step):
    """What bitsandbytes' own code allocates in a step as it would on CUDA."""
    model = build_model(config, 3)
    optimizer = build_optimizer(model, config)
    recorder = Recorder(cublas_workspace=0)
    with recorder:
        for thing in gc.get_objects():
            # Seen beforehand, so that a view of it is nothing new.
            if issubclass(type(thing), torch.Tensor):
                thing.detach()
    recorder.start(1)
    gc.disable()  # what earlier tests left behind is not released by this step
    try:
        with as_on_cuda(), recorder:
            step(model, optimizer)
    finally:
        gc.enable()
    recorder.close()
    return sizes(recorder.recording, lambda event: event.step == 1)


def foreseen(config, step):
    workload = Workload.from_config(config, num_labels=3, length=LENGTH)
    return record(
        functools.partial(rehearsal.build, workload, encoder_architecture(workload.encoder_path)),
        step,
        steps=1,
        compute_capability=None,
    )


def peak(allocations):
    live = highest = 0
    for size in allocations:
        live += size
        highest = max(highest, live)
    return highest


@needs_bitsandbytes
@kinds
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__gradient_checkpointing": True},
        {"model__lora__target_modules": "all-linear", "training__grad_accum_steps": 2},
        {"training__precision": "fp16-mixed", "model__lora__target_modules": ["q_proj", "v_proj"]},
        {"training__precision": "bf16-true"},
        {"training__precision": "32"},
        {"model__lora__r": 16, "optimizer__name": "adamw_8bit"},
        {"model__lora__enabled": False},
    ],
    ids=["mixed", "checkpointing", "all-linear", "fp16", "bf16", "fp32", "adamw_8bit", "linear probe"],
)
def test_a_step_allocates_what_the_dry_run_foresees(config, kind, changes):
    """Every allocation and release of a training step, in order."""
    pytest.importorskip("bitsandbytes", minversion="0.50", reason="modelled after bitsandbytes 0.50")
    config = change(config, model__quantization=kind, training__batch_size=3, **changes)
    batches = [rehearsal.batch(3, LENGTH) for _ in range(config.training.grad_accum_steps)]

    def step(model, optimizer):
        training_step(model, optimizer, batches, config)

    real = real_allocations(config, step)
    recording = foreseen(config, functools.partial(rehearsal.train, _workload(config)))
    found = sizes(recording, lambda event: event.step == 1 and event.phase <= Phase.OPTIMIZER)
    # Made in the step by the dry run; bools that say whether there are outliers; tables that are on the
    # device from the start when that is the CPU.
    aside = {3 * LENGTH * 8, 3 * 8, 1, CODE_VALUES * 4}
    real, found = ([size for size in part if abs(size) not in aside] for part in (real, found))
    assert len(real) > 100
    assert found == real
    assert peak(found) == peak(real)


def _workload(config):
    return Workload.from_config(config, num_labels=3, length=LENGTH)


@needs_bitsandbytes
@kinds
def test_an_evaluation_allocates_what_the_dry_run_foresees(config, kind):
    pytest.importorskip("bitsandbytes", minversion="0.50", reason="modelled after bitsandbytes 0.50")
    config = change(config, model__quantization=kind, training__batch_size=3)
    batch = rehearsal.batch(3, LENGTH)
    real = real_allocations(config, lambda model, _: evaluation_step(model, batch))
    recording = foreseen(config, lambda model, _: rehearsal.evaluate(_workload(config), model, None))
    found = sizes(recording, lambda event: event.step == 1)
    aside = {3 * LENGTH * 8, 3 * 8, 1}
    real, found = ([size for size in part if abs(size) not in aside] for part in (real, found))
    assert len(real) > 100
    assert found == real


@needs_bitsandbytes
@kinds
def test_packed_weights_have_the_sizes_that_the_dry_run_foresees(config, kind):
    config = change(config, model__quantization=kind)
    model = build_model(config, 3)
    held = [*model.buffers(), *(p for p in model.parameters() if not p.requires_grad)]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            held += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
        elif getattr(parameter, "SCB", None) is not None:
            held.append(parameter.SCB)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    recording = foreseen(config, functools.partial(rehearsal.train, _workload(config)))
    weights = [
        size
        for size, category in zip(recording.sizes, recording.categories, strict=True)
        if category is Category.WEIGHTS
    ]
    assert Counter(weights) == Counter(storages.values())


@needs_bitsandbytes
@kinds
def test_what_is_measured_without_weights_has_the_sizes_of_what_is_loaded(config, kind):
    config = change(config, model__quantization=kind, training__batch_size=2)
    loaded = build_model(config, 3)
    steps = []
    job = probe.Job(config.model_dump(mode="json"), num_labels=3, length=12)
    assert _described(probe._model(config, 3, "cpu")) == _described(loaded)
    assert probe.train_and_evaluate(config, job, "cpu", steps.append) > 0
    assert steps[-1] == "evaluation"


def _described(model):
    """Type, dtype and size of each parameter and of what is held for it."""
    found = {}
    for name, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        scales = [] if state is None else [state.absmax.shape, state.state2.absmax.shape, state.dtype]
        rows = getattr(parameter, "SCB", None)
        scales += [] if rows is None else [rows.shape]
        found[name] = (type(parameter), parameter.dtype, parameter.shape, parameter.requires_grad, scales)
    return found


@needs_bitsandbytes
def test_the_8_bit_state_has_the_sizes_that_the_dry_run_foresees(config):
    config = change(config, optimizer__name="adamw_8bit", model__lora__r=16)
    model = build_model(config, 3)
    optimizer = build_optimizer(model, config)
    training_step(model, optimizer, [random_batch(LENGTH, LENGTH)], config)
    held = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
    recording = foreseen(config, functools.partial(rehearsal.train, _workload(config)))
    state = [
        size
        for size, category in zip(recording.sizes, recording.categories, strict=True)
        if category is Category.OPTIMIZER
    ]
    # The two tables are shared by all parameters, and no state of one.
    assert Counter(state) + Counter([CODE_VALUES * 4] * 2) == Counter(storages.values())


@needs_bitsandbytes
def test_hooks_of_accelerate_do_not_keep_modules_from_being_lean(config, monkeypatch):
    """Older bitsandbytes has accelerate put a hook on every module of an 8-bit model."""

    def hooked_first(encoder):
        for module in encoder.modules():
            add_hook_to_module(module, AlignDevicesHook(execution_device="cpu"))
        prepare(encoder)

    config, batch = change(config, model__quantization="int8"), random_batch(40, 33, 12)
    torch.manual_seed(0)
    expected = gradients(build_model(config, 3).train(), batch)
    monkeypatch.setattr("metagene_train.encoder.prepare", hooked_first)
    torch.manual_seed(0)
    model = build_model(config, 3).train()
    assert not any("forward" in vars(module) for module in model.modules())
    assert any(isinstance(module, LeanMLP) for module in model.modules())
    for name, gradient in gradients(model, batch).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=0)


@needs_bitsandbytes
def test_preparing_an_encoder_that_is_not_packed_changes_nothing(config):
    model = build_model(config, 3)
    before = [len(module._forward_hooks) for module in model.modules()]
    prepare(model.encoder)
    assert before == [len(module._forward_hooks) for module in model.modules()]
