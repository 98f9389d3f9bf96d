"""Words → numbers, dates, yes or no, one of several, lists."""

import re
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.structured import reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", "12.50"), ("$12.50", "12.50"), ("US$ 1,234.56", "1234.56"), ("1.234,56 €", "1234.56"),
        ("12,50", "12.50"), ("1,234", "1234"), ("1.234", "1.234"), ("0,125", "0.125"),
        ("1 234 567", "1234567"), ("(12.50)", "-12.50"), ("-$5", "-5"), ("$-5", "-5"), ("−5", "-5"),
        ("１２．５０", "12.50"), ("Total: -3", "-3"),
        ("12%", "12"),
        ("Total: ¥12.50", "12.50"), ("The total is 12.50.", "12.50"), ("RM 5.00", "5.00"),
        ("1.2万", "12000.0"),
        ("1'234.50", "1234.50"), ("₹1,00,000", "100000"), ("12.50元", "12.50"), ("12.50 or $12.50", "12.50"),
    ],
)  # fmt: skip
def test_numbers_as_they_are_printed(text, value):
    found = reading.number(text)
    assert str(found.value) == value
    assert re.search(r"\d", text[found.start : found.end])


@pytest.mark.parametrize("text", ["", "none", "5 of 6", "1.2.3.4", "2026-11-28", "1,234.567.8", "1,2,3"])
def test_what_is_no_number_is_not_guessed(text):
    with pytest.raises(ValueError, match="number"):
        reading.number(text)


@pytest.mark.property
@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False),
    st.sampled_from(["{}", "${}", "{} EUR", "Total: {}", "{}元", "約{}"]),
    st.booleans(),
)
def test_a_number_is_read_whatever_stands_around_it(number, around, grouped):
    text = around.format(f"{number:,.2f}" if grouped else f"{number:.2f}")
    assert reading.number(text).value == number


@pytest.mark.property
@given(st.text(max_size=40) | st.text(alphabet="0189.,' $()-年yesno", max_size=30))
def test_no_text_gives_another_error(text):
    for read in (reading.number, reading.day, reading.truth):
        try:
            found = read(text)
        except ValueError:
            continue
        assert 0 <= found.start < found.end <= len(text)
    assert all(isinstance(item, (str, object)) for item in reading.items(text))
    assert isinstance(reading.is_absent(text), bool)


@pytest.mark.parametrize(
    "text",
    ["2026-11-28", "2026/11/28", "2026年11月28日", "28.11.2026", "28/11/2026", "11/28/2026", "Nov 28, 2026",
     "28 November 2026", "November 28th 2026", "on 28th of Nov. 2026", "Date: ２０２６-11-28"],
)  # fmt: skip
def test_dates_as_they_are_printed(text):
    assert reading.day(text).value == date(2026, 11, 28)


@pytest.mark.parametrize("text", ["03/04/2026", "31.02.2026", "tomorrow", "28", ""])
def test_what_may_be_another_date_is_not_guessed(text):
    with pytest.raises(ValueError, match="date"):
        reading.day(text)


@pytest.mark.property
@given(
    st.dates(min_value=date(1000, 1, 1)), st.sampled_from(["%Y-%m-%d", "%d %B %Y", "%b %d, %Y", "%d.%m.%Y"])
)
def test_a_date_is_read_as_it_is_written(day, form):
    assert reading.day(day.strftime(form)).value == day


@pytest.mark.property
@given(st.dates(min_value=date(1000, 1, 1)), st.integers(-(10**12), 10**12))
def test_what_is_read_is_let_through_by_the_constraint(day, cents):
    assert re.fullmatch(reading.DATE, day.isoformat())
    amount = Decimal(cents) / 100
    # Python's re has no \p{Sc}: the currencies are tried by their letters
    pattern = reading.DECIMAL.replace(r"\p{Sc}", "[$€¥]")
    for text in (f"{amount:.2f}", f"{amount:,.2f}", f"${amount:.2f}", f"{amount:.2f} €", f"EUR {amount:.2f}"):
        assert re.fullmatch(pattern, text)
        assert reading.number(text).value == amount
    assert re.fullmatch(reading.WHOLE.replace(r"\p{Sc}", "[$€¥]"), str(cents))


def test_yes_and_no():
    assert [reading.truth(text).value for text in ("Yes.", "no", "TRUE", "是", "没有", "有")] == [
        True, False, True, True, False, True
    ]  # fmt: skip
    for text in ("maybe", "", "7"):
        with pytest.raises(ValueError, match="neither"):
            reading.truth(text)
    assert all(isinstance(reading.truth(word).value, bool) for word in reading.TRUTHS)


def test_one_of_several():
    options = (("EUR", 1), ("USD", 2))
    assert reading.option(" usd.", options).value == 2
    found = reading.option("It is in EUR", options)
    assert (found.value, found.start, found.end) == (1, 9, 12)
    for text in ("EUR or USD", "yen", "", "EUROS"):
        with pytest.raises(ValueError, match="none of"):
            reading.option(text, options)


def test_lists():
    assert reading.items('```json\n["a", {"b": 1}]\n```') == ["a", {"b": 1}]
    assert reading.items("1. Coffee\n2. Bread") == ["Coffee", "Bread"]
    assert reading.items("咖啡、面包") == ["咖啡", "面包"]
    assert reading.items("[1, 2") == ["[1", "2"]
    assert reading.items("") == []


def test_absent():
    assert all(
        map(reading.is_absent, ("", "none", "None.", "N/A", "-", "无", "Not shown.", "It is not there."))
    )
    assert not any(map(reading.is_absent, ("0", "Nonesuch", "no 5", "yes")))


def test_long_digits_are_read_quickly_and_exactly():
    assert reading.number("9" * 10_000).value == Decimal("9" * 10_000)
    assert reading.day(str(date(2026, 1, 1) + timedelta(9))).value == date(2026, 1, 10)
