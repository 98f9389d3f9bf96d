"""Loading is strict, exact whatever the spelling, and sparing with memory."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmflash.errors import CheckpointError, ConfigError, DownloadError, ParameterError
from glmflash.model import Glm4v, NoCache
from glmflash.testing import random_checkpoint
from glmflash.weights import (
    load_config,
    load_generation,
    load_model,
    load_preprocessor,
    load_video_preprocessor,
    write_checkpoint,
)
from glmflash.weights.load import _device, _dtype

EMBED, HEAD, NORM = (
    "model.language_model.embed_tokens.weight",
    "lm_head.weight",
    "model.language_model.norm.weight",
)
GATE_UP = "model.language_model.layers.0.mlp.gate_up_proj.weight"


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {
        name: tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def rewritten(
    checkpoint: Path, folder: Path, change: Callable[[dict[str, Tensor]], object], **config: object
) -> Path:
    """A copy in one file, its tensors and config.json changed."""
    tensors = tensors_of(checkpoint)
    change(tensors)
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    data = json.loads((checkpoint / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(data))
    return folder


def renamed(*pairs: tuple[str, str]) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            for old, new in pairs:
                if name.startswith(old):
                    tensors[new + name.removeprefix(old)] = tensors.pop(name)
                    break

    return change


def split(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if name.endswith("gate_up_proj.weight")]:
        gate, up = tensors.pop(name).chunk(2)
        tensors[name.replace("gate_up", "gate")], tensors[name.replace("gate_up", "up")] = (
            gate.clone(),
            up.clone(),
        )


def add_what_is_ignored(tensors: dict[str, Tensor]) -> None:
    layer = "model.language_model.layers.3"
    tensors["model.visual.rotary_pos_emb.inv_freq"] = torch.zeros(4)
    tensors["model.visual.embeddings.position_ids"] = torch.zeros(4, dtype=torch.int64)
    tensors |= {f"{layer}.{name}.weight": torch.zeros(4) for name in ("eh_proj", "input_layernorm")}


def assert_same(model: Glm4v, other: Glm4v) -> None:
    mine, others = model.state_dict(), other.state_dict()
    assert mine.keys() == others.keys()
    for name in mine:
        assert torch.equal(mine[name], others[name]), name


def test_every_tensor_is_the_stored_one_and_the_model_is_ready(
    nano_model: Glm4v, nano_checkpoint: Path
) -> None:
    stored = tensors_of(nano_checkpoint)
    assert nano_model.state_dict().keys() == stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in nano_model.state_dict().items())
    assert not nano_model.training
    assert not any(parameter.requires_grad for parameter in nano_model.parameters())
    assert not any(tensor.is_meta for tensor in [*nano_model.parameters(), *nano_model.buffers()])
    logits = nano_model(nano_model.embed(torch.arange(5)), torch.arange(5).expand(3, 5), NoCache([5]))
    assert logits.shape == (5, 512)
    assert 0.01 < logits.std() < 10


@pytest.mark.parametrize(
    "change",
    [
        renamed(),
        renamed(("model.visual.", "visual.")),
        renamed(("model.language_model.", "model.")),
        renamed(("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head.")),
        split,
        add_what_is_ignored,
    ],
    ids=["single", "visual", "flat", "mlx", "split", "ignored"],
)
def test_spellings_load_to_the_same_weights(nano_model, nano_checkpoint, tmp_path, change) -> None:
    assert_same(load_model(rewritten(nano_checkpoint, tmp_path, change), device="cpu"), nano_model)


def test_halves_in_different_files(nano_model: Glm4v, nano_checkpoint: Path, tmp_path: Path) -> None:
    tensors = tensors_of(nano_checkpoint)
    split(tensors)
    ordered = sorted(tensors.items(), key=lambda item: ".up_proj." in item[0])
    config = json.loads((nano_checkpoint / "config.json").read_text())
    write_checkpoint(tmp_path, ordered, config=config, shard_bytes=200_000)
    assert_same(load_model(tmp_path, device="cpu"), nano_model)


def test_glm_ocr_loads(tmp_path: Path) -> None:
    model = load_model(random_checkpoint(tmp_path, "ocr-nano"), device="cpu")
    assert model.config.model_type == "glm_ocr"


@pytest.mark.parametrize("tie", [True, False])
def test_without_a_head_the_embeddings_serve(nano_checkpoint, tmp_path, caplog, tie) -> None:
    folder = rewritten(nano_checkpoint, tmp_path, lambda t: t.pop(HEAD), tie_word_embeddings=tie)
    with caplog.at_level(logging.WARNING, "glmflash"):
        model = load_model(folder, device="cpu")
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert bool(caplog.records) is not tie  # said aloud where config.json says otherwise


def test_a_head_in_the_file_is_used_whatever_config_says(nano_model, nano_checkpoint, tmp_path) -> None:
    folder = rewritten(nano_checkpoint, tmp_path, lambda t: None, tie_word_embeddings=True)
    assert_same(load_model(folder, device="cpu"), nano_model)


def test_all_problems_are_reported_together(nano_checkpoint: Path, tmp_path: Path) -> None:
    def damage(tensors: dict[str, Tensor]) -> None:
        del tensors[NORM]
        tensors[EMBED] = tensors[EMBED][:-1]
        tensors["model.visual.extra"] = torch.zeros(1)
        tensors["visual.merger.proj.weight"] = tensors["model.visual.merger.proj.weight"].clone()
        tensors["model.visual.post_layernorm.weight"] = torch.zeros(48, dtype=torch.int8)

    with pytest.raises(CheckpointError) as caught:
        load_model(rewritten(nano_checkpoint, tmp_path, damage), device="cpu")
    message = str(caught.value)
    for line in (
        f"{tmp_path}: 5 problem(s)",
        f"{NORM}: missing, in no file",
        f"model.safetensors: {EMBED}: has shape [511, 64], expected [512, 64]",
        "model.safetensors: model.visual.extra: unexpected tensor",
        "visual.merger.proj.weight: stands also in model.safetensors: ",
        "model.safetensors: model.visual.post_layernorm.weight: has dtype I8",
    ):
        assert line in message


def test_each_tensor_is_needed(nano_checkpoint: Path, tmp_path: Path) -> None:
    names = tensors_of(nano_checkpoint).keys() - {HEAD}
    with pytest.raises(CheckpointError) as caught:
        load_model(
            rewritten(nano_checkpoint, tmp_path, lambda t: [t.pop(name) for name in names]), device="cpu"
        )
    assert all(f"  {name}: missing" in str(caught.value) for name in names)


def test_more_layers_than_config_counts_are_noticed(nano_checkpoint: Path, tmp_path: Path) -> None:
    text = json.loads((nano_checkpoint / "config.json").read_text())["text_config"] | {"num_hidden_layers": 2}
    with pytest.raises(CheckpointError, match=r"layers\.2\.mlp.*unexpected"):
        load_model(rewritten(nano_checkpoint, tmp_path, lambda t: None, text_config=text), device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(nano_checkpoint: Path, tmp_path: Path, value: float) -> None:
    def damage(tensors: dict[str, Tensor]) -> None:
        tensors[NORM][3] = value
        tensors[EMBED][5, 5] = value

    with pytest.raises(CheckpointError, match="2 problem") as caught:
        load_model(rewritten(nano_checkpoint, tmp_path, damage), device="cpu")
    assert f"model.safetensors: {NORM}: holds NaN or infinity" in str(caught.value)


def test_weights_that_the_wanted_dtype_cannot_hold(nano_checkpoint: Path, tmp_path: Path) -> None:
    folder = rewritten(nano_checkpoint, tmp_path, lambda t: t[NORM].fill_(1e5))
    assert load_model(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="as float16"):
        load_model(folder, device="cpu", dtype="float16")


def test_a_missing_shard(nano_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(nano_checkpoint, tmp_path / "copy")
    gone = next(folder.glob("model-00002-*"))
    gone.unlink()
    with pytest.raises(CheckpointError, match=f"{gone.name}: no such file"):
        load_model(folder)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("auto", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtypes(nano_checkpoint: Path, asked: str | torch.dtype, got: torch.dtype) -> None:
    model = load_model(nano_checkpoint, dtype=asked, device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {got}


@pytest.mark.parametrize(("stored", "got"), [("bfloat16", torch.bfloat16), ("float16", torch.float32)])
def test_auto_is_the_stored_dtype_where_the_device_has_it(tmp_path, stored, got) -> None:
    assert load_model(random_checkpoint(tmp_path, dtype=stored), device="cpu").dtype == got


def test_auto_on_cards_without_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda:0")
    for capability, got in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert _dtype("auto", "bfloat16", card) == got
        assert _dtype("auto", "float16", card) == torch.float16


@pytest.mark.parametrize("dtype", ["int8", "half", "", torch.int8, torch.float64, None])
def test_dtypes_that_are_refused(nano_checkpoint: Path, dtype: object) -> None:
    with pytest.raises(ParameterError, match=r"dtype.*allowed.*bfloat16"):
        load_model(nano_checkpoint, dtype=dtype, device="cpu")


@pytest.mark.parametrize(
    "device", ["gpu", "", None, 0, b"cpu", "mps", "meta", torch.device("meta"), "cuda:-1"]
)
def test_devices_that_are_refused(nano_checkpoint: Path, device: object) -> None:
    with pytest.raises(ParameterError, match=r"device.*allowed"):
        load_model(nano_checkpoint, device=device)


def test_a_card_that_is_not_there(nano_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="no CUDA card"):
        load_model(nano_checkpoint, device="cuda")
    assert load_model(nano_checkpoint).device.type == "cpu"


def test_the_number_of_a_card_is_below_their_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda",
        "cuda",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(ParameterError, match=r"device: is 'cuda:2', but torch finds 2 CUDA card\(s\)"):
        _device("cuda:2")


def test_progress_counts_bytes(nano_checkpoint: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_model(nano_checkpoint, device="cpu", progress=lambda done, total: seen.append((done, total)))
    (total,) = {total for _, total in seen}
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert done[-1] == total == sum(tensor.nbytes for tensor in tensors_of(nano_checkpoint).values())


def test_one_tensor_at_a_time(nano_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is read, only it and the finished ones have memory; all others are still on meta."""
    import glmflash.weights.load as load

    built: list[Glm4v] = []
    monkeypatch.setattr(
        load, "build_on_meta", lambda c, build=load.build_on_meta: built.append(build(c)) or built[0]
    )
    real: list[int] = []

    def watch(done: int, total: int) -> None:
        real.append(sum(not parameter.is_meta for parameter in built[0].parameters()))

    load_model(nano_checkpoint, device="cpu", progress=watch)
    assert real == list(range(len(real)))


def test_no_such_folder() -> None:
    with pytest.raises(DownloadError, match="no such folder"):
        load_model("/none/such/folder")


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_model(tmp_path)


def test_the_configs_beside_the_weights(nano_checkpoint: Path, tmp_path: Path) -> None:
    assert load_config(nano_checkpoint).text.vocab_size == 512
    assert load_generation(nano_checkpoint).eos_token_id == (464, 471, 473, 483)
    assert load_generation(tmp_path).eos_token_id == ()
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json"):
        load_preprocessor(tmp_path)


def test_the_nested_preprocessor_of_transformers_5(nano_checkpoint: Path, tmp_path: Path) -> None:
    plain = load_preprocessor(nano_checkpoint)
    data = json.loads((nano_checkpoint / "preprocessor_config.json").read_text())
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"image_processor": data, "processor_class": "Glm46VProcessor"}))
    assert load_preprocessor(tmp_path) == plain
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"processor_config\.json: image_processor"):
        load_preprocessor(tmp_path)


def test_clips_have_limits_of_their_own(nano_checkpoint: Path, tmp_path: Path) -> None:
    pictures, clips = load_preprocessor(nano_checkpoint), load_video_preprocessor(nano_checkpoint)
    assert (pictures.max_pixels, clips.max_pixels) == (9_633_792, 100_352_000)
    assert replace(clips, max_pixels=pictures.max_pixels) == pictures
    data = json.loads((nano_checkpoint / "video_preprocessor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({"video_processor": data}))
    assert load_video_preprocessor(tmp_path) == clips


def test_without_a_file_clips_are_treated_as_pictures(nano_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(nano_checkpoint / "preprocessor_config.json", tmp_path)
    assert load_video_preprocessor(tmp_path) == load_preprocessor(tmp_path)


def test_the_older_way_with_clips_is_known_and_no_other(nano_checkpoint: Path, tmp_path: Path) -> None:
    """As GLM-4.1V's file has it."""
    file = tmp_path / "video_preprocessor_config.json"
    data = json.loads((nano_checkpoint / file.name).read_text())
    older = {"video_processor_type": "Glm4vVideoProcessor", "fps": 2, "max_duration": 300}
    file.write_text(json.dumps(data | older))
    assert load_video_preprocessor(tmp_path).family == "Glm4v"
    for name, value in (("fps", 4), ("max_duration", 60), ("do_sample_frames", False)):
        file.write_text(json.dumps(data | older | {name: value}))
        with pytest.raises(ConfigError, match=rf"video_preprocessor_config\.json: {name}"):
            load_video_preprocessor(tmp_path)
    file.write_text(json.dumps(data | {"video_processor_type": "Qwen2VLVideoProcessor"}))
    with pytest.raises(ConfigError, match="Qwen2VL"):
        load_video_preprocessor(tmp_path)
    file.write_text(json.dumps(data | {"merge_size": 1}))
    with pytest.raises(ConfigError, match="merge_size"):
        load_video_preprocessor(tmp_path, vision=load_config(nano_checkpoint).vision)


def test_patches_must_fit_the_vision_tower(nano_checkpoint: Path, tmp_path: Path) -> None:
    vision = load_config(nano_checkpoint).vision
    assert load_preprocessor(nano_checkpoint, vision=vision).patch_size == 14
    data = json.loads((nano_checkpoint / "preprocessor_config.json").read_text()) | {"merge_size": 1}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="merge_size"):
        load_preprocessor(tmp_path, vision=vision)
