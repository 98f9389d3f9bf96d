"""Layers computed together beside the same layers one by one: the same bits, and the same in all else."""

import copy

import pytest
import torch
from torch import nn

from glmflash import ParameterError
from glmflash.ops.int8 import KERNELS, Packer
from glmflash.quant import JOINT, QuantizedLinear, outputs, quantize_, quantize_rows
from glmflash.quant.joint import JointWeight, join_, pack_jointly
from glmflash.weights import load_model, save_pretrained
from glmflash.weights.hub import resolve

CPU = torch.device("cpu")
KERNEL_NAMES = [kernel.name for kernel in KERNELS if kernel.why_not(CPU) is None]
SIZES = {"q_proj": 48, "k_proj": 16, "v_proj": 16}


class Owner(nn.Module):
    """Three layers that are given the same rows, and one that is not."""

    def __init__(self, *, bias=True):
        super().__init__()
        for name, size in SIZES.items():
            setattr(self, name, nn.Linear(96, size, bias=bias))
        self.o_proj = nn.Linear(48, 96, bias=False)

    @property
    def layers(self):
        return [getattr(self, name) for name in JOINT]


def owner(*, seed=0, bias=True):
    torch.manual_seed(seed)
    return Owner(bias=bias).requires_grad_(False)


def apart(module):
    """The same layers, none of which knows of the others."""
    layers = []
    for layer in module.layers:
        rows = quantize_rows(layer.weight)
        layers.append(QuantizedLinear(rows, layer.bias, scheme="int8", kernel=None))
    return layers


def are_joined(layers):
    wholes = {id(layer.packed.whole) if isinstance(layer.packed, JointWeight) else None for layer in layers}
    return len(wholes) == 1 and None not in wholes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_together_is_one_by_one(kernel, scheme, bias):
    joined, plain = owner(bias=bias), owner(bias=bias)
    quantize_(joined, scheme, kernel=kernel)
    assert are_joined(joined.layers)
    for name in JOINT:
        quantize_(plain, scheme, match=name, kernel=kernel)
    for rows in (1, 2, 4, 5, 40):
        x = torch.randn(rows, 96)
        x[0, 3] = 70
        together, single = outputs(joined.layers, x), [layer(x) for layer in joined.layers]
        for one, other, layer in zip(together, single, plain.layers, strict=True):
            assert one.shape == (rows, layer.out_features)
            if kernel == "reference":  # floating sums
                assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
            else:
                assert torch.equal(one, other)


def test_joined_layers_are_those_that_were_never_joined():
    module = owner()
    plain = apart(module)
    quantize_(module)
    x = torch.randn(3, 96)
    for one, other in zip(outputs(module.layers, x), plain, strict=True):
        assert torch.equal(one, other(x))
    for layer, other in zip(module.layers, plain, strict=True):
        assert torch.equal(layer.unpack(), other.unpack())
        assert torch.equal(layer.weight_sum, other.weight_sum)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 0), (0, 2, 1)])
def test_unpacking_in_any_order(order):
    module = owner()
    plain = apart(module)
    quantize_(module)
    for number in order:
        unpacked = module.layers[number].unpack()
        assert torch.equal(unpacked, plain[number].unpack())
        unpacked.zero_()  # a copy
    assert torch.equal(module.layers[0].unpack(), plain[0].unpack())


def test_shares_of_the_memory_sum_to_the_whole():
    module = owner()
    quantize_(module)
    whole = module.q_proj.packed.whole
    assert sum(layer.packed.nbytes for layer in module.layers) == whole.packed.nbytes


def test_state_copies_and_moves():
    module, other = owner(), owner(seed=1)
    quantize_(module)
    quantize_(other)
    x = torch.randn(2, 96)
    wanted = outputs(module.layers, x)
    for same in (copy.deepcopy(module), module.to(torch.float64)):
        for one, given in zip(wanted, outputs(same.layers, x), strict=True):
            assert torch.equal(one, given)
    other.load_state_dict(module.state_dict())
    for one, given in zip(wanted, outputs(other.layers, x), strict=True):
        assert torch.equal(one, given)


def test_a_layer_that_is_scaled_leaves_the_others():
    module = owner()
    quantize_(module)
    x = torch.randn(2, 96)
    before = outputs(module.layers, x)
    module.k_proj.scale_(2.0)
    bias = module.k_proj.bias
    q, k, v = outputs(module.layers, x)
    assert torch.equal(q, before[0])
    assert torch.equal(v, before[2])
    assert torch.allclose(k - bias, 2 * (before[1] - bias), rtol=1e-5, atol=1e-5)
    join_(module)
    assert are_joined(module.layers)
    for one, other in zip((q, k, v), outputs(module.layers, x), strict=True):
        assert torch.equal(one, other)


def test_layers_that_are_not_all_int8_or_not_alike_are_called_one_by_one():
    for change in (
        lambda module: quantize_(module, match="q_proj"),
        lambda module: [quantize_(module, "int8", match="q_proj"), quantize_(module, "w8a8")],
        lambda module: None,
    ):
        module = owner()
        change(module)
        assert not any(isinstance(getattr(one, "packed", None), JointWeight) for one in module.layers)
        x = torch.randn(3, 96)
        for one, layer in zip(outputs(module.layers, x), module.layers, strict=True):
            assert torch.equal(one, layer(x))


def test_what_a_layer_refuses_all_refuse():
    module = owner()
    quantize_(module)
    with pytest.raises(ParameterError, match="96"):
        outputs(module.layers, torch.randn(2, 95))
    with pytest.raises(ParameterError, match="gradient"):
        outputs(module.layers, torch.randn(2, 96, requires_grad=True))


def test_packing_names_the_kernel():
    module = owner()
    rows = [quantize_rows(layer.weight) for layer in module.layers]
    parts, kernel = pack_jointly(rows, Packer("reference"))
    assert kernel == "reference"
    assert [part.stop - part.start for part in parts] == list(SIZES.values())
    with pytest.raises(ParameterError, match="kernel"):
        pack_jointly(rows, Packer("nobody's"))


def test_a_loaded_model_has_them_and_so_has_what_it_saved(tmp_path):
    model = load_model("tiny", device="cpu", quantize="int8")
    saved = save_pretrained(model, tmp_path / "int8", source=resolve("tiny"))
    for one in (model, load_model(saved, device="cpu")):
        layers = one.model.language_model.layers
        assert all(are_joined([getattr(layer.self_attn, name) for name in JOINT]) for layer in layers)


def test_in_another_order_each_gives_its_own():
    joined, plain, x = owner(), owner(), torch.randn(3, 96)
    quantize_(joined, "int8")
    wanted = [layer(x) for layer in apart(plain)]
    for order in ((1, 0, 2), (2, 1, 0), (0, 0, 1, 2), (0, 1)):
        given = outputs([joined.layers[place] for place in order], x)
        assert all(map(torch.equal, given, [wanted[place] for place in order]))
