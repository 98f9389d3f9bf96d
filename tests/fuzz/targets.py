"""The ways in: each takes anything, and gives a result or a typed error.

A target generates values, and `run` raises if one led to anything else: an untyped error, a wrong result, an
address in a message, or seconds of work.
"""

import base64
import hashlib
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from edits import damaged, jsons, spoiled, texts
from grammar_world import EOS, VOCABULARY
from hypothesis import strategies as st
from PIL import Image
from prompt_chats import CONTROLS, small_tokenizer
from two_parsers import agreed

from glmflash import GlmflashError, prepare
from glmflash.answers import record
from glmflash.config import GenerationConfig
from glmflash.engine.recorded import Recorded
from glmflash.engine.sampler import Sampled
from glmflash.errors import (
    CheckpointError,
    ConfigError,
    ContextLengthError,
    FetchError,
    ImageError,
    InputError,
    MessageError,
    ParameterError,
)
from glmflash.grammar import ResponseFormat
from glmflash.grammar.compile import Compiler
from glmflash.loading import load_engine
from glmflash.media import InputPolicy, read
from glmflash.media.clips import Clip, open_clip
from glmflash.media.fetch.address import parse
from glmflash.media.sources import DataUrl
from glmflash.openai import body
from glmflash.output import parse_tables
from glmflash.output.boxes import parse_boxes
from glmflash.output.parse import MARKERS, StreamParser, parse_text
from glmflash.prompt.build import build
from glmflash.prompt.messages import Image as ImagePart
from glmflash.prompt.messages import Video
from glmflash.prompt.messages import parse as parse_chat
from glmflash.prompt.template import segments
from glmflash.shapes import Grid
from glmflash.structured.leaves import leaves
from glmflash.structured.schema import read_schema
from glmflash.testing import random_checkpoint
from glmflash.weights.derived import read_derived, write_derived

__all__ = ["TARGETS", "Target"]

SLOW = 2.0  # seconds of this thread


@dataclass(frozen=True, slots=True)
class Target:
    """One way in.

    Args:
        values: What to try.
        run: Tries one.
        raw: Whether values are bytes; else they are JSON.
        needs: A module without which it cannot be tried.
    """

    values: Callable[[], st.SearchStrategy[Any]]
    run: Callable[[Any], object]
    raw: bool = False
    needs: str | None = None


@contextmanager
def only(*errors: type[GlmflashError], longest: int = 500) -> Iterator[None]:
    """Errors of these kinds may come out, in few words, and soon."""
    begin = time.thread_time()
    try:
        yield
    except errors as error:
        said = str(error)
        assert len(said) <= longest, f"a message of {len(said)} characters"
        assert not re.search(r"0x[0-9a-f]{6,}", said), said
    took = time.thread_time() - begin
    assert took < SLOW, f"it took {took:.1f} s"


# Pictures

POLICY = InputPolicy(max_pixels=2_000_000, formats=("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"))


def _saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@cache
def good_pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (9, 13, 3), np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (7, 5, 4), np.uint8))
    grey, deep = colour.convert("L"), Image.fromarray(rng.integers(0, 65535, (6, 8), np.uint16))
    flat, bits = colour.quantize(16), colour.convert("1")
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [
        _saved(picture, form)
        for form, several in {
            "PNG": (colour, clear, grey, deep, flat, bits),
            "JPEG": (colour, grey, colour.convert("CMYK")),
            "WEBP": (colour, clear),
            "GIF": (flat, grey),
            "BMP": (colour, flat, bits),
            "TIFF": (colour, clear, deep, bits),
        }.items()
        for picture in several
    ]
    frames = [colour.rotate(90 * turn) for turn in range(4)]
    made += [
        _saved(frames[0], form, save_all=True, append_images=frames[1:])
        for form in ("GIF", "PNG", "WEBP", "MPO")
    ]
    made += [_saved(colour, form, exif=exif) for form in ("JPEG", "PNG", "WEBP", "TIFF")]
    made += [_saved(colour, "JPEG", progressive=True), _saved(colour, "WEBP", lossless=True)]
    made += [
        _saved(colour, "TIFF", compression=how) for how in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")
    ]
    made += [_saved(flat, "PNG", transparency=3), _saved(flat, "GIF", comment=b"x" * 300)]
    return made


def picture(data: bytes) -> None:
    with only(ImageError):
        pixels = read(data, policy=POLICY)
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)


def data_url(text: str) -> None:
    with only(InputError):
        read(DataUrl(text), policy=POLICY)


def clip(data: bytes) -> None:
    with only(ImageError):
        film = open_clip(Clip(data), policy=POLICY)
        for pixels in film.frames(range(min(film.timeline.count, 3))):
            assert pixels.dtype == np.uint8


def data_urls() -> st.SearchStrategy[str]:
    heads = texts(
        [
            "data:",
            "DATA:",
            "image/png",
            ";base64",
            ",",
            ";",
            "text/html",
            "image/svg+xml",
            "charset=utf-8",
            "%",
            " ",
        ]
    )
    inside = damaged(good_pictures()).map(lambda data: base64.b64encode(data).decode())
    whole = st.builds(
        "data:image/png;base64,{}".format, inside | texts(["=", "==", "A", "-", "_", "\n", " ", "é"])
    )
    return st.one_of(whole, st.builds("{}{}".format, heads, inside), heads)


# URLs


def url(text: str) -> None:
    with only(FetchError):
        address = parse(text)
        agreed(text, address)
        assert parse(f"{address.scheme}://{address.authority}{address.target}") == address


def urls() -> st.SearchStrategy[str]:
    return texts(
        [
            "http",
            "https",
            "HTTPS",
            ":",
            "/",
            "//",
            "://",
            "@",
            "\\",
            "#",
            "?",
            "%",
            "%2f",
            "[",
            "]",
            "::1",
            ".",
            "..",
            "example.com",
            "localhost",
            "127.0.0.1",
            "127.1",
            "0x7f",
            "1.1.1.1",
            "[::1]",
            "[2606:4700::1]",
            "xn--a",
            "80",
            ":443",
            "-",
            "_",
            " ",
            "\t",
            "\r\n",
            "\0",
            "é",
            "①",
            "。",
            "user:pw@",
            "https://",
            "https://example.com/",
        ]
    )


# Messages

KEYS = [
    "role",
    "content",
    "type",
    "text",
    "image",
    "image_url",
    "url",
    "video",
    "video_url",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "reasoning_content",
    "detail",
]
WORDS = [
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "text",
    "image_url",
    "image",
    "video",
    "{}",
    '{"a": 1}',
    "data:image/png;base64,iVBORw0KGgo=",
    "file:///etc/passwd",
    "\ud800",
    *CONTROLS[:12],
]
CHATS = [
    [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
    [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": WORDS[11]}},
                {"type": "text", "text": "Q"},
            ],
        }
    ],
    [
        {"role": "user", "content": [{"type": "text", "text": "Q"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "R",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, "x"]}'}}
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "1",
            "content": [{"type": "video_url", "video_url": {"url": WORDS[11]}}],
        },
    ],
]
BODIES = [
    {"messages": chat, "max_tokens": 5, "temperature": 0.5, "stop": ["x"], "stream": False} for chat in CHATS
] + [
    {"prompt": "Q", "image": "iVBORw0KGgo=", "thinking": {"type": "enabled"}, "seed": 1},
    {
        "messages": CHATS[0],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto",
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": {"type": "text"},
        "reasoning_effort": "low",
    },
]


def _prompt(walk: list[Any]) -> None:
    tokenizer = small_tokenizer()
    pictures = sum(isinstance(one, ImagePart) for one in walk)
    if any(isinstance(one, Video) for one in walk):
        return
    made = build(
        walk,
        tokenizer=tokenizer,
        images=[(Grid(1, 2, 4), "d")] * pictures,
        image_token_id=tokenizer.control("<|image|>"),
        merge_size=2,
    )
    assert len(made.spans) == pictures
    controls = sum(type(one).__name__ == "Control" for one in walk)
    assert sum(token >= 256 for token in made.ids) == controls + sum(span.length for span in made.spans)


def chat(messages: Any) -> None:
    with only(MessageError, ContextLengthError):
        parse_chat(messages)
        for thinking in (None, False):
            _prompt(segments(messages, thinking=thinking, tools=[{"name": "f"}]))


def openai_body(value: Any) -> None:
    with only(InputError, longest=1000):
        asked = body.read(value)
        request = prepare.request(asked.messages, asked.options, defaults=GenerationConfig())
        _prompt(segments(request.messages, tools=request.shown_tools, thinking=bool(request.thinking)))


def request_options(value: Any) -> None:
    with only(InputError):
        prepare.one(value, defaults=GenerationConfig())


# What the model wrote


def answer(text: str) -> None:
    with only():
        tools = [
            {"function": {"name": "f", "parameters": {"properties": {"a": {"type": ["integer", "null"]}}}}}
        ]
        whole = parse_text(text, tools=tools)
        parser = StreamParser(tools=tools)
        for character in text:  # markers in letters mean nothing
            parser.push(character)
        parser.finish()
        assert parser.parsed().raw == text
        json.dumps([call.arguments for call in whole.tool_calls], allow_nan=False)
        parse_boxes(text, size=(100, 50))
        for table in parse_tables(text):
            assert table.csv() is not None
            table.html()


# Files


@cache
def checkpoint() -> Path:
    return random_checkpoint(Path(tempfile.mkdtemp()) / "nano", "nano")


@cache
def checkpoint_files() -> tuple[str, ...]:
    return tuple(
        sorted(path.name for path in checkpoint().iterdir() if path.suffix in (".json", ".safetensors"))
    )


def _folder_values() -> st.SearchStrategy[bytes]:
    """The number of a file, and what is to stand in it."""

    def of(number: int) -> st.SearchStrategy[bytes]:
        name = checkpoint_files()[number]
        data = (checkpoint() / name).read_bytes()
        contents = damaged([data])
        if name.endswith(".json"):
            keys = [
                "model_type",
                "text_config",
                "vision_config",
                "weight_map",
                "added_tokens",
                "model",
                "vocab",
                "x",
            ]
            value = spoiled([json.loads(data)], jsons(keys, ["../x", "/dev/zero", "BPE", "\0"], leaves=6))
            contents = contents | value.map(lambda value: json.dumps(value).encode())
        else:
            contents = contents | st.builds(_with_header, st.just(data), _headers(data))
        return contents.map(lambda made: bytes([number]) + made)

    return st.one_of(*map(of, range(len(checkpoint_files()))))


def _headers(data: bytes) -> st.SearchStrategy[bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    keys = ["dtype", "shape", "data_offsets", "__metadata__"]
    good = json.loads(data[8:end])
    return spoiled([good], jsons(keys, ["F32", "BF16", "F8_E4M3", "I64", "U8"], leaves=6)).map(
        lambda one: json.dumps(one).encode()
    )


def _with_header(data: bytes, header: bytes) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    return len(header).to_bytes(8, "little") + header + data[end:]


def folder(data: bytes) -> None:
    names = checkpoint_files()
    changed = names[(data[0] if data else 0) % len(names)]
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            os.link(checkpoint() / name, Path(place) / name)
        (Path(place) / changed).unlink()
        (Path(place) / changed).write_bytes(data[1:])
        with only(CheckpointError, ConfigError, longest=20_000):
            load_engine(place, device="cpu", progress=False).close()


@cache
def derived() -> bytes:
    import torch

    path = Path(tempfile.mkdtemp()) / "x"
    write_derived(
        path,
        {"a": torch.arange(6.0), "b": torch.ones(2, 2)},
        metadata={"k": [1, "x"]},
        kind="k",
        version=1,
        fingerprint="f",
    )
    return path.read_bytes()


def derived_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "x"
        path.write_bytes(data)
        with only(CheckpointError, longest=2000):
            found = read_derived(path, kind="k", version=1, fingerprint="f", required=["a"])
            assert found.tensors["a"].tolist() == list(range(6))


# Cached answers

ANSWER = Recorded((Sampled(7), Sampled(2)), "stop")


def answers() -> st.SearchStrategy[bytes]:
    good = record.write(ANSWER, key="0f", made=1.5)
    bodies = spoiled(
        [json.loads(good)["answer"]],
        jsons(["format", "key", "made", "ids", "logprobs"], ["0f", "stop"], leaves=6),
    )
    signed = bodies.map(lambda one: json.dumps(one, separators=(",", ":")).encode()).map(_signed)
    return damaged([good]) | signed


def _signed(inside: bytes) -> bytes:
    """With the right checksum: only what it says can be wrong."""
    return b'{"sha256":"%s","answer":%s}' % (hashlib.sha256(inside).hexdigest().encode(), inside)


def cached_answer(data: bytes) -> None:
    with only():
        try:
            found, _ = record.read(data, key="0f")
        except GlmflashError:
            raise AssertionError("an error of ours, which a cache does not expect") from None
        except ValueError:
            return
        assert found.finish_reason in ("stop", "length", "repetition")
        assert all(type(one.token_id) is int for one in found.tokens)


# Grammars

SCHEMAS = [
    {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^x+$"}, "b": {"enum": ["p", 1, None]}},
        "required": ["a"],
    },
    {
        "type": "array",
        "items": {"$ref": "#/$defs/x"},
        "minItems": 1,
        "maxItems": 3,
        "$defs": {"x": {"type": "integer", "minimum": 0}},
    },
    {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "D"},
]
SCHEMA_KEYS = [
    "type",
    "properties",
    "items",
    "required",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "oneOf",
    "$ref",
    "$defs",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "prefixItems",
    "format",
    "additionalProperties",
    "patternProperties",
    "not",
    "description",
    "x-guidance",
]
SCHEMA_WORDS = [
    "string",
    "integer",
    "number",
    "object",
    "array",
    "null",
    "boolean",
    "date",
    "#",
    "#/$defs/x",
    "file:///etc/passwd",
    "http://127.0.0.1/",
    "(a{99}){99}",
    "^(",
    "\\p{L}",
]


@cache
def compiler() -> Compiler:
    return Compiler(VOCABULARY)


def _walk(form: ResponseFormat | None) -> None:
    if form is None:
        return
    state = compiler()(form).start()
    for step in range(4):
        ids = np.flatnonzero(state.mask())
        if not len(ids) or set(ids.tolist()) <= EOS:
            return
        state.accept(int(ids[(step * 7) % len(ids)]))


def schema(value: Any) -> None:
    with only(ParameterError):
        _walk(ResponseFormat.schema(value))


def extraction(value: Any) -> None:
    with only(ParameterError):
        kind = read_schema(value)
        for leaf in leaves(kind):
            assert isinstance(leaf.ask(None), str)


def regex(text: str) -> None:
    with only(ParameterError):
        _walk(ResponseFormat("regex", text))


def response_format(value: Any) -> None:
    with only(ParameterError):
        _walk(ResponseFormat.read(value))


def _schemas() -> st.SearchStrategy[Any]:
    anything = jsons(SCHEMA_KEYS, SCHEMA_WORDS)
    return spoiled(SCHEMAS, anything) | anything


FORMS = [
    {"type": "json_object"},
    {"type": "regex", "regex": "a|b"},
    {"type": "choice", "choice": ["a", "b"]},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMAS[2]}},
]
ITEMS = [
    {"text": "Q", "max_new_tokens": 5, "temperature": 0.5, "stop": ["x"]},
    {"messages": CHATS[0], "seed": 1, "timeout": 5, "priority": 1, "choice": ["a", "b"]},
    CHATS[1],
    "Q",
]
MARKUP = [
    *MARKERS,
    "\n",
    "f\n",
    "a",
    '{"a": 1}',
    "[1, (2, None)]",
    "'",
    '"',
    "\\",
    "|",
    "|---|",
    "<table>",
    "<tr>",
    "<td>",
    "</td>",
    "<td colspan=9999>",
    "</table>",
    "[[1,2,3,4]]",
    "[[",
    "]]",
    "1000",
    ",",
    "True",
    "[" * 120,
]
REGEX = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "*",
    "+",
    "?",
    "|",
    "\\",
    "a",
    "b",
    ".",
    "^",
    "$",
    "{9,}",
    "{99}",
    "{9999}",
    "\\p{L}",
    "[^a]",
    "(?i)",
    "(?=",
    "\\b",
    "[a-z]",
    "é",
]

TARGETS: dict[str, Target] = {
    "picture": Target(lambda: damaged(good_pictures()), picture, raw=True),
    "data_url": Target(data_urls, data_url),
    "clip": Target(lambda: damaged(good_pictures()[-13:]), clip, raw=True),
    "url": Target(urls, url),
    "chat": Target(lambda: spoiled(CHATS, jsons(KEYS, WORDS)) | jsons(KEYS, WORDS), chat),
    "body": Target(lambda: spoiled(BODIES, jsons(KEYS, WORDS)), openai_body),
    "item": Target(
        lambda: spoiled(ITEMS, jsons(KEYS, WORDS)) | jsons([*ITEMS[0], *ITEMS[1]], WORDS), request_options
    ),
    "answer": Target(lambda: texts(MARKUP), answer),
    "folder": Target(_folder_values, folder, raw=True),
    "derived": Target(lambda: damaged([derived()]), derived_file, raw=True),
    "cached_answer": Target(answers, cached_answer, raw=True),
    "schema": Target(_schemas, schema, needs="llguidance"),
    "regex": Target(lambda: texts(REGEX), regex, needs="llguidance"),
    "response_format": Target(
        lambda: spoiled(FORMS, jsons(["type", "schema"], SCHEMA_WORDS)), response_format, needs="llguidance"
    ),
    "extraction": Target(_schemas, extraction),
}
