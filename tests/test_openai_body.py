"""Bodies of chat completions: what is understood, what is refused by name, and that none can name a file."""

import json
from itertools import product

import pytest

from glmflash import DataUrl, FetchError, InputError, MessageError, ParameterError
from glmflash.openai.body import IGNORED, read
from glmflash.openai.content import chat, picture, question

PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
HI = [{"role": "user", "content": "Hi"}]

# Whatever a reader somewhere would take for a file or an address.
PLACES = (
    "receipt.png", "/etc/passwd", "../../etc/passwd", "~/secret.png", "file:///etc/passwd",
    "FILE:/etc/passwd", "C:\\secret.png", "\\\\host\\share\\a.png", "/proc/self/environ", "/dev/zero", "",
    " data:image/png;base64,", "http://127.0.0.1/a.png", "https://example.org/a.png", "HTTPS://example.org/a.png",
    "//example.org/a.png", "ftp://example.org/a.png", "gs://bucket/a.png", "blob:abc", "javascript:0",
)  # fmt: skip
# Whatever a body could wrap one in.
PARTS = (
    lambda x: {"type": "image_url", "image_url": {"url": x}},
    lambda x: {"type": "image_url", "image_url": x},
    lambda x: {"type": "image_url", "url": x},
    lambda x: {"type": "image_url", "image": x},
    lambda x: {"type": "image_url", "image_url": {"url": PIXEL, "path": x}},
    lambda x: {"type": "image_url", "image_url": {"url": PIXEL}, "image": x},
    lambda x: {"type": "image", "image": x},
    lambda x: {"type": "image", "url": x},
    lambda x: {"type": "image", "path": x},
    lambda x: {"type": "image", "source": {"type": "url", "url": x}},
    lambda x: {"type": "video", "video": x},
    lambda x: {"type": "video", "video": [x]},
    lambda x: {"type": "video_url", "video_url": {"url": x}},
    lambda x: {"type": "input_image", "image_url": x},
    lambda x: {"type": "input_audio", "input_audio": {"data": x}},
    lambda x: {"type": "file", "file": {"file_id": x}},
    lambda x: {"type": "text", "text": "a", "image": x},
    lambda x: {"type": "text", "text": {"url": x}},
    lambda x: {"image": x},
    lambda x: {"image_url": {"url": x}},
    lambda x: [x],
)
MESSAGES = (
    lambda part: {"role": "user", "content": [part]},
    lambda part: {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a"}, part]},
    lambda part: {"role": "system", "content": [part]},
    lambda part: {"role": "assistant", "content": [part]},
    lambda part: {"role": "user", "content": part},
    lambda part: {"role": "user", "content": "Hi", "images": [part]},
    lambda part: {"role": "assistant", "content": "Hi", "audio": part},
)
BODIES = (
    *({"messages": [message(part(x))]} for message, part, x in product(MESSAGES, PARTS, PLACES)),
    *({"prompt": "Hi", "image": x} for x in PLACES),
    *({"prompt": "Hi", "image": wrapped} for x in PLACES for wrapped in ([x], {"url": x}, {"path": x})),
    *({"prompt": "Hi", name: x} for x in PLACES for name in ("images", "image_url", "video", "file", "path")),
    *({"messages": x} for x in PLACES),
)


def sources(body) -> list[object]:
    """Every picture source in what a body becomes."""
    parts = [part for message in body.messages for part in message["content"] or () if isinstance(part, dict)]
    return [value for part in parts for key, value in part.items() if key not in ("type", "text")]


def test_no_body_makes_a_source_of_a_file_or_an_address():
    """Every place, in every wrapping, in every message: refused, or a data URL that no reader opens."""
    refused = 0
    for body in BODIES:
        try:
            understood = read(body)
        except InputError:
            refused += 1
            continue
        assert all(type(source) is DataUrl for source in sources(understood))
        # Bare base64 of the plain body is the one string that is taken without a scheme.
        assert set(body) == {"prompt", "image"}
        assert ":" not in body["image"]
    assert refused == len(BODIES) - sum(":" not in place for place in PLACES)


@pytest.mark.parametrize("place", [place for place in PLACES if ":" not in place])
def test_bare_base64_is_never_a_path(place):
    (message,) = question("Hi", place)
    assert message["content"][0]["image"] == DataUrl(f"data:image/*;base64,{place}")


def test_messages_are_built_anew():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    given = [
        {"role": "system", "content": "S", "name": "n"},
        {"role": "user", "content": [
            {"type": "text", "text": "T"}, {"type": "image_url", "image_url": PIXEL}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "R",
         "refusal": None, "annotations": [], "boxes": [], "audio": None, "function_call": None},
        {"role": "tool", "tool_call_id": "1", "content": [
            {"type": "image_url", "image_url": {"url": PIXEL.upper(), "detail": "low"}}]},
    ]  # fmt: skip
    system, user, assistant, tool = chat(given)
    assert system == {"role": "system", "content": "S"}
    assert user["content"] == [{"type": "text", "text": "T"}, {"type": "image", "image": DataUrl(PIXEL)}]
    assert assistant == {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "R"}
    assert tool["content"] == [{"type": "image", "image": DataUrl(PIXEL.upper())}]


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        (None, "messages is missing"),
        ("Hi", "messages is 'Hi'"),
        ([3], r"messages\[0\] is a int"),
        ([{"role": "user", "content": 3}], r"messages\[0\].content is a int"),
        ([{"role": "user", "content": [3]}], r"messages\[0\].content\[0\] is a int"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"content\[0\].text is missing"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 3}}]}], "url is a int"),
        ([{"role": "user", "content": [{"type": "file"}]}], "type is 'file'; allowed: text, image_url"),
        ([{"role": "user", "content": "a", "weight": 1}], "'weight' too many"),
        ([{"role": "assistant", "function_call": {"name": "f"}}], "'function_call' too many"),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": PIXEL, "detail": "?"}}],
                }
            ],
            "detail is",
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_named(messages, named):
    with pytest.raises(MessageError, match=named):
        read({"messages": messages})


def test_addresses_have_an_error_of_their_own():
    with pytest.raises(FetchError, match="send the picture itself"):
        picture("https://user:secret@example.org/a.png", "image")
    with pytest.raises(FetchError) as error:
        picture("http://user:secret@example.org/a.png", "image")
    assert "secret" not in str(error.value)


def test_fields_become_options():
    body = read({
        "model": "m", "messages": HI, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3,
        "stop": ["x"], "logprobs": True, "top_logprobs": 2, "tools": [TOOL], "tool_choice": "auto",
        "response_format": {"type": "json_object"}, "n": 1, "presence_penalty": 0, "frequency_penalty": 0.0,
        "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1, "regex": "a+", "choice": ["a"],
        "thinking_budget": 9, "max_image_tokens": 64, "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False}, "logit_bias": {},
    })  # fmt: skip
    assert body.messages == HI
    assert body.options == {
        "max_new_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["x"], "logprobs": 2,
        "tools": [TOOL], "tool_choice": "auto", "response_format": {"type": "json_object"}, "top_k": 4,
        "min_p": 0.1, "repetition_penalty": 1.1, "regex": "a+", "choice": ["a"], "thinking_budget": 9,
        "max_image_tokens": 64,
    }  # fmt: skip
    assert (body.model, body.stream, body.include_usage) == ("m", True, True)


def test_nulls_are_left_out():
    names = (
        "max_tokens",
        "temperature",
        "tools",
        "response_format",
        "stop",
        "seed",
        "n",
        "logprobs",
        "stream",
    )
    assert read(dict.fromkeys(names) | {"messages": HI}).options == {}
    assert read({"messages": HI, "model": None}, model="own").model == "own"


def test_harmless_fields_are_ignored():
    assert read(dict.fromkeys(IGNORED, "x") | {"messages": HI}).options == {}


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({"thinking": True}, True),
        ({"thinking": False}, False),
        ({"thinking": "auto"}, "auto"),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "enabled"}}, True),
        ({"enable_thinking": True}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "low", "enable_thinking": True}, True),
    ],
)
def test_every_spelling_of_thinking(fields, thinking):
    assert read({"messages": HI} | fields).options == {"thinking": thinking}


def test_what_thinking_may_be_is_said_in_full():
    with pytest.raises(ParameterError, match=r'^thinking: is maybe; allowed: true, false or "auto"$'):
        read({"prompt": "?", "thinking": "maybe"})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"logit_bias": {"5": 100}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"functions": []}, "functions"),
        ({"cache_salt": "x"}, "cache_salt"),
        ({"logits_processors": []}, "logits_processors"),
        ({"timeout": 1}, "timeout"),
        ({"priority": 100}, "priority"),
        ({"answer_prefix": "x"}, "answer_prefix"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"enable_thinking": True, "reasoning_effort": "none"}, "reasoning_effort"),
        ({"enable_thinking": "auto"}, "enable_thinking"),
        ({"enable_thinking": 1}, "enable_thinking"),
        ({"thinking": {"type": "auto"}}, "thinking"),
        ({"thinking": {"type": []}}, "thinking"),
        ({"reasoning_effort": []}, "reasoning_effort"),
        ({"chat_template_kwargs": {"tokenize": False}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"enable_thinking": True, "tools": []}}, "chat_template_kwargs"),
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"else": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"prompt": "Hi"}, "prompt"),
        ({"image": PIXEL}, "image"),
        ({"temprature": 1}, "temprature"),
        ({"x" * 1000: 1}, "a str"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, named):
    with pytest.raises(ParameterError) as error:
        read({"messages": HI} | fields)
    assert error.value.parameter == named
    assert len(str(error.value)) < 800


@pytest.mark.parametrize("body", [None, [], "x", 3, b"{}"])
def test_a_body_is_an_object(body):
    with pytest.raises(ParameterError, match="a JSON object"):
        read(body)


def test_the_plain_body():
    body = read({"image": PIXEL, "prompt": "What?", "max_tokens": 5, "temperature": 0.2})
    assert body.options == {"max_new_tokens": 5, "temperature": 0.2}
    assert body.messages == question("What?", PIXEL)
    with pytest.raises(MessageError, match="prompt is missing"):
        read({"image": PIXEL})
    with pytest.raises(FetchError):
        read({"prompt": "What?", "image": "https://example.org/a.png"})


def test_errors_of_options_name_the_field_that_was_sent():
    body = read({"messages": HI, "max_completion_tokens": 0})
    with pytest.raises(ParameterError, match="max_completion_tokens: got 0"), body.naming():
        raise ParameterError("max_new_tokens", "got 0")
    with pytest.raises(ParameterError, match="seed: got"), body.naming():
        raise ParameterError("seed", "got -1")


def test_what_is_read_is_json_again():
    """Nothing of a body but pictures changes its type."""
    body = read({"messages": HI, "stop": ["a"], "tools": [TOOL]})
    assert json.loads(json.dumps([body.messages, body.options])) == [HI, {"stop": ["a"], "tools": [TOOL]}]
