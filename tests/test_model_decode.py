"""The decode step of an INT8 model beside the model: the same bits, and no other model is served by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_world import ask, open_world, together
from networks import config, network
from torch import nn

from glmflash.kv import BlockStore, BlockTable, KVCache
from glmflash.model import GrowingCache, NoCache
from glmflash.model.decode import DecodeStep, decode_step
from glmflash.ops.int8 import FEW, KERNELS, FewRowsWeight
from glmflash.quant import quantize_
from glmflash.weights import load_model, resolve

CPU = torch.device("cpu")
RUNNING = [kernel.name for kernel in KERNELS if kernel.why_not(CPU) is None]
SERVED = [name for name in RUNNING if name in ("fbgemm", "onednn")]
BLOCK = 4

pytestmark = pytest.mark.skipif(not SERVED, reason="no kernel for a few rows runs here")


def quantized(scheme: str = "int8", *, bias: bool = True, seed: int = 0, **named):
    model = network(config(text={"attention_bias": bias}), seed=seed)
    quantize_(model, scheme, **named)
    return model


def given(model, count: int, seed: int = 0):
    """Embeddings and positions of some tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 80, (count,), generator=generator)
    return model.embed(ids), torch.randint(0, 900, (3, count), generator=generator)


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", SERVED)
@pytest.mark.parametrize("count", [1, 2, 3, FEW, 9])
def test_it_comes_to_the_models_bits(count, kernel, bias):
    model = quantized(bias=bias, kernel=kernel)
    step = decode_step(model)
    assert step.takes(count) == (count <= FEW)
    embeds, positions = given(model, count)
    before = embeds.clone()
    for lengths in ([count], [1] * count):
        expected = model(embeds, positions, NoCache(lengths))
        assert torch.equal(step(embeds, positions, NoCache(lengths)), expected)
    assert torch.equal(embeds, before), "the embeddings were written to"


def test_every_norm_and_bias_is_where_the_model_has_it():
    """Each is made unlike all others: a step that took a neighbour's would show it."""
    model = quantized()
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.model.language_model.named_parameters():
        if weight.ndim == 1:
            weight.copy_(torch.rand(weight.shape, generator=generator) * 2 + 0.2)
        assert weight.ndim == 1 or "embed_tokens" in name
    norms = [module for module in model.modules() if hasattr(module, "eps")]
    for number, norm in enumerate(norms):
        norm.eps = 1e-3 * (number + 1)
    embeds, positions = given(model, 2)
    expected = model(embeds, positions, NoCache([1, 1]))
    assert torch.equal(decode_step(model)(embeds, positions, NoCache([1, 1])), expected)


def test_token_by_token_with_a_cache():
    model = quantized()
    step = decode_step(model)
    embeds, positions = given(model, 12)
    caches = [GrowingCache(3), GrowingCache(3)]
    for at in range(12):
        part, place = embeds[at : at + 1], positions[:, at : at + 1]
        outs = [one(part, place, cache) for one, cache in zip((model, step), caches, strict=True)]
        assert torch.equal(*outs)


@pytest.mark.parametrize("int8", [False, True])
def test_with_the_engines_cache(int8):
    model = quantized()
    step = decode_step(model)
    text = model.config.text
    outs = []
    for one in (model, step):
        store = BlockStore(
            num_layers=3, num_kv_heads=2, head_dim=text.head_dim, num_blocks=16, block_size=BLOCK, int8=int8
        )
        tables = [BlockTable(BLOCK, [3, 4]), BlockTable(BLOCK, [7, 2]), BlockTable(BLOCK, [9, 1])]
        found = []
        for turn in range(7):
            embeds, positions = given(model, 3, seed=turn)
            found.append(one(embeds, positions, KVCache(store, tables, [1, 1, 1])))
            for table in tables:
                table.length += 1
        outs.append(torch.stack(found))
    assert torch.equal(*outs)


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_comes_out_so_and_spoils_no_neighbour():
    model = quantized()
    step = decode_step(model)
    embeds, positions = given(model, 3)
    good = step(embeds, positions, NoCache([1] * 3))
    for spoilt in (float("nan"), float("inf"), float("-inf")):
        broken = embeds.clone()
        broken[1, 5] = spoilt
        out = step(broken, positions, NoCache([1] * 3))
        assert not out[1].isfinite().any()
        assert torch.equal(out[[0, 2]], good[[0, 2]])


def test_numpys_settings_are_the_callers_again():
    model = quantized()
    with np.errstate(all="raise"):
        embeds, positions = given(model, 1)
        decode_step(model)(embeds * float("nan"), positions, NoCache([1]))
        with pytest.raises(FloatingPointError):
            np.float32(1) / np.float32(0)


UNSERVED = {
    "floating": lambda: network(),
    "w8a8": lambda: quantized("w8a8"),
    "the reference kernel": lambda: quantized(kernel="reference"),
    "a floating head": lambda: quantized(match="language_model"),
    "one floating layer": lambda: quantized(match=r"lm_head|layers\.[01]\.|layers\.2\.mlp"),
    "a floating MLP": lambda: quantized(match=r"lm_head|self_attn|gate_up_proj"),
    "another scheme in one place": lambda: mixed(),
    "bfloat16 norms": lambda: quantized().bfloat16(),
}


def mixed():
    model = network()
    quantize_(model, "w8a8", match=r"layers\.1\.mlp\.down_proj")
    quantize_(model, "int8")
    return model


@pytest.mark.parametrize("make", UNSERVED.values(), ids=UNSERVED)
def test_other_models_are_called_themselves(make):
    assert decode_step(make()) is None


def test_it_is_there_for_kernels_that_take_a_few_rows_and_no_others():
    for name in RUNNING:
        owner = nn.Sequential(nn.Linear(8, 8, bias=False))
        quantize_(owner, kernel=name)
        assert isinstance(owner[0].packed, FewRowsWeight) == (name in SERVED), name


def test_norms_that_are_written_to_are_seen():
    model = quantized()
    step = decode_step(model)
    embeds, positions = given(model, 2)
    before = step(embeds, positions, NoCache([2]))
    for norm in (model.model.language_model.norm, model.model.language_model.layers[1].input_layernorm):
        norm.weight.mul_(1.5)
    after = step(embeds, positions, NoCache([2]))
    assert torch.equal(after, model(embeds, positions, NoCache([2])))
    assert not torch.equal(after, before)


@pytest.mark.parametrize("name", ["lm_head", "self_attn.q_proj", "self_attn.v_proj", "1.mlp.down_proj"])
def test_a_weight_that_was_packed_anew_is_left_to_the_model(name):
    model = quantized()
    step = decode_step(model)
    assert step.takes(1)
    decoder = (one for one in model.named_modules() if "visual" not in one[0])
    next(layer for path, layer in decoder if path.endswith(name)).scale_(2.0)
    assert not step.takes(1)


# --- in the engine


@pytest.fixture(scope="module")
def world():
    with torch.inference_mode(mode=False):
        floating = open_world(resolve("tiny"), "trained")
        model = load_model("tiny", device="cpu", quantize="int8", progress=False)
    return replace(floating, model=model)


@pytest.mark.slow
def test_the_engine_decodes_with_it_to_the_same_bits(world, monkeypatch):
    questions = world.questions("decode", 3, temperature=0, max_new_tokens=10)
    counts: list[int] = []
    call = DecodeStep.__call__

    def counted(step, embeds, *others):
        counts.append(len(embeds))
        return call(step, embeds, *others)

    monkeypatch.setattr(DecodeStep, "__call__", counted)
    with torch.inference_mode(mode=False), world.engine() as engine:
        fast = [ask(engine, one) for one in questions]
        assert set(counts) == {1}
        assert len(counts) >= sum(len(one.result.token_ids) - 1 for one in fast)
        counts.clear()
        both = together(engine, questions)
        assert max(counts) > 1
    monkeypatch.setattr(DecodeStep, "takes", lambda step, tokens: False)
    counts.clear()
    with torch.inference_mode(mode=False), world.engine() as engine:
        plain = [ask(engine, one) for one in questions]
    assert not counts
    for one, other, third in zip(fast, plain, both, strict=True):
        assert one.result.token_ids == other.result.token_ids == third.result.token_ids
        assert torch.equal(one.logits, other.logits)
