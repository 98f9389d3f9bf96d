"""A folder of pictures through Ray, for real: right answers, killed workers and drivers, hostile files."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

if not (importlib.util.find_spec("ray") and importlib.util.find_spec("pyarrow")):
    pytest.skip("needs ray[data]", allow_module_level=True)  # importing it would take seconds

from glmflash import Pipeline

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "ray_batch.py"
QUESTION = "What is the total?"
# Kills the process that reads a picture of that name, each time.
DEADLY = """
import os, signal
import ray_batch

class Deadly(ray_batch.Asker):
    def __call__(self, batch):
        if any("deadly" in name for name in batch["name"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)

ray_batch.Asker = Deadly
ray_batch.main()
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """200 receipts and what is no picture: the folder, the totals printed, one pipeline's answers."""
    folder = tmp_path_factory.mktemp("receipts")
    sys.path.insert(0, str(ROOT / "examples" / "tiny"))
    import draw

    sys.path.remove(str(ROOT / "examples" / "tiny"))
    totals = {}
    for number in range(200):
        picture, facts = draw.receipt(Random(f"ray {number}"), language="en")
        picture.save(folder / f"{number:03}.png")
        totals[f"{number:03}.png"] = facts.total
    (folder / "hostile.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 100)
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        items = [{"text": QUESTION, "images": folder / name} for name in totals]
        answers = pipe.batch(items, max_new_tokens=16, progress=False)
    return folder, totals, dict(zip(totals, [answer.text for answer in answers], strict=True))


@pytest.fixture
def start(tmp_path):
    """Starts the script on a folder; whatever still runs at the end of the test is killed."""
    started = []

    def begin(folder, *arguments, script=(str(SCRIPT),)):
        command = [
            sys.executable,
            *script,
            str(folder),
            "--out",
            str(tmp_path / "out"),
            "--question",
            QUESTION,
        ]
        paths = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
        with (tmp_path / "stderr").open("a") as said:
            process = subprocess.Popen(
                [*command, "--workers", "2", "--max-new-tokens", "16", *arguments],
                env={**os.environ, "PYTHONPATH": paths, "HOME": str(tmp_path)},  # Ray leaves files in a home
                stderr=said,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def parts(out: Path) -> list[Path]:
    return sorted((out / "parts").glob("*.jsonl"))


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def first_rows(process, out: Path, least: int) -> list[dict]:
    """What the first parts hold, as soon as there are so many."""
    while len(parts(out)) < least:
        assert process.poll() is None, (out.parent / "stderr").read_text()
        time.sleep(0.05)
    return [row for part in parts(out) for row in read(part)]


def finished(process, out: Path) -> list[dict]:
    assert process.wait() == 0, (out.parent / "stderr").read_text()
    return read(out / "answers.jsonl")


def test_every_row_is_right_though_a_worker_is_killed(drawn, start, tmp_path):
    folder, totals, expected = drawn
    process = start(folder)
    early = first_rows(process, tmp_path / "out", 3)
    os.kill(int(early[0]["worker"].rpartition(":")[2]), signal.SIGKILL)
    rows = finished(process, tmp_path / "out")
    assert len(early) < 150  # it was killed with work ahead
    assert [row["name"] for row in rows] == sorted([*expected, "hostile.png"])
    assert {row["name"]: row["text"] for row in rows if row["error"] is None} == expected
    assert sum(expected[name] == total for name, total in totals.items()) >= 198
    (failed,) = [row for row in rows if row["error"]]
    assert (failed["name"], failed["error"]) == ("hostile.png", "image_error")
    assert "damaged" in failed["message"]
    assert len({row["worker"] for row in rows}) >= 3  # two, and the one that took a place


def test_a_killed_driver_goes_on_where_it_was(drawn, start, tmp_path):
    folder, _, expected = drawn
    some = tmp_path / "some"
    some.mkdir()
    for name in sorted(expected)[:60]:
        (some / name).symlink_to(folder / name)
    out = tmp_path / "out"
    process = start(some, "--batch", "5")
    first_rows(process, out, 3)
    process.kill()
    process.wait()
    before = {part: part.read_bytes() for part in parts(out)}
    done = {row["name"]: row for part in before for row in read(part)}
    assert 15 <= len(done) < 60
    rows = finished(start(some, "--batch", "5"), out)
    assert {row["name"]: row["text"] for row in rows} == {
        name: expected[name] for name in sorted(expected)[:60]
    }
    assert {part: part.read_bytes() for part in before} == before
    assert [row for row in rows if row["name"] in done] == list(dict(sorted(done.items())).values())
    count = len(parts(out))
    (out / "answers.jsonl").unlink()
    assert finished(start(some), out) == rows  # nothing is missing but the file
    assert len(parts(out)) == count
    other = start(some, "--question", "Who is the vendor?")
    assert other.wait() == 1
    assert "answers to another question" in (tmp_path / "stderr").read_text()
    assert start(some.parent).wait() == 1
    assert "another folder" in (tmp_path / "stderr").read_text()


def test_a_picture_that_kills_its_reader_costs_its_own_row_only(drawn, start, tmp_path):
    folder, _, expected = drawn
    some = tmp_path / "some"
    some.mkdir()
    for name in ("000.png", "001.png", "deadly.png", "003.png"):
        (some / name).symlink_to(folder / name.replace("deadly", "002"))
    script = tmp_path / "deadly.py"
    script.write_text(DEADLY)
    rows = finished(start(some, "--batch", "2", script=[str(script)]), tmp_path / "out")
    assert [(row["name"], row["error"]) for row in rows] == [
        ("000.png", None), ("001.png", None), ("003.png", None), ("deadly.png", "worker_died")
    ]  # fmt: skip
    assert [row["text"] for row in rows[:3]] == [expected[row["name"]] for row in rows[:3]]


def test_a_part_is_whole_or_not_there(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("ray_batch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    output = module.Output(tmp_path, {"question": "?"})
    output.add([{"name": "a", "text": "1"}, {"name": "b", "text": "2"}])
    with monkeypatch.context() as broken:
        broken.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            output.add([{"name": "c", "text": "3"}])
    assert output.rows().keys() == {"a", "b"}
    output.add([{"name": "a", "text": "4"}])
    assert [part.name for part in parts(tmp_path)] == ["00000000.jsonl", "00000001.jsonl"]
    assert module.Output(tmp_path, {"question": "?"}).rows()["a"] == {"name": "a", "text": "4"}
