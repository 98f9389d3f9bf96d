import json

import numpy as np
import pytest

from glmflash.errors import MessageError
from glmflash.prompt.messages import Image, ImageUrl, Message, Text, ToolCall, Video, parse, question


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def calls(arguments, **function):
    call = {"type": "function", "function": {"name": "f", "arguments": arguments} | function}
    return [{"role": "assistant", "content": None, "tool_calls": [call]}]


def test_pictures_and_clips_are_numbered_together_over_the_whole_chat():
    first, second = object(), object()
    chat, pictures = parse(
        [
            *user({"type": "image", "image": first}, {"type": "video", "video": "v"}),
            {"role": "tool", "content": [{"type": "text", "text": "t"}, {"type": "image", "image": second}]},
            *user({"type": "video", "video": "v"}, {"image": first}),
        ]
    )
    assert [message.parts for message in chat] == [
        (Image(0), Video(1)),
        (Text("t"), Image(2)),
        (Video(3), Image(4)),
    ]
    assert pictures == (first, "v", second, "v", first)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}},
        {"type": "image_url", "image_url": "https://x/y.png"},
        {"image_url": {"url": "https://x/y.png"}},
        {"type": "image", "url": "https://x/y.png"},
    ],
)
def test_a_picture_by_url_comes_out_marked(part):
    chat, pictures = parse(user(part))
    assert chat[0].parts == (Image(0),)
    assert pictures == (ImageUrl("https://x/y.png"),)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA=="}},
        {"type": "video_url", "video_url": "data:video/mp4;base64,AA=="},
        {"video_url": {"url": "data:video/mp4;base64,AA=="}},
        {"type": "video", "url": "data:video/mp4;base64,AA=="},
    ],
)
def test_a_clip_by_url_comes_out_marked(part):
    chat, sources = parse(user(part))
    assert chat[0].parts == (Video(0),)
    assert sources == (ImageUrl("data:video/mp4;base64,AA=="),)


def test_a_question_asks_about_pictures_then_clips():
    content = question("Hm?", images=["a", "b"], videos=("c", "d"))[0]["content"]
    assert [(part["type"], *part.values()) for part in content] == [
        ("image", "image", "a"),
        ("image", "image", "b"),
        ("video", "video", "c"),
        ("video", "video", "d"),
        ("text", "text", "Hm?"),
    ]
    assert question("Hm?", videos="c") == question("Hm?", videos=["c"])
    with pytest.raises(MessageError, match="videos holds a None"):
        question("Hm?", videos=["c", None])


@pytest.mark.parametrize("part", [{"type": "video"}, {"type": "video", "video": None}, {"video_url": {}}])
def test_a_part_that_names_no_clip_is_refused(part):
    with pytest.raises(MessageError, match="give the clip under 'video'"):
        parse(user(part))


def test_a_string_under_image_is_handed_on_untouched():
    assert parse(user({"type": "image", "image": "https://x/y.png"}))[1] == ("https://x/y.png",)


def test_plain_tells_a_string_from_a_list():
    chat, _ = parse([{"role": "tool", "content": "a"}, {"role": "tool", "content": []}])
    assert chat == (Message("tool", (Text("a"),)), Message("tool", (), plain=False))


@pytest.mark.parametrize("extra", [{}, {"content": None}, {"content": ""}])
def test_an_assistant_may_have_no_content(extra):
    assert parse([{"role": "assistant"} | extra])[0] == (Message("assistant", (Text(""),)),)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"a": "x", "b": 1}, (("a", "x"), ("b", "1"))),
        ('{"b": [1, "é"], "a": null}', (("b", '[1, "é"]'), ("a", "null"))),
        ("", ()),
        (None, ()),
        ({}, ()),
    ],
)
def test_tool_arguments_may_be_an_object_or_its_json(arguments, expected):
    assert parse(calls(arguments))[0][0].tool_calls == (ToolCall("f", expected),)


def test_a_tool_call_may_stand_without_its_wrapper():
    chat, _ = parse([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": True}}]}])
    assert chat[0].tool_calls == (ToolCall("f", (("a", "true"),)),)


def test_reasoning_is_kept_apart():
    chat, _ = parse([{"role": "assistant", "content": "A", "reasoning_content": "R"}])
    assert chat[0].reasoning == "R"


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "empty"),
        ("hello", "a list of messages"),
        ({"role": "user", "content": "x"}, "a list of messages"),
        (None, "a list of messages"),
        (["hello"], r"messages\[0\] is 'hello'"),
        (
            [{"role": "user", "content": "x"}, {"role": "robot", "content": "x"}],
            r"messages\[1\].*'robot'.*tool",
        ),
        ([{"content": "x"}], "role is missing"),
        ([{"role": np.array(["user", "x"]), "content": "x"}], "role is a ndarray"),
        ([{"role": ["user"], "content": "x"}], "role is a list"),
        ([{"role": "user"}], r"messages\[0\] \(user\): content is missing"),
        ([{"role": "tool", "content": None}], r"\(tool\): content is missing"),
        ([{"role": "user", "content": 3}], "content is a int"),
        ([{"role": "user", "content": b"x"}], "content is a bytes"),
        ([{"role": "user", "content": {"type": "text"}}], "content is a dict"),
        (user("x"), r"\(user\) part 0 is 'x'"),
        (user({}), "type is missing"),
        (user({"type": np.array(["text", "x"])}), "type is a ndarray"),
        (user({"type": "audio"}), "type is 'audio'; allowed: text, image"),
        (user({"type": ["image"]}), "type is a list"),
        (user({"type": "text"}), "text is missing"),
        (user({"type": "text", "text": 3}), "text is a int"),
        (user({"type": "image"}), "url is missing"),
        (user({"type": "image", "image": None}), "url is missing"),
        (user({"type": "image_url", "image_url": {"url": 3}}), "image_url is a int"),
        ([{"role": "system", "content": [{"image": "x"}]}], r"\(system\) holds a picture"),
        ([{"role": "assistant", "content": [{"video": "x"}]}], r"\(assistant\) holds a picture"),
        ([{"role": "assistant", "reasoning_content": 3}], "reasoning_content is a int"),
        ([{"role": "assistant", "tool_calls": "f"}], "tool_calls is 'f'"),
        ([{"role": "assistant", "tool_calls": ["f"]}], "tool call 0 is 'f'"),
        (calls({}, name=None), "name is missing"),
        (calls("{"), "arguments is not JSON"),
        (calls("[" * 100_000), "arguments is not JSON"),
        (calls("[]"), "arguments is a list"),
        (calls([]), "arguments is a list"),
        (calls(False), "arguments is a bool"),
        (calls({3: "x"}), "a key of arguments is a int"),
        (calls({"a": object()}), r"written as JSON \(TypeError\)"),
        (calls({"a": LOOP}), "nested deeper than 100, or holds itself"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(messages, problem):
    with pytest.raises(MessageError, match=problem):
        parse(messages)


def test_an_error_does_not_repeat_long_values():
    with pytest.raises(MessageError) as caught:
        parse([{"role": "secret " * 1000, "content": "x"}])
    assert len(str(caught.value)) < 200


def test_values_can_be_compared_and_hashed():
    one, two = (parse(calls(json.dumps({"a": [1]})))[0] for _ in range(2))
    assert one == two
    assert len({*one, *two}) == 1
