"""What may not change an answer: how the prompt is cut into forwards, how it is handed on, how KV is stored.

Each law holds on random weights, where any mistake shows in the logits, and on the embedded model, where the
answers mean something. Its bounds stand in `engine_world.open_world`.
"""

from random import Random

import pytest
import torch
from engine_world import Answer, ask, forget, noise, question, to_request, together, watch


@pytest.mark.slow
def test_paged_equals_a_recomputation_without_cache(world, known):
    for asked, answer in known:
        logits = world.recompute(asked, answer.ids)
        world.check(answer, Answer(answer.result, logits))
        if not asked.options.get("temperature"):
            assert tuple(logits.argmax(-1).tolist()) == answer.ids


def test_the_trained_checkpoint_means_what_it_says(world, known):
    """Its logits are as large as real ones, so that bounds on them are bounds on something."""
    largest = max(float(answer.logits.abs().max()) for _, answer in known)
    assert largest > (15 if world.name == "trained" else 0.4)


@pytest.mark.slow
def test_a_prompt_in_chunks_equals_the_whole(world, known, monkeypatch):
    cuts = set()

    def look(chunks):
        for chunk in chunks:
            edge = chunk.start + chunk.tokens
            spans = chunk.sequence.inputs.prompt.spans
            cuts.update("picture" for span in spans if span.start < chunk.start < span.start + span.length)
            cuts.update("text" for _ in spans[:1] if edge < spans[0].start)
            cuts.add("more than one chunk" if chunk.start else "first")

    watch(monkeypatch, look)
    for tokens in (5, 16, 33, 64):
        some = known[tokens % 4 :: 3]
        answers = world.cold([asked for asked, _ in some], max_step_tokens=tokens, max_batch=1)
        for got, (_, wanted) in zip(answers, some, strict=True):
            world.check(got, wanted)
    assert {"picture", "more than one chunk"} <= cuts


def test_chunks_of_several_prompts_in_one_forward(world, known, monkeypatch):
    """Decodes and pieces of prompts share a forward; none of them sees another."""
    packs = []
    watch(monkeypatch, lambda chunks: packs.append(tuple(sorted(chunk.tokens for chunk in chunks))))
    questions, wanted = zip(*known[:8], strict=True)
    with world.engine(max_step_tokens=24, max_batch=8) as engine:
        for got, alone in zip(together(engine, questions), wanted, strict=True):
            world.check(got, alone)
    assert any(len(pack) > 2 and pack[0] == 1 < pack[-1] for pack in packs)
    assert max(sum(pack) for pack in packs) <= 24


def test_the_stream_joined_is_the_result(world, known):
    with world.engine() as engine:
        streams = []
        for thinking in (False, True):
            for asked, _ in known[:8]:
                more = {"thinking": thinking, "max_new_tokens": 40}
                streams.append(engine.start(to_request(asked, engine.generation, **more)))
        for stream in streams:
            deltas = list(stream)
            for channel, whole in (("answer", stream.result.text), ("thinking", stream.result.thinking)):
                assert "".join(one.text for one in deltas if one.channel == channel) == (whole or "")
        for stream, (_, alone) in zip(streams, known[:8], strict=False):
            assert stream.result.token_ids[: len(alone.ids)] == alone.ids


@pytest.mark.slow
def test_int8_keys_and_values_give_one_answer_however_it_is_computed(world):
    questions = world.questions("int8", 8)
    whole = world.cold(questions, kv_dtype="int8")
    for tokens in (16, 33):
        chunked = world.cold(questions, kv_dtype="int8", max_step_tokens=tokens, max_batch=1)
        for got, wanted in zip(chunked, whole, strict=True):
            world.check(got, wanted, bound=world.int8_bound)
    with world.engine(kv_dtype="int8") as engine:
        for asked, wanted in zip(questions, whole, strict=True):
            ask(engine, asked)
            cached = ask(engine, asked)
            assert cached.result.usage.cached == cached.result.usage.prompt - 1
            world.check(cached, wanted, bound=world.int8_bound)
        forget(engine)
        for got, wanted in zip(together(engine, questions), whole, strict=True):
            world.check(got, wanted, bound=world.int8_bound)


def test_int8_keys_and_values_are_near_to_floats(world, known):
    for got, (_, wanted) in zip(world.cold([q for q, _ in known], kv_dtype="int8"), known, strict=True):
        pairs = zip(got.ids, wanted.ids, strict=False)  # from the first token that differs on, two stories
        same = next((index for index, (a, b) in enumerate(pairs) if a != b), len(wanted.ids) - 1)
        apart = (got.logits[: same + 1] - wanted.logits[: same + 1]).abs().max()
        assert 0 < apart <= world.int8_loss
    if world.name == "trained":  # it is sure of what it has learned
        greedy = [i for i, (asked, _) in enumerate(known) if not asked.options.get("temperature")]
        assert len(greedy) > 8


def test_a_recorder_of_logits_changes_none(world):
    """The tests here read logits through a processor; without one the tokens are the same."""
    asked = question("what is the total", noise(Random(3)), max_new_tokens=12)
    with world.engine() as engine:
        plain = engine.answer(to_request(asked, engine.generation))
        forget(engine)
        recorded = ask(engine, asked)
    assert plain.token_ids == recorded.ids
    assert torch.equal(recorded.logits.argmax(-1), torch.tensor(plain.token_ids))
