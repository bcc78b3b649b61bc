"""The classifier: dtypes, pooling, independence of batch mates, checkpointing, adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from train_fixtures import change, random_batch, tiny_config, write_encoder
from transformers import AutoModel, AutoModelForCausalLM

from metagene_train.config import METAGENE_1, RunConfig
from metagene_train.errors import ConfigError, InputError
from metagene_train.labels import LabelMap, read_mapping
from metagene_train.model import (
    build_model,
    encoder_architecture,
    load_model,
    load_trained,
    pool,
    save_model,
    save_trained,
)
from metagene_train.tokenizer import load_tokenizer


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {
                "encoder_path": str(write_encoder(tmp_path / "encoder")),
                "dropout": 0.0,
                "lora": {"dropout": 0.0},
            },
            "training": {"precision": "32"},
        }
    )


def randomise_adapters(model: torch.nn.Module) -> None:
    """LoRA's B starts at zero, which would hide a broken A."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)


def gradients(model: torch.nn.Module, batch: dict) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_metagene1_needs_no_network_and_has_its_published_size():
    model = build_model(RunConfig(), 7, weights=False)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == 6_480_465_920
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert encoder_architecture(METAGENE_1).max_position_embeddings == 512


@pytest.mark.parametrize(
    ("precision", "frozen", "adapters"),
    [
        ("32", torch.float32, torch.float32),
        ("bf16-mixed", torch.bfloat16, torch.float32),
        ("fp16-mixed", torch.float16, torch.float32),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_precision_sets_the_dtype_of_frozen_and_trained_weights(config, precision, frozen, adapters, weights):
    model = build_model(change(config, training__precision=precision), 3, weights=weights)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "lora" not in name and "head" not in name} == {frozen}
    assert {dtype for name, dtype in dtypes.items() if "lora" in name} == {adapters}
    assert {dtype for name, dtype in dtypes.items() if "head" in name} == {torch.float32}


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_logits_of_a_read_do_not_depend_on_batch_mates_or_padding(config, pooling, precision):
    config = change(config, model__pooling=pooling, training__precision=precision)
    model = build_model(config, 3).eval()
    randomise_adapters(model)
    batch = random_batch(9, 30, 1)
    together = model(batch["input_ids"], batch["attention_mask"]).logits
    assert together.dtype == torch.float32
    tolerance = 1e-5 if precision == "32" else 2e-2
    for row, length in enumerate((9, 30, 1)):
        alone = model(
            batch["input_ids"][row : row + 1, :length], torch.ones(1, length, dtype=torch.long)
        ).logits
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=tolerance)


def test_a_causal_encoder_without_a_mask_equals_one_with_the_padding_mask(config, tmp_path):
    model = build_model(config, 3).eval()
    batch = random_batch(9, 30, 4)
    ours = model.encoder(input_ids=batch["input_ids"]).last_hidden_state
    reference = AutoModel.from_pretrained(config.model.encoder_path).eval()
    theirs = reference(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], rtol=0, atol=1e-5)


def test_pooling_takes_real_tokens_only_and_returns_fp32():
    hidden = torch.tensor([[[1.0], [3.0], [float("nan")]], [[-5.0], [2.0], [4.0]]], dtype=torch.bfloat16)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    for pooling, expected in {"mean": [2.0, 1 / 3], "max": [3.0, 4.0], "cls": [3.0, 4.0]}.items():
        pooled = pool(hidden, mask, pooling)
        assert pooled.dtype == torch.float32
        torch.testing.assert_close(pooled.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_activation_checkpointing_changes_no_gradient(config, precision, targets):
    config = change(config, training__precision=precision, model__lora__target_modules=targets)
    batch = random_batch(5, 12)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build_model(change(config, model__gradient_checkpointing=checkpointing), 3).train()
        randomise_adapters(model)
        found.append(gradients(model, batch))
    plain, checkpointed = found
    projections = 7 if targets == "all-linear" else 2
    assert len(plain) == 2 * projections * 2 + 2
    for name, gradient in plain.items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(checkpointed[name], gradient, rtol=0, atol=0)


def test_adapters_without_the_input_cast_have_the_same_gradients_under_autocast(config):
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = build_model(change(config, training__precision="bf16-mixed"), 3).train()
    randomise_adapters(model)
    batch = random_batch(5, 12)
    without = gradients(model, batch)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            assert module.cast_input_dtype_enabled is False
            module.cast_input_dtype_enabled = True
    for name, gradient in gradients(model, batch).items():
        torch.testing.assert_close(without[name], gradient, rtol=0, atol=0)


def test_lean_norms_and_mlps_give_the_results_and_gradients_of_llamas_own(config):
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    from metagene_train.lean import LeanMLP, LeanNorm

    for precision, tolerance in (("32", 1e-5), ("bf16-mixed", 3e-2)):
        model = build_model(change(config, training__precision=precision), 3).train()
        randomise_adapters(model)
        batch = random_batch(5, 12)
        logits, lean = model(**batch).logits, gradients(model, batch)
        found = [module for module in model.modules() if isinstance(module, LeanNorm | LeanMLP)]
        assert len(found) == 2 * 3 + 1
        for module in found:
            module.__class__ = LlamaRMSNorm if isinstance(module, LeanNorm) else LlamaMLP
        torch.testing.assert_close(logits, model(**batch).logits, rtol=0, atol=0)
        for name, gradient in gradients(model, batch).items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(lean[name], gradient, rtol=0, atol=tolerance * scale, msg=name)


def dropout_inputs(model, batch) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What the dropout of each adapter of the first layer takes and gives in one training pass."""
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    layer = model.encoder.base_model.model.layers[0]
    handles = []
    for name, module in layer.named_modules():
        if not hasattr(module, "lora_A"):
            continue

        def before(module, args, name=name):
            seen[name] = (args[0], args[0])

        def after(module, args, name=name):
            seen[name] = (seen[name][0], args[0])

        handles += [
            module.register_forward_pre_hook(before),
            module.lora_A["default"].register_forward_pre_hook(after),
        ]
    model(**batch)
    for handle in handles:
        handle.remove()
    return {name.rsplit(".", 1)[-1]: pair for name, pair in seen.items()}


def test_adapters_of_one_input_share_one_dropped_out_copy(config):
    torch.manual_seed(3)
    config = change(config, model__lora__dropout=0.25, model__lora__target_modules="all-linear")
    model = build_model(config, 3).train()
    batch = random_batch(40, 40)
    seen = dropout_inputs(model, batch)
    copies = {name: copy.data_ptr() for name, (_, copy) in seen.items()}
    assert copies["q_proj"] == copies["k_proj"] == copies["v_proj"]
    assert copies["gate_proj"] == copies["up_proj"]
    assert len(set(copies.values())) == 4
    for name, (given, dropped) in seen.items():
        kept = dropped != 0
        torch.testing.assert_close(dropped[kept], given[kept] / 0.75)
        assert kept.double().mean().item() == pytest.approx(0.75, abs=0.03), name
    again = dropout_inputs(model, batch)
    assert not torch.equal(seen["q_proj"][1] != 0, again["q_proj"][1] != 0)
    model.eval()
    assert all(given is dropped for given, dropped in dropout_inputs(model, batch).values())


STEP = 1e-3


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["q_proj"]])
def test_gradients_with_shared_dropout_are_those_of_the_masked_inputs(config, targets):
    """Against central differences with the masks held fixed, and against checkpointing's recomputation."""
    config = change(config, model__lora__dropout=0.25, model__lora__target_modules=targets)
    batch = random_batch(5, 12)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build_model(change(config, model__gradient_checkpointing=checkpointing), 3).train()
        randomise_adapters(model)
        torch.manual_seed(5)
        found.append(gradients(model, batch))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or "lora" not in name:
            continue
        direction = torch.randn_like(parameter)
        losses = []
        for step in (STEP, -2 * STEP):
            with torch.no_grad():
                parameter += step * direction
            torch.manual_seed(5)
            losses.append(model(**batch).loss.item())
        with torch.no_grad():
            parameter += STEP * direction
        slope = (losses[0] - losses[1]) / (2 * STEP)
        assert (found[0][name] * direction).sum().item() == pytest.approx(slope, rel=0.03, abs=5e-4), name


def test_a_linear_probe_trains_the_head_only(config):
    model = build_model(change(config, model__lora__enabled=False), 3).train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    assert set(gradients(model, random_batch(4, 6))) == trained


def test_encoder_layers_keeps_the_first_layers(config):
    architecture = encoder_architecture(config.model.encoder_path)
    short = build_model(change(config, model__encoder_layers=1), 3, encoder_config=architecture)
    assert len(short.encoder.base_model.model.layers) == 1
    assert architecture.num_hidden_layers == 2
    with pytest.raises(ConfigError, match=r"encoder_layers: 3 layers asked for.* has 2"):
        build_model(change(config, model__encoder_layers=3), 3)


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank(config):
    model = build_model(
        change(config, model__lora__use_rslora=True, model__lora__r=16, model__lora__alpha=8), 3
    )
    layer = model.encoder.base_model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == pytest.approx(8 / 16**0.5)


def test_label_smoothing_and_class_weights_reach_the_loss(config):
    model = build_model(change(config, loss__label_smoothing=0.1), 3).eval()
    model.class_weights = torch.tensor([0.5, 1.0, 2.0])
    batch = random_batch(5, 9, 7, 3)
    output = model(**batch)
    expected = torch.nn.functional.cross_entropy(
        output.logits, batch["labels"], weight=model.class_weights, label_smoothing=0.1, reduction="none"
    ).mean()
    torch.testing.assert_close(output.loss, expected)


def test_an_unknown_target_module_is_a_config_error(config):
    with pytest.raises(ConfigError, match=r"target_modules.*dense"):
        build_model(change(config, model__lora__target_modules=["dense"]), 3, weights=False)


def test_the_weights_of_a_language_model_load_without_its_head(config, tmp_path):
    """As on the hub: every name has a prefix, and there is an output layer."""
    encoder = AutoModel.from_pretrained(config.model.encoder_path)
    language_model = AutoModelForCausalLM.from_config(encoder.config)
    language_model.model.load_state_dict(encoder.state_dict())
    language_model.save_pretrained(tmp_path / "language_model", max_shard_size="50KB")
    assert len(list((tmp_path / "language_model").glob("*.safetensors"))) > 1
    tokens = random_batch(9)["input_ids"]
    model = build_model(change(config, model__encoder_path=str(tmp_path / "language_model")), 3)
    expected = encoder(tokens).last_hidden_state
    torch.testing.assert_close(model.encoder(input_ids=tokens).last_hidden_state, expected, rtol=0, atol=1e-6)


def test_a_directory_without_an_encoder_is_an_input_error(config, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="encoder_path"):
        build_model(change(config, model__encoder_path=str(tmp_path / "empty")), 3)


def test_incomplete_weights_are_an_error_not_random_numbers(config):
    weights = Path(config.model.encoder_path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 weights.*layers\.1\.mlp\.up_proj"):
        build_model(config, 3)


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_a_saved_model_gives_the_same_logits(tmp_path, lora, precision):
    config = change(
        tiny_config(tmp_path),
        model__lora__enabled=lora,
        training__precision=precision,
        tokenizer__max_length=40,
    )
    tokenizer = load_tokenizer(config.tokenizer)
    labels = LabelMap.from_mapping(read_mapping(config.dataset.mapping_tsv))
    model = build_model(config, 3).eval()
    randomise_adapters(model)
    save_model(model, tokenizer, labels, config, tmp_path / "model")
    encoder_size = sum(file.stat().st_size for file in Path(config.model.encoder_path).iterdir())
    assert (tmp_path / "model" / "head.safetensors").stat().st_size < encoder_size / 100

    loaded = load_model(tmp_path / "model")
    batch = random_batch(5, 9)
    expected = model(batch["input_ids"], batch["attention_mask"]).logits
    found = loaded.model(batch["input_ids"], batch["attention_mask"]).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not loaded.model.training
    assert loaded.labels == labels
    assert loaded.config.tokenizer.max_length == 40
    assert loaded.tokenizer.encode(["ACGTN"]) == tokenizer.encode(["ACGTN"])


def test_the_adapter_loads_with_plain_peft(tmp_path):
    config = tiny_config(tmp_path)
    model = build_model(config, 3).eval()
    randomise_adapters(model)
    labels = LabelMap.from_mapping(read_mapping(config.dataset.mapping_tsv))
    save_model(model, load_tokenizer(config.tokenizer), labels, config, tmp_path / "model")
    plain = PeftModel.from_pretrained(
        AutoModel.from_pretrained(config.model.encoder_path), tmp_path / "model"
    )
    tokens = random_batch(9)["input_ids"]
    expected = model.encoder(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(plain.eval()(input_ids=tokens).last_hidden_state, expected, rtol=0, atol=1e-6)


def test_weights_of_another_configuration_are_refused(tmp_path):
    config = tiny_config(tmp_path)
    (tmp_path / "saved").mkdir()
    save_trained(build_model(config, 3), tmp_path / "saved")
    with pytest.raises(InputError, match="do not load into this model"):
        load_trained(build_model(change(config, model__lora__r=4), 3), tmp_path / "saved")
    with pytest.raises(InputError, match="no trained model here"):
        load_model(tmp_path)
