"""Tool calls through the real engine: the model is made to say them, all else is as ever."""

import asyncio
import sys
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image
import pytest
from prompt_chats import golden_chats
from spelling import saying, spelled

from glmflash import ParameterError, Pipeline
from glmflash.output.result import Result, ToolCall
from glmflash.prompt.template import render

ASKED = "<|observation|>"  # ends an answer that asks for calls
LOOK = "<tool_call>look\n<arg_key>number</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
SHUT = "<tool_call>shut\n</tool_call>"
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("look", "shut")]
USER = {"role": "user", "content": "Have a look."}


@pytest.fixture(scope="module")
def pipe():
    with Pipeline.from_pretrained("tiny", device="cpu", progress=False) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def draw():
    scripts = str(Path(__file__).parents[1] / "examples" / "tiny")
    sys.path.insert(0, scripts)
    import draw

    yield draw
    sys.path.remove(scripts)


def options(pipe, *turns, **others):
    processor = saying(pipe.engine.tokenizer, *turns)
    return {"logits_processors": [processor], "temperature": 0, "max_new_tokens": 64} | others


def message(result: Result) -> dict:
    return result.to_openai()["choices"][0]["message"]


def test_a_stream_brings_each_call_when_it_is_complete(pipe) -> None:
    said = f"Wait.\n{LOOK}\n{SHUT}{ASKED}"
    with pipe.stream([USER], tools=TOOLS, **options(pipe, said)) as stream:
        deltas = [*stream]
    calls = [(i, delta.tool_call) for i, delta in enumerate(deltas) if delta.tool_call]
    assert [call for _, call in calls] == [ToolCall("look", {"number": 3}), ToolCall("shut", {})]
    assert calls[0][0] < calls[1][0] == len(deltas) - 1
    assert deltas[calls[0][0]].text == "</tool_call>"
    assert stream.result.tool_calls == tuple(call for _, call in calls)
    assert (stream.result.text, stream.result.finish_reason) == ("Wait.", "stop")
    assert stream.result.raw == f"Wait.\n{LOOK}\n{SHUT}"


def test_so_does_the_stream_of_an_event_loop(pipe) -> None:
    async def calls() -> list[ToolCall]:
        stream = pipe.astream([USER], tools=TOOLS, **options(pipe, LOOK + SHUT + ASKED))
        return [delta.tool_call async for delta in stream if delta.tool_call]

    assert [call.name for call in asyncio.run(calls())] == ["look", "shut"]


def test_and_the_stream_of_a_session(pipe) -> None:
    with pipe.session(tools=TOOLS) as session:
        with session.stream("Look.", **options(pipe, LOOK + ASKED)) as stream:
            assert [delta.tool_call.name for delta in stream if delta.tool_call] == ["look"]
        said = session.messages[-1]
        assert [call["function"]["name"] for call in said["tool_calls"]] == ["look"]
        result = session.ask([{"role": "tool", "content": "a receipt"}], max_new_tokens=4)
        assert result.usage.cached >= stream.result.usage.prompt


@pytest.mark.parametrize("kept", [1, 4, 8, -3])
def test_a_call_that_max_new_tokens_cuts_is_no_call(pipe, kept) -> None:
    most = kept % len(spelled(pipe.engine.tokenizer, LOOK))
    result = pipe.chat([USER], tools=TOOLS, **options(pipe, LOOK, max_new_tokens=most))
    assert (result.text, result.tool_calls, result.finish_reason) == ("", (), "length")
    assert LOOK.startswith(result.raw)
    assert result.raw


def test_a_call_inside_the_reasoning_is_not_made(pipe) -> None:
    said = f"<think>Should I? {LOOK}</think>\nNo.<|user|>"
    result = pipe.chat([USER], tools=TOOLS, thinking=True, **options(pipe, said))
    assert (result.text, result.tool_calls) == ("No.", ())


def test_a_call_spelled_in_plain_text_is_text(pipe) -> None:
    tokenizer = pipe.engine.tokenizer
    plain = tokenizer.encode(LOOK)

    def processor(ids, logits):
        token = plain[len(ids)] if len(ids) < len(plain) else tokenizer.control("<|user|>")
        return logits.new_full(logits.shape, -1e9).index_fill_(0, logits.new_tensor([token]).long(), 0.0)

    result = pipe.chat([USER], tools=TOOLS, logits_processors=[processor])
    assert (result.text, result.tool_calls) == (LOOK, ())


def test_what_is_computed_of_a_call_is_reused_when_it_is_answered(pipe) -> None:
    first = pipe.chat([USER], tools=TOOLS, cache_salt="reuse", **options(pipe, LOOK + ASKED))
    then = [USER, message(first), {"role": "tool", "content": "It is a receipt."}]
    second = pipe.chat(then, tools=TOOLS, cache_salt="reuse", max_new_tokens=2)
    assert second.usage.cached == first.usage.prompt + len(first.token_ids) - 1  # the end was never computed


@pytest.mark.slow
def test_every_golden_call_said_by_the_model_is_rendered_as_the_reference_does(pipe, test_data) -> None:
    made = [
        one["tool_calls"]
        for chat in golden_chats(test_data)
        for one in chat["messages"]
        if "tool_calls" in one
    ]
    assert sum(map(len, made)) == 120
    wanted = {}  # many are alike
    for calls in made:
        said = {"role": "assistant", "content": "", "tool_calls": calls}
        wanted[render([said], add_generation_prompt=False).partition("</think>\n")[2]] = said
    items = [
        {"messages": [USER], **options(pipe, text + ASKED, max_new_tokens=500, repetition_stop=None)}
        for text in wanted
    ]
    for result, (text, calls) in zip(pipe.batch(items, progress=False), wanted.items(), strict=True):
        assert result.finish_reason == "stop"
        got = [{"function": {"name": one.name, "arguments": one.arguments}} for one in result.tool_calls]
        assert got == [{"function": one["function"]} for one in calls["tool_calls"]]
        again = render([message(result)], add_generation_prompt=False)
        assert again == render([calls], add_generation_prompt=False)
        assert again.endswith(text)


def receipt_in_a_tool(picture, text="What is the total?") -> list[dict]:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"number": 3}}}]}
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
    return [USER, call, {"role": "tool", "content": parts}]


@pytest.mark.slow
def test_a_picture_in_a_tools_result_is_seen(pipe, draw) -> None:
    right = 0
    for seed in range(12):
        picture, facts = draw.receipt(Random(f"tool {seed}"), language="en")
        result = pipe.chat(receipt_in_a_tool(picture), temperature=0, max_new_tokens=24)
        assert result.usage.image == pipe("Hi", images=picture, max_new_tokens=1).usage.image
        right += result.text == facts.total
    assert right >= 11


def test_its_keys_and_values_are_reused_and_answer_the_same(pipe, draw) -> None:
    picture, _ = draw.receipt(Random("tool 1"), language="en")
    asked = receipt_in_a_tool(picture)
    cold = pipe.chat(asked, temperature=0, max_new_tokens=12, cache_salt="cold", logprobs=1)
    warm = pipe.chat(asked, temperature=0, max_new_tokens=12, cache_salt="cold", logprobs=1)
    assert warm.usage.cached == warm.usage.prompt - 1
    assert warm.token_ids == cold.token_ids
    apart = [abs(a.logprob - b.logprob) for a, b in zip(cold.logprobs, warm.logprobs, strict=True)]
    assert max(apart) < 1e-3
    other, _ = draw.receipt(Random("tool 2"), size=picture.size, language="en")
    usage = pipe.chat(receipt_in_a_tool(other), max_new_tokens=1, cache_salt="cold").usage
    assert usage.cached < usage.prompt - usage.image  # not another picture's


class Shop:
    """Functions that a model may call, and what was called."""

    def __init__(self, draw) -> None:
        self.draw = draw
        self.called: list[int] = []

    def look(self, number: int) -> list[object]:
        """Show a receipt.

        Args:
            number: Which one.
        """
        self.called.append(number)
        return [self.draw.receipt(Random(f"t{number}"), language="en")[0], "What is the total?"]

    def shut(self) -> None:
        """Shut the shop."""
        raise RuntimeError("it is locked")


@pytest.mark.slow
def test_the_loop_delivers_a_picture_and_the_model_reads_it(pipe, draw) -> None:
    shop = Shop(draw)
    run = pipe.run_tools("Look at receipt 3.", [shop.look, shop.shut], **options(pipe, LOOK + ASKED))
    _, facts = draw.receipt(Random("t3"), language="en")
    assert shop.called == [3]
    assert run.finished
    assert str(run) == facts.total
    first, last = run.messages[1], run.messages[2]
    assert first["tool_calls"][0]["id"] == last["tool_call_id"]
    fresh = pipe.chat(
        run.messages[:-1], tools=None, temperature=0, max_new_tokens=4
    )  # the pictures are values that can be shown again
    assert fresh.usage.image == run.result.usage.image


def test_the_loop_through_the_engine_with_several_calls_and_errors(pipe, draw) -> None:
    shop = Shop(draw)
    turns = (LOOK + "\n" + SHUT + ASKED, "<tool_call>nothing\n</tool_call>" + ASKED, "Done.<|user|>")
    run = pipe.run_tools("Go.", [shop.look, shop.shut], **options(pipe, *turns))
    assert (str(run), run.finished) == ("Done.", True)
    assert [type(one.error).__name__ for one in run.calls] == ["NoneType", "RuntimeError", "MessageError"]
    told = [one["content"] for one in run.messages if one["role"] == "tool"]
    assert told[1:] == [
        "error: RuntimeError: it is locked",
        "error: MessageError: there is no function nothing; allowed: look, shut",
    ]
    with pytest.raises(RuntimeError, match="locked"):
        pipe.run_tools("Go.", [shop.shut], on_error="raise", **options(pipe, SHUT + ASKED))
    assert pipe("Hi", max_new_tokens=1).usage.completion == 1


def test_a_function_may_ask_the_pipeline_itself(pipe) -> None:
    picture = PIL.Image.fromarray(np.full((56, 56, 3), 200, np.uint8))

    def look(number: int) -> str:
        return f"{number}: {pipe('What is this?', images=picture, max_new_tokens=2).usage.image} tokens"

    run = pipe.run_tools("Look.", [look], **options(pipe, LOOK + ASKED, "Seen.<|user|>"))
    assert run.messages[-2]["content"].endswith("tokens")
    assert str(run) == "Seen."


def test_a_string_that_looks_like_a_number_stays_one(pipe) -> None:
    got = []

    def look(number: str) -> None:
        got.append(number)

    pipe.run_tools("Look.", [look], **options(pipe, LOOK + ASKED, "Seen.<|user|>"))
    assert got == ["3"]


def test_options_are_checked_as_ever(pipe) -> None:
    with pytest.raises(ParameterError, match="unknown"):
        pipe.run_tools("Look.", [Shop(None).shut], nonsense=1)
