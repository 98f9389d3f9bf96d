"""Whatever a system returns is read as an answer, or refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from glmflash import Box, ParameterError, Result, Timings, Usage
from glmflash.evaluate import Answer, read_answer

BOX = Box("Save", (1.0, 2.0, 3.0, 4.0), (10, 20, 30, 40))


def test_a_result_keeps_its_boxes_and_counts():
    usage = Usage(prompt=20, cached=5, completion=3)
    result = Result(text="42", boxes=(BOX,), usage=usage, timings=Timings(first_token=0.25))
    assert read_answer(result) == Answer("42", (BOX,), 20, 5, 3, 0.25)


def test_a_completion_is_read_as_a_dictionary_and_as_an_object():
    result = Result(text="At [[1,2,3,4]]", usage=Usage(prompt=20, cached=5, completion=3))
    plain = result.to_openai()
    client = SimpleNamespace(
        choices=[SimpleNamespace(message=SimpleNamespace(content="At [[1,2,3,4]]"))],
        usage=SimpleNamespace(
            prompt_tokens=20, completion_tokens=3, prompt_tokens_details=SimpleNamespace(cached_tokens=5)
        ),
    )
    answer = read_answer(plain)
    assert answer == read_answer(client)
    assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (20, 5, 3)
    assert [box.normalized for box in answer.boxes] == [(1, 2, 3, 4)]


def test_text_in_parts_is_joined():
    parts = [{"type": "thinking"}, {"type": "text", "text": "4"}, SimpleNamespace(text="2"), 7, ["x"]]
    assert read_answer({"choices": [{"message": {"content": parts}}]}).text == "42"


def test_what_a_client_leaves_out_is_not_known():
    answer = read_answer({"choices": [{"message": {"content": None}}], "usage": None})
    assert answer == Answer("")
    odd = {
        "choices": [{"message": {"content": "x"}}],
        "usage": {"completion_tokens": -1, "prompt_tokens": True},
    }
    assert read_answer(odd) == Answer("x")


@pytest.mark.parametrize("given", [None, 42, b"42", [], {}, {"choices": []}, {"choices": "42"}, object()])
def test_anything_else_is_refused(given):
    with pytest.raises(ParameterError, match=r"chat\.completion"):
        read_answer(given)


@pytest.mark.parametrize(
    "fields",
    [
        {"text": None}, {"text": b"a"}, {"boxes": [BOX]}, {"boxes": ("a",)}, {"prompt_tokens": 1.5},
        {"cached_tokens": -1}, {"completion_tokens": True}, {"first_token": float("nan")},
        {"first_token": float("inf")}, {"first_token": "1"},
    ],
)  # fmt: skip
def test_an_answer_that_could_be_neither_scored_nor_written_is_refused(fields):
    with pytest.raises(ParameterError, match=next(iter(fields))):
        Answer(**({"text": "a"} | fields))


def test_numbers_of_numpy_become_pythons():
    answer = Answer("a", completion_tokens=np.int64(3), first_token=np.float32(0.5))
    assert (type(answer.completion_tokens), type(answer.first_token)) == (int, float)
