"""F4, non-atomic saves: whatever stops a writer at any step, the old file is intact or the new one whole."""

import ast
import contextlib
import errno
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import write_faults
from test_layers import FILES, module_name
from write_faults import Case, InjectedError, fail, stopped

from glmflash import EncodedImage, Pipeline
from glmflash.errors import CheckpointError, ConfigError
from glmflash.model import Glm4v
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, resolve, save_pretrained

KINDS = ("float", "int8", "picture")


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, Case]:
    return {kind: Case(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


# One door


#: Who opens files for writing, by any of the ways there are. All else goes through `weights.files`.
WRITERS = {
    "weights.files": {"open"},
    "answers.database": {"sqlite3.connect"},  # a database has a journal of its own
    "evaluate.journal": {
        "open",
        "path.write_bytes",
    },  # grows line by line; a torn line is cut off when it is read
    "cli.evaluate": {"save"},  # a report, which goes through `weights.files`
    "markup": {"save"},  # these into memory
    "evaluate.pictures": {"save"},
    "cli.ask": {"save"},
    "cli.main": {"os.open"},  # of the null device
}
LIBRARIES = {"tempfile.mkstemp", "tempfile.NamedTemporaryFile", "tempfile.TemporaryFile", "sqlite3.connect"}
FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT"}
NAMES = {
    "write_text",
    "write_bytes",
    "touch",
    "save_file",
    "serialize_file",
    "copyfile",
    "copy2",
    "copytree",
    "savez",
}


def writes(source: str) -> set[str]:
    """Calls in a module that may create or change a file."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, leaf = ast.unparse(node.func), ast.unparse(node.func).split(".")[-1]
        texts = {
            arg.value
            for arg in ast.walk(node)
            if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        }
        modes = [text for text in texts if text and set(text) <= set("rwaxbt+") and set(text) & set("wax+")]
        flags = {leaf.attr for leaf in ast.walk(node) if isinstance(leaf, ast.Attribute)}
        if leaf in ("open", "fdopen", "FileIO") and modes:
            found.add("open")
        elif name in LIBRARIES or leaf in NAMES or (name == "os.open" and flags & FLAGS):
            found.add(name)
        elif (
            leaf == "save" and node.args and name != "save"
        ):  # Pillow's and NumPy's; `save(tensors)` gives bytes
            found.add(leaf)
    return found


def test_one_module_opens_files_for_writing() -> None:
    found = {module_name(path): writes(path.read_text()) for path in FILES}
    assert {module: calls for module, calls in found.items() if calls} == WRITERS


@pytest.mark.parametrize(
    "source",
    [
        "open(p, 'w')", "p.open('ab')", "p.open(mode='r+b')", "os.open(p, os.O_WRONLY)", "p.write_text(t)",
        "Path(p).write_bytes(b)", "save_file(t, p)", "image.save(p)", "np.save(p, x)", "shutil.copy2(a, b)",
        "tempfile.NamedTemporaryFile()", "sqlite3.connect(p)", "io.FileIO(p, 'w')", "os.fdopen(d, 'wb')",
    ],
)  # fmt: skip
def test_another_writer_would_be_noticed(source: str) -> None:
    assert writes(source)


@pytest.mark.parametrize(
    "source", ["open(p)", "p.open('rb')", "os.open(p, os.O_RDONLY)", "save(tensors)", "x.open()"]
)
def test_a_reader_is_none(source: str) -> None:
    assert not writes(source)


# Errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_f4_an_error_at_each_step(cases: dict[str, Case], kind: str, code: int) -> None:
    case, states = cases[kind], []
    steps = case.steps()
    every = 1 if kind == "picture" else 11
    for k in range(1 + code % every, len(steps) + 1, every):
        folder = case.fresh()
        with stopped(k, fail(code)) as begun, contextlib.suppress(InjectedError):
            case.write(folder)
        assert len(begun) >= k
        states.append(case.state(folder))
    assert set(states) == {"old", "new"}


def test_the_disk_has_files_and_folder_before_the_old_ones_go(cases: dict[str, Case]) -> None:
    for kind, case in cases.items():
        steps = case.steps()
        first = steps.index("replace" if kind == "picture" else "rename")
        if kind != "picture":  # shards are named, then the folder
            first = [i for i, step in enumerate(steps) if step == "rename"][-2]
            assert steps[first + 1] == "fsync"
        opened = steps[:first].count("open")
        assert 0 < opened <= steps[:first].count("fsync")
        assert "unlink" not in steps[2:first]
        assert steps[-1] == "fsync" or kind != "picture"


def test_where_there_are_no_links_it_is_moved(cases: dict[str, Case], monkeypatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(write_faults.os, "link", link)
    for kind in ("float", "int8"):
        folder = cases[kind].fresh()
        cases[kind].write(folder)
        assert cases[kind].state(folder) == "new"


# Kills


def in_processes(*orders: str) -> Iterator[tuple[str, dict]]:
    """Run loops of `write_faults` there, and give what each found."""
    command = [sys.executable, write_faults.__file__, *orders]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["order"] for one in found] == list(orders)
    for one in found:
        yield one["order"], one


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_kills_full_disks_and_two_writers() -> None:
    orders = ("int8:step:17", "picture:step:1", "int8:random:5", "int8:full:3", "int8:two:2")
    for order, found in in_processes(*orders):
        allowed = {"whole"} if "two" in order else {"old", "new"}
        assert set(found["states"]) <= allowed, order
        assert not found.get("missed"), order
        assert "step" not in order or set(found["states"]) == allowed, order


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_kills_at_every_step_and_a_hundred_times_at_random() -> None:
    loops = ("step:1", "random:100", "full:100")
    orders = [f"{kind}:{loop}" for kind in KINDS for loop in loops]
    for order, found in in_processes(*orders, "float:two:30"):
        allowed = {"whole"} if "two" in order else {"old", "new"}
        assert set(found["states"]) <= allowed, order
        assert not found.get("missed"), order


def test_a_stopped_save_is_read_and_finished(cases: dict[str, Case], tmp_path: Path) -> None:
    """Between the two states: the new checkpoint is complete, and the old one is partly gone."""
    case = cases["int8"]
    folder = case.fresh()
    last = len(case.steps()) - case.steps()[::-1].index("link")
    with stopped(last - 1, fail(errno.EIO)), pytest.raises(OSError, match="unlink"):
        case.write(folder)
    assert resolve(folder) == folder / ".saved"
    load_model(folder, device="cpu")
    assert case.state(folder) == "new"


# Saving over what was loaded; pictures


def test_a_pipeline_saves_over_its_own_folder(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "it")
    with Pipeline.from_pretrained(folder, device="cpu", quantize="int8") as pipe:
        before = pipe("What is it?", max_new_tokens=8, temperature=0).token_ids
        pipe.save_pretrained(folder)
        assert pipe("What is it?", max_new_tokens=8, temperature=0).token_ids == before
    with Pipeline.from_pretrained(folder, device="cpu") as again:
        assert again("What is it?", max_new_tokens=8, temperature=0).token_ids == before
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def pipe(nano_checkpoint: Path) -> Iterator[Pipeline]:
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu") as pipe:
        yield pipe


@pytest.fixture(scope="module")
def pictures(pipe: Pipeline) -> list[EncodedImage]:
    grey = [torch.full((3, 56, 56), shade, dtype=torch.uint8) for shade in (40, 200)]
    return [pipe.encode(shade) for shade in grey]


def test_a_picture_survives_an_error_at_each_step(pipe: Pipeline, pictures, tmp_path: Path) -> None:
    old, new = pictures
    path = tmp_path / "page.safetensors"
    with stopped(0, fail(errno.EIO)) as steps:
        new.save(path)
    found = set()
    for k in range(1, len(steps) + 1):
        old.save(path)
        with stopped(k, fail(errno.ENOSPC)), pytest.raises(OSError, match="No space"):
            new.save(path)
        found.add(EncodedImage.load(path, pipe).digest)
        assert [left.name for left in tmp_path.iterdir()] == [path.name]
    assert found == {old.digest, new.digest}


# Derived files know what was in them


def flips(content: bytes, times: int) -> Iterator[bytes]:
    chance = random.Random(times)
    for _ in range(times):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield bytes(flipped)


def means_the_same(content: bytes, flipped: bytes) -> bool:
    """Whether only space was hit: between the parts of JSON, or behind the header of a safetensors file."""
    if content[:1] == b"{":
        return json.loads(content) == json.loads(flipped)
    header = 8 + int.from_bytes(content[:8], "little")
    end = 8 + len(content[8:header].rstrip())
    return content[:end] == flipped[:end] and content[header:] == flipped[header:]


def detected(path: Path, times: int, load: Callable[[], object]) -> int:
    """Flip bits of a file; all that mean something are refused. Gives how many were."""
    content, refused = path.read_bytes(), 0
    for flipped in flips(content, times):
        path.write_bytes(flipped)
        try:
            load()
        except (CheckpointError, ConfigError):
            refused += 1
        else:
            assert means_the_same(content, flipped)
    path.write_bytes(content)
    return refused


def picture_flips(pipe: Pipeline, picture: EncodedImage, path: Path, times: int) -> int:
    return detected(picture.save(path), times, lambda: EncodedImage.load(path, pipe))


def weight_flips(model: Glm4v, source: Path, folder: Path, times: int) -> int:
    save_pretrained(model, folder, source=source)
    files = [folder / "model.safetensors", folder / "quantization.json"]
    return sum(detected(path, times // 2, lambda: load_model(folder, device="cpu")) for path in files)


def test_flipped_bits_of_a_saved_picture(pipe: Pipeline, pictures, tmp_path: Path) -> None:
    assert picture_flips(pipe, pictures[0], tmp_path / "it", 150) > 140


def test_flipped_bits_of_a_quantised_checkpoint(nano_checkpoint: Path, tmp_path: Path) -> None:
    model = load_model(nano_checkpoint, quantize="int8", device="cpu")
    assert weight_flips(model, nano_checkpoint, tmp_path, 40) > 34


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_flipped_bits_of_each(
    pipe: Pipeline, pictures, nano_checkpoint: Path, tmp_path: Path
) -> None:
    assert picture_flips(pipe, pictures[0], tmp_path / "it", 1000) > 980
    model = load_model(nano_checkpoint, quantize="int8", device="cpu")
    assert weight_flips(model, nano_checkpoint, tmp_path / "int8", 1000) > 900
