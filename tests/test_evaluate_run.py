"""Pipelines in several settings, functions and clients, compared for real."""

import base64
import io
import sys
from pathlib import Path
from random import Random

import pytest
from evaluating import SCARLET, questions, right, wrong

from glmflash import DataUrl, ImageError, ParameterError, Pipeline, RegressionError, Url
from glmflash.evaluate import Answer, Question, Report, asking, gate, run
from glmflash.evaluate.memory import process_bytes
from glmflash.evaluate.pictures import picture_digests, thumbnails

TINY = Path(__file__).parents[1] / "examples" / "tiny"


@pytest.fixture(scope="module")
def receipts() -> tuple[Question, ...]:
    """Questions that the embedded model knows the answers to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY)
        import draw

        made = []
        for at in range(6):
            picture, bought = draw.receipt(Random(f"evaluate {at}"), language="en")
            shop, total = (bought.vendor,), (str(bought.total),)
            fields = {"images": (picture,)}
            made.append(
                Question(id=f"{at} shop", text="Who is the vendor?", answers=shop, kind="vendor", **fields)
            )
            made.append(
                Question(id=f"{at} sum", text="What is the total?", answers=total, kind="total", **fields)
            )
        return tuple(made)


def made(**settings):
    return asking(
        lambda: Pipeline.from_pretrained("tiny", dtype="float32", progress=False, **settings),
        max_new_tokens=24,
    )


@pytest.mark.slow
def test_schemes_and_a_bad_system_are_compared(receipts, tmp_path):
    systems = {"float32": made(), "int8": made(quantize="int8"), "kv": made(kv_dtype="int8"), "bad": wrong}
    heard = []
    report = run(systems, receipts, progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (48, 48)
    assert report["float32"].accuracy.value >= 0.9
    assert report["bad"].accuracy.value == 0
    assert report["bad"].difference.high < 0
    assert report["int8"].memory.weights < 0.5 * report["float32"].memory.weights
    assert report["kv"].memory.kv < 0.5 * report["float32"].memory.kv
    assert report["float32"].tokens_per_second > 1
    assert report["float32"].first_token.p50 < report["float32"].latency.p50
    assert report["bad"].memory.weights is None
    assert gate(report, max_drop=0.2, systems=["int8", "kv"]).passed
    with pytest.raises(RegressionError, match="bad FAILS"):
        gate(report, max_drop=0.2)
    assert Report.from_json(report.to_json()) == report


@pytest.mark.slow
def test_a_pipeline_is_asked_as_it_says_and_gains_nothing_from_another_system(receipts):
    with Pipeline.from_pretrained("tiny", dtype="float32", progress=False) as pipe:
        systems = {
            "one": asking(pipe, max_new_tokens=24),
            "two": asking(pipe, max_new_tokens=24),
            "short": asking(pipe, max_new_tokens=1),
            "other": asking(pipe, prompt=lambda text: "What is the total?", max_new_tokens=24),
            "plain": pipe,
        }
        report = run(systems, receipts[:4])
    answers = {name: [row.answer.text for row in rows] for name, rows in report.rows.items()}
    assert answers["one"] == answers["two"] == answers["plain"]
    assert all(row.answer.completion_tokens == 1 for row in report.rows["short"])
    assert answers["other"][0] == answers["other"][1] == answers["one"][1]
    assert report["one"].cached == report["two"].cached  # the second was there when the pictures were known
    assert report.conditions.asked == "one question at a time"


@pytest.mark.slow
def test_a_pipeline_has_errors_for_answers_too(receipts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    asked = (Question(id="broken", text="?", answers=("a",), images=(broken,)), receipts[0])
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        report = run({"good": asking(pipe, max_new_tokens=24), "late": asking(pipe, timeout=1e-6)}, asked)
    assert report["good"].errors == {"image_error": 1}
    assert report.rows["late"][1].error == "deadline_error"
    assert "not kept, or not readable" in report.to_html()


@pytest.mark.slow
def test_a_pipeline_of_other_weights_cannot_go_on_in_its_name(receipts, tmp_path):
    path = tmp_path / "journal"
    run({"a": made()}, receipts[:1], resume=path)
    line = [line for line in path.read_text().splitlines() if "question" not in line or "format" in line]
    path.write_text("\n".join(line) + "\n")
    with pytest.raises(ParameterError, match="weights"):
        run({"a": made(quantize="int8")}, receipts[:1], resume=path)


@pytest.mark.slow
def test_an_interrupt_cancels_what_a_pipeline_has_under_way(receipts):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        with pytest.raises(KeyboardInterrupt):
            run({"a": pipe}, receipts, concurrency=3, progress=interrupt)
        assert pipe("Hi", max_new_tokens=1).usage.completion == 1
        assert pipe.stats().running == 0


def test_functions_may_return_answers_of_any_kind():
    def function(question):
        kinds = {"q0": right(question), "q1": Answer(right(question)), "q2": {"choices": [
            {"message": {"content": right(question)}}]}}  # fmt: skip
        return kinds[question.id]

    assert run({"a": function}, questions(3))["a"].accuracy.value == 1.0


def test_the_baseline_can_be_any_system():
    report = run({"bad": wrong, "good": right}, questions(4), baseline="good")
    assert report["good"].difference is None
    assert report["bad"].difference.value == -1.0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("systems", {"systems": {}}), ("systems", {"systems": [right]}), ("systems", {"systems": {"": 3}}),
        ("systems", {"systems": {"a": 3}}), ("baseline", {"baseline": "x"}), ("questions", {"questions": ()}),
        ("questions", {"questions": ["x"]}), ("questions", {"questions": questions(1) * 2}),
        ("concurrency", {"concurrency": 0}), ("concurrency", {"concurrency": True}), ("seed", {"seed": -1}),
        ("timeout", {"timeout": 0}), ("timeout", {"timeout": float("inf")}), ("progress", {"progress": 3}),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(name, arguments):
    with pytest.raises(ParameterError) as error:
        run(**{"systems": {"a": right}, "questions": questions(1)} | arguments)
    assert error.value.parameter == name


def test_what_is_no_system_ends_it_before_anybody_is_asked():
    with pytest.raises(ParameterError, match="systems"):
        run({"a": lambda question: pytest.fail("was asked"), "b": 3}, questions(1))


def test_an_answer_that_is_none_ends_nothing():
    report = run({"a": lambda question: Answer(None)}, questions(2))
    assert report["a"].errors == {"parameter_error": 2}


def test_a_picture_that_is_not_there_ends_it_before_anybody_is_asked(tmp_path):
    ask = Question(id="1", text="?", answers=("a",), images=(tmp_path / "missing.png",))
    with pytest.raises(ImageError, match=r"missing\.png"):
        run({"a": lambda question: pytest.fail("was asked")}, [ask])


def test_a_digest_names_urls_apart():
    """Their `repr` keeps their text back, and a digest must not."""
    sources = (Url("https://a.com/1.png"), Url("https://a.com/2.png"), DataUrl("data:,1"), DataUrl("data:,2"))
    asked = [Question(id=str(i), text="?", answers=("a",), images=(one,)) for i, one in enumerate(sources)]
    assert len(set(picture_digests(asked).values())) == 4


def test_a_digest_names_contents_whatever_holds_them(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        SCARLET.save(path)
    one, two, raw, pil = (
        Question(id=str(at), text="?", answers=("a",), images=(image,))
        for at, image in enumerate([*paths, paths[0].read_bytes(), SCARLET])
    )
    digests = picture_digests([one, two, raw, pil])
    assert digests["0"] == digests["1"] == digests["2"] != digests["3"]
    with pytest.raises(ParameterError, match="open file"), paths[0].open("rb") as file:
        picture_digests([Question(id="1", text="?", answers=("a",), images=(file,))])
    small = thumbnails([one], digests)[digests["0"][0]]
    assert (small.kind, small.size) == ("png", (60, 40))


@pytest.mark.skipif(sys.platform != "linux", reason="nobody else says")
def test_the_process_has_some_memory():
    assert 10e6 < process_bytes() < 1e12


def test_asking_takes_pipelines_and_functions_only():
    with pytest.raises(ParameterError, match="pipeline"):
        asking("tiny")


@pytest.mark.extras
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_client_of_a_server_is_a_system_like_any_other(receipts):
    openai = pytest.importorskip("openai")
    for name in ("fastapi", "uvicorn", "jwt", "prometheus_client"):
        pytest.importorskip(name)
    from serving import served, token

    def served_by(client):
        return lambda question: client.chat.completions.create(
            model="glmflash", messages=_messages(question), max_tokens=24, temperature=0
        )

    with (
        Pipeline.from_pretrained("tiny", dtype="float32", progress=False) as pipe,
        served(pipe) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key=token()) as client,
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as stranger,
    ):
        systems = {"pipeline": asking(pipe, max_new_tokens=24), "server": served_by(client), "bad": wrong}
        report = run(systems, receipts, concurrency=2)
        refused = run({"server": served_by(stranger)}, receipts[:2])
    said = {name: [row.answer.text for row in rows] for name, rows in report.rows.items()}
    assert said["server"] == said["pipeline"]
    assert report["server"].tokens_per_second > 1
    assert report["server"].difference.value == 0
    assert refused["server"].errors == {"AuthenticationError": 2}


def _messages(question):
    file = io.BytesIO()
    question.images[0].save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question.text}]
    return [{"role": "user", "content": parts}]
