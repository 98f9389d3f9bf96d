"""Events are frozen values; observers watch, and can do no harm."""

import dataclasses
import logging
import pickle
import time
from typing import get_args

import pytest

from glmflash import Pipeline
from glmflash.engine import events
from glmflash.engine.events import (
    BlockEvicted,
    Event,
    Observers,
    RequestFinished,
    RequestQueued,
    RequestRefused,
    TokenGenerated,
)
from glmflash.errors import ParameterError
from glmflash.output.result import Result
from glmflash.prompt.messages import Message, Text

KINDS = get_args(Event)


def made(kind: type) -> Event:
    """One event of the kind, with something in every field."""
    wanted = {field.name for field in dataclasses.fields(kind)} - {"time"}
    values = {
        "request": 1,
        "priority": 0,
        "index": 0,
        "code": "x",
        "digest": "d",
        "seconds": 0.5,
        "tokens": 2,
    }
    values |= {"cached": False, "shared": True, "token_id": 3, "block": 4}
    return kind(**{name: values[name] for name in wanted & values.keys()})


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_a_frozen_value_that_knows_its_time(kind: type) -> None:
    before = time.perf_counter()
    event = made(kind)
    assert before <= event.time <= time.perf_counter()
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.time = 0.0
    assert not hasattr(event, "__dict__")
    assert pickle.loads(pickle.dumps(event)) == event
    assert hasattr(event, "request") is (kind not in (BlockEvicted, RequestRefused))


def test_every_event_is_public() -> None:
    assert {kind.__name__ for kind in KINDS} | {"Event", "Observer", "Observers", "Operation"} == set(
        events.__all__
    )


def test_observers_are_told_in_order() -> None:
    heard: list[tuple[int, Event]] = []
    observers = Observers([lambda event: heard.append((1, event)), lambda event: heard.append((2, event))])
    event = RequestQueued(request=0, priority=5)
    observers.emit(event)
    assert heard == [(1, event), (2, event)]


class Odd:
    def __call__(self, event: Event) -> None:
        raise KeyError(event)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_an_observer_raises_is_logged_and_hurts_nobody(caplog, error: BaseException) -> None:
    heard = []

    def broken(event: Event) -> None:
        raise error

    event = TokenGenerated(request=0, index=0, token_id=1)
    with caplog.at_level(logging.ERROR, logger="glmflash.engine.events"):
        Observers((broken, Odd(), heard.append)).emit(event)
    assert heard == [event]
    assert [record.exc_info[0] for record in caplog.records] == [type(error), KeyError]
    assert "broken failed at TokenGenerated" in caplog.text
    assert "Odd failed" in caplog.text
    assert " at 0x" not in "".join(record.getMessage() for record in caplog.records)


def test_what_was_said_is_in_no_printed_event() -> None:
    messages = (Message("user", (Text("a secret"),)),)
    asked = RequestQueued(request=1, priority=0, messages=messages)
    answered = RequestFinished(request=1, finish_reason="stop", result=Result(text="a secret"))
    assert "secret" not in f"{asked} {answered}"
    assert (asked.messages, answered.result.text) == (messages, "a secret")


def test_a_pipeline_at_work_can_be_observed() -> None:
    heard = []
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        pipe("before", max_new_tokens=2)
        pipe.engine.observe(heard.append)
        result = pipe("after", system="s", max_new_tokens=3, ignore_eos=True, priority=2)
        with pytest.raises(ParameterError):
            pipe("refused", top_k=-1)
        with pytest.raises(ParameterError, match="observers"):
            pipe.engine.observe("print")
    queued, *work, finished, refused = heard
    assert (queued.operation, queued.priority, queued.stream, queued.pictures) == ("chat", 2, False, 0)
    assert [message.role for message in queued.messages] == ["system", "user"]
    assert queued.sampling.max_new_tokens == 3
    assert [type(event).__name__ for event in work] == ["Prefill", *["TokenGenerated"] * 3]
    assert finished.result is result
    assert refused == RequestRefused(code="parameter_error", time=refused.time)


def test_without_observers_nothing_needs_to_be_made() -> None:
    assert not Observers()
    assert not Observers([])
    assert Observers([print])
    Observers().emit(BlockEvicted(block=1))


def test_later_changes_of_the_list_are_not_seen() -> None:
    functions = [print]
    observers = Observers(functions)
    functions.append(repr)
    assert observers == Observers((print,))


@pytest.mark.parametrize("wrong", [print, "print", None, [3], (print, None), {print}, iter([print])])
def test_observers_are_functions_in_a_list(wrong: object) -> None:
    with pytest.raises(ParameterError, match="allowed") as caught:
        Observers(wrong)
    assert caught.value.parameter == "observers"
