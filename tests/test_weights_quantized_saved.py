"""A saved INT8 model is the same model again; a file that was changed or cut is refused, and named."""

import json
import random
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from quantized_folders import MANIFEST, WEIGHTS, assert_same, edit_config, tensors_of
from safetensors.torch import save_file

from glmflash.errors import CheckpointError, ConfigError, ParameterError
from glmflash.model import Glm4v, NoCache
from glmflash.quant import QuantizationConfig, QuantizedEmbedding, card, quantize_
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, save_pretrained, write_checkpoint
from glmflash.weights.shards import read_headers

SMALL = {"text_config": {"num_hidden_layers": 1}, "vision_config": {"depth": 1}}
Q = "model.language_model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("source"), dtype="bfloat16", overrides=SMALL)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, source: Path) -> Path:
    """Loaded as INT8 and saved, in one file."""
    folder = tmp_path_factory.mktemp("saved")
    return save_pretrained(load_model(source, quantize="int8", device="cpu"), folder, source=source)


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def load(folder: Path, quantize=None, **options) -> Glm4v:
    return load_model(folder, quantize=quantize, device="cpu", **options)


def logits(model: Glm4v) -> torch.Tensor:
    ids = torch.arange(5)
    return model(model.embed(ids), ids.expand(3, 5), NoCache([5]))


def resealed(folder: Path, change: Callable[[dict], object]) -> None:
    """A manifest that says something else, with a checksum that is right again."""
    import hashlib

    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    del data["sha256"]
    data["sha256"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(data))


def damaged_tensor(folder: Path, change: Callable[[dict], object], *, sealed: bool = False) -> None:
    """Tensors that were changed; with `sealed`, by somebody who also removed the manifest."""
    tensors = tensors_of(folder)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    if sealed:
        (folder / MANIFEST).unlink()
        edit_config(folder, lambda config: config.pop("quantization_manifest"))


# Saving


@pytest.mark.parametrize("config", [
    QuantizationConfig(), QuantizationConfig(scheme="w8a8"), QuantizationConfig(match=r"language_model.*mlp"),
    QuantizationConfig(scheme="w8a8", embeddings="int8"), QuantizationConfig(kernel="reference"),
], ids=["int8", "w8a8", "match", "embeddings", "reference"])  # fmt: skip
@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 60_000], ids=["one file", "files"])
def test_it_loads_again_as_it_was(source: Path, tmp_path: Path, config, shard_bytes: int) -> None:
    model = load(source, config)
    folder = save_pretrained(model, tmp_path / "saved", source=source, shard_bytes=shard_bytes)
    kernel = None if config.kernel is None else QuantizationConfig(scheme=config.scheme, kernel=config.kernel)
    again = load(folder, kernel)
    assert_same(model, again)
    assert torch.equal(logits(model), logits(again))
    assert (len(list(folder.glob("*.safetensors"))) > 2) is (shard_bytes < 10**6)
    twice = save_pretrained(again, tmp_path / "twice", source=folder, shard_bytes=shard_bytes)
    for path in folder.iterdir():
        assert (twice / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_lies_in_the_folder(saved: Path, source: Path) -> None:
    tensors, before = tensors_of(saved), tensors_of(source)
    assert tensors.keys() - before.keys() == {
        name.replace("weight", "weight_scale")
        for name, tensor in tensors.items()
        if tensor.dtype == torch.int8
    }
    assert tensors[f"{Q}.weight"].dtype == torch.int8
    assert tensors[f"{Q}.weight_scale"].shape == (64, 1)
    assert tensors[f"{Q}.weight_scale"].dtype == torch.float32
    assert not [name for name, tensor in before.items() if name not in tensors]
    config = json.loads((saved / "config.json").read_text())
    assert config["dtype"] == "bfloat16"  # the checkpoint's own
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    names = {path.name for path in saved.iterdir()}
    assert names - {path.name for path in source.iterdir()} == {WEIGHTS, MANIFEST}


def test_the_index_counts_bytes_and_parameters(source: Path, tmp_path: Path) -> None:
    folder = save_pretrained(load(source, "int8"), tmp_path, source=source, shard_bytes=60_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = tensors_of(folder)
    assert index["metadata"] == {
        "total_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "total_size": sum(tensor.nbytes for tensor in tensors.values()),
    }
    assert index["weight_map"].keys() == tensors.keys()


def test_one_layer_is_unpacked_at_a_time(source: Path, tmp_path: Path, monkeypatch) -> None:
    from glmflash.quant import QuantizedLinear

    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most, unpack = 0, QuantizedLinear.unpack

    def watched(layer) -> torch.Tensor:
        nonlocal most
        tensor = unpack(layer).clone()
        alive.add(tensor)
        most = max(most, len(alive))
        return tensor

    model = load(source, "int8")
    monkeypatch.setattr(QuantizedLinear, "unpack", watched)
    save_pretrained(model, tmp_path, source=source)
    assert most <= 2  # the next one is made before the last one's name is free


def test_layers_of_both_schemes_stay_what_they_are(source: Path, tmp_path: Path) -> None:
    model = load(source, dtype="float32")
    quantize_(model, "w8a8", match="visual")
    quantize_(model, "int8", match="language_model")
    again = load(save_pretrained(model, tmp_path, source=source))
    assert {layer.name: layer.scheme for layer in card(model).layers} == {
        layer.name: layer.scheme for layer in card(again).layers
    }
    assert torch.equal(logits(model), logits(again))


def test_a_tied_head(source: Path, tmp_path: Path) -> None:
    tensors = tensors_of(source)
    del tensors["lm_head.weight"]
    config = json.loads((source / "config.json").read_text()) | {"tie_word_embeddings": True}
    folder = write_checkpoint(tmp_path / "tied", tensors.items(), config=config)
    for number, wanted in enumerate([QuantizationConfig(), QuantizationConfig(match="mlp")]):
        model = load(folder, wanted)
        saved = save_pretrained(model, tmp_path / str(number), source=folder)
        assert ("lm_head.weight" in tensors_of(saved)) is (number == 0)
        assert_same(model, load(saved))


def test_a_plain_model_takes_the_place_of_a_quantised_one(source: Path, copy: Path) -> None:
    save_pretrained(load(source), copy, source=copy)  # configs from there too
    assert not (copy / MANIFEST).exists()
    assert "quantization" not in (copy / "config.json").read_text()
    assert_same(load(copy), load(source))


def test_a_failure_while_saving_leaves_the_old_one(source: Path, copy: Path, monkeypatch) -> None:
    from glmflash.quant import QuantizedLinear

    model, before = load(source, "w8a8"), {path.name: path.read_bytes() for path in copy.iterdir()}
    calls = []

    def failing(layer) -> torch.Tensor:
        calls.append(layer)
        if len(calls) == 5:
            raise OSError("no space left")
        return layer.packed.unpack()

    monkeypatch.setattr(QuantizedLinear, "unpack", failing)
    with pytest.raises(OSError, match="no space"):
        save_pretrained(model, copy, source=source)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


# Loading what was saved


def test_another_scheme_of_the_same_weights(saved: Path, source: Path) -> None:
    assert_same(load(saved, "w8a8"), load(source, "w8a8"))
    assert {layer.scheme for layer in card(load(saved)).layers} == {"int8"}


def test_the_same_match_may_be_said_again_and_no_other(source: Path, tmp_path: Path) -> None:
    folder = save_pretrained(load(source, QuantizationConfig(match="visual")), tmp_path, source=source)
    assert load(folder, QuantizationConfig(match="^model.visual"))  # the same layers
    for match in ("language_model", r"visual.*mlp", "."):
        with pytest.raises(ParameterError, match=r"match: is .* INT8 already"):
            load(folder, QuantizationConfig(match=match))
    with pytest.raises(ParameterError, match="found in none"):
        load(folder, QuantizationConfig(match="nothing"))
    with pytest.raises(ParameterError, match=r"embeddings: is 'int8'.* INT8 already"):
        load(folder, QuantizationConfig(embeddings="int8"))


def test_saved_embeddings_stay_int8(source: Path, tmp_path: Path) -> None:
    folder = save_pretrained(load(source, QuantizationConfig(embeddings="int8")), tmp_path, source=source)
    for quantize in (None, "w8a8", QuantizationConfig(embeddings="int8")):
        assert isinstance(load(folder, quantize).model.language_model.embed_tokens, QuantizedEmbedding)


def test_dtypes_are_chosen_anew(saved: Path) -> None:
    model = load(saved, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_folder_may_vanish_afterwards(copy: Path) -> None:
    model = load(copy, QuantizationConfig(kernel="reference"))  # which keeps weights as they are given
    before = logits(model)
    (copy / WEIGHTS).write_bytes(b"")
    assert torch.equal(logits(model), before)


# Damage


def test_one_flipped_bit_in_each_tensor(copy: Path) -> None:
    problems: list[str] = []
    names = [tensor.name for tensor in read_headers(copy, problems)]
    rng = random.Random(0)

    def flip(tensors) -> None:
        for tensor in tensors.values():
            flat = tensor.view(-1).view(torch.uint8)
            flat[rng.randrange(len(flat))] ^= 1 << rng.randrange(8)

    damaged_tensor(copy, flip)
    with pytest.raises(CheckpointError) as caught:
        load(copy)
    lines = str(caught.value).splitlines()
    assert {line.strip() for line in lines[1:]} == {
        f"{WEIGHTS}: {name}: the checksum is wrong, so it was changed or damaged" for name in names
    }


def test_swapped_tensors_are_noticed(copy: Path) -> None:
    def swap(tensors) -> None:
        a, b = (f"model.language_model.layers.0.self_attn.{kind}_proj.weight" for kind in "kv")
        tensors[a], tensors[b] = tensors[b], tensors[a]

    damaged_tensor(copy, swap)
    with pytest.raises(CheckpointError, match="2 problem"):
        load(copy)


def _retype(tensors) -> None:
    tensors[f"{Q}.weight_scale"] = tensors[f"{Q}.weight_scale"].double()


def _reshape(tensors) -> None:
    tensors[f"{Q}.weight_scale"] = tensors[f"{Q}.weight_scale"].flatten()


@pytest.mark.parametrize(("change", "line"), [
    (lambda t: t.pop(f"{Q}.weight_scale"), f"{Q}.weight_scale: missing, in no file"),
    (lambda t: t.pop(f"{Q}.weight"), f"{Q}.weight: missing, in no file"),
    (lambda t: t.pop("model.language_model.norm.weight"), "norm.weight: missing, in no file"),
    (lambda t: t.update(extra=torch.zeros(1)), f"{WEIGHTS}: extra: unexpected tensor"),
    (lambda t: t.update({f"{Q}.weight_zero_point": torch.zeros(64, 1)}), "zero_point: unexpected tensor"),
    (lambda t: t.update({f"{Q}.weight": t[f"{Q}.weight"][:-1]}), "has shape [63, 64], expected [64, 64]"),
    (lambda t: t.update({f"{Q}.weight_scale": torch.ones(1, 64)}), "has shape [1, 64], expected [64, 1]"),
    (lambda t: t.update({f"{Q}.weight": t[f"{Q}.weight"].float()}), "has dtype F32, expected one of I8"),
    (lambda t: t.update({f"{Q}.weight_scale": t[f"{Q}.weight_scale"].int()}), "has dtype I32"),
    (_retype, f"weight_scale: is F64 [64, 1], but {MANIFEST} says F32 [64, 1]"),
    (_reshape, f"weight_scale: is F32 [64], but {MANIFEST} says F32 [64, 1]"),
])  # fmt: skip
def test_tensors_that_are_not_what_they_were(copy: Path, change, line: str) -> None:
    damaged_tensor(copy, change)
    with pytest.raises(CheckpointError) as caught:
        load(copy)
    assert line in str(caught.value)


@pytest.mark.parametrize("value", [0.0, -1e-3, float("nan"), float("inf")])
def test_scales_that_cannot_be(copy: Path, value: float) -> None:
    damaged_tensor(copy, lambda t: t[f"{Q}.weight_scale"][7].fill_(value), sealed=True)
    with pytest.raises(
        CheckpointError, match=f"{WEIGHTS}: {Q}.weight_scale: holds scales that are not above 0"
    ):
        load(copy)


def test_files_that_are_missing_renamed_or_cut(saved: Path, tmp_path: Path) -> None:
    for number, (name, change) in enumerate([
        (WEIGHTS, Path.unlink),
        (WEIGHTS, lambda path: path.rename(path.with_name("other.safetensors"))),
        (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:-1])),
        (WEIGHTS, lambda path: path.write_bytes(path.read_bytes() + b"\0")),
        (WEIGHTS, lambda path: path.write_bytes(path.read_bytes()[:100])),
        (WEIGHTS, lambda path: path.write_bytes(b"")),
        (MANIFEST, Path.unlink),
        (MANIFEST, lambda path: path.rename(path.with_name("other.json"))),
        (MANIFEST, lambda path: path.write_bytes(path.read_bytes()[:-20])),
        (MANIFEST, lambda path: path.write_bytes(b"")),
        (MANIFEST, lambda path: path.write_text("{}")),
        (MANIFEST, lambda path: path.write_text("[]")),
    ]):  # fmt: skip
        folder = shutil.copytree(saved, tmp_path / str(number))
        change(folder / name)
        with pytest.raises((CheckpointError, ConfigError), match=name):
            load(folder)


def test_shards_of_another_checkpoint(source: Path, tmp_path: Path) -> None:
    """Each file is whole, and belongs to another model."""
    one = save_pretrained(load(source, "int8"), tmp_path / "one", source=source, shard_bytes=60_000)
    other = random_checkpoint(tmp_path / "other", dtype="bfloat16", overrides=SMALL, seed=1)
    two = save_pretrained(load(other, "int8"), tmp_path / "two", source=other, shard_bytes=60_000)
    (name,) = (path.name for path in two.glob("model-00002-*"))
    shutil.copy(two / name, one / name)
    with pytest.raises(CheckpointError, match=f"{name}: .*checksum is wrong"):
        load(one)


@pytest.mark.parametrize(("change", "message"), [
    (lambda data: data.update(version=2), "has version 2; this glmflash reads 1"),
    (lambda data: data.update(format="other"), "format is 'other'"),
    (lambda data: data.update(tensors=[]), "does not hold what this version says"),
    (lambda data: data.update(tensors={"a": 1}), "does not hold what this version says"),
    (lambda data: data.pop("card"), "does not hold what this version says"),
    (lambda data: data["card"]["layers"][0].update(error="much"), "card"),
    (lambda data: data["card"]["layers"][0].update(name=3), "card"),
    (lambda data: data["card"]["layers"].pop(), "is not INT8 in quantization.json, int8 in the rest"),
    (lambda data: data["tensors"].pop("lm_head.weight"), "lm_head.weight: is not in quantization.json"),
    (lambda data: data["tensors"].update(more=data["tensors"]["lm_head.weight"]), "more: in quant"),
])  # fmt: skip
def test_manifests_that_were_made_up(copy: Path, change, message: str) -> None:
    resealed(copy, change)
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        load(copy)
    assert message in str(caught.value)


def test_config_and_manifest_must_agree_on_the_scheme(copy: Path) -> None:
    token = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    groups = "quantization_config", "config_groups", "group_0"

    def change(config) -> None:
        config[groups[0]][groups[1]][groups[2]]["input_activations"] = token

    edit_config(copy, change)
    with pytest.raises(CheckpointError, match=f"is int8 in {MANIFEST}, w8a8 in the rest"):
        load(copy)


def fuzz(saved: Path, folder: Path, *, seeds: range) -> int:
    """Bytes changed anywhere in weights or manifest: refused with a typed error, or the same model."""
    wanted, refused = load(saved), 0
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice([WEIGHTS, MANIFEST])
        content = bytearray((saved / name).read_bytes())
        header = 8 + int.from_bytes(content[:8], "little") if name == WEIGHTS else len(content)
        end = rng.choice([16, header, len(content)])
        for _ in range(rng.choice([1, 1, 2, 9])):
            content[rng.randrange(end)] ^= 1 << rng.randrange(8)
        if rng.random() < 0.1:
            del content[rng.randrange(len(content)) :]
        shutil.copytree(saved, folder, dirs_exist_ok=True)
        (folder / name).write_bytes(content)
        try:
            assert_same(load(folder), wanted)
        except (CheckpointError, ConfigError):
            refused += 1
    return refused


@pytest.mark.slow
def test_any_flipped_bytes_are_refused_or_mean_nothing(saved: Path, tmp_path: Path) -> None:
    assert fuzz(saved, tmp_path, seeds=range(25)) > 15


@pytest.mark.soak
def test_any_flipped_bytes_for_long(saved: Path, tmp_path: Path) -> None:
    assert fuzz(saved, tmp_path, seeds=range(100, 3100)) > 2000
