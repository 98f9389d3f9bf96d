"""Every public name and signature, as a text file: a change of the API is a change that a reviewer sees.

After a meant change: `python tests/test_public_api.py`, and a line in docs/changelog.md.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

import glmflash

SNAPSHOT = Path(__file__).with_name("public_api.txt")
# The package, and the lower rungs that are documented to be usable alone.
MODULES = (
    "glmflash",
    "glmflash.answers",
    "glmflash.config",
    "glmflash.engine",
    "glmflash.errors",
    "glmflash.evaluate",
    "glmflash.kv",
    "glmflash.media",
    "glmflash.model",
    "glmflash.observability",
    "glmflash.openai",
    "glmflash.output",
    "glmflash.prepare",
    "glmflash.prompt",
    "glmflash.shapes",
    "glmflash.testing",
    "glmflash.tools",
    "glmflash.weights",
)
SPOKEN = ("__init__", "__call__", "__iter__", "__enter__")  # methods that a user reaches without naming them


def source_tree(thing: type | FunctionType) -> ast.stmt:
    """The definition as it is written: the same on every Python and with every version of a library."""
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Parameters and result, as written."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    returns = ast.unparse(node.returns) if node.returns else ""
    if "property" in decorators:
        return f"{node.name}: {returns}"
    kind = "".join(f"@{name} " for name in decorators) + "async " * isinstance(node, ast.AsyncFunctionDef)
    return f"{kind}{node.name}({ast.unparse(node.args)}) -> {returns}"


def members(kind: type) -> dict[str, str]:
    """Fields in order, then constructor, public methods and properties, of a class and its bases of ours."""
    fields: dict[str, str] = {}
    methods: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if base.__module__.startswith("glmflash")]):
        tree = source_tree(base)
        assert isinstance(tree, ast.ClassDef)
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
                fields[ast.unparse(node.target)] = ast.unparse(node)
            elif isinstance(node, ast.FunctionDef) and (node.name[0] != "_" or node.name in SPOKEN):
                methods[node.name] = signature(node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id  # a function that is a method too: `choose = choose`
                if inspect.isfunction(getattr(base, name)):
                    tree = source_tree(getattr(base, name))
                    assert isinstance(tree, ast.FunctionDef)
                    methods[name] = signature(tree)
    return fields | dict(sorted(methods.items()))


def describe(name: str, thing: object) -> Iterator[str]:
    """The lines of one public name."""
    if inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        if issubclass(thing, BaseException):
            yield f"  code = {getattr(thing, 'code', '')}"
        yield from (f"  {line}" for key, line in members(thing).items() if key != "code")
    elif inspect.isfunction(thing):
        tree = source_tree(thing)
        assert isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef))
        yield f"def {signature(tree)}"
    else:
        yield f"value {name}"


def snapshot() -> str:
    """All of it; a name that the package offers at the top is described there alone."""
    lines, described = [], {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines.append(f"# {module_name}")
        for name in sorted(module.__all__):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                if thing in described:
                    lines.append(f"{name} = {described[thing]}")
                    continue
                described[thing] = f"{module_name}.{name}"
            lines.extend(describe(name, thing))
        lines.append("")
    return "\n".join(lines)


def test_public_names_and_signatures_are_the_recorded_ones() -> None:
    assert snapshot() == SNAPSHOT.read_text(), "meant? python tests/test_public_api.py, and a changelog line"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_can_be_imported(name: str) -> None:
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public)


def test_every_error_is_reachable_from_the_top() -> None:
    assert set(glmflash.errors.__all__) <= set(glmflash.__all__)


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
