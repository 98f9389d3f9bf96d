"""Stores that fail in every way, what tells two results apart, and requests that wait for one another."""

import dataclasses
import threading
import time
from collections.abc import Callable

from glmflash.engine.recorded import Recorded
from glmflash.output.result import Result, Timings, Usage


class Faulty:
    """A store in a dictionary; each call first does what `fault` does: raise, sleep, or nothing."""

    def __init__(self, fault: Callable[[], object] = lambda: None) -> None:
        self.fault = fault
        self.kept: dict[str, object] = {}
        self.calls: list[str] = []
        self.threads: set[str] = set()

    def _do(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.current_thread().name)
        self.fault()

    def get(self, key):
        self._do("get")
        return self.kept.get(key)

    def put(self, key, value, ttl):
        self._do("put")
        self.kept[key] = value

    def clear(self):
        self._do("clear")
        self.kept.clear()

    def close(self):
        self._do("close")

    @property
    def nbytes(self):
        return sum(len(value) for value in self.kept.values() if isinstance(value, bytes))


class Told:
    """What an engine needs of an answer cache, in a dictionary, with a fault before each call."""

    def __init__(self, fault: Callable[[], object] = lambda: None) -> None:
        self.fault = fault
        self.kept: dict[str, Recorded] = {}
        self.errors, self.nbytes = 0, None

    def find(self, key):
        self.fault()
        return self.kept.get(key)

    def keep(self, key, answer):
        self.fault()
        self.kept[key] = answer


def plain(result: Result) -> Result:
    """A result without what may differ between an answer computed and one found."""
    usage = Usage(prompt=result.usage.prompt, image=result.usage.image, completion=result.usage.completion)
    return dataclasses.replace(result, timings=Timings(), usage=usage, from_cache=False)


def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def waiting(engine) -> int:
    """Requests that wait for the answer of another."""
    return sum(len(flight.followers) for flight in list(engine._recall._flights.values()))
