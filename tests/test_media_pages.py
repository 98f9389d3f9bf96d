"""Numbers of pages as people write them; and PDFs where the library is not installed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash import ImageError, ParameterError, read_pdf
from glmflash.media import pdf
from glmflash.media.pages import page_numbers
from glmflash.prompt import messages

BAD = {
    "zero": (0, "holds 0; they are numbered from 1, and the last is 10"),
    "negative": (-1, "holds -1; they are numbered from 1"),
    "behind the last": ([1, 11], "holds 11; they are numbered from 1, and the last is 10"),
    "a span that goes too far": ("9-999999999", "holds 11"),
    "an open span behind the last": ("12-", "holds 12"),
    "backwards": ("5-3", "ends before it begins"),
    "negative text": ("-3", "holds '-3'"),
    "words": ("all", "holds 'all'"),
    "an empty text": ("", "holds ''"),
    "other digits": ("٣", "holds '٣'"),
    "an empty list": ([], "names no page"),
    "a float": ([1.0], "holds a float"),
    "a bool": (True, "holds a bool"),
    "bytes": (b"1", "holds a bytes"),
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, tuple(range(1, 11))), (3, (3,)), ([2, 1, 2], (2, 1, 2)), (range(1, 4), (1, 2, 3)),
        ("3", (3,)), ("1-3,7", (1, 2, 3, 7)), (" 1 - 2 , 10 ", (1, 2, 10)), ("9-", (9, 10)), ("4-4", (4,)),
    ],
)  # fmt: skip
def test_pages_count_from_one(given, expected):
    assert page_numbers(given, total=10, most=10) == expected


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_page_is_refused_by_name(name):
    given, said = BAD[name]
    with pytest.raises(ParameterError) as caught:
        page_numbers(given, total=10, most=100)
    assert caught.value.parameter == "pages"
    assert said in str(caught.value)


@pytest.mark.parametrize("given", [None, "1-", range(1, 10**9), [1] * 6])
def test_more_than_may_be_chosen_are_refused_before_they_are_listed(given):
    with pytest.raises(ImageError, match="more than 5 are asked for, which is max_pages"):
        page_numbers(given, total=10**9, most=5)


@pytest.mark.property
@given(chosen=st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_a_list_and_its_text_are_the_same(chosen):
    text = ", ".join(map(str, chosen))
    assert page_numbers(text, total=50, most=20) == tuple(chosen) == page_numbers(chosen, total=50, most=20)


@pytest.mark.property
@given(text=st.text(alphabet="0123456789-, ", max_size=12), total=st.integers(1, 30))
def test_any_text_is_pages_that_are_there_or_an_error(text, total):
    try:
        numbers = page_numbers(text, total=total, most=40)
    except (ParameterError, ImageError):
        return
    assert numbers
    assert all(1 <= number <= total for number in numbers)


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(pdf, "importlib", type("Without", (), {"import_module": staticmethod(missing)}))
    with pytest.raises(ParameterError, match=r"pip install 'glmflash\[pdf\]'"):
        read_pdf(b"%PDF-1.7")


@pytest.mark.parametrize(
    "wrong",
    [
        {"dpi": 0}, {"dpi": -72}, {"dpi": float("nan")}, {"dpi": float("inf")}, {"dpi": "150"}, {"dpi": True},
        {"max_pages": 0}, {"max_pages": 1.0}, {"password": b"x"}, {"password": "\0"}, {"password": "\ud800"},
        {"policy": {}},
    ],
)  # fmt: skip
def test_arguments_are_checked_before_anything_is_read(wrong):
    with pytest.raises(ParameterError) as caught:
        read_pdf("no-such-file.pdf", **wrong)
    assert caught.value.parameter in wrong


def test_any_sequence_is_several_pictures_and_bytes_are_one():
    several = messages.question("?", images=range(3))[0]["content"]
    assert [part.get("image") for part in several] == [0, 1, 2, None]
    for one in (b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"):
        assert [part.get("image") for part in messages.question("?", images=one)[0]["content"]] == [one, None]
