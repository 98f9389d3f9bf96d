"""Answers in a real Redis server, started here: shared, bounded in time, and never missed when it is gone."""

import shutil
import subprocess
import time
from random import Random

import pytest
from answers_world import plain, until
from test_answers_record import mutated, unpickled

from glmflash import AnswerCache, GlmflashError, ParameterError, Pipeline
from glmflash.answers import RedisAnswers
from glmflash.answers.record import write
from glmflash.engine.recorded import Recorded
from glmflash.engine.sampler import Sampled

redis = pytest.importorskip("redis")
SERVER = shutil.which("redis-server") or "/usr/bin/redis-server"
pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(not shutil.which(SERVER), reason="there is no redis-server"),
]

ANSWER = Recorded((Sampled(7), Sampled(8)), "stop")
KEY = "ab" * 32
PASSWORD = "a-password-of-this-test"
OPTIONS = {"temperature": 0, "max_new_tokens": 6, "ignore_eos": True}


class Server:
    """A server on a socket file, in memory alone."""

    def __init__(self, folder) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://:{PASSWORD}@{self.socket}?db=0"
        self.start()

    def start(self) -> None:
        command = [
            SERVER,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        command += ["--requirepass", PASSWORD, "--dir", str(self.socket.parent)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis.from_url(self.url)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def stop(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def store(server):
    store = RedisAnswers(server.url)
    yield store
    store.close()


def load(folder, cache):
    return Pipeline.from_pretrained(folder, device="cpu", progress=False, answer_cache=cache)


def test_what_is_put_is_there_for_its_time(server, store):
    assert store.get(KEY) is None
    store.put(KEY, b"value", 60)
    assert store.get(KEY) == b"value"
    assert 59_000 < server.client.pttl(f"glmflash:answers:{KEY}") <= 60_000
    store.put("short", b"value", 0.02)
    time.sleep(0.03)
    assert store.get("short") is None


def test_other_keys_are_left_alone(server, store):
    server.client.set("theirs", b"1")
    other = RedisAnswers(server.url, prefix="b:")
    other.put(KEY, b"other", 60)
    for number in range(1200):
        store.put(f"{number}", b"value", 60)
    assert other.get(KEY) == b"other"
    store.clear()
    assert sorted(server.client.keys()) == [f"b:{KEY}".encode(), b"theirs"]
    other.close()


def test_values_are_bounded_both_ways(server):
    store = RedisAnswers(server.url, max_value_bytes=100)
    store.put("large", bytes(101), 60)
    assert store.get("large") is None
    server.client.set("glmflash:answers:huge", bytes(10**6))
    assert len(store.get("huge")) == 101
    store.close()


def test_a_client_of_your_own_stays_open(server):
    store = RedisAnswers(server.client)
    store.put(KEY, b"value", 60)
    store.close()
    assert server.client.ping()
    with (
        redis.Redis.from_url(server.url, decode_responses=True) as client,
        pytest.raises(ParameterError, match="decodes replies"),
    ):
        RedisAnswers(client)
    with pytest.raises(ParameterError, match="decodes replies"):
        RedisAnswers(f"{server.url}&decode_responses=True")


def test_no_other_type_of_value_is_an_answer(server, caplog):
    server.client.rpush(f"glmflash:answers:{KEY}", "a", "b")
    cache = AnswerCache(RedisAnswers(server.url), patience=20)
    assert cache.find(KEY) is None
    assert cache.errors == 1
    cache.close()
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "bad", ["", "host", "http://host", f"redis://:{PASSWORD}@host:port/0", 7, None, object()]
)
def test_an_address_is_checked_and_never_repeated(bad):
    with pytest.raises(ParameterError, match=r"^server: ") as caught:
        RedisAnswers(bad)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ParameterError, match=r"^prefix: "):
        RedisAnswers("redis://host", prefix="all*")
    assert PASSWORD not in repr(RedisAnswers(f"redis://:{PASSWORD}@host"))


def test_pipelines_share_a_server(server, nano_checkpoint):
    found = []
    for salt in (None, None, "a", "a"):
        cache = AnswerCache(RedisAnswers(server.url), patience=20)
        with load(nano_checkpoint, cache) as pipe:
            found.append(pipe("Hi", cache_salt=salt, **OPTIONS).from_cache)
            until(lambda pipe=pipe: not pipe.engine._recall._flights)
        cache.close()
    assert found == [False, True, False, True]


def test_a_server_stopped_and_started_changes_nothing_but_speed(server, nano_checkpoint, caplog):
    cache = AnswerCache(RedisAnswers(server.url))
    with load(nano_checkpoint, None) as bare, load(nano_checkpoint, cache) as pipe:
        questions = [f"Number {number}?" for number in range(6)]
        wanted = [plain(bare(one, **OPTIONS)) for one in questions]

        def ask() -> list[bool]:
            results = [pipe(one, **OPTIONS) for one in questions]
            assert [plain(one) for one in results] == wanted
            return [one.from_cache for one in results]

        ask()
        until(lambda: any(ask()))
        server.stop()
        for _ in range(3):
            ask()
        began = time.perf_counter()
        slow = [cache.find(f"{number}") for number in range(1000)]
        assert time.perf_counter() - began < 5  # a thousand patiences would be fifty seconds
        assert not any(slow)
        assert pipe.stats().answers.errors >= 3
        server.start()
        until(lambda: all(ask()), seconds=30)
        assert pipe.stats().failed == {}
    cache.close()
    assert PASSWORD not in caplog.text
    assert str(server.socket) not in caplog.text


def test_a_server_that_hangs_costs_next_to_nothing(server, nano_checkpoint):
    cache = AnswerCache(RedisAnswers(server.url))
    with load(nano_checkpoint, cache) as pipe:
        pipe("Hi", **OPTIONS)
        server.client.execute_command("CLIENT", "PAUSE", "3000", "ALL")
        results = [pipe(f"Number {number}?", **OPTIONS) for number in range(20)]
        assert len(results) == 20
        assert pipe.stats().answers.errors > 0
    cache.close()


def test_mutated_values_are_misses(server):
    rng, cache = Random(26), AnswerCache(RedisAnswers(server.url), patience=20)
    value = write(ANSWER, key=KEY, made=time.time())
    unpickled.clear()
    misses = 0
    while misses < 1000:
        changed = mutated(value, rng)
        if changed == value or not changed:
            continue
        server.client.set(f"glmflash:answers:{KEY}", changed)
        assert cache.find(KEY) is None
        misses += 1
    assert (cache.errors, unpickled) == (misses, [])
    server.client.set(f"glmflash:answers:{KEY}", value)
    assert cache.find(KEY) == ANSWER
    cache.close()


def test_what_cannot_be_cleared_is_said(server, caplog):
    cache = AnswerCache(RedisAnswers(server.url), patience=20)
    cache.keep(KEY, ANSWER)
    server.stop()
    with pytest.raises(GlmflashError, match=r"could not be cleared \(ConnectionError\)") as caught:
        cache.clear()
    cache.close()
    assert PASSWORD not in caplog.text + str(caught.value)
