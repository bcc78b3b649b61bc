"""Workloads of this project: METAGENE-1 at full depth, formulas against direct traces."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from memory_fixtures import run_config

from metagene_doctor.memory import Workload, profile_many, trace
from metagene_doctor.memory.profiling import recorded_sizes
from metagene_doctor.memory.sizes import formulas, prime_dimensions
from metagene_doctor.memory.tracing import depth, rehearsal, template_store, templates
from metagene_doctor.memory.tracing.recorder import record
from metagene_train.model import encoder_architecture

GB = 1e9 / 2**30
WEIGHTS_GIB = 6_480_465_920 * 2 / 2**30


def workload(length=128, labels=50, **changes) -> Workload:
    defaults = {
        "training__batch_size": 1,
        "model__lora__r": 4,
        "model__lora__target_modules": ["q_proj", "v_proj"],
        "model__gradient_checkpointing": True,
    }
    config = run_config(**{**defaults, **changes})
    return Workload.from_config(config, num_labels=labels, length=length)


@pytest.mark.parametrize(("length", "gb"), [(128, 13.06), (256, 13.12), (512, 13.26)])
def test_metagene_1_with_checkpointing_stays_near_its_weights(length, gb):
    """The guide says 13, 16 and 22 GB."""
    profile = trace(workload(length))
    assert profile.live_gib == pytest.approx(gb * GB, rel=0.003)
    assert profile.breakdown["weights"] == pytest.approx(WEIGHTS_GIB, rel=1e-6)
    assert profile.phase == "backward"


@pytest.mark.parametrize(("rank", "gb"), [(2, 13.04), (8, 13.08), (16, 13.13), (64, 13.53)])
def test_rank_is_nearly_free(rank, gb):
    """The guide says 11, 16 and 22 GB for 2, 8 and 16; 11 is below the bare weights."""
    assert trace(replace(workload(), rank=rank)).live_gib == pytest.approx(gb * GB, rel=0.003)


def test_large_batches_without_checkpointing_do_not_fit_where_the_guide_says():
    big = replace(workload(512), micro_batch=64, evaluation_batch=64, checkpointing=False)
    profile = trace(big, gpu="a100-80gb")
    assert profile.fits is False
    assert profile.live_gib > 100


def direct(work: Workload):
    """Storage sizes of the workload itself, traced without formulas."""
    layers = 6
    architecture = encoder_architecture(work.encoder_path)
    recording = record(
        functools.partial(rehearsal.build, replace(work, encoder_layers=4), architecture),
        functools.partial(rehearsal.train, work),
        evaluate=functools.partial(rehearsal.evaluate, work),
        repeated_layers=rehearsal.layers_name(work),
    )
    stream = depth.deepen(recording, layers)
    return stream, recorded_sizes(recording, stream, layers)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": 1, "length": 36, "checkpointing": True},
        {"micro_batch": 5, "length": 65, "rank": 3, "targets": "all-linear", "evaluation_batch": 9},
        {"micro_batch": 2, "length": 40, "precision": "32", "accumulates": True, "pooling": "cls"},
        {"micro_batch": 3, "length": 48, "quantization": "nf4", "optimizer": "adamw_8bit"},
        {"micro_batch": 3, "length": 48, "quantization": "int8", "smooths_labels": True},
    ],
    ids=["checkpointing", "all-linear", "fp32", "nf4", "int8"],
)
def test_formulas_give_every_size_of_a_direct_trace(changes):
    work = replace(workload(), encoder_layers=6, checkpointing=False)
    work = replace(work, **changes)
    stream, sizes = direct(work)
    template = templates.template_of(work.structure(), (8, 0))
    assert template.stream.events == stream.events
    np.testing.assert_array_equal(template.storage_sizes(work.dimensions), sizes)


def test_sizes_are_read_off_prime_dimensions():
    at = prime_dimensions([4096, 11008, 1024, 32])
    padded = -(-at.tokens // 128) * 128
    numbers = [at.micro_batch * at.tokens * 4096 * 2, 11008 * at.rank * 4, padded * at.micro_batch, 512, 0]
    other = at._replace(micro_batch=3, tokens=130, rank=8)
    assert formulas(numbers, at).at(other).tolist() == [3 * 130 * 4096 * 2, 11008 * 8 * 4, 256 * 3, 512, 0]


def test_quantised_weights_have_their_packed_size():
    nf4, int8 = trace(workload(model__quantization="nf4")), trace(workload(model__quantization="int8"))
    # 4 bits, and a scale of 8 bits per 64 weights; embeddings and norms stay in 16 bits.
    assert nf4.breakdown["weights"] == pytest.approx(WEIGHTS_GIB / 4 * (1 + 8 / 64 / 4), rel=0.01)
    assert int8.breakdown["weights"] == pytest.approx(WEIGHTS_GIB / 2, rel=0.01)
    # Each product unpacks one layer's weight.
    assert nf4.breakdown["temporaries"] > 11008 * 4096 * 2 / 2**30


def test_quantisation_makes_room_on_a_12_gb_card():
    assert trace(workload(), gpu="rtx3060").fits is False
    assert trace(workload(model__quantization="nf4"), gpu="rtx3060").fits


def test_fewer_layers_take_their_share_of_the_weights():
    half = trace(workload(model__encoder_layers=16))
    assert half.breakdown["weights"] == pytest.approx(WEIGHTS_GIB / 2, rel=0.001)


def test_evaluation_has_its_own_batch_and_can_set_the_peak():
    profile = trace(workload(training__eval_batch_size=512))
    assert profile.phase == "evaluation"


def test_many_workloads_give_what_single_ones_give_in_order():
    many = [replace(workload(), micro_batch=b, length=n) for b in (1, 4) for n in (64, 128)]
    assert profile_many(many, gpu="rtx4090", processes=2) == [trace(w, gpu="rtx4090") for w in many]


def test_many_workloads_in_several_processes_give_what_one_process_gives():
    """Enough for the sums to be shared out, of structures that are not known yet."""
    many = [
        replace(workload(), micro_batch=batch, length=length, checkpointing=checkpointing)
        for checkpointing in (False, True)
        for batch in range(1, 7)
        for length in (48, 64)
    ]
    templates.forget()
    shared = profile_many(many, gpu="rtx4090", processes=2)
    templates.forget()
    assert shared == profile_many(many, gpu="rtx4090", processes=1)


def test_data_parallelism_holds_gradient_buckets_and_nccl_buffers():
    alone, together = (trace(workload(), gpu="rtx4090", devices=devices) for devices in (1, 2))
    buckets = alone.breakdown["adapters"]
    assert together.live_gib == pytest.approx(alone.live_gib + buckets)
    assert together.breakdown["gradients"] == pytest.approx(alone.breakdown["gradients"] + buckets)
    assert sum(together.breakdown.values()) == pytest.approx(together.live_gib)
    nccl = next(term for term in together.terms if "NCCL" in term.name)
    assert together.device_gib == pytest.approx(alone.device_gib + buckets + nccl.gib)
    assert together.margin_gib == pytest.approx(alone.margin_gib + nccl.high - nccl.gib)
    assert together.usable_gib == alone.usable_gib
    assert profile_many([workload()], gpu="rtx4090", devices=2) == [together]


def test_a_structure_is_traced_once_on_a_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path))
    work = workload(model__encoder_layers=5)
    templates.forget()
    traced = templates.template_of(work.structure(), (8, 0))
    templates.forget()
    with monkeypatch.context() as patch:
        patch.setattr(templates, "_trace", None)
        again = templates.template_of(work.structure(), (8, 0))
        with pytest.raises(TypeError):
            templates.template_of(replace(work, checkpointing=False).structure(), (8, 0))
    assert again.stream.events == traced.stream.events
    assert again.categories == traced.categories
    np.testing.assert_array_equal(again.storage_sizes(work.dimensions), traced.storage_sizes(work.dimensions))
    np.testing.assert_array_equal(again.flops.at(work.dimensions), traced.flops.at(work.dimensions))

    (stored,) = (tmp_path / "traces").glob("*.npz")
    stored.write_bytes(stored.read_bytes()[:1000])
    templates.forget()
    assert templates.template_of(work.structure(), (8, 0)).stream.events == traced.stream.events
    assert template_store.load(work.structure(), (8, 0)) is not None


def test_stored_traces_of_another_encoder_or_code_are_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("METAGENE_CACHE", str(tmp_path))
    work = workload(model__encoder_layers=5)
    templates.forget()
    templates.template_of(work.structure(), (8, 0))
    assert template_store.load(work.structure(), (9, 0)) is None
    assert templates.template_of(work.structure(), (8, 9)) is templates.template_of(work.structure(), (8, 0))
    monkeypatch.setattr(template_store, "version", lambda package: "0.0")
    template_store._code.cache_clear()
    assert template_store.load(work.structure(), (8, 0)) is None
    template_store._code.cache_clear()


def test_a_workload_keeps_what_decides_memory():
    config = run_config(model__lora__enabled=False, training__grad_accum_steps=4)
    probe = Workload.from_config(config, num_labels=10)
    assert (probe.targets, probe.accumulates, probe.length) == ((), True, 512)
    assert trace(probe).breakdown["adapters"] < 0.001


def test_more_structures_than_are_kept_in_memory_are_all_answered(monkeypatch):
    """A search asks for many at once, some of them known already."""
    monkeypatch.setattr(templates, "MOST_KEPT", 1)
    known, other = (replace(workload(), checkpointing=on).structure() for on in (True, False))
    first = templates.template_of(known, (8, 0))
    found = templates.templates([known, other, known], (8, 0))
    assert found[0] is found[2] is first
    assert found[1] is not first
