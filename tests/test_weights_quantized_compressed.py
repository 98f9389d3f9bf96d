"""Other programs' INT8 checkpoints: what has our layout loads, all else is refused by the name of a field."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from quantized_folders import edit_config, foreign, tensors_of

from glmflash.errors import CheckpointError, ConfigError
from glmflash.model import NoCache
from glmflash.quant import QuantizationConfig, card
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, save_pretrained
from glmflash.weights.compressed import quantization_config, read_schemes

GATE_UP = "model.language_model.layers.0.mlp.gate_up_proj"
Q = "model.language_model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    source = random_checkpoint(tmp_path_factory.mktemp("source"), dtype="bfloat16")
    config = QuantizationConfig(match=r"^(?!lm_head)")  # most tools leave the head as it is
    model = load_model(source, quantize=config, device="cpu")
    return save_pretrained(model, tmp_path_factory.mktemp("saved"), source=source)


def logits(model) -> torch.Tensor:
    ids = torch.arange(5)
    return model(model.embed(ids), ids.expand(3, 5), NoCache([5]))


def load(folder: Path, quantize=None):
    return load_model(folder, quantize=quantize, device="cpu")


def test_without_a_manifest_it_is_the_same_model(saved: Path, tmp_path: Path) -> None:
    model = load(foreign(saved, tmp_path))
    assert torch.equal(logits(model), logits(load(saved)))
    assert {layer.error for layer in card(model).layers} == {0.0}  # nobody knows
    assert {layer.scheme for layer in card(load(tmp_path, "w8a8")).layers} == {"w8a8"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scales_of_any_dtype_with_one_dimension_or_two(
    saved: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    def change(tensors) -> None:
        for number, name in enumerate(name for name in tensors if name.endswith("_scale")):
            scale = tensors[name].to(dtype)
            tensors[name] = scale.flatten() if number % 2 else scale

    wanted = tensors_of(saved)[f"{Q}.weight_scale"].to(dtype).float().flatten()
    model = load(foreign(saved, tmp_path, change))
    assert torch.equal(model.get_submodule(Q).weight_scale, wanted)


def test_gate_and_up_stored_apart_and_other_prefixes(saved: Path, tmp_path: Path) -> None:
    def change(tensors) -> None:
        for name in [name for name in tensors if "gate_up_proj." in name]:
            gate, up = tensors.pop(name).chunk(2)
            tensors |= {
                name.replace("gate_up", "gate"): gate.clone(),
                name.replace("gate_up", "up"): up.clone(),
            }
        for name in list(tensors):
            tensors[name.replace("model.language_model.", "model.")] = tensors.pop(name)

    model = load(foreign(saved, tmp_path, change))
    assert torch.equal(model.get_submodule(GATE_UP).unpack(), load(saved).get_submodule(GATE_UP).unpack())
    assert torch.equal(logits(model), logits(load(saved)))


def test_half_a_pair_in_int8_is_refused(saved: Path, tmp_path: Path) -> None:
    def change(tensors) -> None:
        gate, up = tensors.pop(f"{GATE_UP}.weight").chunk(2)
        scale = tensors.pop(f"{GATE_UP}.weight_scale").chunk(2)[0]
        stem = GATE_UP.removesuffix("gate_up_proj")
        tensors |= {f"{stem}gate_proj.weight": gate.clone(), f"{stem}up_proj.weight": up.float()}
        tensors[f"{stem}gate_proj.weight_scale"] = scale.clone()

    with pytest.raises(CheckpointError, match=r"gate_proj|up_proj"):
        load(foreign(saved, tmp_path, change))


def test_the_lowest_byte_is_a_weight_like_any_other(saved: Path, tmp_path: Path) -> None:
    """We write -127 to 127; others may write -128."""
    folder = foreign(saved, tmp_path, lambda t: t[f"{Q}.weight"].fill_(-128))
    layer = load(folder).get_submodule(Q)
    assert torch.equal(layer.unpack(), torch.full_like(layer.unpack(), -128))
    x = torch.ones(1, 64)
    exact = (x @ (layer.unpack().float() * layer.weight_scale[:, None]).T) + layer.bias
    assert torch.allclose(layer(x), exact, rtol=1e-3)


def test_int8_tensors_that_config_does_not_mention(saved: Path, tmp_path: Path) -> None:
    folder = foreign(saved, tmp_path)
    edit_config(folder, lambda config: config.pop("quantization_config"))
    with pytest.raises(CheckpointError, match="has dtype I8"):
        load(folder)


WEIGHTS, TOKENS = ("config_groups", "group_0", "weights"), ("config_groups", "group_0", "input_activations")


@pytest.mark.parametrize(("where", "field", "value"), [
    ((), "quant_method", "gptq"),
    ((), "quant_method", None),
    ((), "format", "pack-quantized"),
    ((), "format", None),
    ((), "config_groups", {}),
    ((), "config_groups", [1]),
    ((), "kv_cache_scheme", {"num_bits": 8}),
    ((), "transform_config", {"config_groups": {"a": 1}}),
    ((), "sparsity_config", {"format": "sparse-24-bitmask"}),
    (WEIGHTS, "num_bits", 4),
    (WEIGHTS, "type", "float"),
    (WEIGHTS, "symmetric", False),
    (WEIGHTS, "strategy", "group"),
    (WEIGHTS, "strategy", "tensor"),
    (WEIGHTS, "strategy", None),
    (WEIGHTS, "group_size", 128),
    (WEIGHTS, "block_structure", [128, 128]),
    (WEIGHTS, "actorder", "weight"),
    (WEIGHTS, "dynamic", True),
    (TOKENS, "dynamic", False),
    (TOKENS, "dynamic", None),
    (TOKENS, "strategy", "tensor"),
    (TOKENS, "num_bits", 4),
    (TOKENS, "symmetric", False),
    (("config_groups", "group_0"), "output_activations", {"num_bits": 8}),
    (("config_groups", "group_0"), "format", "pack-quantized"),
    (("config_groups", "group_0"), "weights", None),
    (("config_groups", "group_0"), "weights", 3),
    (("config_groups",), "group_0", 3),
])  # fmt: skip
def test_what_is_not_supported_is_named(where: tuple[str, ...], field: str, value: object) -> None:
    data = quantization_config({"lm_head": "w8a8"}, ignore=[])
    place: dict = json.loads(json.dumps(data))
    whole = {"quantization_config": place}
    for key in where:
        place = place[key]
    place[field] = value
    with pytest.raises(ConfigError, match=rf"folder/config.json: quantization_config.*{field} is"):
        read_schemes(whole, file="folder/config.json")


def test_refused_before_weights_are_read(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    edit_config(tmp_path, lambda config: config["quantization_config"].update(quant_method="awq"))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="quant_method is 'awq'; allowed: compressed-tensors"):
        load(tmp_path)


@pytest.mark.parametrize("schemes", [
    {"a": "int8", "b": "int8"}, {"a": "w8a8"}, {"a": "int8", "b": "w8a8", "c": "int8"}, {},
])  # fmt: skip
def test_schemes_are_read_as_they_were_written(schemes: dict[str, str]) -> None:
    written = quantization_config(schemes or {"a": "int8"}, ignore=["x"], embeddings=True)
    read = read_schemes(json.loads(json.dumps({"quantization_config": written})))
    assert {name: read.of(name) for name in schemes} == schemes


def test_what_others_leave_out_or_add() -> None:
    data = quantization_config({"lm_head": "w8a8"}, ignore=[])
    group = data["config_groups"]["group_0"]
    group["weights"] = {"strategy": "channel", "observer": "minmax", "group_size": None, "actorder": None}
    group["input_activations"] = {"strategy": "token", "dynamic": True, "observer": None}
    data |= {"sparsity_config": {}, "transform_config": {}, "version": "0.9", "global_compression_ratio": 1.5}
    assert read_schemes({"quantization_config": data}).of("any") == "w8a8"


def test_groups_of_two_schemes_by_name_and_not_by_pattern() -> None:
    data = quantization_config({"a": "int8", "b": "w8a8"}, ignore=[])
    groups = data["config_groups"]
    groups["group_1"]["targets"] = ["Linear"]
    read = read_schemes({"quantization_config": data})
    assert (read.of("a"), read.of("anything")) == ("int8", "w8a8")
    groups["group_1"]["targets"] = ["b"]
    with pytest.raises(ConfigError, match="no group has c among its targets"):
        read_schemes({"quantization_config": data}).of("c")
    groups["group_0"]["targets"] = [r"re:(a+)+$"]
    with pytest.raises(ConfigError, match=r"group_0: targets holds 're:"):
        read_schemes({"quantization_config": data})
    groups["group_0"]["targets"] = "a"
    with pytest.raises(ConfigError, match="group_0: targets is not a list"):
        read_schemes({"quantization_config": data})
