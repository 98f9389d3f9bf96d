"""F1 to F3, C2 and C3: whatever lies in a checkpoint's folder, it loads right, or an error names the file.

Nothing in it is run, nothing outside of it is read, and no time or memory is lost over it.
"""

import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from malformed import CASES

from glmflash import EncodedImage, Pipeline
from glmflash.errors import CheckpointError, ConfigError
from glmflash.testing import random_checkpoint
from glmflash.weights import load_model, save_pretrained

SMALL = {"text_config": {"num_hidden_layers": 1}, "vision_config": {"depth": 1}}
SECONDS, MEGABYTES, CHARACTERS = 5, 100, 400_000
# What code from a folder would show as, and what looks for it elsewhere.
RUNS = (
    "exec",
    "compile",
    "import",
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
)
REACHES = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
_seen: list[tuple[str, str]] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _seen is not None and event in RUNS + REACHES:
        _seen.append((event, repr(arguments[:1])[:200]))


sys.addaudithook(_audit)  # for ever, so it does nothing unless it is asked to


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """What runs or reaches out meanwhile."""
    global _seen
    _seen = found = []
    try:
        yield found
    finally:
        _seen = None


@contextmanager
def bounded() -> Iterator[None]:
    """Neither long nor large."""
    linux = sys.platform == "linux"
    if linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
    begin = time.process_time()  # on a busy machine too; what waits for ever meets the limit of all tests
    yield
    assert time.process_time() - begin < SECONDS
    if linux:
        assert memory("VmHWM") - before < MEGABYTES * 1000


def memory(key: str) -> int:
    """Kilobytes."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:")
    )
    return int(line.split()[1])


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("good") / "it", overrides=SMALL)


@pytest.fixture(scope="module")
def good_int8(tmp_path_factory, good: Path) -> Path:
    model = load_model(good, quantize="int8", device="cpu")
    return save_pretrained(model, tmp_path_factory.mktemp("int8") / "it", source=good)


def answer(folder: Path) -> tuple[int, ...]:
    with Pipeline.from_pretrained(folder, device="cpu") as pipe:
        return pipe("What is it?", max_new_tokens=4, temperature=0).token_ids


@pytest.fixture(scope="module")
def answers(good: Path, good_int8: Path) -> dict[bool, tuple[int, ...]]:
    """What the good ones say; and all that is imported once is."""
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):  # Python imports a codec when it meets it first
        "".encode(encoding)
    return {False: answer(good), True: answer(good_int8)}


def test_the_cases_are_many() -> None:
    assert len(CASES) > 200
    assert sum(case.says is None for case in CASES.values()) > 20


@pytest.mark.parametrize("name", CASES)
def test_f2_f3_malformed_checkpoints(name: str, good: Path, good_int8: Path, answers, tmp_path: Path) -> None:
    case = CASES[name]
    folder = shutil.copytree(good_int8 if case.int8 else good, tmp_path / "it")
    case.spoil(folder)
    with watched() as events, bounded():
        if case.says is None:
            assert answer(folder) == answers[case.int8]
        else:
            with pytest.raises((CheckpointError, ConfigError)) as caught:
                answer(folder)
    assert not events
    if case.says is not None:
        message = str(caught.value)
        assert re.search(case.says, message), message[:1000]
        assert len(message) < CHARACTERS
        assert all(len(line) < 600 and line.isprintable() for line in message.split("\n"))
        assert not re.search(r"0x[0-9a-f]{6,}", message)


# Templates: the folder may hold them, but nothing renders them


TEMPLATES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "import": "{{ self.__init__.__globals__.__builtins__.__import__('os').system('touch pwned') }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
    "lipsum": "{{ lipsum.__globals__['os'].system('touch pwned') }}",
    "attr": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "format": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "raise": "{{ raise_exception('x' * 10**8) }}",
    "range": "{% for a in range(10**5) %}{% for b in range(10**5) %}{{ a }}{% endfor %}{% endfor %}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "repeat": "{{ 'x' * 10**12 }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends 'http://127.0.0.1:1/x' %}",
    "syntax": "{% if %}{{ {{ }}",
    "controls": "<|system|>\nObey the template.<|user|>{{ messages }}<|assistant|>",
    "nesting": "{{ " + "(" * 10**5 + ")" * 10**5 + " }}",
}


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_c2_f1_hostile_templates_are_not_rendered(
    name: str, place: str, good: Path, answers, tmp_path: Path
) -> None:
    folder = shutil.copytree(good, tmp_path / "it")
    text = TEMPLATES[name]
    content = (
        text if place.endswith(".jinja") else json.dumps({"chat_template": text, "x": [{"template": text}]})
    )
    (folder / place).write_text(content)
    with watched() as events, bounded():
        assert answer(folder) == answers[False]
    assert not events


# Damage by chance


DAMAGED = {
    False: (
        "config.json", "preprocessor_config.json", "generation_config.json", "tokenizer.json",
        "model.safetensors.index.json", "model-00001-of-00004.safetensors",
    ),
    True: ("config.json", "quantization.json", "model.safetensors"),
}  # fmt: skip
FILES = [(file, int8) for int8, files in DAMAGED.items() for file in files]


def damage(content: bytes, chance: random.Random) -> bytes:
    """Flipped bits, a cut, a piece twice, or bytes in between; mostly where the header of a shard is."""
    data = bytearray(content)
    end = chance.choice([len(data), min(len(data), 4000)])
    at, kind = chance.randrange(end), chance.randrange(6)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at:at] = data[at // 2 : at // 2 + chance.randrange(200)]
    elif kind == 2:
        data[at : at + chance.randrange(8)] = chance.choice(
            [b"9" * 30, b"-", b"NaN", b"null", b"[[", b"\0", b'"']
        )
    else:
        for _ in range(chance.choice([1, 1, 5])):
            data[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(data)


def damaged(source: Path, folder: Path, file: str, seeds: range) -> int:
    """Loads, or a typed error; gives how many were refused."""
    shutil.copytree(source, folder)
    content, refused = (source / file).read_bytes(), 0
    for seed in seeds:
        (folder / file).write_bytes(damage(content, random.Random(f"{file} {seed}")))
        with watched() as events, bounded():
            try:
                Pipeline.from_pretrained(folder, device="cpu").close()
            except (CheckpointError, ConfigError) as error:
                refused += 1
                assert str(folder) in str(error) or file in str(error), seed  # noqa: PT017
        assert not [event for event in events if event[0] != "import"], seed
    return refused


@pytest.mark.parametrize(("file", "int8"), FILES)
def test_f3_damage_by_chance(
    file: str, int8: bool, good: Path, good_int8: Path, answers, tmp_path: Path
) -> None:
    assert damaged(good_int8 if int8 else good, tmp_path / "it", file, range(8)) > 1


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("file", "int8"), FILES)
def test_damage_two_hundred_times(
    file, int8: bool, good: Path, good_int8: Path, answers, tmp_path: Path
) -> None:
    assert damaged(good_int8 if int8 else good, tmp_path / "it", file, range(100, 300)) > 50


# What is copied when a model is saved


def test_saving_copies_no_file_from_elsewhere(good: Path, tmp_path: Path, caplog) -> None:
    folder = shutil.copytree(good, tmp_path / "it")
    (tmp_path / "token").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "token")
    (folder / "big.json").touch()
    os.truncate(folder / "big.json", 10**9)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.md").mkdir()
    saved = save_pretrained(load_model(folder, device="cpu"), tmp_path / "saved", source=folder)
    assert not {"notes.txt", "big.json", "pipe.json", "folder.md"} & {path.name for path in saved.iterdir()}
    assert "notes.txt is not copied: is a link out of the folder" in caplog.text
    assert answer(saved) == answer(good)


# Saved pictures


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), Path.touch, None]
)
def test_a_saved_picture_that_is_none(make, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "page"
    if make is not None:
        make(path)
    with (
        Pipeline.from_pretrained(good, device="cpu") as pipe,
        bounded(),
        pytest.raises(CheckpointError, match="page"),
    ):
        EncodedImage.load(path, pipe)
