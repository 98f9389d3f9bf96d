"""The floors of the house: who may import whom, which library lives in which room, how long files are."""

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import glmflash

PACKAGE = Path(glmflash.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
ROOMS = ("ops", "media", "prompt", "kv", "quant", "output", "grammar", "model", "weights", "engine")
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "bounds", "config", "confined", "shapes", "shown", "fields", "markup", "version"),
    ("ops", "notebook"),
    ("media", "prompt", "kv", "quant", "output", "grammar", "progress"),
    ("model",),
    ("weights",),
    ("engine",),
    ("asks", "prepare", "session", "batching", "loading", "plan", "answers", "testing"),
    ("many", "structured", "tools", "observability"),
    ("pipeline", "openai", "evaluate"),
    ("cli", "spec"),
    ("__init__", "__main__"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Floor 0 reads no library at all, and its files may see one another.
SIBLINGS = set(FLOORS[0])

# library -> who may import it: a room, or one module of it
ALLOWED = {
    "IPython": ("notebook",),
    "PIL": ("media", "output.drawing"),
    "av": ("media.video",),
    "tokenizers": ("prompt.tokenizer", "testing"),
    "huggingface_hub": ("weights.hub",),
    "safetensors": ("weights", "testing"),
    "tqdm": ("progress",),
    "triton": ("ops.int8.triton",),
    "pandas": ("output.table",),
    "pypdfium2": ("media.pdf",),
    "llguidance": ("grammar.guidance",),
    "opentelemetry": ("observability.otel",),
    "prometheus_client": ("observability.prometheus",),
    "redis": ("answers.redis",),
    "numpy": (
        "ops.int8", "model.decode", "model.layers", "media", "prompt", "grammar", "output", "testing",
        "prepare", "pipeline", "engine", "evaluate.statistics", "evaluate.summary", "evaluate.teds",
        "evaluate.tree_distance",
    ),
    # What opens connections: of the standard library too it lives in one room.
    **dict.fromkeys(("socket", "ssl", "http", "selectors"), ("media.fetch",)),
    **dict.fromkeys(("_socket", "_ssl", "urllib", "ftplib", "smtplib", "socketserver", "xmlrpc"), ()),
    "torch": (
        "ops", "media.patches", "kv.store", "kv.cache", "kv.memory", "kv.past", "kv.quantize",
        "quant", "model", "weights", "engine", "prepare", "session", "loading", "plan", "pipeline",
        "spec", "testing", "evaluate.memory",
    ),
}  # fmt: skip
TORCH_FREE = ("engine.scheduler",)
FORBIDDEN_IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "transformers", "jinja2"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.hub.load", "torch.save"}


def module_name(path: Path) -> str:
    """`media.read` for glmflash/media/read.py, `media` for its __init__, `__init__` for the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file, made once for all tests."""
    return ast.parse(path.read_text())


def for_every_file(test: Callable[[Path], None]) -> Callable[[], None]:
    """Make one test of all files; what goes wrong names the file."""

    def run() -> None:
        for path in FILES:
            try:
                test(path)
            except AssertionError as error:
                error.add_note(f"in {path.relative_to(PACKAGE)}")
                raise

    return run


def room(module: str) -> str:
    return module.split(".")[0]


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every module imported, wherever in the file that happens, and whether only type checkers see it."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            inside = [f"glmflash.{alias.name}" for alias in node.names]
            names = inside if node.module == "glmflash" else [node.module or ""]
        yield from ((name, node in for_types) for name in names)


def floor_problem(module: str, imported: str) -> str | None:
    """What is wrong with one import of one of our own modules by another, if anything."""
    target = imported.removeprefix("glmflash").lstrip(".")
    if not target:
        return f"{module} imports the package itself"
    above, below = room(module), room(target)
    if below not in FLOOR_OF:
        return f"{module} imports {imported}, which stands on no floor"
    if above == below or {above, below} <= SIBLINGS:
        return None
    if FLOOR_OF[below] >= FLOOR_OF[above]:
        return f"{module} (floor {FLOOR_OF[above]}) imports {imported} (floor {FLOOR_OF[below]})"
    return None


def library_problem(module: str, imported: str) -> str | None:
    """What is wrong with one import of a library, if anything."""
    library = imported.split(".")[0]
    if library in FORBIDDEN_IMPORTS:
        return f"{module} imports {library}"
    if library in sys.stdlib_module_names and library not in ALLOWED:
        return None
    if FLOOR_OF[room(module)] == 0 and library not in sys.stdlib_module_names:
        return f"{module} imports {library}; floor 0 is stdlib only"
    if library not in ALLOWED:
        return f"{module} imports {library}, which is on no list"
    if library == "torch" and module in TORCH_FREE:
        return f"{module} imports torch"
    if any(module == place or module.startswith(f"{place}.") for place in ALLOWED[library]):
        return None
    return f"{module} imports {library}; allowed in {', '.join(ALLOWED[library]) or 'no room'}"


def problems(module: str, tree: ast.Module) -> list[str]:
    """Everything that the imports of one module do wrong."""
    found: list[str | None] = []
    for imported, for_types in imports(tree):
        if imported.split(".")[0] == "glmflash":
            found.append(floor_problem(module, imported))
        elif not for_types:  # naming a library's type loads nothing
            found.append(library_problem(module, imported))
    return [problem for problem in found if problem]


@for_every_file
def test_imports_go_down_and_libraries_stay_in_their_rooms(path: Path) -> None:
    module = module_name(path)
    assert room(module) in FLOOR_OF, f"{module} stands on no floor"
    assert not problems(module, parsed(path))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("media.read", "import torch"),
        ("media.read", "from glmflash.prompt import template"),
        ("prompt.build", "import torch.nn"),
        ("output.parse", "from torch import Tensor"),
        ("kv.pool", "def f():\n    import torch"),
        ("engine.scheduler", "import torch"),
        ("weights.load", "from glmflash.engine import request"),
        ("ops.rotary", "from glmflash.model.text import Attention"),
        ("model.glm", "from glmflash import pipeline"),
        ("config", "import numpy"),
        ("weights.load", "import huggingface_hub"),
        ("weights.load", "import tqdm.auto"),
        ("engine.live", "import IPython.display"),
        ("model.glm", "import PIL.Image"),
        ("media.sources", "import socket"),
        ("openai.create", "from http import client"),
        ("media.fetch.client", "import urllib.request"),
        ("answers", "import pickle"),
        ("session", "import glmflash.pipeline"),
        ("evaluate", "from glmflash import Pipeline"),
        ("kv.pool", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import glmflash.model.glm"),
    ],
)
def test_a_wrong_import_is_noticed(module: str, source: str) -> None:
    assert problems(module, ast.parse(source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fields", "from glmflash.errors import ConfigError"),
        ("media.patches", "import torch\nfrom glmflash.media.pixels import fit"),
        ("pipeline", "from glmflash.engine import sampling\nfrom glmflash import shapes"),
        ("output.drawing", "from PIL import Image"),
        ("media.fetch.dial", "import socket, ssl"),
        ("output.result", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from PIL import Image"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert not problems(module, ast.parse(source))


@for_every_file
def test_no_file_runs_code_that_it_reads(path: Path) -> None:
    calls = {
        ast.unparse(node.func): node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)
    }
    assert not FORBIDDEN_CALLS & calls.keys()


@for_every_file
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(parsed(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 50, f"{node.name}: {length} lines"


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public functions and classes of a module, and the public methods of those classes."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            yield from public(node.body, f"{node.name}.")


def unannotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of parameters without a type; `return` where the result has none."""
    spec = function.args
    arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, [spec.vararg, spec.kwarg])]
    names = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
    return names if function.returns is not None else [*names, "return"]


@for_every_file
def test_public_names_are_typed_and_documented(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree), "no module docstring"
    for name, node in public(tree.body):
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        overloads = any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
        assert overloads or ast.get_docstring(node), f"{name} has no docstring"  # the last one has it
        if not isinstance(node, ast.ClassDef):
            assert not unannotated(node), f"{name}: {unannotated(node)} without a type"


@for_every_file
def test_every_module_says_what_it_offers(path: Path) -> None:
    assigned = [
        target.id
        for node in parsed(path).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in assigned
