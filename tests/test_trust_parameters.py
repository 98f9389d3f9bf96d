"""Trust, parameters: a bad value is refused by name where the caller stands; no neighbour notices (C4)."""

import asyncio
import threading
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from glmflash import GlmflashError, MessageError, ParameterError, Pipeline, Sampling, openai, prepare
from glmflash.config import GenerationConfig
from glmflash.engine.request import Options
from glmflash.engine.stream import Stream

NAN, INF, HUGE = float("nan"), float("inf"), 10**5000
HALF = "\ud800"  # of a surrogate pair
TOOL = {"type": "function", "function": {"name": "f"}}


class Odd:
    """An object whose repr is an address."""


ODD = Odd()
SEVERAL = np.array(["auto", "text"])  # of which nobody can say whether they are equal to something

BAD: dict[str, list[object]] = {
    "max_new_tokens": [0, -1, 2**63, HUGE, -HUGE, True, 1.0, NAN, INF, "5", [5], b"5", ODD, np.float64(4)],
    "temperature": [NAN, INF, -INF, -0.1, 101, True, HUGE, "1", 1j, Decimal(1), np.float32("nan"), ODD],
    "top_k": [-1, True, 1.5, 2**63, HUGE, NAN, "all", np.float32(2)],
    "top_p": [-0.1, 1.1, NAN, INF, True, HUGE, "0.5", np.float64("inf")],
    "min_p": [-0.1, 1.1, NAN, True, [0.5]],
    "repetition_penalty": [0, -1, 1e-300, 1e300, NAN, INF, True, HUGE],
    "seed": [-1, 2**63, 2**64, HUGE, 1.0, True, NAN, "1", np.float64(3), ODD],
    "stop": ["", [""], ["a", 1], 5, {"a"}, ["a"] * 65, ["a"] * 10**6, "x" * 1001, "x" * 10**7, b"x", ODD],
    "ignore_eos": [1, 0, "yes", np.bool_(1), NAN],
    "logprobs": [-1, 21, True, 1.5, "5", HUGE, np.int64(50)],
    "logits_processors": [len, [1], [len] * 65, "f", {len}],
    "repetition_stop": [0, 15, True, 2**63, HUGE, "off", NAN],
    "tools": [5, "f", {"name": "f"}, [5], ["f"], [None], [TOOL] * 1025, [{"a": {1, 2}}], [{(1,): 2}], [ODD]],
    "tool_choice": ["any", "f", 5, {}, {"type": "function"}, ["auto"], ODD, {**TOOL, "type": "x"}, TOOL],
    "thinking": [1, 0, "yes", NAN, [], np.bool_(1), ODD],
    "thinking_budget": [-1, True, 1.5, NAN, "5", HUGE, -HUGE, 2**63, np.int64(-3), 5],
    "response_format": [
        5, "json", {}, {"type": "x"}, {"type": 5}, {"type": "x" * 10**6}, {"type": "json_schema"}, ODD,
        {"type": "json_schema", "json_schema": {"schema": {1, 2}}}, {"type": "regex", "regex": 5},
        {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "("}}},
        {"type": "json_schema", "json_schema": {"schema": {"$ref": "file:///etc/passwd"}}},
        {"type": "json_schema", "json_schema": {"schema": {"multipleOf": NAN}}},
        {"type": "choice", "choice": []},
    ],
    "regex": ["(", "[", "(?=a)", 5, HALF, "x" * 10**7, ["a"], ODD],
    "choice": [[], "ab", [""], ["a", "a"], [5], ["x"] * 10**6, list(map(str, range(10**5))), 5, [HALF], {}],
    "answer_prefix": [5, b"x", ["a"], HALF, "x" * 10**7, ODD],
    "max_image_tokens": [0, -1, True, 2.5, NAN, "9", HUGE, -HUGE, 2**63, np.int64(0), ODD],
    "cache_salt": ["", "x" * 257, "x" * 10**7, 5, b"x", ["a"], HALF, ODD],
    "priority": [101, -101, True, 1.0, NAN, "high", HUGE, -HUGE, np.float64(1), ODD],
    "timeout": [0, -1, NAN, INF, -INF, True, "10 s", HUGE, 1e300, Fraction(1, 10**400), Decimal(5), ODD],
    # Of other programs. Nothing is taken for something else, or passed over.
    "max_tokens": [5], "min_tokens": [5], "n": [10**9], "best_of": [2], "stop_token_ids": [[10**9]],
    "logit_bias": [{10**9: 5}], "bad_words": ["x"], "mm_processor_kwargs": [{}], "x" * 100: [1],
}  # fmt: skip
for values in BAD.values():
    values.append(SEVERAL)
ROWS = [(name, value) for name, values in BAD.items() for value in values]
WITH = {"thinking_budget": {}, "tool_choice": {"tools": [{"type": "function", "function": {"name": "g"}}]}}


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with Pipeline.from_pretrained("tiny") as pipe:
        yield pipe


def _astream(pipe: Pipeline, options: dict) -> object:
    async def ask() -> object:
        return pipe.astream("Q", **options)

    return asyncio.run(ask())


def _stream(pipe: Pipeline, options: dict) -> object:
    return pipe.stream("Q", **options)


DOORS = {
    "call": lambda pipe, options: pipe("Q", **options),
    "chat": lambda pipe, options: pipe.chat([{"role": "user", "content": "Q"}], **options),
    "stream": _stream,
    "astream": _astream,
    "submit": lambda pipe, options: pipe.submit("Q", **options),
    "item": lambda pipe, options: pipe.submit({"text": "Q", **options}),
    "batch": lambda pipe, options: pipe.batch(["Q"], **options),
    "item of a batch": lambda pipe, options: pipe.batch([{"text": "Q", **options}]),
    "map": lambda pipe, options: list(pipe.map(["Q"], **options)),
    "session": lambda pipe, options: pipe.session(**options).ask("Q"),
    "choose": lambda pipe, options: pipe.choose("Q", ["a", "b"], **options),
    "locate": lambda pipe, options: pipe.locate("Q", None, **options),
}


def refusal(door, pipe: Pipeline, name: str, value: object) -> GlmflashError:
    with pytest.raises(GlmflashError) as caught:
        DOORS[door](pipe, {**WITH.get(name, {}), name: value})
    return caught.value


def check_named(error: GlmflashError, name: str) -> None:
    message = str(error)
    assert len(message) < 500
    assert "0x" not in message
    if isinstance(error, ParameterError) and error.parameter != "tools":
        wanted = name if len(name) <= 40 else f"'{name[:36]}..."
        assert error.parameter == wanted
    else:  # a list of tools that is none is of the chat
        assert isinstance(error, MessageError | ParameterError)
        assert (name, "tools" in message) == ("tools", True)


def test_c4_there_are_many_rows() -> None:
    assert len(ROWS) >= 60
    assert set(BAD) >= set(Options.__annotations__)


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda i: f"{ROWS[i][0][:20]}-{i}")
def test_c4_bad_values_are_refused_by_name(number, pipe) -> None:
    name, value = ROWS[number]
    check_named(refusal("submit", pipe, name, value), name)


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_c4_at_every_door_in_the_callers_thread(door, pipe, monkeypatch) -> None:
    """Nothing has been handed in when it is raised."""
    monkeypatch.delattr(type(pipe.engine), "_hand_in")
    for name, value in ROWS:
        check_named(refusal(door, pipe, name, value), name)


@pytest.mark.slow
def test_c4_bad_values_leave_what_is_under_way_unchanged_to_the_bit(pipe) -> None:
    """All of them, eight at each token of an answer that is being computed."""
    tickets = threading.Semaphore(0)

    def wait(ids, logits):
        assert tickets.acquire(timeout=60)
        return logits

    packs = [ROWS[start : start + 8] for start in range(0, len(ROWS), 8)]
    long: Options = {"max_new_tokens": len(packs) + 1, "ignore_eos": True, "logprobs": 5, "temperature": 1.0}
    long |= {"seed": 7, "repetition_stop": None, "logits_processors": [wait]}

    def story() -> Stream:
        return pipe.stream("Tell a story.", **long)

    tickets.release(2 * (len(packs) + 1))
    results = []
    for _ in range(2):  # the second begins with KV of the first, as the third will
        with story() as stream:
            results.append(stream.result)
    with story() as beside:
        for pack in packs:
            tickets.release()
            for name, value in pack:
                refusal("submit", pipe, name, value)
        assert pipe.stats().running == 1  # or nothing was beside it
        tickets.release()
        result = beside.result
    assert result.token_ids == results[1].token_ids
    assert result.logprobs == results[1].logprobs
    assert len(result.logprobs) > len(packs)


BODIES: dict[str, list[object]] = {
    "max_tokens": [0, -1, 2**63, True, 1.5, NAN, "5"],
    "max_completion_tokens": [0, [5]],
    "temperature": [NAN, -1, True, "1"],
    "top_p": [2, NAN, True],
    "top_k": [-1, 2**63],
    "n": [0, 2, 10**9, True, "1"],
    "stop": [[""], ["a"] * 10**6, 5],
    "seed": [-1, 2**63, "1"],
    "presence_penalty": [1, NAN, True],
    "frequency_penalty": [-2, "x"],
    "logit_bias": [{"1": 100}, {"999999999": 1}, []],
    "top_logprobs": [5],
    "logprobs": [5, "yes"],
    "stream": ["yes", 1],
    "stream_options": [{"include_usage": True}],
    "response_format": [{"type": "x"}, "json"],
    "tool_choice": ["any", 5],
    "parallel_tool_calls": [False, 1],
    "reasoning_effort": ["very", 1],
    "chat_template_kwargs": [{}, {"tokenize": False}, {"enable_thinking": 1}],
    "thinking": [1, {"type": "x"}],
    "model": ["", 5, "x" * 257],
    "cache_salt": ["mine"],  # whom to trust is not for a body to say
    "timeout": [5],
    "priority": [100],
    "logits_processors": [["f"]],
    "min_tokens": [5],
    "ignore_eos": [True],
    "answer_prefix": ["x"],
}
for name in ("n", "logit_bias", "presence_penalty", "parallel_tool_calls", "thinking", "response_format"):
    BODIES[name].append(SEVERAL)


@pytest.mark.parametrize("name", BODIES)
def test_c4_bodies_are_refused_by_their_fields(name, pipe) -> None:
    for value in BODIES[name]:
        with pytest.raises(ParameterError) as caught:
            openai.create(pipe, {"prompt": "Q", name: value})
        assert caught.value.parameter == name
        status, body = openai.error_body(caught.value)
        assert (status, body["error"]["param"]) == (400, name)
        assert len(body["error"]["message"]) < 1000


@pytest.mark.parametrize("salt", ["", "x" * 257, 5, HALF])
def test_c4_a_bad_salt_beside_a_body_is_named(salt, pipe) -> None:
    with pytest.raises(ParameterError) as caught:
        openai.create(pipe, {"prompt": "Q"}, cache_salt=salt)
    assert caught.value.parameter == "cache_salt"


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda pipe: pipe.choose("Q", []), "options"),
        (lambda pipe: pipe.choose("Q", "ab"), "options"),
        (lambda pipe: pipe.choose("Q", ["a", "a"]), "options"),
        (lambda pipe: pipe.choose("Q", ["a", 5]), "options"),
        (lambda pipe: pipe.choose("Q", [""]), "options"),
        (lambda pipe: pipe.choose("Q", ["a", HALF]), "options"),
        (lambda pipe: pipe.choose("Q", 5), "options"),
        (lambda pipe: pipe.choose("Q", ["a"], thinking=True), "thinking"),
        (lambda pipe: pipe.choose("Q", ["a"], choice=["a"]), "response_format"),
        (lambda pipe: pipe.locate("", None), "what"),
        (lambda pipe: pipe.locate(5, None), "what"),
        (lambda pipe: pipe.locate("x", None, template="no place"), "template"),
        (lambda pipe: pipe.batch(["Q"], on_error=ODD), "on_error"),
        (lambda pipe: pipe.batch(["Q"], on_error=SEVERAL), "on_error"),
        (lambda pipe: pipe.run_tools("Q", [len], on_error=SEVERAL), "on_error"),
        (lambda pipe: pipe.extract("x.png", str, by=SEVERAL), "by"),
        (lambda pipe: pipe.extract("x.png", str, on_error=SEVERAL), "on_error"),
        (lambda pipe: pipe.batch(5), "requests"),
        (lambda pipe: pipe.batch("Q"), "requests"),
        (lambda pipe: pipe.batch(["Q"], progress=ODD), "progress"),
        (lambda pipe: pipe.map(["Q"], prefetch=0), "prefetch"),
        (lambda pipe: pipe.map(["Q"], prefetch=-HUGE), "prefetch"),
        (lambda pipe: pipe.map(["Q"], prefetch=ODD), "prefetch"),
        (lambda pipe: pipe.extract("x.png", {"type": "nonsense"}), "schema"),
        (lambda pipe: pipe.extract("x.png", str, by=ODD), "by"),
        (lambda pipe: pipe.extract("x.png", str, on_error=ODD), "on_error"),
        (lambda pipe: pipe.extract("x.png", str, instruction=ODD), "instruction"),
        (lambda pipe: pipe.extract("x.png", str, tools=[TOOL]), "tools"),
        (lambda pipe: pipe.run_tools("Q", []), "functions"),
    ],
)  # fmt: skip
def test_c4_arguments_of_methods_are_named_too(ask, name, pipe) -> None:
    with pytest.raises(ParameterError) as caught:
        ask(pipe)
    assert caught.value.parameter == name
    assert "0x" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("kv_memory", -1), ("kv_memory", HUGE), ("kv_memory", NAN), ("kv_memory", ODD), ("kv_dtype", "int4"),
        ("kv_dtype", ODD), ("kv_dtype", SEVERAL), ("max_batch", 0), ("max_batch", -HUGE),
        ("max_batch", True), ("max_waiting", NAN),
        ("max_waiting", ODD), ("quantize", "int3"), ("quantize", ODD), ("dtype", "int8"), ("dtype", ODD),
        ("device", "tpu"), ("device", ODD), ("progress", ODD), ("observers", [5]), ("input_policy", ODD),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_c4_arguments_of_a_pipeline_are_named_too(argument, value) -> None:
    with pytest.raises(ParameterError) as caught:
        Pipeline.from_pretrained("tiny", **{argument: value})
    assert caught.value.parameter == argument
    assert "0x" not in str(caught.value)


def test_c4_good_values_of_other_libraries_become_pythons() -> None:
    options = {
        "max_new_tokens": np.int64(5), "temperature": np.float32(0.5), "priority": np.int8(-5),
        "timeout": Fraction(1, 2), "max_image_tokens": np.uint16(9), "thinking": "auto",
        "thinking_budget": np.int32(3), "logprobs": np.int64(2),
    }  # fmt: skip
    asked = prepare.request(prepare.question("Q"), options, defaults=GenerationConfig())
    assert (asked.priority, asked.timeout, asked.max_image_tokens, asked.thinking_budget) == (-5, 0.5, 9, 3)
    for value in (asked.priority, asked.max_image_tokens, asked.thinking_budget, asked.sampling.logprobs):
        assert type(value) is int
    assert type(asked.timeout) is type(asked.sampling.temperature) is float


def test_c4_sampling_alone_refuses_as_much() -> None:
    for name, value in ROWS:
        if name in Sampling.__dataclass_fields__:
            with pytest.raises(ParameterError) as caught:
                Sampling(**{name: value})
            assert caught.value.parameter == name
