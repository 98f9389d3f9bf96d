"""A session answers as a fresh chat would; what fails or is interrupted leaves no trace."""

import base64
import gc
import io
import threading
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest

from glmflash import ClosedError, ImageError, MessageError, ParameterError, Pipeline
from glmflash.output.result import Delta, Result, ToolCall
from glmflash.prompt.messages import ImageUrl, parse, question
from glmflash.prompt.template import render
from glmflash.session import Session, SessionStream, Turn

OPTIONS = {"max_new_tokens": 5, "temperature": 0.0}
WEATHER = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


class FakeStream:
    """Deltas and a result by hand; may fail before its end."""

    def __init__(self, result: Result, failure: BaseException | None = None) -> None:
        self._deltas = iter([Delta(letter) for letter in result.text])
        self._result, self._failure, self.cancelled = result, failure, False

    def __next__(self) -> Delta:
        if self._failure is not None:
            raise self._failure
        return next(self._deltas)

    def cancel(self) -> None:
        self.cancelled = True

    @property
    def result(self) -> Result:
        if self._failure is not None:
            raise ClosedError("the stream ended with an error")
        return self._result


class Model:
    """Says what it was told to, and remembers what it heard."""

    def __init__(self, *results: Result | BaseException) -> None:
        self.heard: list[list[dict[str, object]]] = []
        self.options: list[dict[str, object]] = []
        self.encoded: list[tuple[object, dict[str, object]]] = []
        self.results = list(results)
        self.streams: list[FakeStream] = []

    def chat(self, messages, **options) -> Result:
        self.heard.append(messages)
        self.options.append(options)
        result = self.results.pop(0) if self.results else Result(text=f"answer {len(self.heard)}")
        if isinstance(result, BaseException):
            raise result
        return result

    def stream(self, messages, **options) -> FakeStream:
        result = self.results.pop(0) if self.results else Result(text="abc")
        self.heard.append(messages)
        failing = isinstance(result, BaseException)
        self.streams.append(FakeStream(Result(text="abc"), result) if failing else FakeStream(result))
        return self.streams[-1]

    def encode(self, picture, **options) -> object:
        self.encoded.append((picture, options))
        if picture == "broken.png":
            raise ImageError("broken")
        return f"read {picture}"

    def session(self, **others) -> Session:
        return Session(chat=self.chat, stream=self.stream, encode=self.encode, **others)


@pytest.fixture(scope="module")
def pipe(nano_checkpoint) -> Iterator[Pipeline]:
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as pipe:
        yield pipe


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (56, 84, 3), np.uint8)


def test_each_turn_is_a_fresh_chat(pipe, nano_checkpoint, picture) -> None:
    asked: list[tuple[list[dict[str, object]], tuple[int, ...]]] = []
    with pipe.session(system="Be terse.", **OPTIONS) as session:
        for text, images in (("What is this?", picture), ("And this?", [picture[::-1]]), ("Why?", None)):
            before = session.messages
            result = session.ask(text, images=images)
            asked.append(([*before, *question(text, images=images)], result.token_ids))
            assert session.messages[-1] == {"role": "assistant", "content": result.text}
        assert len(session) == 3
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as fresh:
        for messages, wanted in reversed(asked):
            assert pipe.chat(messages, **OPTIONS).token_ids == wanted
            assert fresh.chat(messages, **OPTIONS).token_ids == wanted


def test_a_later_turn_computes_only_what_is_new(pipe, picture) -> None:
    with pipe.session(**OPTIONS) as session:
        first = session.ask("What is this, and what else could one say about it?", images=picture)
        second = session.ask("Why?")
    assert second.usage.image == first.usage.image
    assert second.usage.cached >= first.usage.prompt
    assert second.usage.prompt - second.usage.cached < 25


def test_sources_that_can_be_read_only_once(pipe, picture) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "png")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    file.seek(0)
    with pipe.session(**OPTIONS) as session:
        first = session.ask("What?", images=file)
        session.ask([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
        third = session.ask("Why?")
        assert third.usage.image == 2 * first.usage.image
        assert pipe.encode(picture).digest == session.messages[0]["content"][0]["image"].digest


def test_forks_are_independent_and_equal_on_equal_input(pipe) -> None:
    with pipe.session(**OPTIONS) as session:
        session.ask("One")
        twin = session.fork()
        assert session.ask("Two").token_ids == twin.ask("Two").token_ids
        assert session.messages == twin.messages
        twin.ask("Three")
        assert (len(session), len(twin)) == (2, 3)
        twin.undo()
        twin.undo()
        twin.undo()
        assert (len(session), len(twin)) == (2, 0)
        twin.close()
        session.ask("Three")


def test_undo_takes_a_turn_back(pipe) -> None:
    with pipe.session(**OPTIONS) as session:
        session.ask("One")
        before = session.messages
        result = session.ask("Two")
        turn = session.undo()
        assert turn == Turn(tuple(question("Two")), result)
        assert session.messages == before
        assert session.ask("Two").token_ids == result.token_ids
        session.undo()
        session.undo()
        with pytest.raises(MessageError, match="no turn"):
            session.undo()


def test_a_stream_is_the_same_turn(pipe) -> None:
    with pipe.session(**OPTIONS) as session, session.fork() as twin:
        wanted = session.ask("Hello")
        with twin.stream("Hello") as stream:
            assert isinstance(stream, SessionStream)
            text = "".join(delta.text for delta in stream)
        assert text == wanted.text == stream.result.text
        assert twin.messages == session.messages
        assert session.stream("Again").result.token_ids == twin.ask("Again").token_ids
        assert (len(session), len(twin)) == (2, 2)


def test_leaving_a_stream_early_keeps_what_there_is(pipe) -> None:
    with pipe.session(max_new_tokens=400, temperature=0, ignore_eos=True) as session:
        with session.stream("Tell me a long story.") as stream:
            next(stream)
        assert stream.result.finish_reason == "cancelled"
        assert [message["content"] for message in session.messages[1:]] == [stream.result.text]
        assert session.ask("Go on.", max_new_tokens=3).usage.completion == 3


def test_a_failed_turn_leaves_no_trace_and_the_session_goes_on(pipe, tmp_path) -> None:
    with pipe.session(**OPTIONS) as session:
        session.ask("One")
        before = session.messages
        for wrong in (
            lambda: session.ask("Two", images=tmp_path / "absent.png"),
            lambda: session.ask("Two", max_new_tokens=0),
            lambda: session.ask("Two", max_tokens=3),
            lambda: session.ask(3),
            lambda: session.ask([]),
            lambda: session.ask([{"role": "nobody", "content": "x"}]),
            lambda: session.ask([{"role": "user", "content": "x"}], images="a.png"),
            lambda: session.stream("Two", images=[None]),
        ):
            with pytest.raises((ImageError, ParameterError, MessageError)):
                wrong()
            assert session.messages == before
        session.ask("Two")
        assert len(session) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("engine"), SystemExit()])
def test_an_interrupted_turn_leaves_no_trace(error: BaseException) -> None:
    model = Model(error, error, error)
    session = model.session()
    with pytest.raises(type(error)):
        session.ask("Hi")
    with pytest.raises(type(error)):
        list(session.stream("Hi"))
    assert model.streams[-1].cancelled
    with pytest.raises((type(error), ClosedError)):
        _ = session.stream("Hi").result
    assert not session.messages
    session.ask("Hi")
    assert len(session) == 1


def test_an_exception_in_the_block_of_a_stream_drops_the_turn() -> None:
    model = Model()
    session = model.session()
    stream = session.stream("Hi")

    def fail_between_deltas() -> None:
        with stream:
            next(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_between_deltas()
    assert model.streams[0].cancelled
    assert len(session) == 0
    assert stream.result.text == "abc"  # it has come to its end after all; the turn stays dropped
    assert len(session) == 0


def test_an_error_that_was_caught_in_the_block_is_not_raised_again() -> None:
    session = Model(ValueError("engine")).session()
    with session.stream("Hi") as stream, pytest.raises(ValueError, match="engine"):
        next(stream)
    assert len(session) == 0
    session.ask("Hi")


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (Result(text="", finish_reason="cancelled"), False),
        (Result(text="", thinking="Let me", finish_reason="cancelled"), False),
        (Result(text="The", finish_reason="cancelled"), True),
        (Result(text="", tool_calls=(ToolCall("f", {}),), finish_reason="cancelled"), True),
        (Result(text="", finish_reason="length"), True),
    ],
)
def test_a_cancelled_answer_stays_if_it_came_to_a_word(result: Result, kept: bool) -> None:
    session = Model(result).session()
    with session.stream("Hi"):
        pass
    assert len(session) == kept


def test_one_question_at_a_time() -> None:
    model = Model()
    session = model.session()
    stream = session.stream("Hi")
    for use in (lambda: session.ask("Now?"), lambda: session.stream("Now?"), session.undo):
        with pytest.raises(MessageError, match="has not ended"):
            use()
    assert session.fork().ask("Now?").text
    assert list(stream)
    session.ask("Now?")
    assert [message["content"] for message in session.messages if message["role"] == "assistant"] == [
        "abc",
        "answer 3",
    ]


def test_two_threads_are_told_so() -> None:
    model, entered, leave = Model(), threading.Event(), threading.Event()
    chat = model.chat

    def slow(messages, **options) -> Result:
        entered.set()
        assert leave.wait(10)
        return chat(messages, **options)

    model.chat = slow
    session = model.session()
    thread = threading.Thread(target=session.ask, args=("One",))
    thread.start()
    assert entered.wait(10)
    with pytest.raises(MessageError, match="one at a time"):
        session.ask("Two")
    leave.set()
    thread.join()
    assert len(session) == 1


def test_a_stream_that_nobody_holds_is_forgotten() -> None:
    session = Model().session()
    for _ in session.stream("Hi"):
        break
    gc.collect()
    session.ask("Hello?")
    assert len(session) == 1


def test_closed_is_closed() -> None:
    model = Model()
    with model.session(system="S") as session:
        session.ask("Hi")
        stream = session.stream("Still?")
    session.close()
    assert list(stream)  # it goes on, for nobody
    assert (len(session), session.messages, repr(session)) == (0, [], "<Session: closed>")
    for use in (lambda: session.ask("Hi"), lambda: session.stream("Hi"), session.fork, session.undo):
        with pytest.raises(ClosedError, match="session"):
            use()


def test_options_of_a_question_override_the_sessions() -> None:
    model = Model()
    session = model.session(options={"max_new_tokens": 5, "seed": 1})
    session.ask("Hi", seed=2, thinking=True)
    session.fork().ask("Hi")
    assert model.options == [
        {"max_new_tokens": 5, "seed": 2, "thinking": True},
        {"max_new_tokens": 5, "seed": 1},
    ]


def test_a_picture_is_read_once() -> None:
    model = Model()
    session = model.session(options={"cache_salt": "s"})
    session.ask("What?", images=["a.png", "b.png"], max_image_tokens=9)
    session.ask("Why?")
    url = {"type": "image_url", "image_url": {"url": "https://example.com/c.png"}}
    session.ask([{"role": "tool", "content": [{"text": "Look:"}, url]}])
    options = {"max_image_tokens": 9, "cache_salt": "s"}
    last = {"max_image_tokens": None, "cache_salt": "s"}
    assert model.encoded == [
        ("a.png", options), ("b.png", options), (ImageUrl("https://example.com/c.png"), last),
    ]  # fmt: skip
    assert parse(session.messages)[1] == (
        "read a.png", "read b.png", "read ImageUrl(url='https://example.com/c.png')",
    )  # fmt: skip
    assert model.heard[-1] == session.messages[:-1]


def test_fewer_image_tokens_are_for_the_pictures_of_that_question(pipe, picture) -> None:
    with pipe.session(**OPTIONS) as session:
        first = session.ask("What?", images=picture).usage.image
        second = session.ask("And this?", images=picture[::-1], max_image_tokens=2).usage.image
        assert first < second <= first + 2
        assert session.ask("Why?").usage.image == second
        assert pipe.chat(session.messages[:-1], **OPTIONS).text == session.messages[-1]["content"]


def test_messages_are_a_copy() -> None:
    given = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    session = Model(Result(text="", tool_calls=(ToolCall("f", {"a": [1]}),))).session(system="S")
    session.ask(given)
    wanted = session.messages
    given[0]["content"][0]["text"] = "Ho"
    for message in session.messages:
        if isinstance(message["content"], list):
            message["content"].clear()
        message.get("tool_calls", []).clear()
        message["role"] = "user"
    assert session.messages == wanted


def test_tool_calls_and_thinking_are_told_as_the_template_tells_them() -> None:
    call = ToolCall("weather", {"city": "Paris", "days": 3, "units": {"t": ["°C"]}})
    model = Model(Result(text="One moment.", thinking="I need it.", tool_calls=(call, call)))
    session = model.session(options={"tools": WEATHER, "thinking": True})
    session.ask("Is it warm?")
    session.ask([{"role": "tool", "content": "21"}, {"role": "tool", "content": "22"}])
    said = "<|assistant|>\n<think>I need it.</think>\nOne moment." + 2 * (
        "\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
        '<arg_key>units</arg_key>\n<arg_value>{"t": ["°C"]}</arg_value>\n</tool_call>'
    )
    first, second = (render(messages, tools=WEATHER, thinking=True) for messages in model.heard)
    assert second.startswith(first.removesuffix("<|assistant|>\n") + said)  # what was generated, word by word
    assert second.endswith(
        "</tool_call><|observation|>\n<tool_response>\n21\n</tool_response>\n"
        "\n<tool_response>\n22\n</tool_response>\n<|assistant|>\n"
    )
    session.ask("Thanks")
    assert "I need it." not in render(model.heard[-1])  # thinking before the last question is forgotten
    assert parse(session.messages)[0][1].tool_calls == parse(model.heard[1])[0][1].tool_calls


def test_an_answer_that_spells_a_marker_keeps_its_text() -> None:
    text = "It says </think> there."
    session = Model(Result(text=text)).session()
    session.ask("What does it say?")
    session.ask("Really?")
    assert f"<think></think>\n{text}" in render(session.messages)


def test_without_thinking_a_turn_extends_the_prompt_before() -> None:
    model = Model(Result(text="A receipt."))
    session = model.session(system="S")
    session.ask("What is this?", images="a.png")
    session.ask("Total?")
    first, second = (render(messages, thinking=False) for messages in model.heard)
    assert second.startswith(first + "A receipt.")


def test_it_shows_itself() -> None:
    call = ToolCall("f", {"a": "<1>"})
    session = Model(Result(text="<b>bold</b>", tool_calls=(call,))).session()
    assert repr(session) == "<Session: 0 turns>"
    assert session  # also before the first turn
    session.ask("Is <i> fine?", images="a.png")
    assert repr(session).startswith("<Session: 1 turn, last <Result '<b>bold</b>'")
    html = session._repr_html_()
    assert "&lt;b&gt;bold" in html
    assert "Is &lt;i&gt; fine?" in html
    assert "[picture]" in html
    assert "f(a=&quot;&lt;1&gt;&quot;)" in html
    assert "<b>" not in html
    assert repr(session.stream("Hi"))


@pytest.mark.parametrize("wrong", [3, b"S", ["S"]])
def test_a_system_message_is_a_string(wrong: object) -> None:
    with pytest.raises(MessageError, match="system"):
        Model().session(system=wrong)


def test_it_shows_its_pictures_as_thumbnails(nano_checkpoint) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (900, 1200, 3), np.uint8)
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as pipe:
        session = pipe.session(system="<script>", max_new_tokens=2)
        assert "&lt;script&gt;" in session._repr_html_()
        session.ask("What?", images=picture, max_image_tokens=64)
        html = session._repr_html_()
        assert html.count("<img") == 1
        assert len(html) < 400_000
        page = pipe.encode(picture, max_image_tokens=64, cache_salt="<script>")
        session.ask("And this?", images=page, cache_salt="<script>")
        html = session._repr_html_()
        assert "1200 × 900 pixels" in html  # an encoded picture is no picture any more
        assert html.count("<img") == 1
        assert "<script" not in html
        assert "1200 × 900 pixels" in page._repr_html_()
        session.close()
        assert "nothing" in session._repr_html_()
