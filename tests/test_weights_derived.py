"""What was derived from a model comes back as it was written, or not at all."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glmflash.errors import CheckpointError
from glmflash.weights import files
from glmflash.weights.derived import read_derived, write_derived
from glmflash.weights.files import replacing

KEYS = {"kind": "glmflash-test", "version": 3, "fingerprint": "ab" * 16}
METADATA = {"name": "é", "sizes": [1, 2], "salt": None}


def tensors() -> dict[str, Tensor]:
    base = torch.arange(24.0)
    return {
        "floats": base.view(2, 3, 4),
        "half": base.bfloat16(),
        "bytes": torch.arange(-8, 8, dtype=torch.int8),
        "view": base[4:8],  # shares memory with the first
        "turned": base.view(4, 6).T,
        "empty": torch.zeros(0, 3),
        "broken": torch.tensor([float("nan"), float("inf")]),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_derived(tmp_path / "it.safetensors", tensors(), metadata=METADATA, **KEYS)


def test_there_and_back(file: Path) -> None:
    derived = read_derived(file, required=["floats"], **KEYS)
    assert derived.metadata == METADATA
    assert derived.tensors.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(derived.tensors[name].nan_to_num(), tensor.nan_to_num()), name
        assert derived.tensors[name].dtype == tensor.dtype
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_nothing_at_all_can_be_written(tmp_path: Path) -> None:
    write_derived(tmp_path / "none", {}, metadata={}, **KEYS)
    assert not read_derived(tmp_path / "none", **KEYS).tensors


def test_what_is_read_does_not_change_with_the_file(file: Path) -> None:
    derived = read_derived(file, **KEYS)
    with file.open("r+b") as stream:
        stream.seek(-40, os.SEEK_END)
        stream.write(b"\xff" * 40)
    assert torch.equal(derived.tensors["floats"], tensors()["floats"])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "other"}, "'glmflash-test'; needed here: 'other'"),
        ({"version": 4}, "has version '3'.*reads 4"),
        ({"fingerprint": "cd" * 16}, "made by another model"),
        ({"required": ["kv", "floats", "vision"]}, "kv, vision missing"),
    ],
)
def test_what_is_of_another_sort(file: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem) as caught:
        read_derived(file, **KEYS | changes)
    assert str(file) in str(caught.value)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_derived(path, **KEYS)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing")
    assert "no such file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no such file" in refused(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello")
    assert "not a safetensors file" in refused(tmp_path / "text")
    (tmp_path / "none").touch()
    refused(tmp_path / "none")
    save_file({"a": torch.ones(2)}, tmp_path / "plain.safetensors")
    assert "another program's file" in refused(tmp_path / "plain.safetensors")


def test_every_truncation_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for length in range(0, len(content), 37):
        file.write_bytes(content[:length])
        refused(file)
    file.write_bytes(content + b"\0")
    refused(file)


def test_every_flipped_bit_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    end = 8 + len(content[8 : 8 + header].rstrip())  # then come spaces that align the tensors
    places = [*range(end), *range(8 + header, len(content))]
    chance = random.Random(0)
    for _ in range(1000):
        flipped = bytearray(content)
        flipped[chance.choice(places)] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        refused(file)


def rewrite(file: Path, change) -> None:
    """Change the header as somebody would who knows the format."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length].decode())
    file.write_bytes(len(header.encode()).to_bytes(8, "little") + header.encode() + content[8 + length :])


def test_a_name_that_stands_twice(file: Path) -> None:
    entry = '"empty":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}'
    rewrite(file, lambda header: header.replace("{", "{" + entry + ",", 1))
    assert "stands twice" in refused(file)


@pytest.mark.parametrize("name", ["kind", "version", "fingerprint", "metadata", "sha256"])
def test_a_field_that_is_missing(file: Path, name: str) -> None:
    def without(header: str) -> str:
        data = json.loads(header)
        del data["__metadata__"][name]
        return json.dumps(data)

    rewrite(file, without)
    refused(file)


def test_metadata_that_is_no_object(tmp_path: Path) -> None:
    for value in ([1], "x", None):
        path = write_derived(tmp_path / "odd", {}, metadata=value, **KEYS)  # type: ignore[arg-type]
        assert "not a JSON object" in refused(path)
    with pytest.raises(ValueError, match="JSON"):
        write_derived(tmp_path / "new", {}, metadata={"x": float("nan")}, **KEYS)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(file: Path, error: type[BaseException]) -> None:
    before = file.read_bytes()

    def fail() -> None:
        with replacing(file) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_derived(tmp_path / "no" / "it", {}, metadata={}, **KEYS)


def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "it"

    def write(number: int) -> None:
        for _ in range(5):
            own = {"x": torch.full((1000,), float(number))}
            write_derived(path, own, metadata={"number": number}, **KEYS)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    derived = read_derived(path, **KEYS)
    assert derived.tensors["x"].unique().tolist() == [derived.metadata["number"]]
    assert [left.name for left in tmp_path.iterdir()] == ["it"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_what_a_killed_writer_leaves_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_text("old")
    script = (
        "import os, runpy, signal, sys; from pathlib import Path\n"
        "with runpy.run_path(sys.argv[1])['replacing'](Path(sys.argv[2])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, files.__file__, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    with replacing(path) as stream:
        stream.write(b"new")
    assert path.read_text() == "new"
    assert [left.name for left in tmp_path.iterdir()] == ["it"]


@pytest.mark.skipif(sys.platform == "win32", reason="has neither")
@pytest.mark.timeout(60)
def test_f4_nothing_is_written_through_what_lies_in_the_way(tmp_path: Path) -> None:
    """Others may write to the folder, and know what the file is called while it is written."""
    path, own = tmp_path / "it", tmp_path / "mine"
    own.write_text("precious")
    stage = tmp_path / ".it.saving"
    for put in (lambda: stage.symlink_to(own), lambda: os.link(own, stage), lambda: os.mkfifo(stage)):
        put()
        with pytest.raises(OSError, match=r"\.it\.saving"):
            write_derived(path, {}, metadata={}, **KEYS)
        assert own.read_text() == "precious"
        assert not path.exists()
        stage.unlink()


def raw(path: Path, dtype: str, metadata: dict[str, str]) -> None:
    entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, 6]}
    header = json.dumps({"__metadata__": metadata, "a": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(6))


def test_f3_a_dtype_that_torch_has_not(tmp_path: Path) -> None:
    written = {name: str(value) for name, value in KEYS.items()}
    raw(tmp_path / "it", "F6_E2M3", {})
    older = version("safetensors").startswith("0.5.")  # to it no such dtype is known at all
    assert ("not a safetensors file" if older else "another program's file") in refused(tmp_path / "it")
    raw(tmp_path / "it", "F6_E2M3", written)
    assert ("not a safetensors file" if older else "holds what cannot be read") in refused(tmp_path / "it")


def test_no_tensor_of_another_sort_of_file_is_read(file: Path, monkeypatch) -> None:
    """A whole model may be given by mistake."""
    monkeypatch.setattr(Tensor, "clone", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(CheckpointError, match="needed here"):
        read_derived(file, **KEYS | {"kind": "other"})
