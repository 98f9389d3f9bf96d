"""Laws of generation on a random checkpoint: the loop equals the plain recomputation, whatever is asked."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch

from glmflash import ClosedError, ImageError, ParameterError, Pipeline, prepare
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.errors import ContextLengthError, GlmflashError
from glmflash.model import NoCache
from glmflash.prompt import TemplateStyle


def picture(seed: int, height: int = 84, width: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def pipe(nano_checkpoint):
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as pipe:
        yield pipe


def test_greedy_tokens_equal_a_recomputation_without_cache(pipe):
    images = [picture(1), picture(2, 56, 140)]
    options = {"max_new_tokens": 12, "ignore_eos": True, "temperature": 0}
    stream = pipe.stream("Which?", images=images, **options)
    model = pipe.engine.model
    request = prepare.request(
        prepare.question("Which?", images=images), options, defaults=pipe.engine.generation
    )
    pictures = read_pictures(request, pipe.engine.preprocessor, pipe.engine.settings.policy, fingerprint=str)
    inputs = build_prompt(request, pictures, tokenizer=pipe.engine.tokenizer, config=model.config)
    rows = torch.cat([one.rows for one in inputs.pictures])
    vision = model.encode_images(rows, [one.grid for one in inputs.pictures])
    ids, positions = list(inputs.prompt.ids), torch.tensor(inputs.prompt.positions)
    wanted = []
    for _ in range(12):
        embeds = model.embed(torch.tensor(ids), vision, inputs.prompt.spans)
        logits = model(embeds, positions, NoCache([len(ids)]))[-1, : pipe.engine.tokenizer.vocab_size]
        wanted.append(int(logits.argmax()))
        following = torch.full((3, 1), len(ids) + inputs.prompt.delta)
        ids, positions = [*ids, wanted[-1]], torch.cat((positions, following), dim=1)
    assert list(stream.result.token_ids) == wanted


def test_the_stream_joined_is_the_result(pipe):
    for seed in range(6):
        with pipe.stream("Hi", images=picture(seed), max_new_tokens=40, temperature=1.5, seed=seed) as stream:
            deltas = list(stream)
        assert all(delta.text for delta in deltas)
        assert "".join(d.text for d in deltas if d.channel == "answer") == stream.result.text
        thinking = "".join(d.text for d in deltas if d.channel == "thinking")
        assert thinking == (stream.result.thinking or "")


def test_a_seed_repeats_and_another_differs(pipe):
    def ask(seed: int) -> tuple[int, ...]:
        return pipe("Hi", temperature=1.0, seed=seed, max_new_tokens=24, ignore_eos=True).token_ids

    assert ask(5) == ask(5)
    assert ask(5) != ask(6)


def test_rows_without_a_token_are_never_sampled(pipe):
    size = pipe.engine.tokenizer.vocab_size
    assert size < pipe.engine.model.config.text.vocab_size
    result = pipe("Hi", temperature=50.0, seed=1, max_new_tokens=300, ignore_eos=True, repetition_stop=None)
    assert max(result.token_ids) < size


def test_the_answer_prefix_begins_the_answer_and_is_not_counted(pipe):
    result = pipe("Hi", answer_prefix="The total is", max_new_tokens=5, ignore_eos=True)
    assert result.text.startswith("The total is")
    assert result.usage.completion == len(result.token_ids) == 5


def test_a_stop_string_ends_the_answer_before_it(pipe):
    whole = pipe("Hi", max_new_tokens=60, ignore_eos=True, temperature=1.2, seed=2)
    stop = whole.text[10:14]
    cut = pipe("Hi", max_new_tokens=60, ignore_eos=True, temperature=1.2, seed=2, stop=stop)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert len(cut.token_ids) < len(whole.token_ids)


def test_finish_reasons(pipe):
    assert pipe("Hi", max_new_tokens=3, ignore_eos=True).finish_reason == "length"
    bias = [lambda ids, logits: logits.index_fill(0, torch.tensor([7]), 1e4)]
    assert pipe("Hi", logits_processors=bias).finish_reason == "repetition"
    (end, *_) = pipe.engine.eos
    bias = [lambda ids, logits: logits.index_fill(0, torch.tensor([end]), 1e4)]
    result = pipe("Hi", logits_processors=bias)
    assert (result.finish_reason, result.text, result.token_ids) == ("stop", "", (end,))


def test_cancelling_keeps_what_there_is(pipe):
    stream = pipe.stream("Hi", max_new_tokens=200, ignore_eos=True)
    shown = [next(stream).text for _ in range(3)]
    stream.cancel()
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text.startswith("".join(shown))
    assert stream.result.usage.completion < 10


def test_leaving_the_block_cancels(pipe):
    with pipe.stream("Hi", max_new_tokens=200, ignore_eos=True) as stream:
        next(stream)
    assert stream.result.finish_reason == "cancelled"


def test_cancelled_before_the_first_token(pipe):
    stream = pipe.stream("Hi", answer_prefix="So")
    stream.cancel()
    result = stream.result
    assert (result.text, result.token_ids, result.finish_reason) == ("So", (), "cancelled")


def test_an_interrupt_leaves_the_pipeline_usable(pipe):
    def interrupt(ids, logits):
        raise KeyboardInterrupt

    wanted = pipe("Hi", max_new_tokens=6, temperature=0).token_ids
    with pytest.raises(KeyboardInterrupt):
        pipe("Hi", logits_processors=[interrupt])
    assert pipe("Hi", max_new_tokens=6, temperature=0).token_ids == wanted


def test_logits_that_are_not_finite_fail_the_request(pipe):
    with pytest.raises(GlmflashError, match="not finite"):
        pipe("Hi", logits_processors=[lambda ids, logits: logits * float("nan")])


def test_a_stream_that_failed_has_no_result(pipe):
    stream = pipe.stream("Hi", logits_processors=[lambda ids, logits: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        list(stream)
    with pytest.raises(ClosedError, match="ended with an error"):
        _ = stream.result


def test_logprobs_are_of_the_tokens_generated(pipe):
    result = pipe("Hi", images=picture(3), logprobs=3, max_new_tokens=8, temperature=0)
    assert [one.token_id for one in result.logprobs] == list(result.token_ids)
    for one in result.logprobs:
        assert one.top[0] == (one.token_id, one.logprob)  # greedy takes the best
        assert len(one.top) == 3
    assert pipe("Hi", max_new_tokens=2).logprobs is None


def test_usage_and_timings_add_up(pipe):
    images = [picture(101), picture(102)]
    result = pipe("Hi", images=images, max_new_tokens=5, ignore_eos=True, cache_salt="add up")
    assert result.usage.image == 2 * 12
    assert result.usage.prompt > result.usage.image
    assert (result.usage.completion, result.usage.cached) == (5, 0)
    timings = result.timings
    assert min(timings.media, timings.vision, timings.prefill, timings.decode) > 0
    phases = timings.queue + timings.media + timings.vision + timings.prefill
    assert phases == pytest.approx(timings.first_token)
    assert timings.first_token + timings.decode == pytest.approx(timings.total)
    assert timings.tokens_per_second == pytest.approx(4 / timings.decode)


def test_a_prompt_that_does_not_fit_says_what_would(pipe):
    small = dataclasses.replace(pipe.engine.model.config.text, max_position_embeddings=40)
    model = pipe.engine.model
    whole = model.config
    try:
        model.config = dataclasses.replace(whole, text=small)
        with pytest.raises(ContextLengthError, match=r"holds 40.*48 picture tokens.*max_image_tokens"):
            pipe("Hi", images=picture(1, 168, 224))
        assert pipe("Hi", max_new_tokens=1000, ignore_eos=True).usage.total == 40
        fits = pipe("Hi", images=picture(1, 168, 224), max_image_tokens=12, max_new_tokens=2)
        assert fits.usage.image <= 12
    finally:
        model.config = whole


def test_thinking_needs_a_bool_and_excludes_a_prefix(pipe):
    with pytest.raises(ParameterError, match="thinking"):
        pipe("Hi", thinking="yes")
    with pytest.raises(ParameterError, match="answer_prefix"):
        pipe("Hi", thinking=True, answer_prefix="x")


def test_a_data_url_in_a_message_is_a_picture(pipe, tmp_path):
    import base64

    from PIL import Image

    path = tmp_path / "a.png"
    Image.fromarray(picture(4)).save(path)
    url = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()

    def chat(part: dict) -> tuple[int, ...]:
        content = [part, {"type": "text", "text": "Hi"}]
        return pipe.chat([{"role": "user", "content": content}], max_new_tokens=8, temperature=0).token_ids

    assert chat({"type": "image_url", "image_url": {"url": url}}) == chat({"type": "image", "image": path})


def test_a_clip_that_is_not_there_is_an_image_error(pipe):
    with pytest.raises(ImageError, match=r"'x\.mp4'"):
        pipe.chat([{"role": "user", "content": [{"type": "video", "video": "x.mp4"}]}])


def test_a_slow_reader_does_not_slow_the_engine(pipe):
    stream = pipe.stream("Hi", max_new_tokens=4, ignore_eos=True)
    time.sleep(0.5)
    for _ in stream:
        time.sleep(0.5)
    assert stream.result.timings.total < 0.5


def test_a_finished_stream_holds_neither_pictures_nor_the_engine(pipe):
    stream = pipe.stream("Hi", images=picture(1), max_new_tokens=2)
    assert stream.result
    held = vars(stream._sequence)
    assert not held["vision"]
    assert held["keep"] is None
    assert not {"inputs", "request"} & held.keys()
    assert "tokens" in repr(stream)


def test_a_stream_nobody_holds_is_cancelled(pipe):
    stream = pipe.stream("Hi", max_new_tokens=3000, ignore_eos=True, repetition_stop=None)
    next(stream)
    future = stream._sequence.future
    del stream
    assert future.result(timeout=5).finish_reason == "cancelled"


def test_a_stream_may_be_read_by_several_threads(pipe):
    stream = pipe.stream("Hi", max_new_tokens=40, ignore_eos=True)
    results = []
    threads = [threading.Thread(target=lambda: results.append(stream.result)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len({result.token_ids for result in results}) == 1


def test_the_bad_picture_of_several_is_numbered(pipe):
    good = picture(1)
    with pytest.raises(ImageError, match="picture 3 of 4"):
        pipe("Hi", images=[good, good, b"no picture", good])


def test_boxes_are_in_pixels_of_the_last_picture(pipe):
    tokens = pipe.engine.tokenizer.encode("[[100, 200, 300, 400]]")
    begin, end = (pipe.engine.tokenizer.control(f"<|{side}_of_box|>") for side in ("begin", "end"))
    (stop, *_) = pipe.engine.eos
    script = [begin, *tokens, end, stop]

    def follow(ids, logits):
        return logits.index_fill(0, torch.tensor([script[len(ids)]]), 1e4)

    result = pipe("Where?", images=[picture(1), picture(2, 200, 100)], logits_processors=[follow])
    (box,) = result.boxes
    assert (box.xyxy, box.image) == ((10.0, 40.0, 30.0, 80.0), 1)
    assert result.text == "[[100, 200, 300, 400]]"


def test_a_checkpoint_that_always_thinks_takes_no_prefix(pipe, monkeypatch):
    monkeypatch.setattr(TemplateStyle, "of", classmethod(lambda cls, controls: cls(switch=False)))
    assert pipe("Hi", max_new_tokens=1)
    with pytest.raises(ParameterError, match="always thinks"):
        pipe("Hi", answer_prefix="So")
