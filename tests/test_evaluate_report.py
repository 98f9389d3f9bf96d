"""A report says the same in every form, survives JSON, and lets nobody's text become markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from evaluating import SCARLET, coins, report
from hypothesis import given
from hypothesis import strategies as st

from glmflash import ConfigError, ParameterError
from glmflash.evaluate import Answer, Asked, Conditions, Memory, Question, Report, Row, run
from glmflash.evaluate.pictures import thumbnails
from glmflash.output import Box

EVIL = "<script>alert(1)</script>'\"&<img src=x onerror=alert(2)>`|[a](javascript:b)"
BASE, WORSE = coins(0.9, 60, seed=1), coins(0.5, 60, seed=2)


@pytest.fixture(scope="module")
def made() -> Report:
    ask = Question(id="q", text="?", images=(SCARLET,), answers=("a",))
    return report(
        {"base": BASE, "worse": WORSE}, pictures=["d" * 32] * 60, texts="no",
        conditions=Conditions(concurrency=4, timeout=9.0, seed=3, created="today"),
        memory={"base": Memory(weights=5, kv=3)}, shown=thumbnails([ask], {"q": ("d" * 32,)}),
    )  # fmt: skip


def hostile() -> Report:
    """Every text that comes from elsewhere is as bad as it can be."""
    asked = Asked(id=EVIL, text=EVIL, answers=(EVIL,), kind=EVIL, metric="iou", pictures=(EVIL,))
    box = Box(EVIL, (0.0, 0.0, 1.0, 1.0), (0, 0, 10, 10))
    row = Row(system=EVIL, question=EVIL, score=0.0, seconds=1.0, began=0.0, answer=Answer(EVIL, (box,)))
    failed = replace(row, system="b" + EVIL, answer=Answer(""), error=EVIL)
    conditions = Conditions(created=EVIL, machine=EVIL, version=EVIL)
    return Report(
        baseline=EVIL, questions=(asked,), rows={EVIL: (row,), "b" + EVIL: (failed,)}, conditions=conditions
    )


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.handlers, self.links = set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.links += [value for name, value in attrs if name in ("src", "href")]


def test_json_gives_the_same_report_again(made):
    again = Report.from_json(made.to_json())
    assert again == made
    assert again.to_html() == made.to_html()
    assert Report.from_json(hostile().to_json().encode()) == hostile()


def test_figures_are_those_of_the_scores(made):
    base, worse = made["base"], made["worse"]
    assert base.accuracy.value == pytest.approx(sum(BASE) / 60)
    assert worse.difference.value == pytest.approx((sum(WORSE) - sum(BASE)) / 60)
    assert base.difference is None
    assert {kind: one.count for kind, one in base.kinds.items()} == {"even": 30, "odd": 30}
    assert base.kinds["even"].value == pytest.approx(sum(BASE[::2]) / 30)
    assert base.latency.p50 == 0.5
    assert base.tokens_per_second == pytest.approx(3 / 0.5)
    assert len(made.wrong("worse")) == 60 - sum(WORSE)
    with pytest.raises(KeyError):
        made["other"]


def test_every_form_has_the_figures(made, tmp_path):
    for ending in ("html", "md", "txt", "json"):
        text = made.save(tmp_path / f"report.{ending}").read_text()
        assert f"{sum(WORSE) / 0.6:.1f}" in text or ending == "json"
        assert "worse" in text
    assert made._repr_html_().count("<table") == 2
    assert repr(made) == "<Report: 2 systems, 60 questions>"
    with pytest.raises(ParameterError, match="html"):
        made.save(tmp_path / "report.pdf")


def test_the_page_shows_wrong_answers_beside_pictures_once(made):
    page = made.to_html()
    assert page.count("data:image/png;base64,") == 1  # all questions are about one picture
    wrong = sum(not (a and b) for a, b in zip(BASE, WORSE, strict=True))
    assert page.count("class='ask'") == min(wrong, 40)
    assert made.to_html(most_wrong=3).count("class='ask'") == 3
    assert f"{wrong - 3} more" in made.to_html(most_wrong=3)


def test_nobodys_text_becomes_markup():
    page = Tags(hostile().to_html())
    assert "script" not in page.tags
    assert page.handlers == []
    assert all(link.startswith("data:image/") for link in page.links)
    inside = Tags(hostile()._repr_html_())
    assert not inside.tags & {"script", "img"}
    assert not inside.handlers


def test_markdown_holds_no_html_and_no_links():
    text = hostile().to_markdown()
    assert not re.search(r"(?<!\\)[<>]", text.replace("|--:", ""))
    assert not re.search(r"(?<!\\)\[", text)


def test_the_page_loads_nothing_and_runs_nothing(made):
    page = made.to_html()
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "script" not in Tags(page).tags


def test_a_system_alone_has_a_page_without_differences():
    page = report({"only": [1.0, 0.0]}).to_html()
    assert "Difference to" not in page
    assert "Accuracy of only" in page


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.02, 1.0, 700.0])
def test_every_latency_can_be_drawn(seconds):
    assert "<svg" in report({"a": [1.0, 0.0], "b": [0.0, 0.0]}, seconds=seconds).to_html()


@pytest.mark.slow
@pytest.mark.property
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_every_score_can_be_drawn(pairs):
    page = report({"a": [one for one, _ in pairs], "b": [other for _, other in pairs]}).to_html()
    places = [float(x) for x in re.findall(r"(?:x|x1|x2|cx)='(-?[0-9.]+)%'", page)]
    assert all(0 <= place <= 100 for place in places)
    assert "nan" not in page


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("format"), lambda data: data.update(format="other"),
        lambda data: data.update(rows=3), lambda data: data.update(questions=[3]),
        lambda data: data["rows"][0].update(score=2), lambda data: data["rows"][0].update(score="1"),
        lambda data: data["rows"][0].update(boxes=[[1]]), lambda data: data["rows"][0].update(seconds=-1),
        lambda data: data["rows"][0].update(boxes=[["", *"12345678", 0]]),
        lambda data: data["rows"][0].update(completion_tokens=-1), lambda data: data["rows"].pop(),
        lambda data: data["rows"].append(data["rows"][0]), lambda data: data.update(baseline="x"),
        lambda data: data["conditions"].update(concurrency=0), lambda data: data["questions"].pop(),
        lambda data: data["questions"][0].update(answers="x"), lambda data: data.update(memory=[1]),
        lambda data: data["memory"].update(base=3), lambda data: data["pictures"].update(x=3),
        lambda data: data["pictures"]["d" * 32].update(kind="svg+xml"),
        lambda data: data["pictures"]["d" * 32].update(data="'><script>"),
        lambda data: data["pictures"]["d" * 32].update(size=[0, 1]),
    ],
)  # fmt: skip
def test_damaged_json_is_refused(made, change):
    data = json.loads(made.to_json())
    change(data)
    with pytest.raises((ConfigError, ParameterError)):
        Report.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '{"format": 1}', "[" * 100_000])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(ConfigError):
        Report.from_json(text)


def test_half_a_pair_of_surrogates_is_no_reason_not_to_be_written(tmp_path):
    made = run({"a": lambda question: "half \ud83d"}, [Question(id="1", text="?", answers=("a",))])
    for end in ("html", "json", "md", "txt"):
        made.save(tmp_path / f"r.{end}")
    again = Report.from_json((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert again.rows == made.rows
    assert "half \\ud83d" in (tmp_path / "r.html").read_text(encoding="utf-8")
