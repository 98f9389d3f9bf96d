"""Pictures and messages become inputs, encoded pictures among them; an overflow says what would fit."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from glmflash.config import ModelConfig
from glmflash.engine.encoded import EncodedImage
from glmflash.engine.inputs import build_prompt, leading, read_pictures
from glmflash.engine.request import Request
from glmflash.engine.sampling import Sampling
from glmflash.errors import ContextLengthError, ImageError, ParameterError
from glmflash.media import InputPolicy
from glmflash.media.patches import Patches
from glmflash.prompt import Tokenizer, parse
from glmflash.shapes import Grid
from glmflash.weights import load_config, load_preprocessor

PICTURE = {"type": "image", "image": np.zeros((56, 84, 3), np.uint8)}
SMALL = Grid(1, 4, 6)
PRINT = "ab" * 16


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def user(*parts: dict[str, object]) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


def encoded(grid: Grid = SMALL, *, fingerprint: str = PRINT) -> EncodedImage:
    count = grid.num_tokens(2)
    return EncodedImage("d" * 64, grid, count, (80, 60), torch.zeros(count, 8), fingerprint)


def patches(rows: int, columns: int) -> Patches:
    return Patches(torch.zeros(0), Grid(1, 2 * rows, 2 * columns), f"{rows}{columns}" * 16, (1, 1))


def request(messages, **options) -> Request:
    chat, pictures = parse(messages)
    sampling = Sampling(max_new_tokens=options.pop("max_new_tokens", 8))
    return Request(messages=chat, pictures=pictures, sampling=sampling, **options)


@pytest.fixture(scope="module")
def tokenizer(nano_checkpoint) -> Tokenizer:
    return Tokenizer.from_file(nano_checkpoint / "tokenizer.json")


@pytest.fixture(scope="module")
def config(nano_checkpoint) -> ModelConfig:
    return load_config(nano_checkpoint)


@pytest.fixture(scope="module")
def read(nano_checkpoint):
    """Read a request's pictures, for a model of the fingerprint above."""
    preprocessor = load_preprocessor(nano_checkpoint)
    return lambda asked, fingerprint=lambda: PRINT: read_pictures(
        asked, preprocessor, InputPolicy(), fingerprint=fingerprint
    )


@pytest.fixture(scope="module")
def lay_out(tokenizer, config):
    """Build a request's prompt for a context of so many tokens."""

    def lay_out(asked: Request, pictures=(), *, limit: int = 4096):
        small = replace(config, text=replace(config.text, max_position_embeddings=limit))
        return build_prompt(asked, pictures, tokenizer=tokenizer, config=small).prompt

    return lay_out


# ---- pictures


def test_encoded_pictures_pass_among_others(read) -> None:
    page = encoded()
    first, second = read(request([user(PICTURE, {"type": "image", "image": page}, text("Which?"))]))
    assert isinstance(first, Patches)
    assert second is page


def test_without_encoded_pictures_nobody_asks_for_a_fingerprint(read) -> None:
    def refuse() -> str:
        raise AssertionError

    read(request([user(PICTURE)]), refuse)


def test_a_picture_of_another_model_is_refused(read) -> None:
    foreign = {"type": "image", "image": encoded(fingerprint="cd" * 16)}
    with pytest.raises(ImageError, match=r"^the encoded picture was made by another model"):
        read(request([user(foreign)]))
    with pytest.raises(ImageError, match=r"^picture 2 of 2: the encoded picture was made by another model"):
        read(request([user(PICTURE, foreign)]))


def test_an_encoded_picture_cannot_be_made_smaller(read) -> None:
    page = {"type": "image", "image": encoded()}
    with pytest.raises(
        ParameterError, match=r"is 5, but an encoded picture has 6 tokens.*max_image_tokens=5"
    ):
        read(request([user(page)], max_image_tokens=5))
    (same,) = read(request([user(page)], max_image_tokens=6))
    assert same is page["image"]


def test_an_encoded_picture_is_laid_out_like_any_other(lay_out) -> None:
    asked = request([user(PICTURE, text("What?"))])
    page, plain = encoded(), Patches(torch.zeros(0), Grid(1, 4, 6), "d" * 64, (80, 60))
    assert lay_out(asked, [page]).keys == lay_out(asked, [plain]).keys


# ---- the leading part


def test_the_leading_part_ends_behind_the_last_picture(lay_out, tokenizer) -> None:
    none = lay_out(request([user(text("Hello"))]))
    assert leading(none) == 0
    one = lay_out(request([user(PICTURE, text("What?"))]), [patches(2, 3)])
    two = lay_out(
        request([user(PICTURE, text("and"), PICTURE, text("Which?"))]), [patches(2, 3), patches(4, 1)]
    )
    for prompt in (one, two):
        assert prompt.ids[leading(prompt) - 1] == tokenizer.control("<|end_of_image|>")
        assert tokenizer.control("<|end_of_image|>") not in prompt.ids[leading(prompt) :]
    assert one.keys[: leading(one)] == two.keys[: leading(one)]


# ---- overflow


def overflow(lay_out, asked: Request, pictures=(), *, limit: int) -> tuple[ContextLengthError, str]:
    """The error, and what it advises; whatever the chat, it is short and its numbers add up."""
    with pytest.raises(ContextLengthError) as caught:
        lay_out(asked, pictures, limit=limit)
    message = str(caught.value)
    assert len(message) < 500
    assert caught.value.limit == limit
    assert caught.value.tokens == len(lay_out(asked, pictures, limit=10**6))
    counts, advice = message.partition("included. ")[2].split(". To make it fit, ")
    counts = re.sub(r"messages\[[^]]*\]|in \d+ pictures", "", counts)
    assert (
        sum(int(number.replace(",", "")) for number in re.findall(r"[\d,]+\d|\d", counts))
        == caught.value.tokens
    )
    return caught.value, advice


def test_a_long_question_must_be_shortened(lay_out) -> None:
    error, advice = overflow(lay_out, request([user(text("word " * 3000))]), limit=1000)
    assert str(error).startswith(
        f"the prompt has {error.tokens:,} tokens; the context holds 1,000, answer incl"
    )
    assert advice == "shorten the text"


def test_large_pictures_can_be_made_smaller(lay_out) -> None:
    asked = request([user(PICTURE, PICTURE, PICTURE, text("Which?"))])
    sizes = [patches(30, 40), patches(3, 4), patches(30, 50)]
    error, advice = overflow(lay_out, asked, sizes, limit=1000)
    assert "2,712 picture tokens in 3 pictures" in str(error)
    most = int(re.fullmatch(r"use max_image_tokens=(\d+)", advice)[1])
    fitting = [replace(one, grid=Grid(1, 2, 2 * min(most, one.grid.num_tokens(2)))) for one in sizes]
    assert 1000 - 8 - 3 < len(lay_out(asked, fitting, limit=1000)) <= 1000 - 8  # as large as can be


def test_the_answer_is_left_its_room(lay_out) -> None:
    asked = request([user(PICTURE, text("What?"))], max_new_tokens=100_000)
    _, advice = overflow(lay_out, asked, [patches(40, 40)], limit=1600)
    most = int(advice.rpartition("=")[2])
    assert len(lay_out(asked, [patches(1, most)], limit=1600)) == 1600 - 200


def test_encoded_pictures_must_be_encoded_smaller(lay_out) -> None:
    page = encoded(Grid(1, 80, 80))
    _, advice = overflow(lay_out, request([user(PICTURE, text("What?"))]), [page], limit=1000)
    assert advice.startswith("encode the pictures with max_image_tokens=")


def test_pictures_too_many_to_be_seen_are_not_made_smaller(lay_out) -> None:
    asked = request([user(*[PICTURE] * 100)])
    _, advice = overflow(lay_out, asked, [patches(4, 5)] * 100, limit=1000)
    assert advice == "give fewer pictures, or shorten the text"


def long_chat(turns: int) -> list[dict[str, object]]:
    chat: list[dict[str, object]] = [{"role": "system", "content": "Be terse."}]
    for turn in range(turns):
        chat.append(user(PICTURE, text(f"What is on page {turn}?")))
        chat.append({"role": "assistant", "content": f"Page {turn} is a letter about rain. " * turn})
    return [*chat, user(text("And now?"))]


def test_the_earliest_turns_of_a_long_chat_can_be_dropped(lay_out) -> None:
    chat, pictures = long_chat(20), [patches(4, 5)] * 20
    error, advice = overflow(lay_out, request(chat), pictures, limit=2500)
    assert "400 of them of pictures" in str(error)
    assert "messages[40] (assistant): " in str(error)
    assert str(error).count("messages[") == 4  # the largest three, and those to drop
    first, last = map(
        int, re.fullmatch(r"drop messages\[(\d+):(\d+)\] \(the earliest turns\)", advice).groups()
    )
    assert first == 1
    assert isinstance(chat[last], dict)
    assert chat[last]["role"] == "user"

    def left(last: int) -> int:
        kept = [*chat[:first], *chat[last:]]
        asked = request(kept)
        return len(lay_out(asked, pictures[: len(asked.pictures)], limit=10**6))

    assert left(last) <= 2500 - 8 < left(last - 2)


def test_a_last_turn_too_long_by_itself(lay_out) -> None:
    chat = [*long_chat(2)[:-1], user(text("word " * 3000))]
    _, advice = overflow(lay_out, request(chat), [patches(4, 5)] * 2, limit=1000)
    assert advice == "shorten the text"  # fewer pictures would not do


def test_tools_and_their_results_are_told_apart(lay_out) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    chat = [
        user(text("<|user|> and <|observation|> are only text")),
        call,
        {"role": "tool", "content": "long result " * 800},
        {"role": "tool", "content": [PICTURE]},
        user(text("So?")),
    ]
    tools = ({"type": "function", "function": {"name": "f", "description": "word " * 200}},)
    error, _ = overflow(lay_out, request(chat, tools=tools), [patches(9, 9)], limit=1000)
    assert "the tools: " in str(error)
    assert "messages[2:4] (tool): " in str(error)
    assert " text + 81 picture tokens" in str(error)


def test_the_longest_message_is_short(lay_out) -> None:
    chat = [user(*[PICTURE] * 12, text("word " * 500)) for _ in range(12)]
    overflow(lay_out, request(chat, answer_prefix="x"), [patches(30, 40)] * 144, limit=131_072)
