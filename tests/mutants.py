"""Mistakes made on purpose in the block pool and the parser → for each, whether the tests notice.

`nox -s mutants` makes all of them, `nox -s mutants -- parser` those of one subject. A subject and its tests
are copied into a temporary folder, without the rest of the package. There one piece of text after the other
is changed, and the tests must fail. A text that is not found once, or a mistake that the tests let pass,
makes the script fail.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SETTINGS = """
from hypothesis import HealthCheck, Phase, settings
settings.register_profile(
    "mutants", deadline=None, derandomize=True, max_examples=50,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
"""


class Mutant(NamedTuple):
    """One mistake: where, what stands there, what to write instead."""

    name: str
    module: str
    text: str
    instead: str = ""


class Subject(NamedTuple):
    """What mistakes are made in: its modules, the tests that must notice, and what those import."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    helpers: tuple[str, ...]
    mutants: tuple[Mutant, ...]


POOL = (
    Mutant(
        "a shared last block is written to",
        "kv/pool.py",
        "copy = not alone or last.node is None or len(last.node.keys) != offset",
        "copy = len(last.node.keys) != offset",
    ),
    Mutant(
        "cached content beyond the sequence is overwritten",
        "kv/pool.py",
        "copy = not alone or last.node is None or len(last.node.keys) != offset",
        "copy = not alone",
    ),
    Mutant(
        "the last block is always copied",
        "kv/pool.py",
        "copy = not alone or last.node is None or len(last.node.keys) != offset",
        "copy = True",
    ),
    Mutant(
        "the block that was copied is not let go",
        "kv/pool.py",
        "        self._blocks.release(source)\n",
    ),
    Mutant(
        "a copy is one token short",
        "kv/pool.py",
        "return Copy(source.id, target.id, tokens)",
        "return Copy(source.id, target.id, tokens - 1)",
    ),
    Mutant(
        "reserving begins before it knows that it can end",
        "kv/pool.py",
        "        if lacking > 0:\n",
        "        self._blocks.make_free(min(fresh, self.available))\n        if lacking > 0:\n",
    ),
    Mutant(
        "the room for a copy is not counted",
        "kv/pool.py",
        "return fresh + (copy and not alone) - self.available, fresh, copy",
        "return fresh - self.available, fresh, copy",
    ),
    Mutant(
        "a sequence that is alone needs one block more than there is",
        "kv/pool.py",
        "return fresh + (copy and not alone) - self.available, fresh, copy",
        "return fresh + copy - self.available, fresh, copy",
    ),
    Mutant(
        "a fork may write where its parent may",
        "kv/pool.py",
        "return self._hold(table._held[: self._blocks_for(table.length)], table.length)",
        "twin = self._hold(table._held[: self._blocks_for(table.length)], table.length)\n"
        "        twin._limit = twin.capacity\n        return twin",
    ),
    Mutant(
        "opening gives the right to write",
        "kv/pool.py",
        "table._held, table._limit = blocks, length",
        "table._held, table._limit = blocks, table.capacity",
    ),
    Mutant(
        "a trim keeps the right to write",
        "kv/pool.py",
        "        table.length = table._limit = length\n",
        "        table.length, table._limit = length, keep * self.block_size\n",
    ),
    Mutant(
        "a trim keeps reserved room",
        "kv/pool.py",
        "keep = self._blocks_for(length)",
        "keep = self._blocks_for(length) + 1",
    ),
    Mutant(
        "closing twice frees twice",
        "kv/pool.py",
        "        table._held.clear()\n",
    ),
    Mutant(
        "closing lets go of the first block first",
        "kv/pool.py",
        "for block in reversed(table._held):",
        "for block in table._held:",
    ),
    Mutant(
        "a pin outlives its table",
        "kv/pool.py",
        "                block.pins -= 1\n                self._pinned -= not block.pins\n",
        "                pass\n",
    ),
    Mutant(
        "pins may hold everything",
        "kv/pool.py",
        "if pinned > self.num_blocks // 2:",
        "if pinned > self.num_blocks:",
    ),
    Mutant(
        "copies of wrong values are kept",
        "kv/pool.py",
        "            wrong += self._blocks.sharing(wrong[0], offset + 1)\n",
        "            pass\n",
    ),
    Mutant(
        "only the discarding sequence's own blocks are forgotten",
        "kv/blocks.py",
        "            doomed += node.children\n",
    ),
    Mutant(
        "what is computed from wrong values is listed",
        "kv/blocks.py",
        "        if node.lost or parent.lost:\n            node.lost = True\n",
    ),
    Mutant(
        "a copy forgets that its source was wrong",
        "kv/tree.py",
        "self.parent.child(block, self.keys[:tokens]).lost = self.lost",
        "self.parent.child(block, self.keys[:tokens])",
    ),
    Mutant(
        "the newest is evicted first",
        "kv/blocks.py",
        "self.cached.popitem(last=False)",
        "self.cached.popitem()",
    ),
    Mutant(
        "an evicted block can still be found",
        "kv/blocks.py",
        "            self._unlist(node)\n            self.report([self._put_back(node.blocks[0])])",
        "            self.report([self._put_back(node.blocks[0])])",
    ),
    Mutant(
        "a block that is used again can still be evicted",
        "kv/blocks.py",
        "            self.cached.pop(block.node, None)\n",
        "            pass\n",
    ),
    Mutant(
        "everything is evicted at once",
        "kv/blocks.py",
        "while len(self.free) < wanted:",
        "while self.cached:",
    ),
    Mutant(
        "nothing stays cached",
        "kv/blocks.py",
        "if node is None or not node.listed:\n            self._put_back(block)",
        "if node is None or not node.listed or not self._unlist(node):\n            self._put_back(block)",
    ),
    Mutant(
        "free blocks are handed out in any order",
        "kv/blocks.py",
        "block = Block(heapq.heappop(self.free))",
        "block = Block(self.free.pop())",
    ),
    Mutant(
        "equal full blocks stand beside each other",
        "kv/blocks.py",
        "if twin is None or shared < self.size:",
        "if True:",
    ),
    Mutant(
        "the twin's block is lost",
        "kv/blocks.py",
        "            self._put_back(twin.blocks.pop(0))\n",
        "            pass\n",
    ),
    Mutant(
        "repeated content is kept",
        "kv/blocks.py",
        "return node.parent.children.cover(node) if len(node.keys) < self.size else None",
        "return None",
    ),
    Mutant(
        "taking over keeps what is overwritten",
        "kv/blocks.py",
        "            self.report(self.forget(node))\n",
        "            pass\n",
    ),
    Mutant(
        "partial blocks are listed only once they are full",
        "kv/blocks.py",
        "            node.keys += keys\n            self._list(node, parent)\n",
        "            node.keys += keys\n",
    ),
    Mutant(
        "partial blocks are not matched",
        "kv/blocks.py",
        "            if child is None:\n",
        "            if child is None or shared < self.size:\n",
    ),
    Mutant(
        "any block that begins alike is a match",
        "kv/tree.py",
        "    if given == held:\n",
        "    if given[:1] == held[:1]:\n",
    ),
    Mutant(
        "keys are compared by their hashes",
        "kv/tree.py",
        "        if one != other:\n",
        "        if hash(one) != hash(other):\n",
    ),
    Mutant(
        "a node that grows stays where it was",
        "kv/tree.py",
        "            level.ends.remove(node)\n            level.add(node, depth)\n",
        "            pass\n",
    ),
    Mutant(
        "a node takes its siblings' level with it",
        "kv/tree.py",
        "if isinstance(below, Level) and (below.next or below.ends):",
        "if isinstance(below, Level) and below.next:",
    ),
)


PARSER = (
    Mutant(
        "newlines behind a marker are shown",
        "output/parse.py",
        'rest = text.lstrip("\\n")\n',
        "rest = text\n",
    ),
    Mutant(
        "all blanks behind a marker are dropped",
        "output/parse.py",
        'rest = text.lstrip("\\n")\n',
        "rest = text.lstrip()\n",
    ),
    Mutant(
        "a marker takes one piece of newlines only",
        "output/parse.py",
        "self._after_marker, text = not rest, rest",
        "self._after_marker, text = False, rest",
    ),
    Mutant(
        "newlines behind a marker are lost",
        "output/parse.py",
        "            self._hide(text[: len(text) - len(rest)])\n",
    ),
    Mutant(
        "what waits is shown too late",
        "output/parse.py",
        "shown = self._show(self._release() + ready) if ready else []",
        "shown = self._show(ready) if ready else []",
    ),
    Mutant(
        "newlines before a call never wait",
        "output/parse.py",
        'waits = self._channel == "thinking" or bool(self._tools)',
        'waits = self._channel == "thinking"',
    ),
    Mutant(
        "newlines always wait",
        "output/parse.py",
        'waits = self._channel == "thinking" or bool(self._tools)',
        "waits = True",
    ),
    Mutant(
        "newlines before the end of the reasoning are kept",
        "output/parse.py",
        'waits = self._channel == "thinking" or bool(self._tools)',
        "waits = bool(self._tools)",
    ),
    Mutant(
        "blank text before reasoning is shown",
        "output/parse.py",
        'ready = "" if self._opening else',
        "ready =",
    ),
    Mutant(
        "reasoning is waited for again and again",
        "output/parse.py",
        "        self._opening = False\n",
    ),
    Mutant(
        "what waits before a marker is lost",
        "output/parse.py",
        "            self._hide(self._release())\n",
        "            self._release()\n",
    ),
    Mutant(
        "what waits before a marker without meaning is hidden",
        "output/parse.py",
        "            deltas = self.finish()\n",
        "            self._hide(self._release())\n",
    ),
    Mutant(
        "a marker without meaning is lost",
        "output/parse.py",
        "            deltas = self.finish()\n            self._hide(name)\n",
        "            deltas = self.finish()\n",
    ),
    Mutant(
        "a call ends the reasoning",
        "output/parse.py",
        '    ("answer", "<tool_call>"): "tool_call",\n',
        '    ("answer", "<tool_call>"): "tool_call",\n    ("thinking", "<tool_call>"): "tool_call",\n',
    ),
    Mutant(
        "a late end of reasoning is text",
        "output/parse.py",
        '    ("answer", "</think>"): "answer",\n',
    ),
    Mutant(
        "a call keeps what the one before left open",
        "output/parse.py",
        "  # the one before was never closed\n            self._call = []\n",
        "\n            pass\n",
    ),
    Mutant(
        "a call begins with the one before",
        "output/parse.py",
        '        if channel == "tool_call":\n            self._call = []\n',
        '        if channel == "tool_call":\n',
    ),
    Mutant(
        "a call brings itself with no piece",
        "output/parse.py",
        "deltas = self._show(name, call)",
        "deltas = self._show(name)",
    ),
    Mutant(
        "a malformed call counts",
        "output/parse.py",
        "self._tool_calls += [call] if call else []",
        'self._tool_calls += [call or ToolCall("", {})]',
    ),
    Mutant(
        "newlines behind a call are shown",
        "output/parse.py",
        'self._channel, self._after_marker = "answer", True',
        'self._channel = "answer"',
    ),
    Mutant(
        "text inside a call is not shown",
        "output/parse.py",
        "            self._call.append((text, False))\n            return self._show(text)\n",
        "            self._call.append((text, False))\n            self._hide(text)\n            return []\n",
    ),
    Mutant(
        "values are trimmed",
        "output/tools.py",
        "arguments[key] = _value(text, _types(schemas.get(key)))",
        "arguments[key] = _value(text.strip(), _types(schemas.get(key)))",
    ),
    Mutant(
        "the schema is not asked",
        "output/tools.py",
        "arguments[key] = _value(text, _types(schemas.get(key)))",
        "arguments[key] = _value(text, set())",
    ),
    Mutant(
        "a string that may be null never is",
        "output/tools.py",
        'and text.strip() not in ("null", "None")',
        "",
    ),
    Mutant(
        "a key serves twice",
        "output/tools.py",
        "            key = None\n",
    ),
    Mutant(
        "a call needs no name",
        "output/tools.py",
        "    if not name:\n        return None\n",
    ),
    Mutant(
        "text between arguments counts",
        "output/tools.py",
        'kind, text = "" if piece.startswith("</") else piece, []',
        'kind, text = "<arg_value>" if piece.startswith("</") else piece, []',
    ),
    Mutant(
        "Python's words are no values",
        "output/tools.py",
        "for candidate in (text, _PYTHON.sub(_as_json, text)):",
        "for candidate in (text,):",
    ),
    Mutant(
        "values may nest as deep as they like",
        "output/tools.py",
        "        if not _deep(value):\n            return value\n",
        "        return value\n",
    ),
)

SUBJECTS = {
    "pool": Subject(
        ("errors.py", "kv/pool.py", "kv/blocks.py", "kv/table.py", "kv/tree.py"),
        ("test_kv_pool.py", "property/test_pool.py"),
        ("property/pool_world.py",),
        POOL,
    ),
    "parser": Subject(
        (
            *("bounds.py", "confined.py", "errors.py", "fields.py", "markup.py", "shapes.py", "shown.py"),
            *("output/[a-z]*.py", "engine/stops.py", "prompt/[a-z]*.py"),
        ),
        ("test_output_parse.py", "test_output_tools.py", "property/test_parse.py"),
        ("prompt_chats.py", "spelling.py"),
        PARSER,
    ),
}


def prepare(folder: Path, subject: Subject) -> None:
    """Copy a subject and its tests, with packages that import nothing else."""
    for path in (path for name in subject.modules for path in (ROOT / "glmflash").glob(name)):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        (target.parent / "__init__.py").touch()
    for name in (*subject.tests, *subject.helpers):
        target = folder / "tests" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / name, target)
    (folder / "tests" / "conftest.py").write_text(SETTINGS)
    paths = "pythonpath = . tests tests/property"
    (folder / "pytest.ini").write_text(f"[pytest]\n{paths}\nmarkers = property\n slow\n")


def noticed(folder: Path, subject: Subject) -> bool:
    """Do the tests fail there? A mistake that makes them run for ever is noticed too."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        "not golden and not linear",
    ]
    command += subject.tests
    try:
        done = subprocess.run(command, cwd=folder / "tests", capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)  # the tests did not run
    return done.returncode == 1


def survivors(subject: Subject) -> list[str]:
    """Make every mistake in a subject; returns those that its tests let pass."""
    passed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, subject)
        if noticed(folder, subject):
            sys.exit("the tests fail without a mistake")
        for mutant in subject.mutants:
            path = folder / "glmflash" / mutant.module
            right = path.read_text()
            if right.count(mutant.text) != 1:
                sys.exit(
                    f"{mutant.name}: its text stands {right.count(mutant.text)} times in {mutant.module}"
                )
            path.write_text(right.replace(mutant.text, mutant.instead))
            found = noticed(folder, subject)
            path.write_text(right)
            print(f"{'noticed' if found else 'PASSED '}  {mutant.name}", flush=True)
            passed += [] if found else [mutant.name]
    return passed


def main(*names: str) -> None:
    """Make the mistakes, and say which the tests let pass."""
    chosen = [SUBJECTS[name] for name in names or SUBJECTS]
    passed = [name for subject in chosen for name in survivors(subject)]
    made = sum(len(subject.mutants) for subject in chosen)
    print(f"{made - len(passed)} of {made} noticed")
    sys.exit(1 if passed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
