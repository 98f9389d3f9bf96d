"""What may not change an answer does not change it with INT8 weights either.

The laws are those of tests/test_engine_laws*.py, on the embedded model. Products of whole numbers are exact,
so a row of INT8 is the same in any company. What lies between the layers is floating, and differs in its last
digits from one shape to the next; where that moves an activation to the next level, logits move a little too.
"""

from dataclasses import replace
from random import Random

import pytest
from engine_world import ask, forget, open_world, to_request, together

from glmflash import Pipeline
from glmflash.weights import load_model, resolve

#: How far logits may lie apart. Measured over 48 questions in five ways: 0.0025 and 0.30, of logits up to 38.
BOUNDS = {"int8": 0.03, "w8a8": 1.5}


@pytest.fixture(scope="module", params=sorted(BOUNDS))
def world(request):
    floating = open_world(resolve("tiny"), "trained")
    model = load_model("tiny", device="cpu", quantize=request.param, progress=False)
    return replace(floating, model=model, bound=BOUNDS[request.param])


@pytest.fixture(scope="module")
def known(world):
    questions = world.questions("quant", 6, temperature=0)
    return list(zip(questions, world.cold(questions), strict=True))


@pytest.mark.slow
def test_cached_equals_cold(world, known):
    order = [one for one in known for _ in range(2)]
    Random(0).shuffle(order)
    with world.engine() as engine:
        asked_before = set()
        for asked, cold in order:
            got = ask(engine, asked)
            world.check(got, cold)
            if id(asked) in asked_before:
                assert got.result.usage.cached == got.result.usage.prompt - 1
            asked_before.add(id(asked))


@pytest.mark.slow
def test_together_equals_alone(world, known):
    questions, wanted = zip(*known, strict=True)
    with world.engine(max_batch=8, max_step_tokens=4096) as engine:
        together(engine, questions)
        forget(engine, vision=False)
        for got, alone in zip(together(engine, questions), wanted, strict=True):
            world.check(got, alone)


@pytest.mark.slow
def test_a_prompt_in_chunks_equals_the_whole(world, known):
    questions, wanted = zip(*known[:4], strict=True)
    for got, whole in zip(world.cold(questions, max_step_tokens=17, max_batch=1), wanted, strict=True):
        world.check(got, whole)


@pytest.mark.slow
def test_the_stream_joined_is_the_result(world, known):
    with world.engine() as engine:
        for asked, cold in known[:4]:
            stream = engine.start(to_request(asked, engine.generation))
            assert "".join(delta.text for delta in stream) == stream.result.text == cold.result.text
            assert stream.result.token_ids == cold.ids


@pytest.mark.slow
def test_a_session_equals_fresh_chats(world, known):
    options = {"max_new_tokens": 12, "temperature": 0}
    asked = next(one for one, _ in known if len(one.messages[0]["content"]) > 1)
    with world.engine() as engine, Pipeline(engine).session(**options) as session:
        turns = [
            session.ask(list(asked.messages)),
            session.ask("What is the total?"),
            session.ask("And the vendor?"),
        ]
        messages = session.messages
        for number, turn in enumerate(turns):
            forget(engine)
            fresh = Pipeline(engine).chat(messages[: 2 * number + 1], **options)
            assert fresh.usage.cached == 0
            assert turn.token_ids == fresh.token_ids
    assert turns[1].usage.cached > turns[0].usage.prompt - 2


@pytest.mark.slow
def test_int8_weights_with_int8_keys_and_values(world, known):
    questions = [asked for asked, _ in known[:4]]
    whole = world.cold(questions, kv_dtype="int8")
    bound = world.bound + world.int8_bound
    for got, wanted in zip(world.cold(questions, kv_dtype="int8", max_step_tokens=33), whole, strict=True):
        world.check(got, wanted, bound=bound)
