"""A network that overflows float16 does not after `rescale_`, and is the same network."""

import copy
import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from overflowing import PLACES, TEXT, VISION, check_bounds, logits, plant, planted
from torch import nn

from glmflash.model import Glm4v
from glmflash.model.layers import RMSNorm
from glmflash.quant import quantize_
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model
from glmflash.weights.rescale import LIMIT, is_rescaled, rescale_

# What overflows plain float16 by itself; the others only come close to it, or only their bound does.
OVERFLOWING = [place for place in PLACES if place not in ("value biases", "positions", "post_conv")]
SETS = [*([place] for place in PLACES), list(PLACES)]
NAMES = [*PLACES, "all"]
PEAK, TOGETHER = 5e4, 1e3


def half(model: Glm4v) -> Glm4v:
    return copy.deepcopy(model).half()


def peak_of(places: list[str]) -> float:
    return PEAK if len(places) == 1 else TOGETHER


@pytest.mark.parametrize("places", [*([place] for place in OVERFLOWING), list(PLACES)], ids=str)
def test_plain_float16_overflows(nano_model, places):
    assert not logits(half(planted(nano_model, places, peak_of(places)))).isfinite().all()


@pytest.mark.parametrize("places", SETS, ids=NAMES)
def test_it_is_finite_after_and_nearer_than_bfloat16(nano_model, places):
    model = planted(nano_model, places, peak_of(places))
    exact = logits(model)
    rescaled = half(model)
    rescale_(rescaled)
    lost, coarse = logits(rescaled) - exact, logits(copy.deepcopy(model).bfloat16()) - exact
    assert lost.norm() <= 0.3 * coarse.norm()
    assert lost.abs().max() <= coarse.abs().max()


@pytest.mark.parametrize("places", SETS, ids=NAMES)
def test_it_is_the_same_network(nano_model, places):
    model = planted(nano_model, places, peak_of(places))
    before = logits(model)
    assert rescale_(model).shifts
    assert is_rescaled(model)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("places", SETS, ids=NAMES)
def test_nothing_exceeds_its_bound(nano_model, places):
    model = half(planted(nano_model, places, peak_of(places)))
    rescaling = rescale_(model)
    check_bounds(model, rescaling)
    gate = f"{TEXT}.layers.1.mlp.gate_up_proj[gate]"  # the one place that nothing can bring into range
    assert {bound.name for bound in rescaling.unmet} <= ({gate} if "pre-norm" in places else set())


@pytest.mark.slow
@settings(max_examples=25)
@given(
    places=st.sets(st.sampled_from(sorted(PLACES)), min_size=1, max_size=3),
    magnitude=st.floats(0, 13.5),
)
def test_whatever_is_planted(nano_model, places, magnitude):
    model = planted(nano_model, sorted(places), 2.0**magnitude)
    before = logits(model)
    rescaled = half(model)
    rescaling = rescale_(rescaled)
    check_bounds(rescaled, rescaling)
    assert logits(rescaled).isfinite().all() or rescaling.unmet
    rescale_(model)
    assert torch.equal(logits(model), before)


def test_where_nothing_is_needed_nothing_changes(nano_model):
    model = copy.deepcopy(nano_model)
    rescaling = rescale_(model)
    assert rescaling.shifts == ()
    assert not is_rescaled(model)
    pairs = zip(model.state_dict().values(), nano_model.state_dict().values(), strict=True)
    assert all(torch.equal(mine, old) for mine, old in pairs)
    assert all(bound.before == bound.after <= LIMIT for bound in rescaling.bounds)
    assert "no weight" in str(rescaling)


def test_what_needs_nothing_stays_beside_what_does(nano_model):
    model = planted(nano_model, ["o_proj"])
    before = copy.deepcopy(model.state_dict())
    shifted = {shift.name for shift in rescale_(model).shifts}
    layer = f"{TEXT}.layers.0"
    assert shifted == {
        f"{layer}.self_attn.v_proj",
        f"{layer}.self_attn.v_proj.bias",
        f"{layer}.self_attn.o_proj",
        f"{layer}.post_self_attn_layernorm.eps",
    }
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {
        f"{layer}.self_attn.{name}" for name in ("v_proj.weight", "v_proj.bias", "o_proj.weight")
    }


def test_mantissas_stay(nano_model):
    model = planted(nano_model, list(PLACES), TOGETHER)
    before = copy.deepcopy(model.state_dict())
    rescale_(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.frexp().mantissa, before[name].frexp().mantissa), name


@pytest.mark.parametrize("peak", [1e2, 6e4])
def test_tied_embeddings(tmp_path, peak):
    folder = random_checkpoint(tmp_path, "nano", overrides={"tie_word_embeddings": True})
    model = load_model(folder, dtype="float32", device="cpu")
    with torch.no_grad():
        plant(model, f"{TEXT}.layers.0.post_mlp_layernorm.weight", slice(3, 4), 3e4)
        plant(model, f"{TEXT}.norm.weight", slice(3, 4), peak)
    before = logits(model)
    exact = copy.deepcopy(model)
    rescale_(model)
    assert torch.equal(logits(model), before)
    tied = model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert tied is (peak == 1e2)  # else the last norm could not undo the factor and stay in range
    rescaled = half(exact)
    rescale_(rescaled)
    assert (logits(rescaled) - before).abs().max() <= 0.02 * before.abs().max()


@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
@pytest.mark.parametrize("places", [["o_proj"], ["up"], ["merger down"], list(PLACES)], ids=lambda p: p[-1])
def test_int8_layers(nano_model, places, scheme):
    model = planted(nano_model, places, peak_of(places))
    quantize_(model, scheme, kernel="reference")
    before = logits(model)
    rescaled = half(model)
    assert not logits(rescaled).isfinite().all()
    rescaling = rescale_(rescaled)
    assert not rescaling.unmet
    assert (logits(rescaled) - before).abs().max() <= 0.02 * before.abs().max()
    check_bounds(rescaled, rescaling)
    rescale_(model)
    assert (logits(model) - before).abs().max() <= 1e-6 * before.abs().max()


@pytest.fixture(scope="module")
def ocr(tmp_path_factory):
    return load_model(
        random_checkpoint(tmp_path_factory.mktemp("ocr"), "ocr-nano"), dtype="float32", device="cpu"
    )


OCR_PLACES = [
    (f"{VISION}.patch_embed.proj.weight", slice(3, 4)),
    (f"{VISION}.blocks.0.attn.qkv.weight", slice(0, 8)),
    (f"{VISION}.blocks.0.attn.proj.bias", slice(3, 4)),
    (f"{VISION}.blocks.1.mlp.up_proj.bias", slice(3, 4)),
    (f"{VISION}.blocks.1.mlp.down_proj.bias", slice(3, 4)),
    (f"{VISION}.blocks.1.attn.k_norm.weight", slice(3, 4)),
    (f"{VISION}.blocks.1.norm1.weight", slice(3, 4)),
    (f"{TEXT}.layers.0.self_attn.k_proj.weight", slice(3, 4)),
]


@pytest.mark.parametrize(("name", "rows"), OCR_PLACES, ids=[name for name, _ in OCR_PLACES])
def test_glm_ocr(ocr, name, rows):
    model = copy.deepcopy(ocr)
    with torch.no_grad():
        plant(model, name, rows, PEAK)
    before = logits(model)
    rescaled = half(model)
    rescaling = rescale_(rescaled)
    assert rescaling.shifts
    assert not rescaling.unmet
    check_bounds(rescaled, rescaling)
    rescale_(model)
    assert torch.equal(logits(model), before)


def test_every_layer_has_its_bound(nano_model):
    named = {bound.name.split("[")[0] for bound in rescale_(copy.deepcopy(nano_model)).bounds}
    kinds = nn.Linear | nn.Conv2d | nn.Conv3d | RMSNorm | nn.LayerNorm
    layers = {name for name, module in nano_model.named_modules() if isinstance(module, kinds)}
    assert layers <= named


def test_what_cannot_be_met_is_said(nano_model, caplog):
    model = copy.deepcopy(nano_model)
    with torch.no_grad():
        for part in "qk":
            plant(model, f"{TEXT}.layers.0.self_attn.{part}_proj.bias", slice(3, 4), 6e4)
    with caplog.at_level(logging.INFO, "glmflash"):
        rescaling = rescale_(model)
    names = [f"{TEXT}.layers.0.self_attn.{part}_proj" for part in "qk"]
    assert [bound.name for bound in rescaling.unmet] == names
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert all(any(name in message for message in messages) for name in names)


def test_what_is_lost_is_said(nano_model, caplog):
    model = half(planted(nano_model, ["patches"], 6e4))
    with caplog.at_level(logging.INFO, "glmflash"):
        rescaling = rescale_(model)
    assert [shift.name for shift in rescaling.lossy] == [f"{VISION}.patch_embed.proj"]
    assert any("patch_embed" in record.getMessage() for record in caplog.records[1:])
    assert "2^" in str(rescaling)


def test_no_weight_is_made_to_overflow(nano_model):
    model = half(planted(nano_model, ["pre-norm", "up"], 5e4))
    assert rescale_(model).unmet
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_values_are_counted_for_the_heads_that_they_serve(nano_model):
    model, size = copy.deepcopy(nano_model), nano_model.config.text.head_dim
    attention = model.get_submodule(f"{TEXT}.layers.0.self_attn")
    with torch.no_grad():
        attention.v_proj.weight[size:].mul_(1e-3)  # the second key head's
        attention.v_proj.bias[size:].mul_(1e-3)
        attention.o_proj.weight[:, :size].zero_()
        attention.o_proj.weight[:, 2 * size :].zero_()  # what is left is the second head, served by the first
    check_bounds(model, rescale_(model))
