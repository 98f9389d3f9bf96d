"""Questions → answers that know what was said before."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

from glmflash.engine.checked import optional
from glmflash.engine.request import Options
from glmflash.engine.stream import Stream
from glmflash.output.result import Result
from glmflash.prompt.messages import question
from glmflash.session.history import Asked, History, Turn
from glmflash.session.session_html import to_html
from glmflash.session.stream import SessionStream
from glmflash.session.words import read

__all__ = ["Session"]


def __dir__() -> list[str]:
    return __all__


class Session:
    """A conversation. It answers exactly as a fresh chat with `messages` would, only sooner.

    It holds messages and no memory of the model's: each turn renders the whole conversation, and the engine
    finds the part that it has computed before. So nothing is lost when that part is evicted, and forks share
    it. A turn enters the history once its answer has ended; one that fails, or is interrupted, leaves no
    trace. An answer that was cancelled stays as far as it came, if it came to a word.

    One question at a time: another one before the answer's end raises `MessageError`; `fork` to ask two.

    Args:
        chat: Answers a conversation.
        stream: The same, piece by piece.
        encode: Reads a picture once, with `max_image_tokens` and `cache_salt` as asked for; what it returns
            stands for the picture in all later turns.
        system: A system message to begin with.
        options: For every question that does not say otherwise.
    """

    def __init__(
        self,
        *,
        chat: Callable[..., Result],
        stream: Callable[..., Stream],
        encode: Callable[..., object],
        system: str | None = None,
        options: Options | None = None,
    ) -> None:
        self._chat, self._stream, self._encode = chat, stream, encode
        self._options: Options = {**(options or {})}
        self._history = History(question("", system=system)[:-1])

    def ask(
        self,
        text: str | Sequence[Mapping[str, object]],
        *,
        images: object = None,
        videos: object = None,
        **options: Unpack[Options],
    ) -> Result:
        """Say something, and get the answer.

        Args:
            text: What to say; or messages, such as results of tools: `{"role": "tool", "content": ...}`.
            images: One picture or a list of them, as for a call of the pipeline; not beside messages.
            videos: Clips, likewise.
            options: As for a call; here they override the session's own. `max_image_tokens` is for the
                pictures of this question.

        Raises:
            InputError: If something given cannot be used; the subclass says what.
            ClosedError: If the session has been closed.
        """
        options = {**self._options, **options}
        with self._history.ask() as asked:
            messages = self._pose(asked, text, images, videos, options)
            result = self._chat(messages, **options)
            asked.keep(result)
            return result

    def stream(
        self,
        text: str | Sequence[Mapping[str, object]],
        *,
        images: object = None,
        videos: object = None,
        **options: Unpack[Options],
    ) -> SessionStream:
        """Say something, and get the answer piece by piece; otherwise as `ask`.

        The turn enters the history when the last piece has been taken, or the stream's `with` block is left
        without an error, which cancels the rest of the answer.
        """
        options = {**self._options, **options}
        with self._history.ask() as asked:
            messages = self._pose(asked, text, images, videos, options)
            return SessionStream(self._stream(messages, **options), asked)

    def fork(self) -> "Session":
        """Another session with the same history; from here on they know nothing of each other."""
        history = self._history.fork()
        twin = Session(chat=self._chat, stream=self._stream, encode=self._encode, options=self._options)
        twin._history = history
        return twin

    def undo(self) -> Turn:
        """Take the last turn back, and return it.

        Raises:
            MessageError: If there is none, or an answer is under way.
        """
        return self._history.undo()

    @property
    def messages(self) -> list[dict[str, object]]:
        """The conversation so far as chat messages; a copy."""
        return self._history.messages()

    def close(self) -> None:
        """Forget the conversation. Closing twice is fine; asking afterwards raises `ClosedError`."""
        self._history.close()

    def __len__(self) -> int:
        """Turns so far."""
        return len(self._history.turns)

    def __bool__(self) -> bool:
        """True even before the first turn."""
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._history.closed:
            return "<Session: closed>"
        turns = self._history.turns
        last = f", last {turns[-1].result!r}" if turns else ""
        return f"<Session: {len(turns)} turn{'' if len(turns) == 1 else 's'}{last}>"

    def _repr_html_(self) -> str:
        return to_html(self._history.opening, list(self._history.turns))

    def _pose(
        self,
        asked: Asked,
        text: str | Sequence[Mapping[str, object]],
        images: object,
        videos: object,
        options: Options,
    ) -> list[dict[str, object]]:
        """The conversation with the question behind it, its pictures read."""
        salt, most = options.get("cache_salt"), options.pop("max_image_tokens", None)  # not for earlier ones
        optional("max_image_tokens", most, 1, 10_000_000)
        if isinstance(text, str) or images is not None or videos is not None:
            text = question(text, images=images, videos=videos)  # type: ignore[arg-type]  # it checks
        asked.question = read(
            text, lambda picture: self._encode(picture, max_image_tokens=most, cache_salt=salt)
        )
        return [*self.messages, *asked.question]
