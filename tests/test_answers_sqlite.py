"""Answers in a file: bounded, shared by processes, and begun anew when it is damaged."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from random import Random

import pytest
from answers_world import until

from glmflash import AnswerCache, ParameterError, Pipeline
from glmflash.answers import SQLiteAnswers
from glmflash.engine.recorded import Recorded
from glmflash.engine.sampler import Sampled

ANSWER = Recorded((Sampled(7), Sampled(8)), "stop")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.db"


@pytest.fixture
def store(path):
    store = SQLiteAnswers(path)
    yield store
    store.close()


def test_what_is_put_is_there_also_after_closing(store, path):
    assert store.get("a") is None
    store.put("a", b"value", 60)
    assert store.get("a") == b"value"
    store.put("a", b"other", 60)
    store.close()
    assert store.get("a") == b"other"
    assert SQLiteAnswers(path).get("a") == b"other"
    assert store.nbytes > 0
    store.clear()
    assert store.get("a") is None


def test_what_is_too_old_is_not_there(store):
    store.put("a", b"value", 0.01)
    time.sleep(0.02)
    assert store.get("a") is None


def test_the_file_is_bounded(path):
    store, rng = SQLiteAnswers(path, "256 KiB"), Random(3)
    for number in range(400):
        store.put(f"{number}", rng.randbytes(rng.randint(1, 20_000)), 60)
        assert store.nbytes <= 2**18
    assert path.stat().st_size <= 2**18
    assert store.get("399") is not None
    store.put("large", bytes(2**18), 60)
    assert store.get("large") is None
    store.clear()
    assert path.stat().st_size < 2**16
    store.close()


def test_what_was_used_longest_ago_makes_room(path):
    store = SQLiteAnswers(path, "256 KiB")
    store.put("first", bytes(4000), 600)
    for number in range(100):
        store.put(f"{number}", bytes(4000), 600)
        assert store.get("first") is not None
    assert store.get("0") is None
    assert store.get("99") is not None
    store.close()


def test_threads_share_it(store):
    failures = []

    def work(name):
        try:
            for number in range(40):
                store.put(f"{name}{number}", f"{number}".encode(), 60)
                assert store.get(f"{name}{number}") == f"{number}".encode()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_it_waits_for_no_other_writer(store, path):
    store.put("a", b"value", 60)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        assert store.get("a") == b"value"
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.put("b", b"value", 60)
        other.execute("rollback")
    other.close()
    store.put("b", b"value", 60)
    assert store.get("b") == b"value"


WORK = """
def work(store):
    kept = 0
    for number in range(40):
        try:
            store.put(f"{number}", f"{number}".encode() * 300, 60)
            kept += 1
            for other in range(0, number, 9):
                value = store.get(f"{other}")
                assert value in (None, f"{other}".encode() * 300), value
        except sqlite3.OperationalError:  # the other one writes, or opens the file
            pass
    store.close()
    return kept
"""
SCRIPT = f"""
import sqlite3, sys
from glmflash.answers import SQLiteAnswers
{WORK}
print(work(SQLiteAnswers(sys.argv[1], "256 KiB")))
"""


@pytest.mark.slow
def test_processes_share_it(path):
    space = {"sqlite3": sqlite3}
    exec(WORK, space)
    store = SQLiteAnswers(path, "256 KiB")
    command = [sys.executable, "-c", SCRIPT, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as other:
        while other.poll() is None:
            if not path.exists():  # it has not begun
                time.sleep(0.02)
                continue
            assert space["work"](store) > 0
        out, error = other.communicate()
    assert (other.returncode, error) == (0, b"")
    assert int(out) > 0
    assert path.stat().st_size <= 2**18


@pytest.mark.parametrize("content", [b"nonsense" * 2000, b"SQLite format 3\0" + b"glma" * 5000])
def test_a_file_that_is_none_is_put_aside(path, content, caplog):
    path.write_bytes(content)
    store = SQLiteAnswers(path)
    assert store.get("a") is None
    store.put("a", b"value", 60)
    assert store.get("a") == b"value"
    assert path.with_name("answers.db.damaged").read_bytes() == content
    assert "answers.db is damaged" in caplog.text
    assert str(path.parent) not in caplog.text
    store.close()


def test_damage_is_put_aside_by_whoever_finds_it_first(path):
    """Both connections of one store, and another store, have it open."""
    stores = [SQLiteAnswers(path), SQLiteAnswers(path)]
    for store in stores:
        store.put("a", bytes(9000), 60)
        assert store.get("a")
    for store in stores:
        store.close()
    data = bytearray(path.read_bytes())
    data[100:] = bytes(len(data) - 100)
    path.write_bytes(data)
    for store in stores * 2:
        store.get("a")
        store.put("b", b"value", 60)
        assert store.get("b") == b"value"
    for store in stores:
        store.close()
    assert path.with_name("answers.db.damaged").exists()


def test_a_deleted_file_is_made_anew(store, path):
    store.put("a", b"value", 60)
    for one in path.parent.iterdir():
        one.unlink()
    assert store.get("a") is None
    store.put("b", b"value", 60)
    assert store.get("b") == b"value"


@pytest.mark.property
def test_bits_flipped_in_the_file_never_give_a_wrong_answer(path):
    """Whatever SQLite makes of it, only what was kept is found, and nothing is raised."""
    rng = Random(43)
    answers = {
        f"{number:064x}": Recorded(tuple(map(Sampled, range(number, number + 30))), "stop")
        for number in range(40)
    }
    found = lost = 0
    for _ in range(20):
        cache = AnswerCache(SQLiteAnswers(path), patience=20)
        for key, answer in answers.items():
            cache.keep(key, answer)
        cache.close()
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 3, 30, 1000])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        if data[:16] == b"SQLite format 3\0" and data[68:72] != b"glma":
            data[68:72] = b"glma"
        path.write_bytes(data)
        cache = AnswerCache(SQLiteAnswers(path), patience=20)
        for key, answer in answers.items():
            got = cache.find(key)
            assert got in (None, answer)
            found, lost = found + (got is not None), lost + (got is None)
        cache.close()
        for one in path.parent.iterdir():
            one.unlink()
    assert found > 50
    assert lost > 50


def test_another_programs_database_is_left_alone(path):
    with sqlite3.connect(path) as other:
        other.execute("create table mine (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ParameterError, match=r"^path: is a database of another program"):
        SQLiteAnswers(path)
    assert path.read_bytes() == before


def test_one_that_takes_its_place_later_is_left_alone_too(store, path):
    with sqlite3.connect(path) as other:
        other.execute("create table answers (a)")
    other.close()
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            store.put("a", b"value", 60)


def test_a_short_file_of_somebodys_is_left_alone(path):
    path.write_text("remember the milk")
    with pytest.raises(ParameterError, match="of another program"):
        SQLiteAnswers(path)
    assert path.read_text() == "remember the milk"
    path.write_bytes(b"SQLite for")  # what may be left of ours
    store = SQLiteAnswers(path)
    store.put("a", b"value", 60)
    assert store.get("a") == b"value"
    store.close()


@pytest.mark.parametrize("bad", ["", "no/such/folder/answers.db"])
def test_a_path_is_checked(tmp_path, bad):
    with pytest.raises(ParameterError, match=r"^path: "):
        SQLiteAnswers(tmp_path / bad)
    with pytest.raises(ParameterError, match=r"^max_bytes: "):
        SQLiteAnswers(tmp_path / "a.db", 1000)


def test_nothing_runs_out_of_a_strangers_file(path):
    """Triggers and views of a file that says it is ours cannot call anything."""
    store = SQLiteAnswers(path)
    store.put("a", b"value", 60)
    store.close()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("create trigger t after insert on answers begin select load_extension('x'); end")
    other.close()
    with pytest.raises(sqlite3.Error):
        store.put("b", b"value", 60)
    store.close()


def test_a_pipeline_finds_what_another_left(path, nano_checkpoint):
    options = {"temperature": 0, "max_new_tokens": 4, "ignore_eos": True}
    found = []
    for _ in range(2):
        cache = AnswerCache(SQLiteAnswers(path), patience=20)
        with Pipeline.from_pretrained(
            nano_checkpoint, device="cpu", progress=False, answer_cache=cache
        ) as pipe:
            found.append(pipe("Hi", **options).from_cache)
            until(lambda: not pipe.engine._recall._flights)
        cache.close()
    assert found == [False, True]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_path_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, os.devnull, None, 5):
        with pytest.raises(ParameterError, match="path"):
            SQLiteAnswers(path)
