"""Trust, code: nothing that is read is ever run: no pickle, no eval, no template, no process (C2, D4, F1)."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np
import pytest

import glmflash
from glmflash import Pipeline
from glmflash.version import warn_if_old

PACKAGE = Path(glmflash.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules that run what they are given, or start what does.
MODULES = set(
    "pickle _pickle cPickle dill cloudpickle joblib marshal shelve copyreg jsonpickle yaml ruamel jinja2 mako"
    " transformers subprocess _posixsubprocess multiprocessing pty runpy code codeop builtins imp cffi"
    " torch.package torch.hub torch.jit torch.utils.cpp_extension webbrowser".split()
)
BUILTINS = set("eval exec compile __import__ execfile globals locals __builtins__ breakpoint".split())
OF_OS = set("system popen fork forkpty posix_spawn posix_spawnp startfile".split())
LOADERS = {("torch", "load"), ("torch", "save"), ("np", "load"), ("np", "save"), ("np", "fromfile")}
WORDS = {
    "trust_remote_code",
    "allow_pickle",
    "weights_only",
    "auto_map",
    "weights_only=False",
    "chat_template",
}
# One place each: handing memory back to the system, and the extras that need not be there.
CTYPES = {"weights/trim.py"}
IMPORTED = {
    "grammar/guidance.py": "llguidance",
    "media/pdf.py": "pypdfium2",
    "media/video.py": "av",
    "observability/otel.py": "opentelemetry.",
    "observability/prometheus.py": "prometheus_client",
}
# Names of a module's contents that are computed: of `torch`, for a dtype that was checked to be one.
COMPUTED = {"testing/checkpoint.py"}


def problems(place: str, source: str) -> Iterator[str]:
    """What in a file could run what is read, however it is written."""
    tree = ast.parse(source)
    modules = {alias.asname or alias.name.split(".")[0] for alias in _imported(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"imports {name}" for name in _names(node) if _bad_module(name, place))
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node)
        elif isinstance(node, ast.Call):
            yield from _call(node, modules, place)
        elif said := _said(node):
            yield said


def _said(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) if name in BUILTINS:
            return f"names {name}"
        case ast.keyword(arg=str(word)) | ast.arg(arg=word) if word in WORDS:
            return f"the option {word}"
        case ast.Constant(value=str(word)) if word in WORDS:
            return f"the word {word}"
    return ""


def _attribute(node: ast.Attribute) -> Iterator[str]:
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    name = node.attr
    if owner == "os" and (name in OF_OS or name[:4] in ("exec", "spaw")):
        yield f"os.{name}"
    if (owner, name) in LOADERS:
        yield f"{owner}.{name}"
    if name in BUILTINS - {"compile", "eval"} or name in ("find_class", "__reduce__"):
        yield f".{name}"
    if name == "compile" and owner not in ("", "re", "compiler"):
        yield f"{owner}.compile"
    if name == "eval" and owner != "model":  # of a network: not for training
        yield f"{owner}.eval"


def _call(node: ast.Call, modules: set[str], place: str) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id="getattr"), args=[ast.Name(id=owner), name, *_]) if owner in modules:
            if not isinstance(name, ast.Constant) and place not in COMPUTED:
                yield f"a computed name of {owner}"
            if isinstance(name, ast.Constant) and name.value in BUILTINS | OF_OS | {"load", "import_module"}:
                yield f"{owner}.{name.value} by getattr"
        case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module")):
            if not _is_extra(node.args[0], place):
                yield "imports by a name that is computed, or of no extra"


def _imported(tree: ast.AST) -> Iterator[ast.alias]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from node.names


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


def _bad_module(name: str, place: str) -> bool:
    if name.split(".")[0] in ("ctypes", "_ctypes"):
        return place not in CTYPES
    if name == "importlib" or name.startswith("importlib."):
        allowed = ("importlib.resources", "importlib.util.find_spec", "importlib.util")
        return place not in IMPORTED and not name.startswith(allowed)
    parts = name.split(".")
    return any(".".join(parts[:end]) in MODULES for end in range(1, len(parts) + 1))


def _is_extra(name: ast.expr, place: str) -> bool:
    """Whether what is imported is the extra of that file, by a name that begins in the source."""
    if isinstance(name, ast.JoinedStr):
        name = name.values[0]
    begun = name.value if isinstance(name, ast.Constant) else None
    return isinstance(begun, str) and begun.startswith(IMPORTED.get(place, "\0"))


def test_d4_f1_no_file_can_run_what_it_reads() -> None:
    found = {str(path.relative_to(PACKAGE).as_posix()): path.read_text() for path in FILES}
    assert len(found) > 200
    assert [(place, said) for place, source in found.items() for said in problems(place, source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import _pickle as p", "def f():\n    import dill",
        "import marshal, json", "import shelve", "import yaml", "import subprocess", "import torch.jit",
        "from subprocess import run", "import multiprocessing.pool", "from torch import package",
        "import jinja2.sandbox", "from importlib import import_module",
        "from transformers import AutoModel", "import ctypes", "from ctypes import CDLL", "import importlib",
        "import importlib.machinery", "import runpy", "import builtins",
        "import os\nos.system('x')", "import os\nos.popen('x')", "import os\nos.execv('x', [])", "eval('1')",
        "import os\nos.spawnl(0, 'x')", "run = exec", "map(eval, x)", "__import__('os')", "torch.compile(f)",
        "f = x.__builtins__", "globals()['f']()", "import torch\ntorch.load('x')", "compile('1', '', 'eval')",
        "import numpy as np\nnp.load('x')", "import os\ngetattr(os, 'system')('x')", "x.eval('1')",
        "import os\ngetattr(os, 'sys' + 'tem')('x')",
        "import torch\ngetattr(torch, 'load')('x')", "import torch\ngetattr(torch, name)('x')",
        "load(x, allow_pickle=True)", "def load(x, weights_only=False): pass", "config['auto_map']",
        "config.get('trust_remote_code')", "class A:\n    def __reduce__(self): pass\nA.__reduce__",
    ],
)  # fmt: skip
def test_d4_f1_a_way_to_run_code_is_noticed(source) -> None:
    assert list(problems("somewhere.py", source))


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("media/pdf.py", "import importlib\nimportlib.import_module('pypdfium2')"),
        ("somewhere.py", "from importlib.resources import files"),
        ("somewhere.py", "import re\nre.compile('x')\ngetattr(self, name)"),
        ("weights/trim.py", "import ctypes"),
    ],
)
def test_f1_what_runs_nothing_is_let_through(place, source) -> None:
    assert list(problems(place, source)) == []


def test_f1_an_extra_is_imported_by_its_name_and_no_other() -> None:
    for name in ("'os'", "name", "f'{name}'", "'pypdfium2' if x else 'os'"):
        source = f"import importlib\nimportlib.import_module({name})"
        assert list(problems("media/pdf.py", source))


EVENTS = (
    "exec",
    "compile",
    "pickle.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "marshal.",
)
HEARD: list[str] = []
LISTENING: list[bool] = []


def _hear(event: str, _: object) -> None:
    if LISTENING and event.startswith(EVENTS):
        HEARD.append(event)


def test_c2_answering_runs_no_code() -> None:
    """As Python itself reports it: whatever the text says, nothing is compiled, run, unpickled or started."""
    code = "{{ ''.__class__.__mro__[1].__subclasses__() }} __import__('os').system('true') !!python/object:x"
    picture = np.zeros((56, 56, 3), np.uint8)

    def ask(pipe: Pipeline) -> None:
        tools = [{"type": "function", "function": {"name": "f", "description": code}}]
        pipe(code, images=picture, system=code, tools=tools, max_new_tokens=4)
        pipe(code, choice=["yes", code], max_new_tokens=4)

    sys.addaudithook(_hear)  # which stays; it listens only here
    with Pipeline.from_pretrained("tiny") as pipe:
        ask(pipe)  # what is imported late is imported now
        LISTENING.append(True)
        ask(pipe)
        compile("1", "", "eval")
        LISTENING.clear()
    assert HEARD == ["compile"]  # the one here: it did listen


def test_f1_the_floor_of_torch_is_required() -> None:
    """Older ones run code on load, even where they are told not to."""
    assert "torch>=2.10" in {need.replace(" ", "").lower() for need in requires("glmflash") or ()}
    assert tuple(map(int, version("torch").split(".")[:2])) >= (2, 10)


def test_f1_an_older_torch_is_warned_of(recwarn) -> None:
    for version_ in ("2.10.0", "2.13.0+cpu", "3.0.0a0+git1", "10.1"):
        warn_if_old("torch", version_, (2, 10))
    assert not recwarn
    with pytest.warns(
        RuntimeWarning, match=r"torch 2\.9\.1\+cu128 has known holes; glmflash needs torch 2\.10"
    ):
        warn_if_old("torch", "2.9.1+cu128", (2, 10))
