"""Chat completions in process: whole, in chunks, for event loops; on the embedded model and on scripts."""

import asyncio
import base64
import gc
import io
import json
import os
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted

from glmflash import (
    CacheFullError,
    ClosedError,
    ConfigError,
    ContextLengthError,
    DeadlineError,
    EngineDeadError,
    FetchError,
    ImageError,
    InputError,
    MessageError,
    NumericsError,
    ParameterError,
    Pipeline,
    QueueFullError,
    Result,
)
from glmflash.errors import CapacityError
from glmflash.openai import acreate, create, error_body
from glmflash.openai.write import Writer

HI = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "rate", "parameters": {"type": "object", "properties": {
    "currency": {"type": "string"}, "days": {"type": "integer"}}}}}]  # fmt: skip
CALLS = (
    "One moment.\n<tool_call>rate\n<arg_key>currency</arg_key>\n<arg_value>7</arg_value>\n</tool_call>"
    "\n<tool_call>rate\n<arg_key>days</arg_key>\n<arg_value>7</arg_value>\n</tool_call>"
)
SCRIPTS = (
    "The total is 42.",
    "<think>\nHm.\n</think>\nYes.",
    "<think></think>\nYes.",
    CALLS,
    "<think>Look it up.</think>\n" + CALLS,
    "<tool_call>rate\n</tool_call>",
    "<tool_call>rate\n<arg_key>currency",
    "Save: <|begin_of_box|>[[10,20,300,400]]<|end_of_box|>",
    "",
)


@pytest.fixture(scope="module")
def pipe():
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def receipt():
    """A receipt as a data URL, and the answer about its total."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "examples" / "tiny")
        import draw

        picture, bought = draw.receipt(Random("receipt"), language="en")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(), bought.total


def total(url, **fields):
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is the total?"}]
    return {"messages": [{"role": "user", "content": parts}], "max_tokens": 16, "temperature": 0} | fields


def join(chunks):
    """What a client makes of chunks: the chat.completion that they are the pieces of."""
    chunks = list(chunks)
    message, logprobs, reason, usage, calls = {}, None, None, None, []
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    for chunk in chunks:
        assert {key: chunk[key] for key in ("id", "created", "model", "object")} == {
            key: chunks[0][key] for key in ("id", "created", "model")
        } | {"object": "chat.completion.chunk"}
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            assert reason is None
            delta = dict(choice["delta"])
            for call in delta.pop("tool_calls", ()):
                call = dict(call)
                assert call.pop("index") == len(calls)
                calls.append(call)
            for key, value in delta.items():
                message[key] = message[key] + value if key in message else value
            logprobs, reason = choice["logprobs"] or logprobs, choice["finish_reason"]
    if calls:
        message |= {"tool_calls": calls, "content": message["content"] or None}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": reason}
    return {"choices": [choice], "usage": usage}


def alike(body):
    """A completion without what differs from time to time: names, and which tokens were cached."""
    text = json.dumps({"choices": body["choices"], "usage": body["usage"]})
    body = json.loads(text.replace(body.get("id") or "chatcmpl-", "chatcmpl-"))
    for call in body["choices"][0]["message"].get("tool_calls", ()):
        call["id"] = call["id"].replace("chatcmpl-", "").rpartition("_")[2]
    body["usage"].pop("prompt_tokens_details")
    for entry in (body["choices"][0]["logprobs"] or {}).get("content", ()):
        for one in (entry, *entry["top_logprobs"]):
            one["logprob"] = round(one["logprob"], 3)  # a cached prompt rounds otherwise
    return body


def streamed(body):
    return body | {"stream": True, "stream_options": {"include_usage": True}}


async def collected(pipe, body):
    return [chunk async for chunk in await acreate(pipe, body)]


def test_it_answers_as_the_pipeline_does(pipe, receipt):
    url, wanted = receipt
    body = create(pipe, total(url, model="m"))
    assert body["object"] == "chat.completion"
    assert body["model"] == "m"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": wanted}
    assert (
        body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )
    json.dumps(body, allow_nan=False)


def test_the_plain_body_answers_the_same(pipe, receipt):
    url, wanted = receipt
    for image in (url, url.partition(",")[2]):
        plain = {"image": image, "prompt": "What is the total?", "max_tokens": 16, "temperature": 0}
        assert create(pipe, plain)["choices"][0]["message"]["content"] == wanted


@pytest.mark.parametrize("fields", [
    {},
    {"temperature": 1.5, "seed": 5, "max_tokens": 12},
    {"logprobs": True, "top_logprobs": 3},
    {"thinking": True, "max_tokens": 60},
    {"stop": "."},
])  # fmt: skip
def test_chunks_joined_are_the_whole(pipe, receipt, fields):
    body = total(receipt[0], **fields)
    whole = create(pipe, body)
    assert alike(join(create(pipe, streamed(body)))) == alike(whole)
    assert alike(asyncio.run(acreate(pipe, body))) == alike(whole)
    assert alike(join(asyncio.run(collected(pipe, streamed(body))))) == alike(whole)


@pytest.mark.parametrize("script", SCRIPTS)
def test_chunks_joined_are_the_whole_whatever_is_said(pipe, receipt, script):
    told = Scripted(pipe, script)
    body = total(
        receipt[0], max_tokens=200, tools=TOOLS, thinking=script.startswith("<think>"), logprobs=True
    )
    whole = create(told, body)
    chunks = list(create(told, streamed(body)))
    assert alike(join(chunks)) == alike(whole)
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []


@pytest.mark.slow
@settings(max_examples=12)
@given(st.lists(st.sampled_from([
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>",
    "</arg_value>", "<|begin_of_box|>", "<|end_of_box|>", "rate\n", "days", "7", "\n", "a [[1,2,3,4]] b",
]), max_size=14), st.booleans(), st.integers(1, 30))  # fmt: skip
def test_chunks_joined_are_the_whole_for_any_tokens(pipe, pieces, thinking, length):
    told = Scripted(pipe, "".join(pieces))
    body = {"messages": HI, "max_tokens": length, "tools": TOOLS, "thinking": thinking, "temperature": 0}
    assert alike(join(create(told, streamed(body)))) == alike(create(told, body))


def test_tool_calls_in_the_form_of_streams(pipe):
    told = Scripted(pipe, CALLS)
    body = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
    (choice,) = create(told, body)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    calls = choice["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"currency": "7"}, {"days": 7}]
    assert len({call["id"] for call in calls}) == 2
    deltas = [c["choices"][0]["delta"] for c in create(told, body | {"stream": True})]
    assert [call["index"] for delta in deltas for call in delta.get("tool_calls", ())] == [0, 1]
    first = next(i for i, delta in enumerate(deltas) if "tool_calls" in delta)
    assert "".join(delta.get("content", "") for delta in deltas[:first]) == "One moment."
    assert all(asked["tool_choice"] == "required" for asked in told.asked)


def test_a_whole_round_with_tools(pipe, receipt):
    """The answer's message goes back as it came, with a picture in the tool's result."""
    told = Scripted(pipe, CALLS)
    body = {"messages": list(HI), "tools": TOOLS, "max_tokens": 200}
    message = create(told, body)["choices"][0]["message"]
    result = [{"type": "image_url", "image_url": {"url": receipt[0]}}, {"type": "text", "text": "1.08"}]
    body["messages"] += [
        message,
        *({"role": "tool", "tool_call_id": call["id"], "content": result} for call in message["tool_calls"]),
    ]
    again = create(Scripted(pipe, "1.08"), body)
    assert again["choices"][0]["message"]["content"] == "1.08"
    assert again["usage"]["prompt_tokens"] > 2 * 20


def test_boxes_are_in_the_message(pipe, receipt):
    told = Scripted(pipe, "Save: <|begin_of_box|>[[10,20,300,400]]<|end_of_box|>")
    (box,) = create(told, total(receipt[0], max_tokens=50))["choices"][0]["message"]["boxes"]
    assert (box["label"], box["normalized"], box["image"]) == ("Save", [10, 20, 300, 400], 0)
    assert len(box["xyxy"]) == 4


def test_a_salt_comes_from_the_caller_alone(pipe, receipt):
    cached = [
        create(pipe, total(receipt[0]), cache_salt=salt)["usage"]["prompt_tokens_details"]["cached_tokens"]
        for salt in ("a", "b", "a")
    ]
    assert cached[:2] == [0, 0]
    assert cached[2] > 0
    with pytest.raises(ParameterError, match="cache_salt"):
        create(pipe, total(receipt[0], cache_salt="a"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "param"), [
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": "5", "max_tokens": None}, "max_completion_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "0"}, "temperature"),
    ({"top_p": 1e400}, "top_p"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stop": [1]}, "stop"),
    ({"tools": {}}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "king", "content": "Hi"}]}, "messages"),
    ({"thinking": "auto", "answer_prefix": "x"}, "answer_prefix"),
])  # fmt: skip
def test_errors_are_raised_at_once_and_name_what_was_sent(pipe, fields, param, stream):
    with pytest.raises(InputError) as error:
        create(pipe, {"messages": HI, "max_tokens": 3, "stream": stream} | fields)
    status, body = error_body(error.value)
    assert (status, body["error"]["param"], body["error"]["type"]) == (400, param, "invalid_request_error")


@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_picture_is_an_error_before_the_first_chunk(pipe, stream):
    body = total("data:image/png;base64,AAAA", stream=stream)
    with pytest.raises(ImageError, match="not an allowed picture"):
        list(create(pipe, body))
    with pytest.raises(ImageError, match="not an allowed picture"):
        asyncio.run(collected(pipe, body | {"stream": True}))


def test_paths_are_never_opened(pipe, tmp_path, monkeypatch, receipt):
    """Not even one that is a picture: the readers are watched while everything is tried."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(base64.b64decode(receipt[0].partition(",")[2]))
    opened, real = [], os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **more: opened.append(path) or real(path, *rest, **more)
    )
    monkeypatch.chdir(tmp_path)
    for place in (
        "secret.png",
        "secret",
        str(secret),
        f"file://{secret}",
        f"data:{secret}",
        "data:secret.png",
    ):
        for body in (
            {"prompt": "Hi", "image": place, "max_tokens": 1},
            total(place, max_tokens=1),
            total(receipt[0]) | {"messages": [{"role": "tool", "content": [
                {"type": "image_url", "image_url": {"url": place}}]}]},
        ):  # fmt: skip
            with pytest.raises(InputError):
                create(pipe, body)
    assert not [path for path in opened if "secret" in str(path)]


def test_an_error_amid_the_stream_is_its_last_chunk(pipe):
    def fails(token_ids, logits):
        return logits if len(token_ids) < 5 else logits * float("nan")

    told = Scripted(pipe, "One two three four five six seven.")
    told._force, forced = lambda ids, logits: fails(ids, forced(ids, logits)), told._force
    chunks = list(create(told, {"messages": HI, "stream": True}))
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["error"]["code"] == ParameterError.code
    assert "choices" not in chunks[-1]
    assert asyncio.run(collected(told, {"messages": HI, "stream": True}))[-1] == chunks[-1]


def test_a_deadline(pipe):
    with pytest.raises(DeadlineError) as error:
        create(pipe, {"messages": HI, "max_tokens": 2000}, timeout=0.001)
    assert error_body(error.value)[0] == 504


def busy(pipe):
    while not pipe.stats().running:
        time.sleep(0.005)


def cancelled(pipe):
    """How many requests were cancelled so far, once all have ended."""
    for _ in range(200):
        stats = pipe.stats()
        ended = stats.answered + sum(stats.failed.values())
        if ended == stats.submitted and not stats.running:
            return stats.finished.get("cancelled", 0) + stats.failed.get("cancelled", 0)
        time.sleep(0.01)
    raise AssertionError("a request goes on")


@pytest.mark.parametrize("begun", [False, True])
def test_closing_or_dropping_the_chunks_cancels(pipe, begun):
    told = Scripted(pipe, "and " * 300)
    body = {"messages": HI, "stream": True, "max_tokens": 1000}
    for leave in (lambda chunks: chunks.close(), lambda chunks: None):
        before = cancelled(pipe)
        chunks = create(told, body)
        if begun:
            next(chunks)
        leave(chunks)
        del chunks
        gc.collect()
        assert cancelled(pipe) == before + 1


def test_cancelling_the_task_cancels_the_request(pipe):
    told = Scripted(pipe, "and " * 300)

    async def leave(stream: bool):
        async def ask():
            answer = await acreate(told, {"messages": HI, "stream": stream, "max_tokens": 1000})
            async for _ in answer:
                pass

        task = asyncio.create_task(ask())
        await asyncio.to_thread(busy, pipe)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for stream in (False, True):
        before = cancelled(pipe)
        asyncio.run(leave(stream))
        assert cancelled(pipe) == before + 1


def test_closing_asynchronous_chunks_cancels(pipe):
    told = Scripted(pipe, "and " * 300)

    async def leave():
        chunks = await acreate(told, {"messages": HI, "stream": True, "max_tokens": 1000})
        await anext(chunks)
        await chunks.aclose()

    before = cancelled(pipe)
    asyncio.run(leave())
    assert cancelled(pipe) == before + 1


@pytest.mark.parametrize(("error", "status", "kind", "param"), [
    (ParameterError("seed", "is bad"), 400, "invalid_request_error", "seed"),
    (MessageError("x"), 400, "invalid_request_error", "messages"),
    (ImageError("x"), 400, "invalid_request_error", "messages"),
    (FetchError("x"), 400, "invalid_request_error", "messages"),
    (QueueFullError("x"), 429, "rate_limit_error", None),
    (CacheFullError("x"), 413, "invalid_request_error", None),
    (CapacityError("x"), 503, "server_error", None),
    (DeadlineError("x"), 504, "server_error", None),
    (EngineDeadError("x"), 503, "server_error", None),
    (ClosedError("x"), 503, "server_error", None),
    (NumericsError("x"), 500, "server_error", None),
    (ConfigError("x"), 500, "server_error", None),
])  # fmt: skip
def test_every_error_has_a_status(error, status, kind, param):
    found, body = error_body(error)
    assert found == status
    assert body == {"error": {"message": str(error), "type": kind, "param": param, "code": type(error).code}}


def test_clients_know_the_code_of_a_prompt_too_long():
    status, body = error_body(ContextLengthError("too long"))
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")


def test_what_is_not_ours_stays_here(caplog):
    status, body = error_body(RuntimeError("secret at 0x7f0000000000"))
    assert status == 500
    assert "secret" not in json.dumps(body)
    assert "secret" in caplog.text
    assert error_body(asyncio.CancelledError())[0] == 500


def test_whole_and_ending_of_nothing():
    """An answer without a single delta still has its role and its reason."""
    writer = Writer(model="m", token_bytes=lambda _: b"")
    first, last = writer.ending(Result(text="", finish_reason="length"))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["choices"][0]["finish_reason"] == "length"
    assert "usage" not in last


# With constraints: what the model is made to say.


@pytest.mark.parametrize("stream", [False, True])
def test_a_choice_is_one_of_those_given(pipe, receipt, stream):
    body = total(receipt[0], choice=["yes", "no"], stream=stream)
    answer = join(create(pipe, body)) if stream else create(pipe, body)
    assert answer["choices"][0]["message"]["content"] in ("yes", "no")


@pytest.mark.parametrize("stream", [False, True])
def test_a_json_object_is_one(pipe, receipt, stream):
    body = total(receipt[0], response_format={"type": "json_object"}, stream=stream, max_tokens=200)
    answer = join(create(pipe, body)) if stream else create(pipe, body)
    (choice,) = answer["choices"]
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
