"""The architecture page shows the tree as it is: every file once, with the first line of its docstring.

After adding a file or changing a first line: `python tests/test_architecture.py`. The order is kept.
"""

import ast
import re
from pathlib import Path

import glmflash

ROOT = Path(__file__).parent.parent
PACKAGE = Path(glmflash.__file__).parent
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
TREE = re.compile(r"(?<=<!-- tree -->\n```text\n).*?(?=\n```\n<!-- end -->)", re.DOTALL)
# What is no Python has no docstring to be held to.
DATA = {
    "py.typed": "tells type checkers that the package is typed",
    "tiny/": "the embedded, trained checkpoint",
    "evaluate/tiny/": "the embedded model's own benchmark: questions and pictures",
}


def purpose(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def files() -> dict[str, str]:
    """Path in the package -> purpose; a room is listed by its folder, with the purpose of its `__init__`."""
    found = {name: text for name, text in DATA.items() if (PACKAGE / name).exists()}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        found[name.removesuffix("__init__.py") or name] = purpose(path)
    for name in list(found):  # rooms without an __init__ of their own
        room = name.rpartition("/")[0]
        if room:
            found.setdefault(f"{room}/", "")
    return found


def listed(tree: str) -> list[tuple[str, str]]:
    """Path and purpose of every line of the tree, in order."""
    entries, rooms = [], [""]
    for line in tree.splitlines()[1:]:
        name, _, text = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2  # 1 in the package itself
        path = rooms[depth - 1] + name
        rooms[depth:] = [path] if name.endswith("/") else []
        entries.append((path, text.strip()))
    return entries


def drawn(order: list[str]) -> str:
    """The tree as text, known files in the given order and new ones after their room's last."""
    found = files()
    names = [name for name in dict.fromkeys(order) if name in found]
    for name in found:
        if name in names:
            continue
        mates = []
        room = name.rstrip("/")
        while not mates and "/" in room:  # the nearest room that is there
            room = room.rpartition("/")[0]
            mates = [i for i, other in enumerate(names) if other.startswith(f"{room}/")]
        names.insert(mates[-1] + 1 if mates else len(names), name)
    lines = ["glmflash/"]
    for name in names:
        depth = name.rstrip("/").count("/")
        short = name.rstrip("/").rpartition("/")[2] + "/" * name.endswith("/")
        lines.append(f"{'  ' * (depth + 1)}{short:{20 - 2 * depth}}{found[name]}".rstrip())
    return "\n".join(lines)


def current_tree() -> str:
    match = TREE.search(PAGE.read_text())
    assert match, "the page has lost its <!-- tree --> block"
    return match.group()


def test_every_file_is_on_the_page_once_with_its_purpose() -> None:
    entries = listed(current_tree())
    assert sorted(entries) == sorted(files().items()), "python tests/test_architecture.py"


def test_every_module_says_in_one_line_what_it_is_for() -> None:
    assert not [name for name, text in files().items() if not text]


def test_rooms_and_their_files_stand_together() -> None:
    rooms = [name.partition("/")[0] for name, _ in listed(current_tree()) if "/" in name]
    assert [room for i, room in enumerate(rooms) if i == 0 or rooms[i - 1] != room] == list(
        dict.fromkeys(rooms)
    )


if __name__ == "__main__":
    order = [name for name, _ in listed(current_tree())]
    PAGE.write_text(TREE.sub(lambda _: drawn(order), PAGE.read_text()))
