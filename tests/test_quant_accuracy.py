"""How often the embedded model is exactly right in INT8, beside float32, on pictures never trained on."""

from pathlib import Path

import pytest

from glmflash import Pipeline

SCRIPTS = Path(__file__).parents[1] / "examples" / "tiny"
#: Settings, and how many points of exact match they may cost.
BARS = (
    ({"quantize": "int8"}, 0.5),
    ({"quantize": "w8a8"}, 1.5),
    ({"kv_dtype": "int8"}, 0.5),
    ({"quantize": "w8a8", "kv_dtype": "int8"}, 1.5),
)


def exactly_right(asked: list, **settings) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        from check import _bare, overlap
    items = [{"text": turn.question, "images": picture} for picture, turn in asked]
    with Pipeline.from_pretrained("tiny", dtype="float32", progress=False, **settings) as pipe:
        results = pipe.batch(items, max_new_tokens=200, progress=False)
    right = 0
    for result, (_, turn) in zip(results, asked, strict=True):
        given, wanted = result.text.strip(), _bare(turn.answer)
        right += overlap(given, wanted) >= 0.7 if turn.task == "box" else given == wanted
    return right


def check_bars(seed: object, count: int, bars: tuple = BARS) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        from check import questions

        asked = questions(seed, count)
    floating = exactly_right(asked)
    assert floating >= 0.95 * count
    lost = {str(settings): floating - exactly_right(asked, **settings) for settings, _ in bars}
    allowed = {str(settings): points * count / 100 for settings, points in bars}
    assert all(lost[name] <= allowed[name] for name in lost), (lost, floating)


@pytest.mark.slow
def test_int8_costs_next_to_nothing():
    check_bars("quant", 63, (BARS[0], BARS[-1]))  # of so few, none may be lost


@pytest.mark.soak
def test_int8_costs_next_to_nothing_over_many_questions():
    check_bars(3, 1000)
