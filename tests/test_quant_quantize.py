"""What a user says about quantisation, and modules whose linear layers become INT8 in place."""

import copy
import re
import weakref

import pytest
import torch
from torch import nn

from glmflash import ParameterError
from glmflash.model.layers import Linear
from glmflash.quant import QuantizationConfig, QuantizedEmbedding, QuantizedLinear, quantize, quantize_


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(30, 16)
        self.position_embedding = nn.Embedding(9, 16)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(16), Linear(16, 16)) for _ in range(2))
        self.head = nn.Linear(16, 30, bias=False)

    def forward(self, ids):
        x = self.embed_tokens(ids) + self.position_embedding(torch.arange(len(ids)))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return Tower().requires_grad_(False).eval()


def kinds(module: nn.Module) -> dict[str, str]:
    return {
        name: type(layer).__name__
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Embedding | QuantizedLinear | QuantizedEmbedding)
    }


@pytest.mark.parametrize("embeddings", ["auto", "int8"])
@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
def test_all_linear_layers_become_int8_and_the_answer_hardly_changes(tower, scheme, embeddings):
    ids = torch.tensor([1, 2, 29])
    before = tower(ids)
    card = quantize_(tower, scheme, embeddings=embeddings)
    tables = ["embed_tokens"] if embeddings == "int8" else []
    assert [layer.name for layer in card.layers] == [*tables, "blocks.0.1", "blocks.1.1", "head"]
    assert kinds(tower)["position_embedding"] == "Embedding"  # read as a table, never looked up
    apart = float((tower(ids) - before).norm() / before.norm())
    assert 1e-5 < apart < 0.05
    assert all(0 < layer.error < 0.02 for layer in card.layers)


def test_match_chooses_layers(tower):
    card = quantize_(tower, match=r"^blocks\.1")
    assert [layer.name for layer in card.layers] == ["blocks.1.1"]
    assert kinds(tower)["head"] == "Linear"


def test_calls_may_follow_each_other(tower):
    quantize_(tower, "w8a8", match="blocks")
    weight = tower.blocks[0][1].unpack().clone()
    card = quantize_(tower, "int8")
    schemes = {layer.name: layer.scheme for layer in card.layers}
    assert schemes == {"blocks.0.1": "w8a8", "blocks.1.1": "w8a8", "head": "int8"}
    assert torch.equal(tower.blocks[0][1].unpack(), weight)


@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
def test_quantising_what_is_quantised_is_refused(tower, scheme):
    quantize_(tower)
    with pytest.raises(ParameterError, match="module: has nothing to quantise"):
        quantize_(tower, scheme)


@pytest.mark.parametrize("module", [nn.Linear(2, 2), nn.LayerNorm(2), nn.Sequential(nn.ReLU())])
def test_a_module_without_linear_children_is_refused(module):
    with pytest.raises(ParameterError, match="its children hold no"):
        quantize_(module)


def test_match_that_finds_nothing_names_some_layers(tower):
    with pytest.raises(ParameterError, match=r"match: is 'layers', found in none of 3 layers.*blocks\.0\.1"):
        quantize_(tower, match="layers")
    assert "QuantizedLinear" not in kinds(tower).values()


def test_a_layer_in_two_places_stays_one_layer(tower):
    tower.again = tower.blocks[0]
    card = quantize_(tower)
    assert tower.again[1] is tower.blocks[0][1]
    assert isinstance(tower.again[1], QuantizedLinear)
    assert len(card.layers) == 3
    other = nn.ModuleDict({"a": (one := nn.Linear(4, 4)), "b": one})
    quantize_(other, match="b")
    assert other["a"] is other["b"]


def test_each_old_weight_is_freed_before_the_next_is_rounded(monkeypatch):
    module = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    weights = [weakref.ref(layer.weight) for layer in module]
    alive = []
    rounded = quantize.quantize_rows

    def watched(weight):
        alive.append([ref() is not None for ref in weights])
        return rounded(weight)

    monkeypatch.setattr(quantize, "quantize_rows", watched)
    quantize_(module)
    assert alive == [[False] * done + [True] * (4 - done) for done in range(4)]


def test_a_weight_that_is_not_finite_is_refused(tower):
    tower.head.weight[3, 3] = float("nan")
    with pytest.raises(ParameterError, match="not finite"):
        quantize_(tower)


def test_bias_and_bytes(tower):
    bias = tower.blocks[0][1].bias.clone()
    tower.bfloat16()
    card = quantize_(tower)
    assert torch.equal(tower.blocks[0][1].bias, bias.bfloat16())
    assert card.layers[0].bytes_before == 2 * 16 * 16
    assert card.layers[0].bytes_after == tower.blocks[0][1].nbytes


def test_a_copy_of_the_whole_is_independent(tower):
    quantize_(tower, embeddings="int8")
    ids = torch.tensor([3, 4])
    wanted, other = tower(ids), copy.deepcopy(tower)
    for layer in tower.modules():
        if isinstance(layer, QuantizedLinear | QuantizedEmbedding):
            layer.weight_scale.zero_()
    assert torch.equal(other(ids), wanted)


def test_the_state_of_one_loads_into_another(tower):
    other = copy.deepcopy(tower)
    other.head.weight.mul_(3)
    for module in (tower, other):
        quantize_(module)
    other.load_state_dict(tower.state_dict())
    ids = torch.tensor([3, 4])
    assert torch.equal(other(ids), tower(ids))


def test_what_quantize_may_be():
    given = QuantizationConfig(scheme="w8a8", match="a")
    assert QuantizationConfig.of(None) is None
    assert QuantizationConfig.of(given) is given
    assert QuantizationConfig.of("int8") == QuantizationConfig()
    for wrong in (True, 8, ["int8"], {"scheme": "int8"}):
        with pytest.raises(ParameterError, match=r"quantize: is a .* allowed: 'int8', 'w8a8'"):
            QuantizationConfig.of(wrong)
    with pytest.raises(ParameterError, match="quantize: is 'int4'; allowed: 'int8', 'w8a8'"):
        QuantizationConfig.of("int4")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("scheme", ["int8"], "quantize: is"),
        ("scheme", None, "quantize: is None"),
        ("embeddings", "bf16", "embeddings: is 'bf16'; allowed: 'auto', 'int8'"),
        ("embeddings", None, "embeddings: is None"),
        ("match", "(", r"match: is '\('; allowed: a regular expression or None"),
        ("match", b"a", "match: is b'a'"),
        ("match", re.compile("a"), "match: is re.compile"),
        ("kernel", "fast", "kernel: is 'fast'; allowed: 'fbgemm'"),
        ("kernel", 1, "kernel: is 1"),
    ],
)
def test_values_that_are_none_are_refused_before_anything_is_loaded(name, value, said):
    with pytest.raises(ParameterError, match=said):
        QuantizationConfig(**{name: value})


def test_which_layers_and_tables_are_chosen():
    config = QuantizationConfig(match=r"\.mlp\.|lm_head", embeddings="int8")
    assert config.choose(["a.mlp.up", "a.attn", "lm_head"]) == ("a.mlp.up", "lm_head")
    assert config.choose([]) == ()
    assert config.selects_embedding("model.language_model.embed_tokens")
    assert not config.selects_embedding("model.visual.embeddings.position_embedding")
    assert not QuantizationConfig().selects_embedding("embed_tokens")
