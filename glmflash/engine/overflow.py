"""A prompt that is longer than the context → the error that says where its tokens are and what would fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glmflash.bounds import CHARACTERS_PER_TOKEN, MAX_CHARACTERS
from glmflash.engine.request import Request
from glmflash.errors import ContextLengthError
from glmflash.prompt.build import Prompt
from glmflash.prompt.messages import Text, Video
from glmflash.prompt.template import Segment
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["check_text", "too_long"]

_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_MOST_PARTS = 3
_LEAST_PICTURE = 16  # tokens; nobody can see anything in fewer
_ANSWER = 8  # what is advised leaves this part of the context to the answer, if it is to be as long


def __dir__() -> list[str]:
    return __all__


def check_text(walk: Iterable[Segment], prefix: str, *, limit: int) -> None:
    """Count the text of a prompt before it is encoded, which takes time.

    Args:
        walk: What `template.segments` returns.
        prefix: What the answer begins with.
        limit: Tokens that the context holds.

    Raises:
        ContextLengthError: If there are more than `CHARACTERS_PER_TOKEN` characters for each of them.
    """
    characters = len(prefix) + sum(len(segment.text) for segment in walk if isinstance(segment, Text))
    most = min(MAX_CHARACTERS, CHARACTERS_PER_TOKEN * limit)
    if characters > most:
        raise ContextLengthError(
            f"the prompt has {characters:,} characters of text; at most {most:,} are encoded, for the context"
            f" holds {limit:,} tokens; shorten it",
            limit=limit,
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of the prompt that begins with a role: one message, or several results of tools."""

    name: str
    role: str
    first: int  # message, by index; -1 for what the template adds
    last: int
    text: int
    pictures: tuple[int, ...]
    moving: bool  # some of them are groups of frames

    @property
    def tokens(self) -> int:
        return self.text + sum(self.pictures)

    def __str__(self) -> str:
        if not self.pictures:
            return f"{self.name}: {self.text:,}"
        what = "pictures and pairs of frames" if self.moving else "pictures"
        several = f" in {len(self.pictures)} {what}" if len(self.pictures) > 1 else ""
        return f"{self.name}: {self.text:,} text + {sum(self.pictures):,} picture tokens{several}"


def too_long(
    prompt: Prompt, request: Request, *, tokenizer: Tokenizer, limit: int, encoded: bool = False
) -> ContextLengthError:
    """Explain the overflow: tokens by message and by picture, and every remedy that suffices alone.

    Args:
        prompt: All of it.
        request: What it was built from.
        tokenizer: Of the checkpoint.
        limit: Tokens that the context holds, the answer included.
        encoded: Whether there are pictures whose number of tokens is fixed.
    """
    parts = _parts(prompt, request, tokenizer)
    room = limit - max(1, min(request.sampling.max_new_tokens, limit // _ANSWER))
    remedies = [_smaller(parts, room, encoded=encoded), _later(parts, room)]
    fewer = prompt.spans and sum(part.text for part in parts) <= room
    otherwise = "give fewer pictures, or shorten the text" if fewer else "shorten the text"
    advice = ", or ".join(filter(None, remedies)) or otherwise
    pictures = sum(span.length for span in prompt.spans)
    of_pictures = f", {pictures:,} of them of pictures" if len(prompt.spans) > 1 else ""
    return ContextLengthError(
        f"the prompt has {len(prompt):,} tokens{of_pictures}; the context holds {limit:,}, answer included."
        f" {_listed(parts)}. To make it fit, {advice}",
        tokens=len(prompt),
        limit=limit,
    )


def _parts(prompt: Prompt, request: Request, tokenizer: Tokenizer) -> list[_Part]:
    """Cut at the control tokens of the roles, which no text can become; so the parts add up to the whole."""
    roles = {tokenizer.control(role) for role in _ROLES if role in tokenizer.controls}
    starts = [index for index, token_id in enumerate(prompt.ids) if token_id in roles]
    parts = []
    ends = [*starts[1:], len(prompt)]
    for (name, role, first, last), start, end in zip(_runs(request), [0, *starts[1:]], ends, strict=True):
        pictures = tuple(span.length for span in prompt.spans if start <= span.start < end)
        moving = any(
            isinstance(x, Video) for one in request.messages[max(first, 0) : last + 1] for x in one.parts
        )
        parts.append(_Part(name, role, first, last, end - start - sum(pictures), pictures, moving))
    return parts


def _runs(request: Request) -> list[tuple[str, str, int, int]]:
    """What the template begins with a role, in order: name, role, first and last message."""
    runs = [("the tools", "tools", -1, -1)] if request.shown_tools else []
    for index, message in enumerate(request.messages):
        role = message.role
        if role == "tool" and index and request.messages[index - 1].role == "tool":
            _, _, first, _ = runs.pop()
            runs.append((f"messages[{first}:{index + 1}] (tool)", role, first, index))
        else:
            runs.append((f"messages[{index}] ({role})", role, index, index))
    return [*runs, ("the answer's beginning", "answer", -1, -1)]


def _listed(parts: Sequence[_Part]) -> str:
    """The largest few in order, the others together."""
    total = sum(part.tokens for part in parts)
    chosen = sorted((part for part in parts if part.role != "answer"), key=lambda part: -part.tokens)
    told = [part for part in parts if part in chosen[:_MOST_PARTS]]
    rest = total - sum(part.tokens for part in told)  # at least where the answer begins
    return "; ".join([*map(str, told), f"the rest: {rest:,}"])


def _smaller(parts: Sequence[_Part], room: int, *, encoded: bool) -> str:
    """The largest `max_image_tokens` with which it fits, if pictures can still be seen then."""
    sizes = sorted(size for part in parts for size in part.pictures)
    left = room - sum(part.text for part in parts)
    for index, size in enumerate(sizes):
        share = left // (len(sizes) - index)
        if share < size:
            if share < _LEAST_PICTURE:
                return ""
            how = "encode the pictures with" if encoded else "use"
            return f"{how} max_image_tokens={share}"
        left -= size
    return ""


def _later(parts: Sequence[_Part], room: int) -> str:
    """The fewest earliest turns without which it fits; the last one stays, and all before the first."""
    turns = [index for index, part in enumerate(parts) if part.role == "user"]
    if not turns:
        return ""
    total = sum(part.tokens for part in parts)
    for turn in turns[1:]:
        dropped = parts[turns[0] : turn]
        if total - sum(part.tokens for part in dropped) <= room:
            return f"drop messages[{dropped[0].first}:{dropped[-1].last + 1}] (the earliest turns)"
    return ""
