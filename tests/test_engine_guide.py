"""Answers that are steered: thinking, budgets, calls, formats; alone, beside others, and when it fails."""

import json
import re
from contextlib import suppress
from random import Random

import numpy as np
import pytest
import torch
from engine_world import ask, question, start, to_request, together

from glmflash.engine.guide import Guides
from glmflash.errors import ParameterError
from glmflash.grammar import ResponseFormat, json_object
from glmflash.prompt.template import TemplateStyle

OBJECT = {"type": "json_object"}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("look", "look_up")]


@pytest.fixture(scope="module")
def engine(world):
    with world.engine() as engine:
        yield engine


def answers(engine, *several, text="What is the total?"):
    """All at once, as nobody needs their logits."""
    asked = [question(text, **({"max_new_tokens": 24} | options)) for options in several]
    futures = [engine.submit(to_request(one, engine.generation)) for one in asked]
    return [future.result(120) for future in futures]


def answer(engine, text="What is the total?", **options):
    return answers(engine, options, text=text)[0]


def control(engine, result, name):
    return result.token_ids.index(engine.tokenizer.control(name))


def test_the_text_is_one_of_the_choices(engine):
    asked = [{"choice": ["yes", "no", "yesterday"], "temperature": 2.0, "seed": seed} for seed in range(6)]
    for result in answers(engine, *asked):
        assert result.text in ("yes", "no", "yesterday")
        assert result.finish_reason == "stop"
        assert result.token_ids[-1] in engine.eos


def test_json_is_json_or_the_beginning_of_it(engine):
    asked = {"response_format": OBJECT, "temperature": 1.5, "max_new_tokens": 50}
    for result in answers(engine, *(asked | {"seed": seed} for seed in range(4))):
        if result.finish_reason == "stop":
            assert isinstance(json.loads(result.text), dict)
        assert result.text.startswith("{")
        assert not set(result.token_ids[:-1]) & set(engine.tokenizer.controls.values())


def test_thinking_is_opened_for_a_model_that_would_not(engine):
    result = answer(engine, thinking=True)
    assert result.token_ids[0] == engine.tokenizer.control("<think>")
    assert result.thinking is not None


@pytest.mark.parametrize("budget", [0, 1, 7])
@pytest.mark.parametrize("goal", [{}, {"response_format": OBJECT}, {"choice": ["yes", "no"]}])
def test_thinking_ends_with_its_budget_and_the_answer_begins(engine, budget, goal):
    result = answer(engine, thinking=True, thinking_budget=budget, temperature=1.0, seed=3, **goal)
    end = control(engine, result, "</think>")
    assert end <= budget + 1
    if goal and result.finish_reason == "stop":
        assert result.text in ("yes", "no") or isinstance(json.loads(result.text), dict)
    assert not result.text.startswith("\n")


def test_reasoning_does_not_end_an_answer_that_is_still_to_come(engine):
    """Whatever is most likely: an end token while thinking would leave no answer at all."""

    def wants_to_end(ids, logits):
        logits[list(engine.eos)] = logits.amax() + 10
        return logits

    options = {"thinking": True, "thinking_budget": 5, "logits_processors": [wants_to_end]}
    request = to_request(question("Hm?", choice=["yes"]), engine.generation, **options)
    assert engine.submit(request).result(60).text == "yes"
    request = to_request(question("Hm?"), engine.generation, **options)
    assert engine.submit(request).result(60).text == ""


def test_auto_leaves_it_to_the_model(engine):
    auto = answer(engine, thinking="auto")
    free = engine.tokenizer.control("<think>") in auto.token_ids
    assert free == (auto.thinking is not None)
    assert answer(engine, thinking="auto", choice=["yes", "no"], thinking_budget=3).text in ("yes", "no")


def test_the_prompt_is_the_same_for_auto_and_true(engine):
    prompts = [answer(engine, thinking=thinking).usage.prompt for thinking in (True, "auto", False)]
    assert prompts[0] == prompts[1] < prompts[2]


def test_a_call_that_is_required_is_made(engine):
    names = set()
    asked = {"tools": TOOLS, "tool_choice": "required", "temperature": 3.0, "max_new_tokens": 16}
    for result in answers(engine, *(asked | {"seed": seed} for seed in range(4))):
        at = control(engine, result, "<tool_call>")
        assert at == 0
        rest = engine.tokenizer.decode(result.token_ids[1:])
        names.add(rest.partition("\n")[0])
        assert not set(result.token_ids[:-1]) & engine.eos  # before it is closed
    assert names <= {"look", "look_up"}


def test_a_named_call_after_thinking(engine):
    chosen = {"type": "function", "function": {"name": "look_up"}}
    result = answer(engine, tools=TOOLS, tool_choice=chosen, thinking=True, thinking_budget=2)
    at = control(engine, result, "<tool_call>")
    assert engine.tokenizer.decode(result.token_ids[at + 1 :]).startswith("look_up\n")


def test_a_call_is_closed_before_the_answer_may_end(engine):
    request = to_request(question("Hm?", tools=TOOLS, tool_choice="required"), engine.generation)
    guide, markers = (
        Guides(engine.tokenizer, engine.eos)(request),
        Guides(engine.tokenizer, engine.eos).markers,
    )
    for token_id in (markers.call, *engine.tokenizer.encode("look_up\n")):
        assert guide.mask()[token_id]
        guide.accept(token_id)
    inside = guide.mask()
    assert set(np.flatnonzero(~inside).tolist()) == engine.eos
    guide.accept(markers.end_call)
    assert guide.mask() is None


def test_newlines_behind_reasoning_come_to_an_end(engine):
    request = to_request(question("Hm?", thinking=True, choice=["yes"]), engine.generation)
    guide, markers = (
        Guides(engine.tokenizer, engine.eos)(request),
        Guides(engine.tokenizer, engine.eos).markers,
    )
    (newline,) = engine.tokenizer.encode("\n")
    for token_id in (markers.think, markers.end_think, newline, newline):
        assert guide.mask()[token_id]
        guide.accept(token_id)
    assert not guide.mask()[newline]
    assert guide.mask()[engine.tokenizer.encode("yes")[0]]


def test_newlines_that_begin_the_text_are_its_own(engine):
    request = to_request(question("Hm?", choice=["\nyes"]), engine.generation)
    guide = Guides(engine.tokenizer, engine.eos)(request)
    for token_id in engine.tokenizer.encode("\nyes"):
        assert guide.mask()[token_id]
        guide.accept(token_id)
    assert set(np.flatnonzero(guide.mask()).tolist()) == engine.eos


def test_tools_that_are_not_shown_cost_nothing(engine):
    plain, hidden = answer(engine), answer(engine, tools=TOOLS, tool_choice="none")
    assert plain.token_ids == hidden.token_ids
    assert plain.usage.prompt == hidden.usage.prompt < answer(engine, tools=TOOLS).usage.prompt


def test_a_prefix_is_part_of_the_text(engine):
    result = answer(engine, choice=["yes", "yesterday", "no"], answer_prefix="yest")
    assert result.text == "yesterday"
    with pytest.raises(ParameterError, match="answer_prefix"):
        answer(engine, choice=["yes"], answer_prefix="no")


def test_processors_still_work_and_cannot_open_what_is_closed(engine):
    def only_exclamation(ids, logits):
        chosen = torch.full_like(logits, -torch.inf)
        chosen[engine.tokenizer.encode("!")[0]] = 0
        return chosen

    request = to_request(
        question("Hm?", choice=["yes"]), engine.generation, logits_processors=[only_exclamation]
    )
    with pytest.raises(ParameterError, match="logits_processors"):
        engine.submit(request).result(60)

    def prefer_no(ids, logits):
        logits[engine.tokenizer.encode("no")[0]] = 1e4
        return logits

    request = to_request(
        question("Hm?", choice=["yes", "no"]), engine.generation, logits_processors=[prefer_no]
    )
    assert engine.submit(request).result(60).text == "no"


def test_logprobs_are_the_models_own(engine):
    result = answer(engine, choice=["yesterday"], logprobs=3)
    assert result.logprobs is not None
    for one in result.logprobs:
        best = {token for token, _ in one.top}
        assert one.logprob <= one.top[0][1]
        assert one.token_id in best or one.logprob <= one.top[-1][1]
    assert any(one.token_id != one.top[0][0] for one in result.logprobs)  # the model wanted something else


GUIDED = (
    {"choice": ["yes", "no"]}, {"response_format": OBJECT}, {"thinking": True, "thinking_budget": 4},
    {"response_format": OBJECT, "thinking": True, "thinking_budget": 2, "temperature": 1.0, "seed": 5},
    {"tools": TOOLS, "tool_choice": "required"},
)  # fmt: skip


@pytest.mark.slow
def test_neighbours_are_what_they_are_alone(world):
    """Rows that are steered stand beside rows that are not: neither changes a token of the other."""
    plain = world.questions("beside guides", 5, max_new_tokens=12)
    guided = [one.but(ignore_eos=False, **options) for one, options in zip(plain, GUIDED, strict=True)]
    alone = world.cold([*plain, *guided])
    with world.engine() as engine:
        mixed = together(engine, [one for pair in zip(plain, guided, strict=True) for one in pair])
    for got, wanted in zip([*mixed[::2], *mixed[1::2]], alone, strict=True):
        world.check(got, wanted)


def test_what_fails_in_a_grammar_ends_its_request_alone(engine, monkeypatch):
    class Panic(BaseException):
        pass

    def fail(self, token_id):
        raise Panic

    plain = question("What is the total?", max_new_tokens=12, ignore_eos=True)
    wanted = ask(engine, plain)
    monkeypatch.setattr(json_object.Written, "accept", fail)
    bad, good = start(engine, plain.but(response_format=OBJECT)), start(engine, plain)
    with pytest.raises(Panic):
        bad.future.result(60)
    assert good.answer().ids == wanted.ids


def test_a_vocabulary_without_a_way_on_is_an_error_of_that_request(engine, monkeypatch):
    monkeypatch.setattr(
        json_object.Written, "mask", lambda self: np.zeros(engine.tokenizer.vocab_size, np.bool_)
    )
    with pytest.raises(ParameterError, match="no token of this checkpoint"):
        answer(engine, response_format=OBJECT)


def test_stop_strings_and_lengths_still_end_an_answer(engine):
    result = answer(engine, choice=["yes, and no"], stop=[","])
    assert (result.text, result.finish_reason) == ("yes", "stop")
    result = answer(engine, choice=["yes, and no"], max_new_tokens=1)
    assert result.finish_reason == "length"
    assert "yes, and no".startswith(result.text)


def test_requests_that_ask_for_nothing_have_no_guide(engine):
    guides = Guides(engine.tokenizer, engine.eos)
    plain = question("Hm?")
    assert guides(to_request(plain, engine.generation)) is None
    assert guides(to_request(plain, engine.generation, thinking="auto")) is None
    assert guides(to_request(plain, engine.generation, thinking=True)).mask().sum() == 1


def test_a_checkpoint_that_always_thinks_does(engine, monkeypatch):
    """GLM-4.1V: no switch, and its text is marked with `<answer>`."""
    monkeypatch.setattr(TemplateStyle, "of", classmethod(lambda cls, controls: cls(switch=False)))
    guides = Guides(engine.tokenizer, engine.eos)
    think, end = engine.tokenizer.control("<think>"), engine.tokenizer.control("</think>")
    request = to_request(question("Hm?", choice=["yes"]), engine.generation)
    guide = guides(request)
    assert guide.mask()[think]
    guide.accept(think)
    assert not guide.mask()[list(engine.eos)].any()
    guide.accept(end)
    assert {*np.flatnonzero(guide.mask())} >= guides.markers.newlines
    (newline,) = engine.tokenizer.encode("\n")
    guide.accept(newline)
    for token_id in engine.tokenizer.encode("yes"):
        assert guide.mask()[token_id]
        guide.accept(token_id)
    assert set(np.flatnonzero(guide.mask()).tolist()) == engine.eos


def runs(engine, count, rng):
    """Answers in JSON, greedy and sampled, with and without thinking, some by a model that likes to close."""
    forms = [{"response_format": OBJECT}]
    schema = {"type": "object", "properties": {"total": {"type": "number"}, "paid": {"type": "boolean"}},
              "required": ["total", "paid"], "additionalProperties": False}  # fmt: skip
    with suppress(ParameterError):  # without the library: objects alone
        ResponseFormat.schema(schema)
        forms.append({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}})
    thoughts = [{}, *({"thinking": thinking, "thinking_budget": 6} for thinking in (True, "auto"))]
    closing = [engine.tokenizer.encode(text)[0] for text in ('"', "}", ":")]

    def close(ids, logits):
        logits[closing] += 8
        return logits

    futures = []
    for _ in range(count):
        options = {
            "temperature": rng.choice([0, 0.7, 1.5]),
            "seed": rng.randrange(10**6),
            "max_new_tokens": 60,
        }
        asked = question("Total?", **options, **rng.choice(thoughts), **rng.choice(forms))
        processors = rng.choice([[], [close]])
        futures.append(engine.submit(to_request(asked, engine.generation, logits_processors=processors)))
    return futures


def check_runs(futures):
    """Those that ended have to be whole, the others the beginning of an object; returns how many ended."""
    whole = 0
    for future in futures:
        result = future.result(600)
        if result.finish_reason == "stop":
            whole += 1
            assert isinstance(json.loads(result.text), dict), result.text
        else:
            assert result.finish_reason in ("length", "repetition")
            assert re.match(r"\{|$", result.text), result.text
    return whole


@pytest.mark.slow
def test_a_few_runs_are_never_invalid(engine):
    assert check_runs(runs(engine, 12, Random("few"))) > 2


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_five_hundred_runs_are_never_invalid(engine):
    assert check_runs(runs(engine, 500, Random("hundreds"))) > 50
