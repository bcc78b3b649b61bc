"""Cases of findings about tokens, config and encoder."""

from __future__ import annotations

from collections.abc import Iterator

from case_facts import (
    SNAPSHOT,
    SPEED,
    Case,
    glance,
    large,
    memory,
    tokens,
    with_config,
)
from doctor_fixtures import (
    encoder,
    environment,
    facts,
    reads,
    table,
    target,
)

from metagene_doctor.facts.model.encoder import WeightFile, metagene_1
from metagene_doctor.facts.previous_run import PreviousRun
from metagene_doctor.facts.reads.facts import Bases


def cases() -> Iterator[Case]:
    yield from _tokens()
    yield from _config()
    yield from _encoder()


def _tokens() -> Iterator[Case]:
    for unknown in (3, 18_000, 1_400_000):
        yield "T01", facts(train=reads(), tokens=tokens(unknown_tokens=unknown))
    masked = tokens(raw_unknown_tokens=1_400_000, unusual=Bases(lower=52_000, u=40, iupac=12, other=1))
    yield "T01", facts(train=reads(), tokens=masked)
    for settings in (
        {"tokenizer": {"max_length": 1024}},
        {"tokenizer": {"max_length": 32}},
        {"tokenizer": {"max_length": 32, "truncation": False}},
        {"tokenizer": {"max_length": 512, "padding": "max_length"}},
        {},
    ):
        yield "T02", facts(settings, train=reads(), tokens=tokens(), encoder=encoder())
    long = tokens(
        lengths={48: 100, 1_557: 40_000, 4_887: 100}, reads=40_200, tokens=62_773_500, bases=245_000_000
    )
    for settings in ({}, {"tokenizer": {"truncation": False}}):
        yield "T02", facts(settings, train=reads(), tokens=long, encoder=encoder())
    uneven = tokens(lengths={8: 50_000, 400: 50_000})
    ungrouped = {"training": {"group_by_length": False}}
    yield "T02", facts(ungrouped, train=reads(), tokens=uneven, encoder=encoder())
    here = encoder(location=SNAPSHOT)
    foreign = {"is_metagene_1": False, "golden_ids": (1, 65, 67, 71, 84), "source": "/data/lab/tokenizer"}
    yield "M05", facts(tokens=tokens(**foreign), encoder=here)
    small = encoder(
        name="/data/lab/encoder", architecture=metagene_1().model_copy(update={"vocab_size": 512})
    )
    yield "M05", facts(tokens=tokens(), encoder=small)
    yield "M05", facts(tokens=tokens(golden_ids=(252, 77, 290)), encoder=here)
    yield "M06", facts(tokens=tokens(pad_id=1024), encoder=here)
    yield "M06", facts(tokens=tokens(pad_id=7), encoder=here)


def _config() -> Iterator[Case]:
    warnings = (
        "run.yaml:14: model.type is not used: the encoder's own config.json says what it is",
        "run.yaml:22: training.fp16 is written training.precision: fp16-mixed here",
    )
    yield "C01", with_config({}, warnings=warnings)
    yield "C01", with_config({}, warnings=warnings * 20)
    for path in (None, "run.yaml", "my runs/first.yaml"):
        for needed in (18.0, 31.0):
            fitting = {
                "memory": memory(needed),
                "target": target(note="24 GB is taken as GeForce RTX 3090 Ti"),
            }
            yield "C02", with_config({}, path, train=reads(), val=reads("val"), **fitting)
    for settings in (
        {"scheduler": {"warmup_steps": 100}},
        {"scheduler": {"warmup_steps": 10_000}},
        {"scheduler": {"warmup_steps": None, "warmup_ratio": 0.5}},
        {"training": {"eval_steps": 50_000}},
        {"training": {"evals_per_epoch": 5_000}},
        {"training": {"batch_size": 512, "grad_accum_steps": 32}},
    ):
        yield "C03", with_config(settings, train=reads())
    yield "C03", with_config({"training": {"batch_size": 512, "grad_accum_steps": 1}}, train=large())
    yield "C03", with_config({}, train=glance())
    there = {"directory": "runs/first", "free_directory": "runs/first-2"}
    changed = tuple(f"{key} was 1, is 2" for key in ("model.lora.r", "optimizer.lr", "seed"))
    for changes in (
        {"state": "other files"},
        {"state": "run", "step": 1, "differences": changed[:1]},
        {"state": "run", "step": 31_250, "differences": changed},
        {"state": "run", "step": 31_250, "finished": True},
        {"state": "run", "step": 31_250},
    ):
        yield "C04", with_config({}, previous_run=PreviousRun.model_validate(there | changes))
    for side in (reads(), large()):
        yield "C07", facts(train=side, target=target(), speed=SPEED)
    yield "C05", facts(train=reads())
    yield "C05", facts(train=reads(stream=True))
    yield "C05", facts(train=reads(accepted=0, class_counts={}))
    by_accuracy = {"dataset": {"val_fasta": "val.fa"}, "training": {"early_stopping": {"metric": "accuracy"}}}
    for smallest in (1, 3):
        counts = {0: 412 * smallest, 1: smallest}
        yield "C05", with_config(by_accuracy, train=reads(class_counts=counts), val=reads("val"))


def _encoder() -> Iterator[Case]:
    yield "M01", facts(encoder=encoder(), environment=environment())
    yield "M01", facts(encoder=encoder(), environment=environment(variables={"HF_HUB_OFFLINE": "1"}))
    yield "M02", facts(encoder=encoder())
    for location in (None, SNAPSHOT):
        for partial in (1, 4):
            files = ("blobs/9c.incomplete",) * partial
            half = encoder(location=location, incomplete_downloads=files, incomplete_bytes=9_100_000_000)
            yield "M02", facts(encoder=half)
    yield "M03", facts(encoder=encoder(location=SNAPSHOT, problems=("it has no config.json",)))
    own = {"name": "/data/lab/encoder", "location": "/data/lab/encoder", "in_hub_cache": False}
    shards = (
        WeightFile(name="model-00001-of-00006.safetensors", state="missing"),
        WeightFile(name="model-00002-of-00006.safetensors", state="pointer", bytes=135),
        WeightFile(name="model-00003-of-00006.safetensors", state="truncated", bytes=10**9, expected_bytes=5 * 10**9),
        WeightFile(name="model-00004-of-00006.safetensors", state="unreadable", message="header is not JSON"),
    )  # fmt: skip
    for bad in (shards[:1], shards):
        yield "M03", facts(encoder=encoder(location=SNAPSHOT, weights=bad))
        yield "M03", facts(encoder=encoder(**own, weights=bad))
    parameters = {"F32": 6_480_000_000}
    stored = (WeightFile(name="model.safetensors", state="complete", parameters=parameters),)
    yield "M04", facts(encoder=encoder(location=SNAPSHOT, weights=stored), target=target())
    yield "M04", facts({"training": {"precision": "32"}}, encoder=encoder(), target=target())
    for modules in (["query", "value"], ["q_proj", "value"]):
        yield "M07", facts({"model": {"lora": {"target_modules": modules}}}, encoder=encoder())
    full = {"model": {"lora": {"target_modules": "all-linear", "r": 64}, "encoder_layers": 2}}
    yield "M07", facts(full, encoder=encoder(), **table(*((n, f"species {n}", None) for n in range(3507))))
    yield "M08", facts(encoder=encoder(location=SNAPSHOT))
