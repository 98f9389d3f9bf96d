"""With a cache as without: the same results and the same deltas, whatever is asked and however."""

import sys
from pathlib import Path
from random import Random

import pytest
from answers_world import Told, plain, until
from engine_world import Question, noise, open_world, question, to_request
from hypothesis import given, settings
from hypothesis import strategies as st

from glmflash import AnswerCache, ExtractionError, Pipeline, ResponseFormat, prepare
from glmflash.openai import create

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("pay", "ask")
]
EXCLUSIVE = st.sampled_from(
    [
        {}, {"thinking": True}, {"thinking": "auto", "thinking_budget": 2}, {"answer_prefix": "So: "},
        {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": "none"},
        {"response_format": ResponseFormat("choice", ("yes", "no", "perhaps"))},
        {"response_format": ResponseFormat("json_object")},
        {"answer_prefix": "{", "response_format": ResponseFormat("json_object")},
    ]
)  # fmt: skip
CHOSEN_BY = st.sampled_from(
    [
        {"temperature": 0},
        {"temperature": 1.5, "seed": 5},
        {"temperature": 0.9, "top_k": 7, "top_p": 0.8, "seed": 6},
    ]
)
OTHERS = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(1, 14)},
    optional={
        "ignore_eos": st.booleans(),
        "logprobs": st.integers(0, 3),
        "stop": st.sampled_from(["e", "1", "So", ["a", "t"]]),
        "repetition_penalty": st.sampled_from([0.8, 1.3]),
        "repetition_stop": st.sampled_from([16, None]),
        "cache_salt": st.sampled_from(["a", "b"]),
        "max_image_tokens": st.sampled_from([4, 6]),
        "min_p": st.just(0.05),
    },
)
PICTURES = [noise(Random(seed)) for seed in range(3)]
SHOWN = st.sampled_from([None, PICTURES[:1], PICTURES[1:3], [PICTURES[2], PICTURES[2]]])


@pytest.fixture(scope="module")
def sides(nano_checkpoint):
    """One engine without a cache and one with it, over one model."""
    world = open_world(nano_checkpoint, "random")
    with world.engine() as bare, world.engine(answers=AnswerCache()) as cached:
        yield bare, cached


def answers(engine, asked: Question):
    """What a stream of it gives, and its result."""
    stream = engine.start(to_request(asked, engine.generation))
    deltas = list(stream)
    return deltas, plain(stream.result), stream.result.from_cache


@pytest.mark.property
@settings(max_examples=60)
@given(st.sampled_from(["what", "total?", "哪个"]), SHOWN, EXCLUSIVE, CHOSEN_BY, OTHERS)
def test_a_cache_changes_nothing_but_the_time(sides, text, pictures, exclusive, chosen, others):
    bare, cached = sides
    asked = question(text, pictures, **exclusive, **chosen, **others)
    deltas, result, _ = answers(bare, asked)
    cached.settings.answers.clear()
    until(lambda: not cached._recall._flights)
    for found in (False, True, True):
        assert answers(cached, asked) == (deltas, result, found and bool(result.token_ids))
    assert plain(cached.answer(to_request(asked, cached.generation))) == result
    assert cached.stats().answers.errors == 0


@pytest.fixture(scope="module")
def tiny():
    with Pipeline.from_pretrained("tiny", progress=False) as bare:
        cache = AnswerCache()
        with Pipeline.from_pretrained("tiny", progress=False, answer_cache=cache) as cached:
            yield bare, cached


@pytest.fixture(scope="module")
def receipt():
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "tiny"))
    try:
        from draw import receipt

        return receipt(Random(4))[0]
    finally:
        sys.path.pop(0)


WAYS = {
    "call": lambda pipe, image: pipe("What is the total?", images=image),
    "chat": lambda pipe, image: pipe.chat(prepare.question("What is the total?", images=image)),
    "stream": lambda pipe, image: pipe.stream("What is the total?", images=image).result,
    "submit": lambda pipe, image: pipe.submit({"text": "What is the total?", "images": image}).result(20),
    "batch": lambda pipe, image: pipe.batch(
        [{"text": "What is the total?", "images": image}] * 2, progress=False
    )[1],
    "map": lambda pipe, image: next(iter(pipe.map([{"text": "What is the total?", "images": image}]))),
    "session": lambda pipe, image: pipe.session().ask("What is the total?", images=image),
    "encoded": lambda pipe, image: pipe("What is the total?", images=pipe.encode(image)),
}


def test_every_way_of_asking_shares_one_answer(tiny, receipt):
    bare, cached = tiny
    wanted = plain(bare("What is the total?", images=receipt))
    assert plain(cached("What is the total?", images=receipt)) == wanted
    for name, way in WAYS.items():
        result = way(cached, receipt)
        assert plain(result) == wanted, name
        assert result.from_cache, name
    assert cached.stats().answers.misses == 1


def test_openai_and_extract_find_theirs(tiny, receipt):
    bare, cached = tiny
    body = {"prompt": "What is the vendor?", "max_tokens": 12, "temperature": 0}
    choices = [create(pipe, body)["choices"] for pipe in (bare, cached, cached)]
    assert choices[0] == choices[1] == choices[2]
    chunks = [
        [chunk["choices"] for chunk in create(pipe, body | {"stream": True})] for pipe in (bare, cached)
    ]
    assert chunks[0] == chunks[1]
    before = cached.stats().answers
    schema = {"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}
    outcomes = []
    for pipe in (bare, cached, cached):
        try:
            outcomes.append(pipe.extract(receipt, schema, max_new_tokens=24).value)
        except ExtractionError as error:
            outcomes.append((error.field, error.text))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    after = cached.stats().answers
    assert before.hits > 0
    assert after.hits + after.shared > before.hits + before.shared


def test_a_conversation_is_found_turn_by_turn(tiny, receipt):
    bare, cached = tiny
    questions = ["What is the total?", "Which store is it?", "What is the total?"]

    def talk(pipe):
        with pipe.session() as session:
            return [
                plain(session.ask(one, images=receipt if i == 0 else None)) for i, one in enumerate(questions)
            ]

    assert talk(bare) == talk(cached) == talk(cached)


def test_salts_are_apart_and_each_finds_its_own(nano_checkpoint):
    """A pair, so that neither "never" nor "always" would pass."""
    world = open_world(nano_checkpoint, "random")
    with world.engine(answers=Told()) as engine:
        asked = question("what", PICTURES[0], max_new_tokens=3, ignore_eos=True)
        for found in (False, True):
            for salt in (None, "a", "b", "ab"):
                result = engine.answer(to_request(asked, engine.generation, cache_salt=salt))
                assert result.from_cache is found
