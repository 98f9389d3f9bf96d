import itertools

import pytest
from prompt_chats import CONTROLS, golden_chats, options

from glmflash.errors import MessageError, ParameterError
from glmflash.prompt.messages import Image, Text, Video, parse
from glmflash.prompt.template import Control, TemplateStyle, join, render, segments

PICTURE = {
    "role": "user",
    "content": [{"type": "image", "image": "x"}, {"type": "text", "text": "Describe."}],
}
HISTORY = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q1"},
    {"role": "assistant", "content": "<think>r1</think>\nA1"},
    {"role": "user", "content": "Q2"},
    {"role": "assistant", "content": "A2", "reasoning_content": "r2"},
]
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "g", "arguments": {}}}]}
OLD = TemplateStyle(switch=False)


def user(text):
    return {"role": "user", "content": text}


def test_every_golden_chat_is_rendered_as_the_reference_does(test_data):
    chats = golden_chats(test_data)
    assert len(chats) == 200
    wrong = [i for i, chat in enumerate(chats) if render(chat["messages"], **options(chat)) != chat["text"]]
    assert wrong == []


def test_parsed_and_raw_chats_render_alike(test_data):
    for chat in golden_chats(test_data)[:50]:
        messages, _ = parse(chat["messages"])
        assert segments(messages, **options(chat)) == segments(chat["messages"], **options(chat))


@pytest.mark.parametrize(
    ("messages", "keywords", "expected"),
    [
        (
            [PICTURE],
            {},
            "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>Describe.<|assistant|>\n",
        ),
        (
            [PICTURE],
            {"thinking": False},
            (
                "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>Describe./nothink"
                "<|assistant|>\n<think></think>\n"
            ),
        ),
        (
            HISTORY,
            {"add_generation_prompt": False},
            (
                "[gMASK]<sop><|system|>\nS<|user|>\nQ1<|assistant|>\n<think></think>\nA1<|user|>\nQ2"
                "<|assistant|>\n<think>r2</think>\nA2"
            ),
        ),
        (
            [user("q"), CALL, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}],
            {"thinking": True},
            (
                "[gMASK]<sop><|user|>\nq<|assistant|>\n<think></think>\n<tool_call>g\n</tool_call><|observation|>"
                "\n<tool_response>\n1\n</tool_response>\n\n<tool_response>\n2\n</tool_response>\n<|assistant|>\n"
            ),
        ),
    ],
    ids=["picture", "nothink", "history", "tools"],
)
def test_published_renderings(messages, keywords, expected):
    assert render(messages, **keywords) == expected


def test_a_url_picture_stands_where_the_message_has_it():
    part = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    assert Image(0) in segments([{"role": "user", "content": [part]}])


def test_tool_results_may_hold_pictures_and_clips():
    content = [{"type": "image", "image": "x"}, {"type": "video", "video": "y"}]
    walk = segments([{"role": "tool", "content": content}], add_generation_prompt=False)
    inner = [Control("<|begin_of_image|>"), Image(0), Control("<|end_of_image|>")]
    inner += [Control("<|begin_of_video|>"), Video(1), Control("<|end_of_video|>")]
    newline = Text("\n")
    open_, close = Control("<tool_response>"), Control("</tool_response>")
    start = [Control("[gMASK]"), Control("<sop>"), Control("<|observation|>")]
    assert walk == [*start, newline, open_, newline, *inner, newline, close]


@pytest.mark.parametrize("name", CONTROLS)
def test_no_spelling_of_a_control_token_becomes_one(name):
    texts = [f"a{name}b", name * 2]
    messages = [
        {"role": "system", "content": texts[0]},
        {"role": "user", "content": [{"type": "text", "text": name[:3]}, {"type": "text", "text": name[3:]}]},
        {"role": "assistant", "content": "x" + texts[1] + "x", "reasoning_content": texts[0]}
        | {"tool_calls": [{"function": {"name": name, "arguments": {name: name, "k": [name]}}}]},
        {"role": "tool", "content": texts[1]},
    ]
    neutral = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "assistant", "content": "x", "reasoning_content": "r"}
        | {"tool_calls": [{"function": {"name": "f", "arguments": {"a": "b", "k": ["c"]}}}]},
        {"role": "tool", "content": "d"},
    ]
    for thinking in (None, True, False):
        tools = [{"type": "function", "function": {"name": name, "description": name}}]
        walk = segments(messages, tools=tools, thinking=thinking)
        plain = segments(neutral, tools=[{"name": "f"}], thinking=thinking)
        assert [s for s in walk if not isinstance(s, Text)] == [s for s in plain if not isinstance(s, Text)]


@pytest.mark.parametrize("texts", [["/nothink"], ["a/nothink"], ["/nothink/nothink"], ["/no", "think", ""]])
def test_a_typed_nothink_is_text_unless_it_ends_a_turn_without_thinking(texts):
    messages = [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}]
    assert Text("\n" + "".join(texts)) in segments(messages)
    walk = segments(messages, thinking=False)
    assert walk.count(Control("/nothink")) == 1
    assert render(messages, thinking=False).startswith(f"[gMASK]<sop><|user|>\n{''.join(texts)}<|assistant|>")


def test_every_user_turn_gets_its_own_nothink():
    walk = segments([user("a"), user("b/nothink "), user("c/nothink")], thinking=False)
    assert walk.count(Control("/nothink")) == 3
    assert Text("\nb/nothink ") in walk


def test_texts_are_joined_and_empty_ones_dropped(test_data):
    for chat in golden_chats(test_data):
        walk = segments(chat["messages"], **options(chat))
        assert walk == join(walk)
        pairs = itertools.pairwise(walk)
        assert not any(isinstance(a, Text) and isinstance(b, Text) for a, b in pairs)
        assert Text("") not in walk


def test_reasoning_of_its_own_leaves_the_content_alone():
    message = {"role": "assistant", "content": "a</think>b", "reasoning_content": "r"}
    walk = segments([user("q"), message], add_generation_prompt=False)
    assert walk[-4:] == [Control("<think>"), Text("r"), Control("</think>"), Text("\na</think>b")]


def test_a_message_that_names_two_think_blocks_keeps_what_the_reference_keeps():
    message = {"role": "assistant", "content": "<think>a<think> b </think>c</think> d "}
    assert render([message], add_generation_prompt=False).endswith("<think>b</think>\nd")


def test_glm_41v_has_neither_switch_nor_think_blocks():
    assert TemplateStyle.of(CONTROLS) == TemplateStyle()
    assert TemplateStyle.of([name for name in CONTROLS if name != "/nothink"]) == OLD
    assert render([*HISTORY[:2], {"role": "assistant", "content": "A1"}, PICTURE], style=OLD) == (
        "[gMASK]<sop><|system|>\nS<|user|>\nQ1<|assistant|>\nA1<|user|>\n"
        "<|begin_of_image|><|image|><|end_of_image|>Describe.<|assistant|>\n"
    )
    with pytest.raises(ParameterError, match="always thinks"):
        render([PICTURE], style=OLD, thinking=False)
    for messages, tools in (([PICTURE], [{}]), ([CALL], None), ([{"role": "tool", "content": ""}], None)):
        with pytest.raises(MessageError, match="has none"):
            render(messages, tools=tools, style=OLD)


@pytest.mark.parametrize("thinking", [0, 1, "no", [], 0.0])
def test_thinking_is_a_bool_or_nothing(thinking):
    with pytest.raises(ParameterError, match="allowed: None, True or False") as caught:
        segments([PICTURE], thinking=thinking)
    assert caught.value.parameter == "thinking"


@pytest.mark.parametrize("tools", ["f", {"name": "f"}, ["f"], [{"f": object()}], [None]])
def test_tools_that_are_not_objects_are_refused(tools):
    with pytest.raises(MessageError, match="tools"):
        segments([PICTURE], tools=tools)


@pytest.mark.parametrize("messages", [[], "x", None, iter(()), [parse([PICTURE])[0][0], PICTURE]])
def test_what_is_no_chat_is_refused(messages):
    with pytest.raises(MessageError, match="messages"):
        segments(messages)
