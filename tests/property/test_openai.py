"""Laws of request bodies: whatever JSON comes, it is understood or refused by name, and names no file."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash import DataUrl, FetchError, MessageError, ParameterError
from glmflash.openai import error_body
from glmflash.openai.body import _KNOWN, read

pytestmark = [pytest.mark.property, pytest.mark.slow]

WORDS = st.sampled_from(
    "type text image image_url url video video_url path file role user assistant tool system content"
    " data:image/png;base64,AAAA /etc/passwd file:///etc/passwd http://127.0.0.1 auto enabled".split()
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
PARTS = st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["text", "image", "image_url", "video", "video_url"]) | JSON,
    "text": JSON, "image": JSON, "image_url": JSON, "url": JSON, "video": JSON, "video_url": JSON,
})  # fmt: skip
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={
        "role": st.sampled_from(["user", "system", "assistant", "tool"]) | JSON,
        "content": st.lists(PARTS, max_size=3) | JSON, "tool_calls": JSON, "reasoning_content": JSON,
    }),
    max_size=3,
)  # fmt: skip
BODIES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(sorted(_KNOWN), JSON) | {"messages": MESSAGES | JSON, "else": JSON}
)


def every_picture(messages):
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else []:
            yield from [value for key, value in part.items() if key not in ("type", "text")]


@given(BODIES | JSON)
def test_any_json_is_understood_or_refused(body):
    try:
        understood = read(body)
    except (ParameterError, MessageError, FetchError) as error:
        status, said = error_body(error)
        assert status == 400
        assert said["error"]["param"]
        assert len(said["error"]["message"]) < 900
        assert "passwd" not in said["error"]["message"] or len(said["error"]["message"]) < 200
    else:
        assert all(type(source) is DataUrl for source in every_picture(understood.messages))


@given(MESSAGES)
def test_pictures_come_from_data_urls_alone(messages):
    with contextlib.suppress(ParameterError, MessageError, FetchError):
        for source in every_picture(read({"messages": messages}).messages):
            assert type(source) is DataUrl
            assert source.url[:5].lower() == "data:"
