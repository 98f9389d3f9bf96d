"""The request log: one record a request, what was asked only if wanted, no line that a text has begun."""

import contextvars
import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmflash import InputError, ParameterError, Pipeline, QueueFullError
from glmflash.engine import (
    BlockEvicted,
    PictureDecoded,
    RequestFinished,
    RequestQueued,
    RequestRefused,
    TokenGenerated,
)
from glmflash.observability import JsonFormatter, RequestLog
from glmflash.output.result import Result, Timings, Usage
from glmflash.prompt.messages import Message, Text

STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
PICTURE = np.full((56, 84, 3), 200, np.uint8)


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept(request):
    """What the logger `glmflash.requests` writes."""
    logger, handler = logging.getLogger("glmflash.requests"), Kept()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.records
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def pipe():
    with Pipeline.from_pretrained("tiny", progress=False, observers=[RequestLog(content=True)]) as pipe:
        yield pipe


def extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def lines(records: list[logging.LogRecord]) -> list[dict[str, object]]:
    return [json.loads(JsonFormatter().format(record)) for record in records]


def told(log: RequestLog, question: str, **end) -> None:
    """The events of one request."""
    messages = (Message("system", (Text("secret"),)), Message("user", (Text(question),)))
    log(RequestQueued(request=7, priority=0, messages=messages, pictures=1))
    log(PictureDecoded(request=7, index=0, digest="ab" * 32, seconds=0.25))
    log(TokenGenerated(request=7, index=0, token_id=3))
    log(RequestFinished(request=7, **end))


def answered(text: str) -> dict[str, object]:
    usage = Usage(prompt=20, image=9, cached=8, completion=5, saved_prefill=9)
    timings = Timings(0.5, 0.25, 0.125, 2.0, 4.0, 7.0, 3.0, 1.25)
    result = Result(text=text, usage=usage, timings=timings)
    return {"finish_reason": "stop", "usage": usage, "timings": timings, "result": result}


def test_one_record_has_all_numbers(kept) -> None:
    told(RequestLog(), "The total?", **answered("42"))
    (record,) = kept
    assert extra(record) == {
        "request": 7, "operation": "chat", "pictures": ("ab" * 6,), "prompt_tokens": 20, "image_tokens": 9,
        "cached_tokens": 8, "completion_tokens": 5, "saved_prefill_tokens": 9, "queue_seconds": 0.5,
        "media_seconds": 0.25, "vision_seconds": 0.125, "prefill_seconds": 2.0, "decode_seconds": 4.0,
        "total_seconds": 7.0, "first_token_seconds": 3.0, "tokens_per_second": 1.25, "finish_reason": "stop",
        "error_code": None,
    }  # fmt: skip
    assert record.levelno == logging.INFO
    assert record.getMessage() == (
        "request 7: stop in 7.000 s, 20 + 5 tokens (9 image, 8 cached), first token after 3.000 s"
    )


def test_a_failure_is_a_warning_and_a_cancellation_is_none(kept) -> None:
    log = RequestLog(level=logging.DEBUG)
    told(log, "a", code="image_error", timings=Timings(total=0.5))
    told(log, "a", code="cancelled", timings=Timings(total=0.5))
    log(RequestRefused(code="parameter_error"))
    log(BlockEvicted(block=1))
    assert [(one.levelno, one.getMessage()) for one in kept] == [
        (logging.WARNING, "request 7: image_error in 0.500 s"),
        (logging.DEBUG, "request 7: cancelled in 0.500 s"),
        (logging.WARNING, "request refused: parameter_error"),
    ]
    assert {one.first_token_seconds for one in kept} == {None}
    assert [set(extra(one)) for one in kept] == [set(extra(kept[0]))] * 3  # a format string fits them all


def test_content_is_there_only_if_asked_for(kept) -> None:
    told(RequestLog(), "a question", **answered("an answer"))
    told(RequestLog(content=True), "a question", **answered("an answer"))
    without, having = kept
    assert "question" not in str(vars(without))
    assert "an answer" not in str(vars(without))
    assert (having.question, having.answer) == ("a question", "an answer")  # not what the system said
    assert having.getMessage().endswith("; question: a question; answer: an answer")
    assert "secret" not in str(vars(having))


# One of these in a few, among what begins a line somewhere, or hides one.
TEXTS = st.text() | st.sampled_from(
    ["a\nb", "\r", "\x1b[2K", "\u2028", "\x85", "\v", "\u202e", "\ud800", "'\""]
)


@settings(max_examples=30)
@given(TEXTS, TEXTS, st.text(min_size=1, max_size=20))
def test_no_text_begins_a_line(question: str, answer: str, code: str) -> None:
    logger, stream = logging.Logger("alone"), io.StringIO()  # noqa: LOG001 - known to nobody else
    for formatter in (
        logging.Formatter("%(message)s|%(question)s|%(answer)s|%(error_code)s"),
        JsonFormatter(),
    ):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    log = RequestLog(logger, content=True)
    told(log, question, **answered(answer))
    told(log, question, code=code)
    written = stream.getvalue()
    written.encode()  # no half surrogate pairs either
    assert len(written.splitlines()) == 4
    assert written.replace("\n", "").isprintable()
    assert json.loads(written.splitlines()[1])["answer"] == repr(answer)[1:-1]


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.none()), st.text())
def test_json_is_one_line_whatever_is_in_it(given_extra: dict[str, object], message: str) -> None:
    fields = {f"x_{name}": value for name, value in given_extra.items()}
    record = logging.makeLogRecord(
        {"name": "a", "msg": message, "levelname": "INFO", "level": "forged", **fields}
    )
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line)
    assert (read["message"], read["level"]) == (message, "INFO")
    assert {name: value for name, value in read.items() if name.startswith("x_")} == {
        name: value for name, value in fields.items() if value is not None
    }


def test_json_has_exceptions_and_what_is_no_json() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.LogRecord("a", 40, "f", 1, "m %s", ("x",), (ValueError, error, error.__traceback__))
    record.thing = {1, 2}
    read = json.loads(JsonFormatter().format(record))
    assert "ValueError: a\nb" in read["exception"]
    assert (read["message"], read["thing"]) == ("m x", "{1, 2}")
    assert read["time"].endswith("+00:00")


def test_every_request_of_a_pipeline_has_one_record(pipe, kept) -> None:
    """Answers, errors, refusals, cancellations, pictures encoded, answers compared: from many threads."""
    page = pipe.encode(PICTURE)
    pipe.choose("Which?", ["yes", "no"], images=page)
    with pytest.raises(InputError):
        pipe("a", images="absent.png")
    with pytest.raises(ParameterError):
        pipe("a", temperature=-1)
    with pytest.raises(ParameterError):
        pipe.submit("a", nonsense=1)
    asked = ["a", "b", {"text": "c", "nonsense": 1}]
    pipe.batch(asked, max_new_tokens=2, on_error="return", progress=False)
    with pipe.stream("long", max_new_tokens=500, ignore_eos=True) as stream:
        next(stream)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: pipe(f"{n}", images=PICTURE, max_new_tokens=3), range(12)))
    found = lines(kept)
    codes = [one.get("error_code") for one in found]
    assert sorted(filter(None, codes)) == ["image_error", *["parameter_error"] * 3]
    assert [one.get("operation") for one in found[:2]] == ["encode", "score"]
    assert sorted(one["answer"] != "" for one in found if one.get("finish_reason")) == [True] * 15
    numbers = [one["request"] for one in found if "request" in one]
    assert len(numbers) == len(set(numbers)) == len(found) - 3
    digests = {tuple(one["pictures"]) for one in found if one["pictures"]}
    assert digests == {(page.digest[:12],)}
    assert all(one["total_seconds"] >= one["queue_seconds"] >= 0 for one in found if "request" in one)


def test_the_record_agrees_with_the_result(pipe, kept) -> None:
    result = pipe(
        "What is the total?", images=PICTURE, max_new_tokens=4, ignore_eos=True, cache_salt="a salt"
    )
    (record,) = kept
    usage, timings = result.usage, result.timings
    assert record.prompt_tokens == usage.prompt
    assert record.saved_prefill_tokens == usage.saved_prefill
    assert record.completion_tokens == 4
    assert record.total_seconds == pytest.approx(timings.total, abs=1e-6)
    assert record.first_token_seconds == pytest.approx(timings.first_token, abs=1e-6)
    assert record.finish_reason == "length"
    assert "a salt" not in str(vars(record))


def test_a_record_is_made_in_the_context_of_whoever_asked(kept, pipe) -> None:
    number = contextvars.ContextVar("number", default=0)

    def add(record: logging.LogRecord) -> bool:
        record.number = number.get()
        record.written_by = threading.current_thread().name
        return True

    logger = logging.getLogger("glmflash.requests")
    logger.addFilter(add)
    try:

        def ask(n: int) -> None:
            number.set(n)
            pipe(f"{n}", max_new_tokens=2)

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(ask, range(6)))
    finally:
        logger.removeFilter(add)
    assert sorted((one.number, one.question) for one in kept) == [(n, str(n)) for n in range(6)]
    assert {one.written_by for one in kept} == {"glmflash-worker"}


def test_a_full_queue_is_a_refusal(kept) -> None:
    with Pipeline.from_pretrained(
        "tiny", progress=False, max_waiting=1, max_batch=1, observers=[RequestLog()]
    ) as pipe:
        refused = 0
        for _ in range(40):
            try:
                pipe.submit("a", max_new_tokens=50)
            except QueueFullError:
                refused += 1
        assert refused
        assert pipe.stats().rejected == refused
    assert [one.error_code for one in kept].count("queue_full_error") == refused
    assert len(kept) == 40


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the disk is full")


def test_a_broken_handler_costs_nobody_an_answer(pipe, caplog) -> None:
    logger, handler = logging.getLogger("glmflash.requests"), Broken()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        assert pipe("Say hello.", max_new_tokens=2).usage.completion
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert "observer RequestLog failed at RequestFinished" in caplog.text


def test_nothing_is_kept_of_a_request_that_has_ended(pipe) -> None:
    (log,) = pipe.engine.settings.observers
    pipe("a", max_new_tokens=2)
    with pytest.raises(InputError):
        pipe("a", images="absent.png")
    assert not log._begun


def test_it_configures_nothing(monkeypatch) -> None:
    logger = logging.getLogger("a logger of this test")
    RequestLog("a logger of this test")
    RequestLog(logger)
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert (logger.level, logger.propagate) == (logging.NOTSET, True)


@pytest.mark.parametrize("wrong", [None, 3, b"name"])
def test_a_logger_is_a_logger(wrong: object) -> None:
    with pytest.raises(ParameterError, match="allowed: a logger"):
        RequestLog(wrong)


def test_what_has_no_json_is_text_and_where_it_was_logged_is_kept():
    loop = []
    loop.append(loop)
    extra = {"speed": float("nan"), "sizes": {(1, 2): 3}, "loop": loop, "count": 7, "stack_info": "File x"}
    line = JsonFormatter().format(logging.makeLogRecord({"msg": "m", **extra}))
    read = json.loads(line, parse_constant=pytest.fail)
    assert (read["speed"], read["sizes"], read["loop"]) == ("nan", "{(1, 2): 3}", "[[...]]")
    assert (read["count"], read["stack"]) == (7, "File x")
