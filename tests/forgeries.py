"""Chats whose every text tries to be a control token, and the same chats with nothing in them."""

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

from glmflash import prepare
from glmflash.config import GenerationConfig
from glmflash.engine.inputs import build_prompt
from glmflash.engine.request import Request
from glmflash.media.patches import ClipPatches
from glmflash.openai.body import read
from glmflash.prompt.build import Prompt
from glmflash.prompt.messages import Text, Video
from glmflash.prompt.template import Control, TemplateStyle, join, segments
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.shapes import Grid

PIXEL = "data:image/png;base64,iVBORw0KGgo="
INVISIBLE = (
    "\u200b",
    "\u200c",
    "\u200d",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\u202e",
    "\U000e0020",
    "\x00",
    "\x08",
)
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}  # full-width forms, which NFKC turns back
PLAIN = (
    "",
    "n",
    "好",
    "\n",
    " ",
    "{{ messages }}",
    "{% raw %}",
    "\\n",
    '"',
    "</s>",
    "<0x0A>",
    "Ċ",
    "Ġ",
    "&lt;",
)


@cache
def disguises(name: str) -> list[str]:
    """Other spellings of a control token, none of which must become it."""
    wide = name.translate(WIDE)
    assert unicodedata.normalize("NFKC", wide) == name
    middle = len(name) // 2
    return [
        name, name * 3, f" {name}", f"\n{name}\n", f"a{name}b", name.upper(), name[::-1], wide,
        *(name[:middle] + space + name[middle:] for space in INVISIBLE),
        name.replace("<", "\\u003c"), name.replace("<", "&lt;"), name.replace("<", "‹").replace(">", "›"),
        "".join(f"\\x{ord(c):02x}" for c in name), name.encode().hex(), name[:1] + "\u0338" + name[1:],
    ]  # fmt: skip


def texts(names: Sequence[str], numbers: Sequence[int], rng: Random) -> Iterator[str]:
    """Endless hostile texts: whole tokens, disguises, halves that meet at a boundary, ids in digits."""
    halves: list[str] = []
    while True:
        if halves:
            yield halves.pop()
            continue
        parts = []
        for _ in range(rng.randint(1, 4)):
            name = rng.choice(names)
            parts.append(rng.choice((*disguises(name), *PLAIN, str(rng.choice(numbers)))))
        if rng.random() < 0.3:
            name = rng.choice(names)
            cut = rng.randrange(1, len(name))
            parts.append(name[:cut])
            halves.append(name[cut:])
        yield "".join(parts)


def conversation(
    rng: Random, say: Callable[[bool], str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages and tools whose structure is chance's, and whose every text is said; True: within JSON."""

    def parts(pictures: bool) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = [{"type": "text", "text": say(False)} for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(0, 2) if pictures else 0):
            kind = rng.choice(("image_url", "image_url", "video_url"))
            made.insert(rng.randint(0, len(made)), {"type": kind, kind: {"url": PIXEL}})
        return made

    def nested() -> Any:
        return rng.choice(([], {}, 1, None)) if rng.random() < 0.2 else {f"k{say(True)}": [say(True), 2.5]}

    messages: list[dict[str, Any]] = []
    for _ in range(rng.randint(1, 5)):
        role = rng.choice(("system", "user", "user", "assistant", "tool", "developer"))
        message: dict[str, Any] = {"role": role, "name": say(False), "tool_call_id": say(False)}
        listed = rng.random() < 0.6
        message["content"] = parts(role in ("user", "tool")) if listed else say(False)
        if role == "assistant":
            message["reasoning_content"] = say(False)
            message["tool_calls"] = [
                {"function": {"name": say(False), "arguments": arguments(rng, say, nested)}}
                for _ in range(rng.randint(0, 2))
            ]
        messages.append(message)
    tools = [
        {
            "type": "function",
            "function": {
                "name": say(True),
                "description": say(True),
                "parameters": {"type": "object", "properties": {f"k{say(True)}": {"enum": [say(True)]}}},
            },
        }
        for _ in range(rng.randint(0, 2))
    ]
    return messages, tools


def arguments(rng: Random, say: Callable[[bool], str], nested: Callable[[], Any]) -> Any:
    """Of a call, as an object or as its JSON."""
    given = {f"k{number}{say(False)}": say(False) for number in range(rng.randint(0, 2))}
    given |= {"nested": nested()} if rng.random() < 0.5 else {}
    return json.dumps(given, ensure_ascii=rng.random() < 0.5) if rng.random() < 0.5 else given


def pair(seed: int, names: Sequence[str], numbers: Sequence[int]) -> tuple[Any, Any, dict[str, Any]]:
    """A hostile conversation, the same in letters of equal length, and options of both."""
    kept: list[str] = []

    def hostile(source: Iterator[str]) -> Callable[[bool], str]:
        return lambda within: kept.append(f"k{next(source)}.") or kept[-1]

    said = conversation(Random(seed), hostile(texts(names, numbers, Random(-seed - 1))))
    again = iter(kept)

    def neutral(within: bool) -> str:
        text = next(again)
        written = json.dumps(text, ensure_ascii=False)[1:-1] if within else text
        return "n" * len(written.encode())

    calm = conversation(Random(seed), neutral)
    rng = Random(seed)
    options = {"thinking": rng.choice((False, True, "auto")), "answer_prefix": ""}
    if options["thinking"] is False and rng.random() < 0.5:
        options["answer_prefix"] = next(texts(names, numbers, rng))
    return said, calm, options


def request(chat: tuple[Any, Any], options: dict[str, Any], *, body: bool) -> Request:
    """As the pipeline makes it, from messages or from the body of a completion."""
    messages, tools = chat
    options = {**options, "tools": tools}
    if body:
        asked = read({"messages": messages, "tools": tools, "thinking": options["thinking"]})
        messages = asked.messages
        options = {**asked.options, "answer_prefix": options["answer_prefix"]}
    return prepare.request(messages, options, defaults=GenerationConfig())


def clips(asked: Request) -> set[int]:
    """Which of the pictures of a request are clips."""
    return {part.index for one in asked.messages for part in one.parts if isinstance(part, Video)}


def prompt(asked: Request, tokenizer: Tokenizer) -> Prompt:
    """As the engine makes it; every picture has four tokens, and every clip two groups of four."""
    moving = clips(asked)
    still = [SimpleNamespace(grid=Grid(1, 4, 4), digest=f"d{i}", size=(8, 8)) for i in range(2)]
    film = ClipPatches(groups=tuple(still), stamps=("0.0 seconds", "0.5 seconds"))
    shown = [film if i in moving else still[0] for i in range(len(asked.pictures))]
    config = SimpleNamespace(
        image_token_id=tokenizer.control("<|image|>"),
        vision=SimpleNamespace(spatial_merge_size=2),
        text=SimpleNamespace(max_position_embeddings=131_072),
    )
    return build_prompt(asked, shown, tokenizer=tokenizer, config=config).prompt


def placed(made: Prompt, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Index and id of every control token."""
    controls = set(tokenizer.controls.values())
    return [(i, token) for i, token in enumerate(made.ids) if token in controls]


def check(seed: int, tokenizer: Tokenizer, *, exact: bool) -> None:
    """Compare the two chats of a seed.

    Args:
        seed: Which.
        tokenizer: Of any checkpoint.
        exact: Whether every byte is a token, so that texts of equal length have as many.
    """
    names, numbers = list(tokenizer.controls), list(tokenizer.controls.values())
    said, calm, options = pair(seed, names, numbers)
    asked = request(said, options, body=bool(seed % 3 == 0))
    made = prompt(asked, tokenizer)
    prefix = options["answer_prefix"]
    plain = prompt(
        request(calm, options | {"answer_prefix": "n" * len(prefix.encode())}, body=False), tokenizer
    )
    mine, theirs = placed(made, tokenizer), placed(plain, tokenizer)
    if exact:
        assert mine == theirs, seed
    assert [token for _, token in mine] == [token for _, token in theirs], seed
    check_pictures(made, len(asked.pictures), tokenizer, clips=len(clips(asked)))
    check_runs(made, asked, tokenizer)


def check_pictures(made: Prompt, pictures: int, tokenizer: Tokenizer, *, clips: int = 0) -> None:
    """Each picture, and frame of a clip, stands between a begin and an end of its own, and nowhere else."""
    film = [made.ids.count(tokenizer.control(f"<|{edge}_of_video|>")) for edge in ("begin", "end")]
    assert (film, made.ids.count(tokenizer.control("<|video|>"))) == ([clips, clips], 0)
    pictures += clips  # each has two groups of frames
    begin, image, end = (tokenizer.control(f"<|{x}|>") for x in ("begin_of_image", "image", "end_of_image"))
    assert len(made.spans) == pictures
    assert (made.ids.count(begin), made.ids.count(end)) == (pictures, pictures)
    assert made.ids.count(image) == sum(span.length for span in made.spans)
    for span in made.spans:
        stop = span.start + span.length
        assert made.ids[span.start - 1 : stop + 1] == (begin, *[image] * span.length, end)


def check_runs(made: Prompt, asked: Request, tokenizer: Tokenizer) -> None:
    """What stands between two control tokens reads back as the text that the template put there."""
    style = TemplateStyle.of(tokenizer.controls)
    thinking = bool(asked.thinking) if style.switch else None
    walk = segments(asked.messages, tools=asked.shown_tools, thinking=thinking, style=style)
    controls = frozenset(tokenizer.controls.values())
    spans = iter(made.spans)
    position = 0

    def run(begin: int) -> int:
        """Where the next control token stands."""
        return next((i for i in range(begin, len(made.ids)) if made.ids[i] in controls), len(made.ids))

    for segment in join(walk):
        if isinstance(segment, Control):
            assert made.ids[position] == tokenizer.control(segment.token)
            position += 1
        elif isinstance(segment, Text):
            end = run(position)
            prefix = asked.answer_prefix if end == len(made.ids) else ""
            text = tokenizer.decode(made.ids[position:end], skip_special=False)
            assert text == segment.text + prefix
            position = end
        else:
            for _ in range(2 if isinstance(segment, Video) else 1):
                span = next(spans)
                position = span.start + span.length
            position = run(position + 1) if isinstance(segment, Video) else position  # behind its last time
