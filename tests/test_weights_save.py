"""What is written is what the hub has; a failure on the way leaves the old checkpoint."""

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from glmflash.errors import ParameterError
from glmflash.model import Glm4v
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, save_pretrained, write_checkpoint


def numbered(count: int) -> Iterator[tuple[str, Tensor]]:
    for number in range(count):
        yield f"t{number}", torch.full((4,), float(number))  # 16 bytes


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def test_shards_and_their_index(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "new", numbered(5), config={"x": "é"}, extra={"a.txt": b"A"}, shard_bytes=40
    )
    names = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*names, "model.safetensors.index.json", "config.json", "a.txt"]
    )
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_parameters": 20, "total_size": 80}
    assert index["weight_map"] == dict(
        zip([f"t{n}" for n in range(5)], [names[0]] * 2 + [names[1]] * 2 + [names[2]], strict=True)
    )
    assert json.loads((folder / "config.json").read_text()) == {"x": "é"}
    assert {name: tensor[0].item() for name, tensor in weights(folder).items()} == {
        f"t{n}": n for n in range(5)
    }


def test_what_fits_into_one_file_needs_no_index(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, numbered(3), config={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_tensor_larger_than_a_shard_has_a_file_for_itself(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, numbered(2), config={}, shard_bytes=1)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_never_more_than_a_shard_is_in_memory(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def watched() -> Iterator[tuple[str, Tensor]]:
        nonlocal most
        for number in range(12):
            tensor = torch.zeros(4)
            alive.add(tensor)
            most = max(most, len(alive))
            yield f"t{number}", tensor
            del tensor

    write_checkpoint(tmp_path, watched(), config={}, shard_bytes=48)
    assert most <= 4  # three of a shard, and the one that did not fit any more


def test_views_and_other_strides_are_saved_by_value(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    write_checkpoint(tmp_path, [("t", base.T)], config={})
    assert torch.equal(weights(tmp_path)["t"], base.T)


@pytest.mark.parametrize("shard_bytes", [0, -1, True, 1.5, float("nan"), "5 GB", None])
def test_shard_sizes_that_cannot_be(tmp_path: Path, shard_bytes: int) -> None:
    with pytest.raises(ParameterError, match="shard_bytes"):
        write_checkpoint(tmp_path, numbered(1), config={}, shard_bytes=shard_bytes)


@pytest.mark.parametrize("folder", ["", None, 5, b"", "a\0b"])
def test_nothing_is_saved_to_what_is_no_folder(nano_model, tmp_path, monkeypatch, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="folder"):
        write_checkpoint(folder, numbered(1), config={})
    with pytest.raises(ParameterError, match="folder"):
        save_pretrained(nano_model, folder, source=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_new_checkpoint_replaces_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    write_checkpoint(tmp_path, numbered(5), config={}, shard_bytes=16)
    write_checkpoint(tmp_path, numbered(2), config={}, shard_bytes=16)
    assert weights(tmp_path).keys() == {"t0", "t1"}
    write_checkpoint(tmp_path, numbered(1), config={})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "notes.md",
    ]
    write_checkpoint(tmp_path, numbered(2), config={}, shard_bytes=16)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_old_checkpoint(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_checkpoint(tmp_path, numbered(2), config={"old": True})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing() -> Iterator[tuple[str, Tensor]]:
        yield from numbered(3)
        raise error

    with pytest.raises(error):
        write_checkpoint(tmp_path, failing(), config={}, shard_bytes=16)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_loaded_model_saves_and_loads_again(
    nano_model: Glm4v, nano_checkpoint: Path, tmp_path: Path
) -> None:
    save_pretrained(nano_model, tmp_path, source=nano_checkpoint)
    again = load_model(tmp_path, device="cpu")
    assert again.config == nano_model.config
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), nano_model.state_dict().values(), strict=True)
    )
    copied = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json"]
    for name in copied:
        assert (tmp_path / name).read_bytes() == (nano_checkpoint / name).read_bytes()
    assert not list(tmp_path.glob("*index*"))


def test_the_dtype_in_config_is_brought_up_to_date(nano_checkpoint: Path, tmp_path: Path) -> None:
    model = load_model(nano_checkpoint, dtype="bfloat16", device="cpu")
    save_pretrained(model, tmp_path, source=nano_checkpoint)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert load_model(tmp_path, device="cpu").dtype == torch.bfloat16


def test_tied_embeddings_are_written_once(tmp_path: Path) -> None:
    source = random_checkpoint(tmp_path / "source", overrides={"tie_word_embeddings": True})
    model = load_model(source, device="cpu")
    folder = save_pretrained(model, tmp_path / "saved", source=source)
    assert "lm_head.weight" not in weights(folder)
    assert load_model(folder, device="cpu").config.tie_word_embeddings


def test_a_checkpoint_can_be_saved_over_itself(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path)
    before = weights(folder)
    save_pretrained(load_model(folder, device="cpu"), folder, source=folder)
    after = weights(folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
